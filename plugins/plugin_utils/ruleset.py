# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules of one host: sets and chains as data, from flows, the proxy's uid and the scope.

A rule is a line of nft; those that intercept stand in interception.py. Facts of the project's paper on its
policy that are obeyed here: F1 positive skuid only on a SYN; F3 the local end is proved on the way out;
F5, F6 no drop depends on conntrack; F11 a related connection is nobody's flow; F13 peers stand in sets;
F21 ranges are merged; F22 what is refused is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ansible_collections.sluice.ftp.plugins.plugin_utils import exclusive, interception
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, derive, merged, served
from ansible_collections.sluice.ftp.plugins.plugin_utils.former import LEG, record, taken_away
from ansible_collections.sluice.ftp.plugins.plugin_utils.nft_text import (
    REPLY,
    SYN,
    Chain,
    Ruleset,
    Set,
    accept,
    address_sets,
    base_chain,
    braced,
    chain,
    drop,
    endpoint_sets,
    going_on,
    logged,
    port_set,
    versions,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    ANY_PORT,
    CONTROL_PORT,
    INTERCEPT_PORT,
    REDIRECT,
    Hop,
    Host,
    Network,
    Path,
    PortRange,
    single,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reasons import (
    ANYTHING_ELSE,
    NO_HELPER,
    NOT_A_FLOW,
    OTHER_OPENS_DATA,
    OTHER_SERVES,
    OTHER_SPEAKS_FTP,
    OTHERS_ADDRESS,
    PAST_THE_PROXY,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import Scope

__all__ = ["FAMILY", "NAME", "Ruleset", "ruleset"]

FAMILY = "inet"
NAME = "sluice"
GUARD_ALONE = Scope()


@dataclass(frozen=True, slots=True)
class _Leg:
    """Flows with the same peers and own addresses; `name` is in the names of their chains and sets."""

    name: str
    side: str  # down, up or monitor
    flows: Sequence[Flow]

    @property
    def foreign(self) -> bool:
        """Whether the local end is an address that is not the host's own."""
        return self.flows[0].foreign


def ruleset(
    path: Path,
    host: Host,
    uid: int | str,
    scope: Scope = GUARD_ALONE,
    *,
    former: Sequence[Flow] = (),
    log_refused: bool = True,
) -> Ruleset:
    """The table of `host`. `uid` is the proxy user's number (F18: never its name).

    `former`: flows of before, of which those that the path's do not carry stay open, too (F9).
    `log_refused`: the kernel's log names the hop and the reason of what is dropped, at a low rate (F22).
    """
    flows = derive(path, host)
    position = path.positions[host.name]
    hop = path.hops[position]
    kept = taken_away(former, flows)
    monitor = [flow for flow in flows if flow.channel == "metrics"]
    legs = [
        *(
            leg
            for side, at in (("down", position), ("up", position + 1))
            for leg in _legs(side, [each for each in flows if each.leg == path.leg(at)])
        ),
        *([_Leg("monitor", "monitor", monitor)] if monitor else []),
        *_former_legs(kept),
    ]
    dns = [flow for flow in flows if flow.channel == "dns"]
    sets = [
        *(each for leg in legs for each in _leg_sets(leg)),
        *address_sets("dns", dns[0].peer_addresses if dns else ()),
        # All of the path on the client side of this host, and what lies beyond it.
        *address_sets("nearer", [*path.clients.networks, *_hop_addresses(path.hops[:position])]),
        *address_sets("further_hops", _hop_addresses(path.hops[position + 1 :])),
        *address_sets("servers", path.servers.networks),
        *interception.sets(path, host, [*flows, *kept]),
        port_set("serve", served((*flows, *kept))),
        *(exclusive.scope_sets(scope) if scope.exclusive else ()),
    ]
    chains = [
        *(_inbound(leg) for leg in legs),
        chain(
            "guard_in",
            [f"ct direction reply {REPLY} return", drop(NOT_A_FLOW)],
        ),
        *(_outbound(leg, uid) for leg in legs),
        *([chain("out_dns", _dns_rules(dns, uid))] if dns else []),
        chain(
            "guard_out",
            [
                "ct direction original ct state { new, established } return",
                drop(OTHER_SERVES),
            ],
        ),
        *_base_chains(path, scope, sets, legs, uid),
        *interception.chains(path, host, sets, [(leg.name, leg.flows) for leg in legs]),
    ]
    if log_refused:
        for each in chains:
            each["rules"] = list(logged(each["rules"], hop.name))
    return {
        "family": FAMILY,
        "name": NAME,
        "sets": sets,
        "chains": chains,
        "flows": record([*flows, *kept]),
        "former": [comment(flow) for flow in kept],
    }


def _legs(side: str, flows: Sequence[Flow]) -> Iterator[_Leg]:
    """The flows of one side. Those whose peers are others stand apart: active data of a hop that redirects
    comes from its own addresses, while it is dialled at the servers'."""
    peers = flows[0].peer_addresses
    yield _Leg(side, side, [each for each in flows if each.peer_addresses == peers])
    others = [each for each in flows if each.peer_addresses != peers]
    if others:
        yield _Leg(f"{side}_own", side, others)


def _former_legs(flows: Iterable[Flow]) -> Iterator[_Leg]:
    """Former flows by side and addresses, so that none of them opens a port to another one's peers."""
    groups: dict[tuple[object, ...], list[Flow]] = {}
    for flow in flows:
        key = flow.side, flow.peer_addresses, flow.local_addresses, flow.foreign
        groups.setdefault(key, []).append(flow)
    for number, group in enumerate(groups.values(), start=1):
        yield _Leg(f"{LEG}{number}_", group[0].side, group)


def _base_chains(
    path: Path, scope: Scope, sets: Sequence[Set], legs: Sequence[_Leg], uid: int | str
) -> Iterator[Chain]:
    """Input, output and forward: the guards first, then what scope exclusive allows beside the flows."""
    policy = "drop" if scope.exclusive else "accept"
    rules = {
        "input": [*_input_rules(sets, legs)],
        "output": [*_output_rules(sets, legs, uid)],
        "forward": [
            *interception.forward_rules([leg.flows for leg in legs]),
            *_forward_rules(sets, path.servers.control_ports),
        ],
    }
    if scope.exclusive:
        rules["input"] += exclusive.input_rules(scope, sets)
        rules["output"] += exclusive.output_rules(scope, sets)
        rules["forward"] += exclusive.forward_rules(scope, sets)
    for hook, lines in rules.items():
        yield base_chain(hook, policy, lines)


def _inbound(leg: _Leg) -> Chain:
    """What may come in on a leg: its inbound flows, and the replies to its outbound ones, in their order."""
    rules: list[str] = []
    for flow in leg.flows:
        if flow.direction == "in":
            for ports in _ports(leg.name, flow):
                rules.append(f"ct direction original{ports} {SYN} {accept(comment(flow))}")
                rules += _going_on("original", ports, flow)
        else:
            for ports in _ports(leg.name, flow, reply=True):
                rules += going_on("reply", ports)
    if leg.foreign:
        control = [each for flow in leg.flows if flow.channel == "control" for each in flow.acceptor_ports]
        if leg.side == "down" and control:
            # At the servers' addresses; at its own the host may use these ports for something else.
            rules.append(f"tcp dport {braced(control)} {drop(NOT_A_FLOW)}")
    return chain(f"in_{leg.name}", rules)


def _redirected(flow: Flow) -> bool:
    """Whether this host sees its own address in the place of the one that was dialled."""
    return flow.intercept == REDIRECT and flow.direction == "in"


def _going_on(direction: str, match: str, flow: Flow) -> list[str]:
    """`going_on`; but what conntrack takes for invalid is not translated either, so it is none of these."""
    return list(going_on(direction, match))[: 1 if _redirected(flow) else None]


def _outbound(leg: _Leg, uid: int | str) -> Chain:
    """What may go out on a leg. A packet without a socket matches neither skuid nor its negation (F1)."""
    rules: list[str] = []
    for flow in leg.flows:
        if flow.direction == "out" and flow.channel == "data" and flow.peer_is_hop and not leg.foreign:
            # That hop knows the proxy's connections by their source ports: nobody else may use them there.
            refused = f"meta skuid != {uid} {drop(OTHER_OPENS_DATA)}"
            rules += [f"{ports.strip()} {refused}" for ports in _ports(leg.name, flow)]
    rules.append(f"meta skuid != {uid} {drop(OTHERS_ADDRESS) if leg.foreign else 'return'}")
    for flow in leg.flows:
        if flow.direction == "out":
            for ports in _ports(leg.name, flow):
                opening = f"meta skuid {uid} {SYN} {accept(comment(flow))}"
                rules.append(f"ct direction original{ports} {opening}")
                rules += going_on("original", ports)
        else:
            for ports in _ports(leg.name, flow, reply=True):
                rules += _going_on("reply", ports, flow)
    return chain(f"out_{leg.name}", rules)


def _dns_rules(flows: Sequence[Flow], uid: int | str) -> Iterator[str]:
    for flow in flows:
        port = f"{flow.protocol} dport {braced(flow.acceptor_ports)}"
        if flow.protocol == "udp":
            yield f"{port} meta skuid {uid} {accept(comment(flow))}"
        else:
            yield f"ct direction original {port} meta skuid {uid} {SYN} {accept(comment(flow))}"
            yield from going_on("original", f" {port}")


def _input_rules(sets: Sequence[Set], legs: Iterable[_Leg]) -> Iterator[str]:
    """A neighbour never comes over loopback, though the host's own address may lie in its networks."""
    for leg in legs:
        for version, ip in versions(sets, f"l{leg.name}"):
            peers = f"{ip} saddr @{leg.name}{version} {ip} daddr @l{leg.name}{version}"
            peers += " fib daddr type != local" if leg.foreign else ""
            yield f'iifname != "lo" meta l4proto tcp {peers} jump in_{leg.name}'
    yield "tcp dport @serve jump guard_in"


def _output_rules(sets: Sequence[Set], legs: Sequence[_Leg], uid: int | str) -> Iterator[str]:
    for leg in legs:
        for version, ip in versions(sets, f"l{leg.name}"):
            peers = f"{ip} daddr @{leg.name}{version} {ip} saddr @l{leg.name}{version}"
            peers += " fib saddr type != local" if leg.foreign else ""
            yield f'oifname != "lo" meta l4proto tcp {peers} jump out_{leg.name}'
    for version, ip in versions(sets, "dns"):
        yield f"{ip} daddr @dns{version} jump out_dns"
    yield f"meta skuid {uid} {drop(ANYTHING_ELSE)}"
    yield f"tcp sport @serve meta skuid != {uid} jump guard_out"
    for leg in legs:
        flows = leg.flows if leg.side == "up" else ()
        control = [each for flow in flows if flow.channel == "control" for each in flow.acceptor_ports]
        for version, ip in versions(sets, leg.name) if control else ():
            refused = drop(OTHER_SPEAKS_FTP)
            users = f'oifname != "lo" meta skuid != {uid}'
            yield f"tcp dport {braced(control)} {ip} daddr @{leg.name}{version} {users} {refused}"
    down = [flow for leg in legs if leg.side == "down" for flow in leg.flows]
    for each in dict.fromkeys(_privileged_sources(down)):
        # No conntrack here: such a SYN may belong to an old entry as reply or invalid (F6).
        yield f"tcp sport {each} meta skuid != {uid} {drop(f'other user uses port {each}')}"


def _forward_rules(sets: Sequence[Set], control_ports: Iterable[int]) -> Iterator[str]:
    """FTP control goes only through the proxy: to the ports that the description names, and no others."""
    yield f'ct helper "ftp" {drop(NO_HELPER)}'
    servers = merged([PortRange(port, port) for port in control_ports])
    for name, ports in (("further_hops", [PortRange(CONTROL_PORT, CONTROL_PORT)]), ("servers", servers)):
        for version, ip in versions(sets, name):
            if any(each["name"] == f"nearer{version}" for each in sets):
                addresses = f"{ip} saddr @nearer{version} {ip} daddr @{name}{version}"
                yield f"{addresses} tcp dport {braced(ports)} {drop(PAST_THE_PROXY)}"


def _hop_addresses(hops: Iterable[Hop]) -> Iterator[Network]:
    for hop in hops:
        for host in hop.hosts:
            for each in (*host.client_side.addresses, *host.server_side.addresses):
                yield single(each.address)
                yield single(each.public)


def _privileged_sources(flows: Sequence[Flow]) -> Iterator[PortRange]:
    for flow in flows:
        if flow.direction == "out" and flow.channel == "data":
            yield from (each for each in flow.opener_ports if each.last < 1024)


def _leg_sets(leg: _Leg) -> list[Set]:
    """A leg's peers, this host's own addresses on that side (all flows of a leg have the same), and for
    each flow whose peers differ in their ports these with their addresses."""
    sets = [
        *address_sets(leg.name, leg.flows[0].peer_addresses),
        *address_sets(f"l{leg.name}", leg.flows[0].local_addresses),
    ]
    for flow in leg.flows:
        sets += endpoint_sets(f"{leg.name}_{flow.mode}", flow.peer_ports)
    return sets


def _own(flow: Flow) -> Flow:
    """A redirected flow as any that comes to the host's own address."""
    control = (PortRange(INTERCEPT_PORT, INTERCEPT_PORT),)
    return replace(
        flow, intercept="", acceptor_ports=control if flow.channel == "control" else flow.acceptor_ports
    )


def _ports(name: str, flow: Flow, *, reply: bool = False) -> Iterator[str]:
    """The match of a flow's ports, with a space before it, and nothing for an end that is free.

    One match, or one for each family where the peer's ports depend on its address. Of a redirected flow only
    what was translated: the host's own address and port are nobody's to dial.
    """
    if _redirected(flow):
        translated = "" if reply else " ct status dnat"
        yield from (f"{translated}{each}" for each in _ports(name, _own(flow), reply=reply))
        return
    opener, acceptor = ("dport", "sport") if reply else ("sport", "dport")
    found = {opener: flow.opener_ports, acceptor: flow.acceptor_ports}
    if not flow.peer_ports:
        yield "".join(
            f" tcp {key} {braced(found[key])}" for key in ("sport", "dport") if found[key] != (ANY_PORT,)
        )
        return
    peers = opener if flow.direction == "in" else acceptor
    own = acceptor if flow.direction == "in" else opener
    address = "saddr" if peers == "sport" else "daddr"
    for version, ip in ((4, "ip"), (6, "ip6")):
        if any(each.version == version for each, _ports in flow.peer_ports):
            match = f" {ip} {address} . tcp {peers} @{name}_{flow.mode}{version}"
            yield f"{match} tcp {own} {braced(found[own])}" if found[own] != (ANY_PORT,) else match
