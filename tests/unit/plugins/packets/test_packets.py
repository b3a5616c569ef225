# SPDX-License-Identifier: GPL-3.0-or-later
"""Host F's rules and thousands of real connections: what passes is what the twelve lines say, and no more."""

from __future__ import annotations

import copy
import os
import resource
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import ruleset
from jinja2 import Environment, FileSystemLoader

from tests.unit.plugins.packets.prober import Network, Probe, passed
from tests.unit.plugins.packets.reference import OTHER, OWN, PROXY, ROOT, Setting, inbound, listed, outbound

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces, which needs root")

ROOT_DIRECTORY = Path(__file__).parents[4]
TOPOLOGY: dict[str, Any] = {
    "clients": {"networks": ["10.1.0.0/25", "2001:db8:1::/120"]},
    "hops": [
        {
            "name": "F",
            "hosts": {
                "f1": {
                    "client_side": ["10.1.0.1", "2001:db8:1::1"],
                    "server_side": ["10.2.0.1", "2001:db8:2::1"],
                }
            },
        },
        {
            "name": "N",
            "hosts": {
                "n1": {
                    "client_side": ["10.2.0.2", "2001:db8:2::2"],
                    "server_side": ["198.51.100.2", "2001:db8:3::2"],
                }
            },
        },
    ],
    "servers": {"networks": ["198.51.100.0/25", "2001:db8:3::/120"]},
}
# Listed and not, on either side; each is a peer of F.
PEERS = {
    "C": ["10.1.0.10", "10.1.0.200", "2001:db8:1::10", "2001:db8:1::200"],
    "N": ["10.2.0.2", "10.2.0.200", "2001:db8:2::2", "2001:db8:2::200"],
}
BOUNDARIES = [port for first in (50000, 51000, 52000, 53000, 54000) for port in (first - 1, first)]
PORTS = [20, 21, 22, 1023, 1024, *BOUNDARIES, 65535]
SOURCES = [0, 20, 21, 50500, 51000, 51999, 52500, 53000, 53999, 54000]
SETTINGS = [
    Setting("both", "both", False),
    Setting("both", "both", True),
    Setting("active", "passive", True),
    Setting("passive", "active", True),
]


@pytest.fixture
def network() -> Iterator[Network]:
    """Made anew for each test, for conntrack remembers what was tried."""
    made = Network(f"core-{os.getpid()}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        for host in ("C", "F", "N"):
            made.add(host)
        made.join("C", "F", [f"{a}/{length(a)}" for a in PEERS["C"]], [f"{a}/{length(a)}" for a in OWN["C"]])
        made.join("F", "N", [f"{a}/{length(a)}" for a in OWN["N"]], [f"{a}/{length(a)}" for a in PEERS["N"]])
        for host, near in (("C", OWN["C"]), ("N", OWN["N"])):
            for gateway in near:
                made.run(
                    host, "ip", "-6" if ":" in gateway else "-4", "route", "add", "default", "via", gateway
                )
        yield made
    finally:
        made.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def length(address: str) -> int:
    return 64 if ":" in address else 24


def rules_file(setting: Setting) -> str:
    """What the role writes on F."""
    mode = {"C-F": setting.client_leg, "F-N": setting.server_leg, "N-S": "both"}
    topology = copy.deepcopy(TOPOLOGY)
    if setting.port_20:
        topology["hops"][0]["hosts"]["f1"]["ports"] = {"client_side": {"source": 20}}
    path = read_path(topology, mode)
    templates = FileSystemLoader(ROOT_DIRECTORY / "roles/policy/templates")
    template = Environment(loader=templates, trim_blocks=True).get_template("policy.nft.j2")
    return template.render(__sluice_policy_rules=ruleset(path, path.host("f1"), PROXY))


def load(network: Network, setting: Setting) -> None:
    network.run("F", "nft", "-f", "-", text=rules_file(setting))


def addresses() -> Iterator[tuple[str, str, str]]:
    """Every peer with every address of F in its family: the peer's side, the peer, F's address."""
    for side, other in (("C", "C"), ("C", "N"), ("N", "N"), ("N", "C")):
        for peer, own in product(PEERS[side], OWN[other]):
            if (":" in peer) == (":" in own):
                yield side, peer, own


def compare(network: Network, wanted: dict[Probe, bool]) -> None:
    got = passed(network, list(wanted))
    wrong = [
        (probe, "passed" if probe in got else "did not pass")
        for probe in wanted
        if (probe in got) != wanted[probe]
    ]
    assert not wrong, f"{len(wrong)} of {len(wanted)} probes, the first: {wrong[:5]}"
    assert got or not any(wanted.values())


CASES = [(setting, user) for setting in SETTINGS for user in (PROXY, OTHER)] + [(SETTINGS[1], ROOT)]


@pytest.mark.parametrize(("setting", "user"), CASES, ids=str)
def test_into_the_host(network: Network, setting: Setting, user: int) -> None:
    load(network, setting)
    wanted = {}
    for (side, peer, own), port, source in product(addresses(), PORTS, SOURCES):
        probe = Probe(side, OTHER, (peer, source), "F", user, (own, port))
        wanted[probe] = inbound(setting, (peer, source or 30000), (own, port), user)
    compare(network, wanted)


@pytest.mark.parametrize(("setting", "user"), CASES, ids=str)
def test_out_of_the_host(network: Network, setting: Setting, user: int) -> None:
    load(network, setting)
    wanted = {}
    for (side, peer, own), port, source in product(addresses(), PORTS, SOURCES):
        probe = Probe("F", user, (own, source), side, OTHER, (peer, port))
        wanted[probe] = outbound(setting, (own, source or 30000), (peer, port), user)
    compare(network, wanted)


def test_past_the_host(network: Network) -> None:
    """`guard` closes FTP control from nearer to further, and forwards all else (POLICY 1, 2)."""
    load(network, SETTINGS[0])
    wanted = {}
    for client, n, port in product(PEERS["C"], PEERS["N"], (20, 21, 22, 80, 50000)):
        if (":" in client) == (":" in n):
            probe = Probe("C", OTHER, (client, 0), "N", OTHER, (n, port))
            wanted[probe] = not (port == 21 and listed("C", client) and listed("N", n))
            back = Probe("N", OTHER, (n, 0), "C", OTHER, (client, port))
            wanted[back] = True
    compare(network, wanted)


@pytest.mark.parametrize("user", [PROXY, OTHER])
def test_over_loopback(network: Network, user: int) -> None:
    """The host's own address is no neighbour, though it lies in the clients' networks.

    The proxy serves no local user, and reaches no service of its host, as a PORT with its address would say.
    """
    load(network, SETTINGS[0])
    wanted = {}
    for own, port in product(OWN["C"], (21, 22, 2121, 50000, 51000)):
        mine = Probe("F", user, (own, 0), "F", OTHER, (own, port))
        wanted[mine] = user == OTHER and port not in (21, 50000)
    compare(network, wanted)
    got = passed(network, [Probe("F", OTHER, (own, 0), "F", PROXY, (own, 21)) for own in OWN["C"]])
    assert not got
