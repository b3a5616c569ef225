# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that go wrong: two at once, a host that dies, a mirror that is down, a port that is taken."""

from __future__ import annotations

import time

import pytest
import snapshot
from support import (
    LAB,
    converge,
    fetch,
    finish,
    forget,
    lab,
    listing,
    ok,
    on,
    playbook,
    refused_run,
    start_playbook,
)

OTHER_PORTS = '{"sluice_ports": {"client_side": {"listen": "40000-40099"}}}'


def test_two_runs_at_once_leave_one_whole_policy() -> None:
    whole = listing("f1"), listing("n1")
    runs = [start_playbook("-e", OTHER_PORTS), start_playbook("-e", OTHER_PORTS)]
    plays = [finish(run) for run in runs]
    assert any(play.code == 0 for play in plays), plays[0].output + plays[1].output
    changed = listing("f1"), listing("n1")
    assert "40000-40099" in changed[0]
    assert "40000-40099" in changed[1]
    play = converge("-e", OTHER_PORTS)
    assert (play.recap("f1")["changed"], play.recap("n1")["changed"]) == (0, 0), play.output
    assert (listing("f1"), listing("n1")) == changed
    converge()
    assert (listing("f1"), listing("n1")) == whole
    assert fetch()


@pytest.mark.parametrize("after", [4.0, 9.0])
def test_host_that_dies_mid_play_is_healed(after: float) -> None:
    whole = listing("n1")
    run = start_playbook("-e", OTHER_PORTS)
    time.sleep(after)
    lab("stop", "n1", "--hard")
    finish(run)
    lab("start", "n1")
    forget("n1")
    converge()
    assert (listing("n1"), on("n1", "systemctl is-active sluice").stdout.strip()) == (whole, "active")
    assert fetch()
    play = converge()
    assert (play.recap("f1")["changed"], play.recap("n1")["changed"]) == (0, 0), play.output


def test_taken_off_wholly() -> None:
    """`sluice_state: absent` removes every trace but the packages; then nothing is left to do."""
    converge("-e", "sluice_state=absent")
    for host in ("f1", "n1"):
        assert snapshot.difference(snapshot.load(LAB, "checked", host), _now(host)) == {}
    play = converge("-e", "sluice_state=absent")
    assert (play.recap("f1")["changed"], play.recap("n1")["changed"]) == (0, 0), play.output


def _now(host: str) -> snapshot.Snapshot:
    ok(host, "rm -f /var/tmp/serve.py")
    return snapshot.take(LAB, host)


def test_taken_port_is_named_before_anything_changes() -> None:
    """Process and unit of who holds the control port (POLICY 5); nothing of ours is on the host then."""
    ok("f1", "systemctl start vsftpd")
    try:
        message = refused_run(playbook(), "f1")
        for word in ("21", "vsftpd", "vsftpd.service"):
            assert word in message
        assert "inet sluice" not in on("f1", "nft list tables").stdout
        assert on("f1", "getent passwd sluice").returncode != 0
    finally:
        ok("f1", "systemctl stop vsftpd")


def test_mirror_that_is_down_fails_clearly_and_the_next_run_heals() -> None:
    """F has lost nftables and its mirror is away; the other way round it all comes back."""
    ok(
        "f1",
        "apt-get purge --quiet --yes nftables libnftables1 && apt-get clean && rm -rf /var/lib/apt/lists/*",
    )
    ok("f1", "sed -i.lab s/192.168.250.1/192.168.250.99/ /etc/apt/sources.list")
    play = playbook()
    ok("f1", "mv /etc/apt/sources.list.lab /etc/apt/sources.list")
    assert play.recap("f1")["failed"] == 1, play.output
    assert on("f1", "systemctl is-active sluice").stdout.strip() != "active"
    converge()
    assert fetch()
    play = converge()
    assert (play.recap("f1")["changed"], play.recap("n1")["changed"]) == (0, 0), play.output
