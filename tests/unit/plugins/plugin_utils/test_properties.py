# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every path: written from the three rules of DESIGN, not from the code."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, Ports, derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import ANY_PORT, Network, Path
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import ruleset
from ansible_collections.sluice.ftp.plugins.plugin_utils.settings import read_timeouts, settings
from hypothesis import given

from tests.unit.plugins.strategies import descriptions


def every(description: dict[str, Any]) -> dict[str, tuple[Flow, ...]]:
    path = read_path(description["topology"], description["mode"], description["ports"])
    return {name: derive(path, path.host(name)) for name in description["hosts"]}


def modes_of(description: dict[str, Any], leg: str) -> set[str]:
    mode = description["mode"]
    word = mode if isinstance(mode, str) else mode[leg]
    return {"active", "passive"} if word == "both" else {word}


def ranges_of(description: dict[str, Any], name: str) -> dict[str, dict[str, str]]:
    default = {
        "client_side": {"listen": "50000-50999", "source": "51000-51999"},
        "server_side": {"listen": "52000-52999", "source": "53000-53999"},
    }
    host = next(hop["hosts"][name] for hop in description["topology"]["hops"] if name in hop["hosts"])
    return host.get("ports") or description["ports"] or default


@given(descriptions())
def test_the_two_ends_of_a_leg_say_the_same(description: dict[str, Any]) -> None:
    """A flow between two hops stands on both, once as out and once as in, with the acceptor's own ports."""
    path = read_path(description["topology"], description["mode"], description["ports"])
    found = every(description)
    hops = [list(hop["hosts"]) for hop in description["topology"]["hops"]]
    for near, far in [pair for one, other in pairwise(hops) for pair in product(one, other)]:
        shared = {f.leg for f in found[near]} & {f.leg for f in found[far]}
        assert len(shared) == 1

        def seen(host: str, leg: set[str] = shared) -> list[tuple[Any, ...]]:
            return [(f.channel, f.mode, f.opener, f.acceptor) for f in found[host] if f.leg in leg]

        def directions(host: str, leg: set[str] = shared) -> list[bool]:
            return [f.direction == "in" for f in found[host] if f.leg in leg]

        assert seen(near) == seen(far)
        assert directions(near) == [not each for each in directions(far)]
        shares = ([f for f in found[host] if f.leg in shared] for host in (near, far))
        for one, other in zip(*shares, strict=True):
            accepts, opens = (one, other) if one.direction == "in" else (other, one)
            accepting, opening = (near, far) if accepts is one else (far, near)
            seen_at = {name: seen_by(path, name, other_end) for name, other_end in ((near, far), (far, near))}
            assert at_peer(opens, opens.acceptor_ports, seen_at[accepting]) == {accepts.acceptor_ports}
            assert at_peer(accepts, accepts.opener_ports, seen_at[opening]) <= {
                opens.opener_ports,
                (ANY_PORT,),
            }


def seen_by(path: Path, name: str, other: str) -> tuple[Network, ...]:
    """What the host `other`, on a neighbouring hop, sees of the host `name`."""
    host = path.host(name)
    return (host.server_side if path.positions[name] < path.positions[other] else host.client_side).seen


def at_peer(flow: Flow, together: Ports, networks: tuple[Network, ...]) -> set[Ports]:
    """The ports that a flow allows at its peer's end, for a peer with these addresses."""
    return {ports for network, ports in flow.peer_ports if network in networks} or {together}


@given(descriptions())
def test_each_leg_has_its_control_and_its_modes_and_no_more(description: dict[str, Any]) -> None:
    for flows in every(description).values():
        legs = list(dict.fromkeys(f.leg for f in flows if f.channel in ("control", "data")))
        assert len(legs) == 2
        for leg in legs:
            near, far = leg.split("-")
            wanted: list[tuple[str | None, str, str]] = [(None, near, far)]
            wanted += [("active", far, near)] if "active" in modes_of(description, leg) else []
            wanted += [("passive", near, far)] if "passive" in modes_of(description, leg) else []
            assert [(f.mode, f.opener, f.acceptor) for f in flows if f.leg == leg] == wanted


@given(descriptions())
def test_no_port_outside_the_declared_ranges(description: dict[str, Any]) -> None:
    """A data flow accepts on the host's own listen range and opens from its own source range."""
    for name, flows in every(description).items():
        ranges = ranges_of(description, name)
        first = flows[0].leg
        for f in (each for each in flows if each.channel == "data"):
            own = ranges["client_side" if f.leg == first else "server_side"]
            if f.direction == "in":
                assert [str(each) for each in f.acceptor_ports] == [own["listen"]]
            else:
                assert [str(each) for each in f.opener_ports] == [own["source"]]


@given(descriptions())
def test_the_rules_open_the_flows_and_nothing_else(description: dict[str, Any]) -> None:
    """Each flow stands in a rule's comment, in one of each family where its peers' ports differ; every other
    accept demands `established`, or what is invalid and no SYN (F1, F20)."""
    path = read_path(description["topology"], description["mode"], description["ports"])
    for name in description["hosts"]:
        host = path.host(name)
        rules = [rule for chain in ruleset(path, host, 990)["chains"] for rule in chain["rules"]]
        opening = [
            rule
            for rule in rules
            if "accept" in rule
            and not rule.endswith(
                (
                    "ct state established counter accept",
                    "tcp flags & syn == 0 ct state invalid counter accept",
                )
            )
        ]
        wanted = sorted(
            f'comment "{comment(flow)}"'
            for flow in derive(path, host)
            for _version in {network.version for network, _ports in flow.peer_ports} or {4}
        )
        assert sorted(rule[rule.index("comment") :] for rule in opening) == wanted
        for rule in rules:
            if "counter drop" in rule:
                assert "ct state" not in rule, "F5: a drop must not depend on conntrack"
                assert "ct direction" not in rule, "F5: a drop must not depend on conntrack"
            assert "related" not in rule, "F11"


@given(descriptions())
def test_the_same_description_gives_the_same(description: dict[str, Any]) -> None:
    """Deterministic, so that a second run changes nothing."""
    path = read_path(description["topology"], description["mode"], description["ports"])
    again = read_path(description["topology"], description["mode"], description["ports"])
    for name in description["hosts"]:
        assert derive(path, path.host(name)) == derive(again, again.host(name))
        assert ruleset(path, path.host(name), 990) == ruleset(again, again.host(name), 990)
        timeouts = read_timeouts({})
        assert settings(path, path.host(name), timeouts) == settings(again, again.host(name), timeouts)


@given(descriptions())
def test_14_4_carried_identity_adds_no_flow_and_no_rule(description: dict[str, Any]) -> None:
    """It is the first bytes of the control connection."""
    mode, ports = description["mode"], description["ports"]
    plain = read_path(description["topology"], mode, ports)
    for hop in description["topology"]["hops"][1:]:
        hop["identity"] = True
    carried = read_path(description["topology"], mode, ports)
    assert all(hop.identity for hop in carried.hops[1:])
    for name in description["hosts"]:
        assert derive(carried, carried.host(name)) == derive(plain, plain.host(name))
        assert ruleset(carried, carried.host(name), 995) == ruleset(plain, plain.host(name), 995)
