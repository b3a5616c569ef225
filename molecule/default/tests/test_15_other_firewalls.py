# SPDX-License-Identifier: GPL-3.0-or-later
"""F's administrator has a firewall of his own that denies by default: examples/other-firewall (POLICY 1)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support import F4, ROOT, S4, USER, Play, converge, fetch, listing, ok, on, url

EXAMPLE = ROOT / "examples/other-firewall"
KEPT = "/var/tmp/nftables.conf"
NO_ANSWER = 28  # curl: the time was over


def example(playbook: str, **variables: Any) -> Play:
    """Run a playbook of the example against F; SSH comes over the lab's bridge."""
    said = json.dumps({"firewall_management": ["192.168.250.0/24"], **variables})
    where = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks/collections")}
    return converge("--limit", "f1", "-e", said, playbook=EXAMPLE / playbook, cwd=EXAMPLE, env=where)


def state() -> tuple[str, str]:
    """What this test could leave behind: tables, the firewall's file and its service; our rules."""
    seen = "nft list tables; sha256sum /etc/nftables.conf; systemctl is-enabled nftables || true"
    return ok("f1", seen), listing("f1")


@pytest.fixture(scope="module", autouse=True)
def his_own_again() -> Iterator[None]:
    """Before and after F has no such firewall."""
    before = state()
    ok("f1", f"cp --archive /etc/nftables.conf {KEPT}")
    yield
    ok("f1", f"mv {KEPT} /etc/nftables.conf; systemctl disable --quiet --now nftables")
    ok("f1", "systemctl restart sluice-policy")
    assert state() == before
    assert fetch()


def test_denied_until_the_flows_are_let_in_and_out() -> None:
    """Drop is final in any table. Both modes and families pass then, and a second run changes nothing."""
    example("firewall.yml", firewall_ftp_flows=[])
    assert on("c1", f"curl --silent --max-time 3 {url(f'{USER}@{S4}', F4)}").returncode == NO_ANSWER
    example("site.yml")
    assert fetch(command="PASV")
    assert fetch(command="EPRT", family=6)
    assert example("firewall.yml").recap("f1")["changed"] == 0
