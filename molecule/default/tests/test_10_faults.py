# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that go wrong: two at once, a host that dies, a mirror that is down, a port that is taken."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import snapshot
from support import (
    F4,
    LAB,
    N6,
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
from test_23_intercepted import intercepting


def ports(first: int) -> str:
    """Variables with another range for the clients' side."""
    return f'{{"sluice_ports": {{"client_side": {{"listen": "{first}-{first + 99}"}}}}}}'


OTHER_PORTS = ports(40000)
OLD_NFT = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'nftables v1.0.2 (Lester Gooch)'\n"


@pytest.fixture(scope="module", autouse=True)
def there_again() -> Iterator[None]:
    """Whichever of these tests were run: afterwards both hosts are as site.yml leaves them."""
    yield
    if not (_is_there("f1") and _is_there("n1")):
        converge()


@pytest.fixture
def taken_off() -> None:
    """Nothing of ours is on F and N, also where the test that takes it off was not run."""
    if _is_there("f1") or _is_there("n1"):
        converge("-e", "sluice_state=absent")


def _is_there(host: str) -> bool:
    return on(host, "getent passwd sluice").returncode == 0


def test_two_runs_at_once_leave_one_whole_policy() -> None:
    """They want different ranges; whichever comes last, each host has all of one and nothing of the other."""
    wanted = (40000, 41000)
    whole = {}
    for first in wanted:
        converge("-e", ports(first))
        whole[first] = listing("f1"), listing("n1")
    runs = [start_playbook("-e", ports(first)) for first in wanted]
    plays = [finish(run) for run in runs]
    assert all(play.code == 0 for play in plays), plays[0].output + plays[1].output
    for place, host in enumerate(("f1", "n1")):
        assert listing(host) in [tables[place] for tables in whole.values()]
    converge()
    assert fetch()


@pytest.mark.parametrize(
    "reached", ["nft list table inet sluice | grep -q 40000", "grep -q 40000 /etc/sluice/sluice.toml"]
)
def test_host_that_dies_mid_play_is_healed(reached: str) -> None:
    """Its power goes when the rules are loaded, and when the settings are written."""
    whole = listing("n1")
    run = start_playbook("-e", OTHER_PORTS)
    while on("n1", reached).returncode != 0:
        assert run.poll() is None, "the run is over"
        time.sleep(0.02)
    lab("stop", "n1", "--hard")
    lab("start", "n1")
    forget("n1")
    assert finish(run).code != 0
    converge()
    assert (listing("n1"), on("n1", "systemctl is-active sluice").stdout.strip()) == (whole, "active")
    assert fetch()
    play = converge()
    assert (play.recap("f1")["changed"], play.recap("n1")["changed"]) == (0, 0), play.output


def test_2_2_next_hop_that_does_not_answer_is_named() -> None:
    """Its proxy is stopped (its own rules let the refusal out, F1), then the whole host is away."""
    try:
        ok("n1", "systemctl stop sluice")
        assert f"421 F: next hop N ([{N6}]:21) refused the connection." in greeting()
        lab("stop", "n1", "--hard")
        try:
            assert greeting().startswith("421 F: next hop N (")
        finally:
            lab("start", "n1")
            forget("n1")
    finally:
        ok("n1", "systemctl start sluice")
    assert fetch()


def greeting() -> str:
    """What F's proxy says to a client that has just connected."""
    return ok("c1", f"timeout 30 bash -c 'exec 3<>/dev/tcp/{F4}/21; head -n 1 <&3'")


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


@pytest.mark.usefixtures("taken_off")
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


@pytest.mark.usefixtures("taken_off")
def test_a_table_of_somebody_elses_is_named_before_anything_changes() -> None:
    ok("f1", "nft add table inet sluice")
    try:
        assert "Found a live table inet sluice that no file" in refused_run(playbook("--limit", "f1"), "f1")
        assert on("f1", "getent passwd sluice").returncode != 0
    finally:
        ok("f1", "nft delete table inet sluice")


@pytest.mark.usefixtures("taken_off")
def test_nor_is_anything_routed_then() -> None:
    """Where the user is there already, too."""
    ok("f1", "useradd --system --comment 'FTP proxy of sluice.ftp' sluice")
    ok("f1", "nft add table inet sluice")
    try:
        described = "-e", json.dumps({"sluice_topology": intercepting()})
        assert "Found a live table inet sluice" in refused_run(playbook("--limit", "f1", *described), "f1")
        assert "21021" not in ok("f1", "ip rule; ip -6 rule")
        assert on("f1", "test -e /etc/systemd/system/sluice-routes.service").returncode != 0
    finally:
        ok("f1", "nft delete table inet sluice; userdel sluice")


@pytest.mark.usefixtures("taken_off")
def test_an_nft_that_is_too_old_is_named_before_anything_changes() -> None:
    ok("f1", "mv /usr/sbin/nft /usr/sbin/nft.kept; cat >/usr/sbin/nft; chmod +x /usr/sbin/nft", stdin=OLD_NFT)
    try:
        message = refused_run(playbook("--limit", "f1"), "f1")
        assert "Found nft 1.0.2, expected 1.0.6 or newer, as in Debian 12." in message
        assert on("f1", "getent passwd sluice").returncode != 0
    finally:
        ok("f1", "mv /usr/sbin/nft.kept /usr/sbin/nft")


@pytest.mark.usefixtures("taken_off")
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
    assert "apt could not install nftables" in refused_run(play, "f1")
    assert on("f1", "getent passwd sluice").returncode != 0
    assert on("f1", "systemctl is-active sluice").stdout.strip() != "active"
    converge()
    assert fetch()
    play = converge()
    assert (play.recap("f1")["changed"], play.recap("n1")["changed"]) == (0, 0), play.output
