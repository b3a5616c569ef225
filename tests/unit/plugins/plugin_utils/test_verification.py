# SPDX-License-Identifier: GPL-3.0-or-later
"""What verification tries: every flow between hops, each probe with the rules that count it (issue 4)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import DescriptionError, read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Path
from ansible_collections.sluice.ftp.plugins.plugin_utils.probes import OTHER, OWN, PROXY, Probe
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import ruleset
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import Scope, read_scope
from ansible_collections.sluice.ftp.plugins.plugin_utils.verification import (
    MOST_PEERS,
    End,
    Plan,
    plan,
    read_ends,
    read_scopes,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plugins.paths import changed, twenty_lines, with_metrics
from tests.unit.plugins.strategies import descriptions

ENDS = {
    "C": End("c1", (ip_address("172.16.0.9"), ip_address("2001:db8:a::9"))),
    "S": End("s1", (ip_address("192.0.2.9"), ip_address("2001:db8:b::9"))),
}
EXCLUSIVE = {"scope": "exclusive", "management": {"networks": ["192.0.2.0/24"]}}


def probes_of(found: Plan) -> list[Probe]:
    return [probe for probes in found.rounds for probe in probes]


def about(found: Plan, what: str) -> list[Probe]:
    return [probe for probe in probes_of(found) if probe.about == what]


def two_hops(mode: str = "both", ends: dict[str, End] | None = None, **scopes: Any) -> Plan:
    path = read_path(twenty_lines(), mode)
    chosen = read_scopes("scopes", {"f1": {}, "n1": {}, **scopes}, path)
    return plan(path, chosen, ends or {})


@st.composite
def plans(draw: st.DrawFn) -> tuple[Path, Plan]:
    description = draw(descriptions())
    path = read_path(description["topology"], description["mode"], description["ports"])
    exclusive = read_scope("exclusive", {"networks": ["192.0.2.0/24"]})
    scopes = {name: draw(st.sampled_from([Scope(), exclusive])) for name in description["hosts"]}
    ends = {name: end for name, end in ENDS.items() if draw(st.booleans())}
    return path, plan(path, scopes, ends)


@given(plans())
def test_no_rule_is_expected_twice_in_a_round(case: tuple[Path, Plan]) -> None:
    _path, found = case
    for probes in found.rounds:
        rules = [rule for probe in probes for rule in probe.rules]
        assert len(rules) == len(set(rules))
    assert all(probe.rules for probe in probes_of(found))
    names = [probe.id for probe in probes_of(found)]
    assert len(names) == len(set(names))


@given(plans())
def test_every_flow_between_hops_is_tried_and_the_others_say_why_not(case: tuple[Path, Plan]) -> None:
    path, found = case
    tried = {rule for probe in probes_of(found) if probe.passes for rule in probe.rules}
    for name in found.hops:
        for flow in derive(path, path.host(name)):
            line = (name, comment(flow))
            assert (line in tried) != (line[1] in found.untried[name])
            if flow.peer_is_hop:
                assert line in tried
            if line in tried:
                assert flow.channel != "dns"


@given(plans())
def test_rules_that_count_are_rules_of_the_hosts_table(case: tuple[Path, Plan]) -> None:
    path, found = case
    texts: dict[str, str] = {}
    for name in found.hops:
        for scope in (Scope(), read_scope("exclusive", {"networks": ["192.0.2.0/24"]})):
            chains = ruleset(path, path.host(name), 990, scope)["chains"]
            texts.setdefault(name, "")
            texts[name] += "\n".join(rule for chain in chains for rule in chain["rules"])
    for probe in probes_of(found):
        *before, (host, last) = probe.rules
        assert all(f'accept comment "{each}"' in texts[at] for at, each in before)
        assert f'{"accept" if probe.passes else "drop"} comment "{last}"' in texts[host]


@given(plans())
def test_a_probe_uses_what_its_hosts_have(case: tuple[Path, Plan]) -> None:
    path, found = case
    own = {
        name: {
            str(each.address)
            for side in (path.host(name).client_side, path.host(name).server_side)
            for each in side.addresses
        }
        for name in found.hops
    } | {end.host: {str(each) for each in end.addresses} for end in ENDS.values()}
    for probe in probes_of(found):
        assert probe.source in own[probe.opener]
        assert not probe.bind or probe.bind in own[probe.acceptor]
        assert (probe.user == OWN) == (probe.opener in ("c1", "s1"))
        if probe.passes and probe.opener in found.hops:
            assert probe.user == PROXY


def test_ends_that_are_not_named_are_not_tried() -> None:
    found = two_hops()
    assert set(found.untried["f1"].values()) == {"sluice_verify_client is not set"}
    assert set(found.untried["n1"].values()) == {"sluice_verify_server is not set"}
    assert {probe.opener for probe in probes_of(found)} == {"f1", "n1"}


def test_a_client_outside_the_networks_is_no_client() -> None:
    found = two_hops(ends={"C": End("c1", (ip_address("10.9.0.9"),))})
    why = "c1 would use 10.9.0.9, expected an address of sluice_topology.clients.networks"
    assert set(found.untried["f1"].values()) == {why}
    assert not any("c1" in (probe.opener, probe.acceptor) for probe in probes_of(found))


def test_a_host_that_does_not_take_part_is_named() -> None:
    found = plan(read_path(twenty_lines()), {"f1": Scope()}, {})
    assert "n1 did not take part in this run" in found.untried["f1"].values()


def test_the_sample_of_refusals_has_each_kind() -> None:
    ends = {"C": End("c1", (ip_address("10.1.0.9"),)), "S": End("s1", (ip_address("192.0.2.9"),))}
    found = two_hops(ends=ends)
    refused = {probe.about for probe in probes_of(found) if not probe.passes}
    assert refused == {
        "another user",
        "another port",
        "another direction",
        "another peer",
        "past the proxy",
    }
    assert {probe.acceptor for probe in probes_of(found) if probe.listener == OTHER} == {"f1", "n1"}


def test_another_user_gets_out_of_guard_and_not_out_of_exclusive() -> None:
    guard = [probe.rules for probe in about(two_hops(), "another peer") if probe.opener == "f1"]
    exclusive = [
        probe.rules for probe in about(two_hops(f1=EXCLUSIVE), "another peer") if probe.opener == "f1"
    ]
    assert guard == [(("n1", "not a flow: to a proxy port"),)]
    assert exclusive == [(("f1", "exclusive: anything else from this host"),)]


def test_what_an_exclusive_host_needs_itself_gets_out() -> None:
    needs = [{"direction": "out", "protocol": "tcp", "ports": "50000-50999"}]
    found = two_hops(f1={**EXCLUSIVE, "exclusive_host": needs})
    rules = [probe.rules for probe in about(found, "another peer") if probe.opener == "f1"]
    assert rules == [(("n1", "not a flow: to a proxy port"),)]


def test_other_rules_count_where_the_servers_are_anywhere() -> None:
    """N's rules take F's port 21 for FTP upstream, for every address is a server's (0.0.0.0/0)."""
    found = [probe for probe in about(two_hops(), "another direction") if probe.user == OTHER]
    assert [probe.rules for probe in found] == [(("n1", "other user speaks FTP upstream"),)]


