# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows of a host: the twelve lines, word for word, and the records beneath them (DESIGN)."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment, line, table

from tests.unit.plugins.paths import changed, twenty_lines, with_metrics

TWELVE_LINES = """\
F   C -> F: -> proxy user: to port 21
    C <- F: <- proxy user: to port specified by C            (active)
    C -> F: -> proxy user: to port specified by proxy user   (passive)
    N <- F: <- proxy user: to port 21
    N -> F: -> proxy user: to port specified by proxy user   (active)
    N <- F: <- proxy user: to port specified by N            (passive)

N   F -> N: -> proxy user: to port 21
    F <- N: <- proxy user: to port specified by F            (active)
    F -> N: -> proxy user: to port specified by proxy user   (passive)
    S <- N: <- proxy user: to port 21
    S -> N: -> proxy user: to port specified by proxy user   (active)
    S <- N: <- proxy user: to port specified by S            (passive)
"""


def flows(host: str, topology: Any = None, mode: Any = "both", ports: Any = None) -> tuple[Flow, ...]:
    path = read_path(topology or twenty_lines(), mode, ports)
    return derive(path, path.host(host))


def test_the_twelve_lines_word_for_word() -> None:
    assert f"{table(flows('f1'))}\n\n{table(flows('n1'))}\n" == TWELVE_LINES


@pytest.mark.parametrize("mode", ["active", "passive"])
@pytest.mark.parametrize(("host", "hop"), [("f1", 0), ("n1", 1)])
def test_one_mode_leaves_the_lines_of_the_other_out(host: str, hop: int, mode: str) -> None:
    other = "(passive)" if mode == "active" else "(active)"
    lines = TWELVE_LINES.split("\n\n")[hop].splitlines()
    wanted = [each[4:].split("  ")[0] for each in lines if other not in each]
    assert [line(flow) for flow in flows(host, mode=mode)] == wanted
    assert len(wanted) == 4


def test_a_mode_for_each_leg() -> None:
    mode = {"C-F": "both", "F-N": "passive", "N-S": "active"}
    assert [flow.mode for flow in flows("f1", mode=mode)] == [None, "active", "passive", None, "passive"]
    assert [flow.mode for flow in flows("n1", mode=mode)] == [None, "passive", None, "active"]


def test_a_comment_says_the_mode_of_data() -> None:
    assert [comment(flow) for flow in flows("f1")][:2] == [
        "C -> F: -> proxy user: to port 21",
        "C <- F: <- proxy user: to port specified by C (active)",
    ]


def test_the_record_of_a_flow() -> None:
    assert flows("f1", ports={"client_side": {"source": 20}})[1].as_data() == {
        "leg": "C-F",
        "channel": "data",
        "mode": "active",
        "direction": "out",
        "host": "F",
        "peer": "C",
        "opener": "F",
        "acceptor": "C",
        "peer_addresses": ["10.1.0.0/24"],
        "local_addresses": ["10.1.0.1"],
        "protocol": "tcp",
        "opener_ports": ["20"],
        "acceptor_ports": ["1024-65535"],
        "peer_ports": [],
        "specified_by": "C",
        "peer_is_hop": False,
        "user": "proxy user",
        "why": "active data: F opens it to the port that C specified",
        "intercept": "",
        "foreign": False,
    }


def test_ports_between_two_hops_are_the_declared_ones() -> None:
    """Where a neighbour is one of ours, its ranges are used on either end (POLICY 2: the tightest)."""
    got = [(str(f.opener_ports[0]), str(f.acceptor_ports[0])) for f in flows("f1") if f.leg == "F-N"]
    assert got == [("1-65535", "21"), ("51000-51999", "52000-52999"), ("53000-53999", "50000-50999")]


def test_a_host_may_have_ranges_of_its_own_and_its_neighbour_knows_them() -> None:
    topology = changed("hops.1.hosts.n1.ports", {"client_side": {"listen": "40000-40099"}})
    passive = next(f for f in flows("f1", topology) if f.leg == "F-N" and f.mode == "passive")
    assert str(passive.acceptor_ports[0]) == "40000-40099"


def test_a_translated_neighbour_is_seen_by_its_public_address_and_any_source_port() -> None:
    """DESIGN: neighbours use `public`, the host its real address. What translates may change ports, too."""
    topology = changed("hops.0.hosts.f1.public", {"server_side": "203.0.113.7"})
    at_n = [f for f in flows("n1", topology) if f.leg == "F-N"]
    assert {str(n) for f in at_n for n in f.peer_addresses} == {"203.0.113.7/32"}
    assert [str(f.opener_ports[0]) for f in at_n] == ["1-65535", "51000-51999", "1-65535"]
    at_f = [f for f in flows("f1", topology) if f.leg == "F-N"]
    assert {str(a) for f in at_f for a in f.local_addresses} == {"10.2.0.1/32"}
    assert [str(f.opener_ports[0]) for f in at_f] == ["1-65535", "51000-51999", "53000-53999"]


def test_only_families_that_both_ends_have() -> None:
    topology = changed("clients.networks", ["10.1.0.0/24", "2001:db8:1::/64"])
    assert {str(n) for f in flows("f1", topology)[:3] for n in f.peer_addresses} == {"10.1.0.0/24"}


