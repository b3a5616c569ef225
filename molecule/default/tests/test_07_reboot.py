# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules and proxy are back after a reboot, which takes the network's state away (POLICY F14, F20, 7)."""

from __future__ import annotations

import pytest
from support import fetch, forget, lab, listing, ok, on

FILE = "/etc/sluice/policy.nft"
UNITS = "sluice-policy.service sluice-policy-restore.service sluice.service"


def _reboot(host: str) -> None:
    lab("reboot", host)
    forget(host)
    ok(host, "timeout 60 systemctl is-system-running --wait || true", seconds=90)


def _await_proxy(host: str) -> None:
    """It tries again every 2 s until its addresses are there."""
    ok(host, "timeout 30 sh -c 'until systemctl --quiet is-active sluice; do sleep 0.2; done'")


def test_rules_proxy_and_reserved_ports_are_back() -> None:
    """The administrator's own reserved ports are there, too: ours were merged into them (F14)."""
    before = listing("f1")
    ok("f1", "echo net.ipv4.ip_local_reserved_ports=8080,9148 >/etc/sysctl.d/60-admin.conf")
    try:
        _reboot("f1")
        assert listing("f1") == before
        _await_proxy("f1")
        assert ok("f1", "systemctl is-active sluice-policy sluice").split() == ["active", "active"]
        assert ok("f1", "sysctl --values net.ipv4.ip_local_reserved_ports").strip() == "8080,9148,50000-53999"
        assert fetch(command="PASV")
        assert fetch(command="EPRT", family=6)
        # Asked of systemd: on Debian 13 the journal does not hold what came so early in the boot.
        when = "systemctl show --value --property=ActiveEnterTimestampMonotonic"
        rules, proxy = (int(ok("f1", f"{when} {unit}")) for unit in ("sluice-policy", "sluice"))
        assert 0 < rules < proxy
    finally:
        ok("f1", "rm -f /etc/sysctl.d/60-admin.conf")
        _reboot("f1")
    assert ok("f1", "sysctl --values net.ipv4.ip_local_reserved_ports").strip() == "50000-53999"


def test_without_our_units_nothing_comes_back() -> None:
    """The test of the test: the lab's reboot leaves nothing that our units would not have to load."""
    before = listing("f1")
    ok("f1", f"systemctl disable --quiet {UNITS}")
    try:
        _reboot("f1")
        assert "inet sluice" not in ok("f1", "nft list tables")
        assert on("f1", "systemctl is-active sluice").stdout.strip() == "inactive"
    finally:
        ok("f1", f"systemctl enable --quiet {UNITS}")
        _reboot("f1")
    assert listing("f1") == before


@pytest.mark.parametrize("lost", ["table", "file"])
def test_proxy_does_not_start_without_its_rules(lost: str) -> None:
    """Where our policy's unit is on the host, the proxy starts only when the rules are loaded."""
    ok("f1", "systemctl stop sluice; nft delete table inet sluice")
    if lost == "file":
        ok("f1", f"mv {FILE} /var/tmp/policy.nft; systemctl stop sluice-policy")
    try:
        assert on("f1", "systemctl start sluice").returncode != 0
        assert on("f1", "systemctl is-active sluice").stdout.strip() != "active"
    finally:
        if lost == "file":
            ok("f1", f"mv /var/tmp/policy.nft {FILE}")
        ok("f1", "systemctl stop sluice; systemctl restart sluice-policy; systemctl start sluice")
    assert fetch()
