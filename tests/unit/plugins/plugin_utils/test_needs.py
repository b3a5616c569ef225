# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host needs beside settings and rules (facts F4, F7; issue 6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.sluice.ftp.plugins.filter.host_needs import host_needs
from ansible_collections.sluice.ftp.plugins.filter.nft_rules import nft_rules
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.needs import capabilities, routing
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import ROUTING

from tests.unit.plugins.paths import twenty_lines

ROOT = Path(__file__).parents[4]
BIND, RAW = "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"
RULE = "rule add priority 21021 fwmark 0x51ce iif {} protocol kernel lookup 21021"
ROUTE = "route replace local default dev lo table 21021"
# As iproute2 6.1 prints them, shortened.
LINKS = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
    {
        "ifname": "eth0",
        "addr_info": [{"local": "10.1.0.1", "prefixlen": 24}, {"local": "fe80::1", "prefixlen": 64}],
    },
    {"ifname": "eth1", "addr_info": [{"local": "10.2.0.1", "prefixlen": 24}]},
]
THERE = {"priority": 21021, "src": "all", "fwmark": "0x51ce", "iif": "eth0", "table": "21021"}
LOCAL = {"type": "local", "dst": "default", "dev": "lo", "scope": "host", "flags": []}


def described(**hop: Any) -> Any:
    topology = twenty_lines()
    topology["hops"][0] |= hop
    return read_path(topology)


def said(links: Any = LINKS, **there: Any) -> list[str]:
    return [f"{what} {json.dumps(each)}" for what, each in {"addresses": links, **there}.items()]


def needed(path: Any, found: list[str]) -> dict[str, list[str]]:
    return routing(path, path.host("f1"), found)


@pytest.mark.parametrize(
    ("hop", "mode", "ports", "wanted"),
    [
        ({}, "both", {}, [BIND]),
        ({"intercept": "redirect"}, "both", {}, []),
        ({"intercept": "tproxy"}, "both", {}, [RAW]),
        ({"intercept": "tproxy"}, "both", {"client_side": {"source": 20}}, [BIND, RAW]),
        ({"intercept": "redirect"}, "both", {"client_side": {"source": 20}}, [BIND]),
        ({"intercept": "redirect"}, "passive", {"client_side": {"source": 20}}, []),
    ],
)
def test_f4_capabilities_are_those_of_what_is_on(
    hop: dict[str, Any], mode: str, ports: dict[str, Any], wanted: list[str]
) -> None:
    topology = twenty_lines()
    topology["hops"][0] |= hop
    path = read_path(topology, mode, ports)
    assert capabilities(path, path.host("f1")) == wanted


@pytest.mark.parametrize(
    ("hop", "mode", "wanted"),
    [
        ({}, "both", "21 50000-50999 52000-52999"),
        ({}, "passive", "21 50000-50999"),
        ({"intercept": "redirect"}, "both", "21 2121 50000-50999 52000-52999"),
        ({"intercept": "tproxy"}, "active", "21 2121 52000-52999"),
    ],
)
def test_what_it_serves_is_what_the_rules_keep_for_it(hop: dict[str, Any], mode: str, wanted: str) -> None:
    """The servers' control ports are not this host's: somebody else may serve port 2100 of it."""
    topology = twenty_lines()
    topology["hops"][0] |= hop
    topology["servers"]["control_ports"] = [21, 2100]
    needs = host_needs(topology, "f1", mode)
    assert needs["serves"] == wanted.split()
    (kept,) = [each for each in nft_rules(topology, "f1", 64901, mode)["sets"] if each["name"] == "serve"]
    assert kept["elements"] == needs["serves"]


@pytest.mark.parametrize("intercept", ["none", "redirect"])
def test_without_tproxy_nothing_is_routed(intercept: str) -> None:
    path = described(intercept=intercept)
    assert needed(path, said()) == {"commands": [], "missing": [], "difference": []}
    left = needed(path, said(rules4=[THERE], routes4=[LOCAL]))
    assert left["difference"] == [f"- ip -4 {RULE.format('eth0')}", f"- ip -4 {ROUTE}"]


