# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not FTP goes on past the hops, before, during and after; N's own table stays."""

from __future__ import annotations

import snapshot
from support import LAB, ok


def test_http_and_ssh_were_never_interrupted() -> None:
    log = ok("c1", "cat /var/tmp/not-ftp.log").splitlines()
    assert {line for line in log if "failed" in line or line not in ("http4", "http6", "ssh4")} == set()
    assert min(log.count(kind) for kind in ("http4", "http6", "ssh4")) > 20
    ok("c1", "systemctl stop not-ftp")


def test_administrators_table_is_byte_equal() -> None:
    assert snapshot.admin_table(LAB) == (LAB.state / "snapshots/virgin-admin_nat").read_text()
    assert "masquerade" in snapshot.admin_table(LAB)


def test_no_other_table_came() -> None:
    for host, own in (("f1", {"table inet sluice"}), ("n1", {"table inet sluice", "table inet admin_nat"})):
        assert set(ok(host, "nft list tables").splitlines()) == own