def test_several_control_ports_of_servers_are_one_flow() -> None:
    topology = changed("servers.control_ports", [2121, 21])
    assert line(flows("n1", topology)[3]) == "S <- N: <- proxy user: to port 21, 2121"
    assert line(flows("f1", topology)[3]) == "N <- F: <- proxy user: to port 21"


def test_dns_only_where_names_are_resolved() -> None:
    """F23; DESIGN: other kinds of flow exist only when something that is switched on needs them."""
    topology = changed("hops.1.resolvers", ["192.0.2.53", "127.0.0.53"])
    dns = [comment(flow) for flow in flows("n1", topology) if flow.channel == "dns"]
    assert dns == [
        "resolver <- N: <- proxy user: to port 53 (udp)",
        "resolver <- N: <- proxy user: to port 53 (tcp)",
    ]
    assert not [flow for flow in flows("f1", topology) if flow.channel == "dns"]
    assert not [flow for flow in flows("n1") if flow.channel == "dns"]


def test_metrics_only_where_they_are_scraped() -> None:
    """DESIGN: a metrics scrape from the monitoring network, where the hop has metrics_from."""
    found = flows("f1", with_metrics())
    assert [comment(flow) for flow in found[:-1]] == [comment(flow) for flow in flows("f1")]
    assert comment(found[-1]) == "monitor -> F: -> proxy user: to port 9421"
    assert found[-1].as_data() == {
        "leg": "monitor-F",
        "channel": "metrics",
        "mode": None,
        "direction": "in",
        "host": "F",
        "peer": "monitor",
        "opener": "monitor",
        "acceptor": "F",
        "peer_addresses": ["10.9.0.0/24"],
        "local_addresses": ["10.9.0.1"],
        "protocol": "tcp",
        "opener_ports": ["1-65535"],
        "acceptor_ports": ["9421"],
        "peer_ports": [],
        "specified_by": None,
        "peer_is_hop": False,
        "user": "proxy user",
        "why": "metrics: monitor scrapes F",
        "intercept": "",
        "foreign": False,
    }
    assert flows("n1", with_metrics()) == flows("n1")


def test_the_longest_comment_fits_nft() -> None:
    """An nft comment holds 128 characters (DESIGN: the notation)."""
    topology = changed("servers.control_ports", [65535 - 2 * i for i in range(8)])
    for i, name in enumerate(("ABCDEFGHIJKLMNOP", "abcdefghijklmnop")):
        topology["hops"][i]["name"] = name
    every = [comment(flow) for host in ("f1", "n1") for flow in flows(host, topology)]
    assert max(len(each) for each in every) <= 128


def several(**ports: Any) -> dict[str, Any]:
    """The twenty lines with a second host in each hop; the ports of n2 as given."""
    topology = changed("hops.0.hosts.f2", {"client_side": "10.1.0.11", "server_side": "10.2.0.11"})
    topology["hops"][1]["hosts"]["n2"] = {
        "client_side": "10.2.0.12",
        "server_side": "198.51.100.12",
        **({"ports": ports} if ports else {}),
    }
    return topology


def test_a_flow_names_all_hosts_of_the_neighbouring_hop() -> None:
    topology = several()
    for host in ("f1", "f2"):
        found = flows(host, topology)
        assert table(found) == TWELVE_LINES.split("\n\n", maxsplit=1)[0], "several hosts change no line"
        assert {tuple(map(str, flow.peer_addresses)) for flow in found if flow.peer == "N"} == {
            ("10.2.0.2/32", "10.2.0.12/32")
        }
        assert not any(flow.peer_ports for flow in found)
    assert [str(each) for each in flows("f2", topology)[0].local_addresses] == ["10.1.0.11/32"]


def test_hosts_that_differ_in_a_range_are_told_apart_by_address() -> None:
    """Nothing is opened that no host uses: the range of one at the address of the other."""
    topology = several(client_side={"listen": "40000-40099"})
    found = flows("f1", topology)
    passive = found[-1]
    assert [str(each) for each in passive.acceptor_ports] == ["40000-40099", "50000-50999"]
    assert passive.as_data()["peer_ports"] == [
        {"address": "10.2.0.2/32", "ports": ["50000-50999"]},
        {"address": "10.2.0.12/32", "ports": ["40000-40099"]},
    ]
    assert not any(flow.peer_ports for flow in found[:-1]), "the other ranges are the same on both"
    assert not any(flow.peer_ports for flow in flows("n1", topology)), (
        "its own hop's ranges are its own matter"
    )


def test_two_hosts_behind_one_public_address_share_their_ranges() -> None:
    topology = several(client_side={"listen": "40000-40099"})
    for host in ("n1", "n2"):
        topology["hops"][1]["hosts"][host]["public"] = {"client_side": "10.2.0.99"}
    passive = flows("f1", topology)[-1]
    assert [str(each) for each in passive.peer_addresses] == ["10.2.0.99/32"]
    assert [str(each) for each in passive.acceptor_ports] == ["40000-40099", "50000-50999"]
    assert passive.peer_ports == ()