def test_f7_the_rule_names_the_interface_and_is_found_again() -> None:
    path = described(intercept="tproxy")
    wanted = [f"-4 {RULE.format('eth0')}", f"-4 {ROUTE}"]
    assert needed(path, said()) == {
        "commands": wanted,
        "missing": [],
        "difference": [f"+ ip {each}" for each in wanted],
    }
    assert needed(path, said(rules4=[THERE], routes4=[LOCAL]))["difference"] == []


def test_with_the_clients_source_the_servers_side_is_routed_too() -> None:
    path = described(intercept="tproxy", source="client")
    found = needed(path, said(rules4=[THERE], routes4=[LOCAL]))
    assert found["difference"] == [f"+ ip -4 {RULE.format('eth1')}"]


@pytest.mark.parametrize(
    ("rules", "routes", "shown"),
    [
        ([{**THERE, "iif": "eth9"}], [LOCAL], "- ip -4 rule add priority 21021 fwmark 0x51ce iif eth9 "),
        ([{**THERE, "fwmark": "0x1"}], [LOCAL], "- ip -4 rule add priority 21021 fwmark 0x1 "),
        ([THERE, {**THERE, "priority": 7}], [LOCAL], '- ip -4 rule: {"priority": 7,'),
        ([THERE, {**THERE, "dst": "10.9.0.1"}], [LOCAL], "- ip -4 rule: {"),
        ([THERE], [LOCAL, {"dst": "10.9.0.0/24", "dev": "eth1"}], '- ip -4 route: {"dst": "10.9.0.0/24"'),
        ([THERE], [], f"+ ip -4 {ROUTE}"),
    ],
)
def test_drift_is_shown(rules: list[Any], routes: list[Any], shown: str) -> None:
    found = needed(described(intercept="tproxy"), said(rules4=rules, routes4=routes))
    assert any(each.startswith(shown) for each in found["difference"]), found


def test_f9_what_former_flows_use_stays_beside_the_new_where_that_is_asked_for() -> None:
    """And nothing of anybody else's does."""
    path = described(intercept="tproxy")
    there = [THERE, {**THERE, "iif": "eth1"}, {**THERE, "fwmark": "0x1"}, {**THERE, "dst": "10.9.0.1"}]
    found = said(rules4=there, routes4=[LOCAL], rules6=[{**THERE, "iif": "eth1"}], routes6=[LOCAL])
    kept = routing(path, path.host("f1"), found, keep=True)
    assert kept["commands"] == [
        f"-4 {RULE.format('eth0')}",
        f"-4 {ROUTE}",
        f"-4 {RULE.format('eth1')}",
        f"-6 {RULE.format('eth1')}",
        f"-6 {ROUTE}",
    ]
    assert [each[:16] for each in kept["difference"]] == ["- ip -4 rule add", '- ip -4 rule: {"']
    gone = needed(path, found)["difference"]
    assert f"- ip -4 {RULE.format('eth1')}" in gone
    assert f"- ip -6 {ROUTE}" in gone


def test_an_interface_that_is_not_there_is_said() -> None:
    path = described(intercept="tproxy")
    assert needed(path, said(LINKS[:1]))["missing"] == [
        "found no interface with 10.1.0.1 or with its network"
    ]
    assert needed(path, ["addresses "])["missing"]
    assert needed(path, [])["missing"]


def test_15_4_an_address_that_is_elsewhere_now_belongs_to_its_network() -> None:
    path = described(intercept="tproxy")
    links = [
        {"ifname": "wide", "addr_info": [{"local": "10.9.0.1", "prefixlen": 8}]},
        {"ifname": "vrrp", "addr_info": [{"local": "10.1.0.3", "prefixlen": 24}]},
    ]
    assert f"-4 {RULE.format('vrrp')}" in needed(path, said(links))["commands"]
    exact = {"ifname": "exact", "addr_info": [{"local": "10.1.0.1", "prefixlen": 16}]}
    assert f"-4 {RULE.format('exact')}" in needed(path, said([*links, exact]))["commands"]


def test_the_role_removes_what_the_core_asks_for() -> None:
    """Without a description, too, so its number stands in the role."""
    variables = yaml.safe_load((ROOT / "roles/policy/vars/main.yml").read_text())
    assert variables["__sluice_policy_routing"] == ROUTING
