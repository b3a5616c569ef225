# SPDX-License-Identifier: GPL-3.0-or-later
"""Which flows a change takes away, and rules that carry both (POLICY F9)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.former import (
    STILL_OPEN,
    carries,
    carries_former,
    read_record,
    record,
    taken_away,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment
from ansible_collections.sluice.ftp.plugins.plugin_utils.page import page
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import PortRange
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import Ruleset, ruleset
from ansible_collections.sluice.ftp.plugins.plugin_utils.verdicts import rules_line
from hypothesis import given, settings

from tests.unit.plugins.paths import changed, twenty_lines
from tests.unit.plugins.strategies import descriptions

WIDER = {"client_side": {"listen": "49000-50999"}}
NARROWER = {"client_side": {"listen": "50000-50499"}}


def flows(topology: Any = None, mode: Any = "both", ports: Any = None, host: str = "f1") -> tuple[Flow, ...]:
    path = read_path(topology or twenty_lines(), mode, ports)
    return derive(path, path.host(host))


def lines(former: tuple[Flow, ...], new: tuple[Flow, ...]) -> list[str]:
    return [comment(each) for each in taken_away(former, new)]


def union(former: tuple[Flow, ...], **new: Any) -> Ruleset:
    path = read_path(new.get("topology") or twenty_lines(), new.get("mode", "both"), new.get("ports"))
    return ruleset(path, path.host("f1"), 990, former=former, log_refused=False)


PASSIVE = "C -> F: -> proxy user: to port specified by proxy user (passive)"


def test_what_is_the_same_or_wider_takes_nothing_away() -> None:
    assert lines(flows(), flows()) == []
    assert lines(flows(), flows(ports=WIDER)) == []
    assert lines(flows(mode="passive"), flows()) == []
    assert lines(flows(), flows(changed("clients.networks", ["10.1.0.0/16"]))) == []


def test_a_range_of_its_own() -> None:
    """And of the neighbour's, for both use it."""
    expected = [PASSIVE, "N <- F: <- proxy user: to port specified by N (passive)"]
    assert lines(flows(), flows(ports=NARROWER)) == expected
    assert lines(flows(ports=WIDER), flows()) == expected


def test_a_range_of_the_neighbour() -> None:
    """N's range changes; F has to carry both, too."""
    ports = {"client_side": {"listen": "40000-40999"}}
    topology = changed("hops.1.hosts.n1.ports", ports)
    assert lines(flows(), flows(topology)) == ["N <- F: <- proxy user: to port specified by N (passive)"]


def test_a_mode() -> None:
    gone = lines(flows(), flows(mode={"C-F": "active", "F-N": "both", "N-S": "both"}))
    assert gone == [PASSIVE]


@pytest.mark.parametrize("networks", [["10.1.0.0/25"], ["10.1.1.0/24"]])
def test_a_peer(networks: list[str]) -> None:
    gone = taken_away(flows(), flows(changed("clients.networks", networks)))
    assert [each.leg for each in gone] == ["C-F"] * 3


def test_networks_that_together_hold_a_former_one_take_nothing_away() -> None:
    halves = ["10.1.0.0/25", "10.1.0.128/25"]
    assert lines(flows(), flows(changed("clients.networks", halves))) == []


def test_an_address_of_its_own() -> None:
    gone = taken_away(flows(), flows(changed("hops.0.hosts.f1.client_side", "10.1.0.3")))
    assert [each.leg for each in gone] == ["C-F"] * 3


def test_dns_is_no_transfers_matter() -> None:
    former = flows(changed("hops.1.resolvers", ["192.0.2.53"]), host="n1")
    assert any(each.channel == "dns" for each in former)
    assert lines(former, flows(host="n1")) == []


def test_ports_that_depend_on_the_peers_address() -> None:
    """The same ports in all, but dealt out otherwise."""
    flow = next(each for each in flows() if each.leg == "F-N" and each.mode == "passive")
    a, b = ip_network("10.2.0.2/32"), ip_network("10.2.0.3/32")
    one, two = (PortRange(40000, 40099),), (PortRange(40100, 40199),)
    both = (PortRange(40000, 40199),)
    dealt = replace(flow, peer_addresses=(a, b), acceptor_ports=both, peer_ports=((a, one), (b, two)))
    swapped = replace(dealt, peer_ports=((a, two), (b, one)))
    everything = replace(dealt, peer_ports=())
    assert carries(dealt, dealt)
    assert not carries(swapped, dealt)
    assert carries(everything, dealt)
    assert not carries(dealt, everything)