def test_pairs_of_large_hops_are_bounded() -> None:
    topology = twenty_lines()
    for i, prefix in ((0, "f"), (1, "n")):
        topology["hops"][i]["hosts"] = {
            f"{prefix}{k}": {"client_side": f"10.{i}.0.{k}", "server_side": f"10.{i + 1}.1.{k}"}
            for k in range(1, 31)
        }
    path = read_path(topology)
    found = plan(path, {name: Scope() for name in path.positions}, {})
    control = [probe for probe in probes_of(found) if probe.passes and probe.greets]
    for name in path.positions:
        assert sum(name in (probe.opener, probe.acceptor) for probe in control) == MOST_PEERS
    assert len(found.rounds) <= 3 * MOST_PEERS


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda path: read_scopes("scopes", {"web1": {}}, path), "found the unknown key 'web1'"),
        (lambda path: read_ends("ends", {"X": {}}), "found the unknown key 'X', expected only C, S"),
        (lambda path: read_ends("ends", {"C": {"host": "c1", "addresses": ["x"]}}), "ends.C.addresses[0]"),
    ],
)
def test_what_is_no_plan_is_a_sentence(read: Any, message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        read(read_path(changed("hops.0.name", "F")))
    assert message in str(caught.value)


def test_14_1_a_hop_that_asks_for_identity_is_told_that_the_hop_before_speaks_for_itself() -> None:
    path = read_path(changed("hops.1.identity", True))
    found = plan(path, read_scopes("scopes", {"f1": {}, "n1": {}}, path), ENDS)
    asked = {(probe.opener, probe.acceptor) for probe in probes_of(found) if probe.identity}
    assert asked == {("f1", "n1")}
    assert all(probe.greets and probe.passes for probe in probes_of(found) if probe.identity)
    assert not any(probe.identity for probe in probes_of(two_hops(ends=ENDS)))


def test_a_scrape_is_not_tried_but_its_listener_is_looked_for() -> None:
    path = read_path(with_metrics())
    found = plan(path, read_scopes("scopes", {"f1": {}, "n1": {}}, path), {})
    assert (
        found.untried["f1"]["monitor -> F: -> proxy user: to port 9421"]
        == "nobody of metrics_from takes part"
    )
    assert found.control == {"f1": [("10.1.0.1", "21"), ("10.9.0.1", "9421")], "n1": [("10.2.0.2", "21")]}
