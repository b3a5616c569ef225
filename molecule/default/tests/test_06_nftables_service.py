# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's nftables.service flushes the whole ruleset; ours comes back, and nobody notices (POLICY F20).

On F alone: N's administrator would lose his own table to the same commands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support import F4, S4, USER, listing, ok, on, sum_of, url


@pytest.fixture(scope="module")
def before() -> Iterator[tuple[str, str]]:
    """Our table and the proxy's process id."""
    yield listing("f1"), _proxy()
    ok("f1", "systemctl stop nftables; systemctl disable --quiet nftables; systemctl restart sluice-policy")


def _proxy() -> str:
    return ok("f1", "systemctl show --value --property=MainPID sluice").strip()


@pytest.mark.parametrize(
    "command",
    [
        "systemctl start nftables",
        "systemctl restart nftables",
        "systemctl reload nftables",
        "systemctl stop nftables; systemctl start nftables",
    ],
)
def test_table_and_transfer_survive(before: tuple[str, str], command: str) -> None:
    fetch = f"curl --silent --limit-rate 15M --output /var/tmp/large {url(f'{USER}@{S4}', F4, 'large')}"
    ok("c1", f"rm -f /var/tmp/large; systemd-run --quiet --unit=fetch-large --remain-after-exit {fetch}")
    try:
        ok("c1", "timeout 20 sh -c 'until [ -s /var/tmp/large ]; do sleep 0.1; done'")
        ok("f1", command)
        for _ in range(50):  # the restoring unit is started with nftables.service, and may end after it
            if on("f1", "nft list table inet sluice").returncode == 0:
                break
            time.sleep(0.1)
        assert (listing("f1"), _proxy()) == before
        assert _state() == "running"
        for _ in range(300):
            if _state() != "running":
                break
            time.sleep(0.2)
        assert sum_of("c1", "/var/tmp/large") == sum_of("s1", f"/home/{USER}/large")
    finally:
        on("c1", "systemctl stop fetch-large; systemctl reset-failed fetch-large")


def _state() -> str:
    return ok("c1", "systemctl show --value --property=SubState fetch-large").strip()