@settings(max_examples=50, deadline=None)
@given(descriptions())
def test_a_record_gives_the_flows_again(description: dict[str, Any]) -> None:
    for host in description["hosts"]:
        found = flows(description["topology"], description["mode"], description["ports"], host)
        text = record(found)
        assert "\n" not in text
        assert sorted(map(repr, read_record(text))) == sorted(map(repr, found))


@pytest.mark.parametrize("text", ["", "{}", "[1]", "no JSON", '[{"flows": [{}]}]', "null"])
def test_a_text_that_is_no_record_says_nothing(text: str) -> None:
    assert read_record(text) == ()


@settings(max_examples=50, deadline=None)
@given(descriptions(), descriptions())
def test_a_union_carries_both(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Of any two paths, at any two of their hosts; and it is its own union."""
    former = flows(one["topology"], one["mode"], one["ports"], one["hosts"][0])
    path = read_path(other["topology"], other["mode"], other["ports"])
    host = path.host(other["hosts"][-1])
    table = ruleset(path, host, 990, former=former)
    carried = read_record(table["flows"])
    wanted = [each for each in (*former, *derive(path, host)) if each.channel in ("control", "data")]
    assert all(any(carries(flow, each) for flow in carried) for each in wanted)
    assert ruleset(path, host, 990, former=carried) == table
    assert ruleset(path, host, 990, former=derive(path, host)) == ruleset(path, host, 990)


def test_former_peers_get_no_new_port() -> None:
    """And new ones no former port: each has sets of its own."""
    topology = changed("clients.networks", ["10.9.0.0/24"])
    table = union(flows(), topology=topology, ports={"client_side": {"listen": "40000-40999"}})
    sets = {each["name"]: each["elements"] for each in table["sets"]}
    chains = {each["name"]: "\n".join(each["rules"]) for each in table["chains"]}
    assert (sets["down4"], sets["former1_4"]) == (["10.9.0.0/24"], ["10.1.0.0/24"])
    assert "40000-40999" in chains["in_down"]
    assert "50000-50999" not in chains["in_down"]
    assert "40000-40999" not in chains["in_former1_"]
    assert "50000-50999" in chains["in_former1_"]
    assert sets["serve"] == ["21", "40000-40999", "50000-50999", "52000-52999"]
    assert PASSIVE in table["former"]


def test_nothing_of_before_leaves_no_trace() -> None:
    table = union(())
    assert table["former"] == []
    assert not [each for each in (*table["sets"], *table["chains"]) if "former" in each["name"]]


def test_a_listing_tells_whether_former_flows_are_open() -> None:
    assert carries_former({"before": "table inet sluice {\n\tchain in_former1_ {\n\t}\n}\n"})
    assert not carries_former({"before": "table inet sluice {\n\tchain in_down {\n\t}\n}\n"})
    assert not carries_former(None)


def test_thousands_of_peers_are_compared() -> None:
    """Not each with each: that would take minutes."""
    networks = [f"10.{i // 250}.{i % 250}.0/25" for i in range(20_000)]
    former = flows(changed("clients.networks", networks))
    assert len(taken_away(former, flows(changed("clients.networks", networks[1:])))) == 3


def test_verification_and_report_say_so() -> None:
    result = {
        "loaded": True,
        "written": True,
        "left_out": [],
        "diff": {"before": "table inet sluice {\n\tchain in_former1_ {\n\t}\n}\n", "after": ""},
    }
    assert rules_line(result).says.startswith(f"{STILL_OPEN}; - loaded")
    path = read_path(twenty_lines())
    table = {"item": {"name": "table"}, "rc": 0, "stdout": '{"nftables": [{"table": {}}]}'}
    said = {
        "reach": {"rc": 0, "stdout": "6.1"},
        "answers": {"results": [table]},
        "drift": result,
        "scope": "guard",
    }
    assert page(path, {"f1": said})["hosts"][0]["rules"]["text"] == STILL_OPEN
