# SPDX-License-Identifier: GPL-3.0-or-later
"""Scope exclusive on both hops (POLICY 1, 2): the flows and what is listed pass, and nothing else; and back.

On the way: one fixed server, and active data to the clients from port 20.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from support import BRIDGE, F4, F6, LAB, N4, S4, USER, converge, counters, listing, ok, on, sum_of, url
from test_04_refused import reaches
from test_13_verify import ENDS, lines, verify

VARIABLES: dict[str, Any] = {
    "sluice_scope": "exclusive",
    "sluice_management": {"networks": [f"{BRIDGE}/32"]},
    "sluice_exclusive_host": [
        # python3-apt's and nft's packages, should they be missing
        {"direction": "out", "protocol": "tcp", "ports": 80, "networks": [f"{BRIDGE}/32"]}
    ],
    "sluice_exclusive_forward": [
        {"from": ["10.1.0.0/24"], "to": ["198.51.100.0/24"], "protocol": "tcp", "ports": 80}
    ],
    "sluice_ports": {"client_side": {"source": 20}},
}


def variables() -> str:
    """For ansible-playbook, with one fixed server."""
    topology = yaml.safe_load((LAB.inventory / "group_vars/sluice.yml").read_text())["sluice_topology"]
    topology["servers"]["fixed"] = S4
    return json.dumps(VARIABLES | {"sluice_topology": topology})


@pytest.fixture(scope="module", autouse=True)
def exclusive() -> Iterator[None]:
    """Both hops in scope exclusive; afterwards in guard, as before."""
    before = {host: listing(host) for host in ("f1", "n1")}
    converge("-e", variables())
    yield
    converge()
    assert {host: listing(host) for host in ("f1", "n1")} == before


@pytest.mark.parametrize(
    ("how", "host"),
    [
        (how, host)
        for how in ("", "--disable-epsv", "--ftp-port -", "--ftp-port - --disable-eprt")
        for host in (F4, f"[{F6}]")
        if host == F4 or "disable" not in how  # PASV and PORT are for IPv4
    ],
)
def test_transfers(how: str, host: str) -> None:
    words = ["curl", "-g", "-sS", *how.split(), "-o", "/var/tmp/exclusive", url(USER, host, "small")]
    ok("c1", shlex.join(words))
    assert sum_of("c1", "/var/tmp/exclusive") == sum_of("s1", f"/home/{USER}/small")


def test_active_data_came_from_port_20() -> None:
    """The flow's rule takes no other source port."""
    assert "tcp sport 20 tcp dport 1024-65535 meta skuid" in listing("f1")
    assert counters("f1")["C <- F: <- proxy user: to port specified by C (active)"] > 0


def test_only_what_is_listed_is_forwarded() -> None:
    web = "curl -sS --max-time 3 -o /dev/null http://{}/"
    assert on("c1", web.format(S4)).returncode == 0
    assert on("c1", web.format("[2001:db8:3::10]")).returncode != 0
    assert not reaches("c1", S4, 22)
    assert not reaches("c1", S4, 21)


def test_nobody_but_the_proxy_communicates() -> None:
    """Nobody is reached, nobody reaches out, but for management, over which this very test talks to them."""
    assert not reaches("c1", F4, 22)
    assert not reaches("f1", N4, 22)
    assert not reaches("f1", N4, 22, user="sluice")
    assert reaches("f1", N4, 21, user="sluice")
    assert counters("f1")["exclusive: anything else to this host"] > 0
    assert counters("f1")["exclusive: anything else from this host"] > 0


def test_what_ip_needs_passes() -> None:
    assert on("c1", f"ping -c 1 -W 2 {F4}").returncode == 0
    assert on("c1", f"ip -6 neigh flush dev to_f1; ping -6 -c 1 -W 3 {F6}").returncode == 0


def test_verification_finds_all_right() -> None:
    play = verify(*ENDS, "-e", variables())
    assert play.code == 0, play.output
    for host in ("f1", "n1"):
        report = lines(play, host)
        assert all(line.startswith("ok ") for line in report[1:]), report
        assert any("refused by 'exclusive: anything else from this host'" in line for line in report)
        assert any("refused by 'exclusive: anything else to this host'" in line for line in report)
