# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What verification tries on live hosts: connections that must pass and some that must not, in rounds.

A probe names the rules that have to count it, and in one round no rule is named twice: what a rule's counter
moved by between the two ends of a round belongs to one probe. The hosts of a hop probe each other as the
proxy's user; the legs at the path's ends need a client and a server that one may use. Of a leg on which
a hop intercepts, or opens with its client's address, no data is tried: it bears addresses of others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    ACTIVE,
    CLIENTS,
    CONTROL_PORT,
    PASSIVE,
    SERVERS,
    TPROXY,
    Address,
    Host,
    Path,
    SideAddress,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.probes import Place, Probe, Rule, versions
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import (
    address,
    listed,
    mapping,
    sequence,
    wrong,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reasons import OTHER_SERVES
from ansible_collections.sluice.ftp.plugins.plugin_utils.refusals import (
    direct,
    past_the_proxy,
    refused,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import GUARD, Scope, read_scope

MOST_PEERS = 4  # of the neighbouring hop: each host tries its flows with so many of its hosts at most


@dataclass(frozen=True, slots=True)
class End:
    """A client or a server that verification may use, with its own addresses towards the path."""

    host: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds of probes, and what the report says of each host.

    `hops` are names, `lines` the flows in order, `untried` why a line is not tried at all, `control` the
    sockets that a proxy holds always and `data` those that it may hold during transfers. `towards` are the
    addresses at which a client C and a server S reach the path.
    """

    rounds: tuple[tuple[Probe, ...], ...]
    hops: dict[str, str]
    lines: dict[str, list[str]]
    untried: dict[str, dict[str, str]]
    control: dict[str, list[tuple[str, str]]]
    data: dict[str, list[tuple[str, str]]]
    towards: dict[str, list[str]]

    def as_data(self) -> dict[str, Any]:
        """The plan as plain types."""
        return {
            "rounds": [[each.as_data() for each in probes] for probes in self.rounds],
            "hops": dict(self.hops),
            "lines": {host: list(each) for host, each in self.lines.items()},
            "untried": {host: dict(each) for host, each in self.untried.items()},
            "control": _pairs_as_lists(self.control),
            "data": _pairs_as_lists(self.data),
            "towards": {end: list(each) for end, each in self.towards.items()},
        }


def _pairs_as_lists(found: Mapping[str, list[tuple[str, str]]]) -> dict[str, list[list[str]]]:
    return {host: [list(each) for each in pairs] for host, pairs in found.items()}


@dataclass(frozen=True, slots=True)
class _Parties:
    """Who takes part: flows and scopes of the hosts of hops, and who may be used at the ends of the path."""

    path: Path
    flows: Mapping[str, tuple[Flow, ...]]
    scopes: Mapping[str, Scope]
    ends: Mapping[str, End]


def read_ends(place: str, value: object) -> dict[str, End]:
    """`{C: {host: c1, addresses: [...]}, S: ...}`, each where there is one; raises DescriptionError."""
    ends = {}
    for name, entry in mapping(place, value, [], [CLIENTS, SERVERS]).items():
        found = mapping(f"{place}.{name}", entry, ["host", "addresses"])
        each = sequence(f"{place}.{name}.addresses", found["addresses"] or [""], "addresses")
        addresses = [address(f"{place}.{name}.addresses[{i}]", one) for i, one in enumerate(each) if one]
        ends[name] = End(str(found["host"]), tuple(addresses))
    return ends


def read_hosts(place: str, value: object, path: Path) -> list[str]:
    """Inventory names that stand on the path; raises DescriptionError."""
    names = [str(each) for each in sequence(place, value, "inventory names")]
    for name in names:
        if name not in path.positions:
            wrong(place, f"the host {name}", f"one of {listed(list(path.positions))}")
    return names


def read_scopes(place: str, value: object, path: Path) -> dict[str, Scope]:
    """By inventory name the scope of each host; raises DescriptionError."""
    scopes = {}
    for name, entry in mapping(place, value, [], list(path.positions)).items():
        found = mapping(f"{place}.{name}", entry, [], ["scope", "management", "exclusive_host"])
        scopes[name] = read_scope(
            found.get("scope", GUARD), found.get("management"), found.get("exclusive_host")
        )
    return scopes


def plan(path: Path, scopes: Mapping[str, Scope], ends: Mapping[str, End]) -> Plan:
    """What to try: `scopes` of the hosts that take part, `ends` by name (C, S) who may be used there."""
    flows = {name: derive(path, path.host(name)) for name in scopes}
    parties = _Parties(path, flows, scopes, ends)
    must_pass: list[Probe] = []
    must_not: list[Probe] = []
    for position in range(path.last + 2):
        near, far = (_places(parties, position, at) for at in (position - 1, position))
        seen: set[str] = set()
        for one, other in _pairs(near, far):
            transparent = bool(_why_transparent(path, position))
            must_pass += (
                _intercepted(parties, position, one, other)
                if transparent
                else _allowed(one, other, path.modes[position])
            )
            if not {one.host, other.host} <= seen:
                must_not += _internal(path, position, one, other) if transparent else refused(one, other)
                seen |= {one.host, other.host}
    must_not += _forwarded(parties)
    tried = {rule for probe in must_pass for rule in probe.rules}
    probes = [*must_pass, *_once(must_not)]
    hosts = [path.host(name) for name in scopes]
    return Plan(
        rounds=_rounds(replace(probe, id=f"p{i}") for i, probe in enumerate(probes)),
        hops={host.name: path.name(path.positions[host.name]) for host in hosts},
        lines={name: [comment(flow) for flow in flows[name]] for name in scopes},
        untried={
            name: {
                comment(flow): _why_untried(path, flow, scopes, ends)
                for flow in flows[name]
                if (name, comment(flow)) not in tried
            }
            for name in scopes
        },
        control={host.name: list(_control_sockets(path, host)) for host in hosts},
        data={host.name: list(_data_sockets(path, host)) for host in hosts},
        towards={
            CLIENTS: [str(e.public) for host in path.hops[0].hosts for e in host.client_side.addresses],
            SERVERS: [str(e.public) for host in path.hops[-1].hosts for e in host.server_side.addresses],
        },
    )


def _why_transparent(path: Path, position: int) -> str:
    """Why the leg on the client side of `position` bears addresses of others; empty where it does not."""
    if position <= path.last and path.hops[position].intercept:
        return f"hop {path.name(position)} intercepts: who dials it dials a server"
    if position > 0 and path.hops[position - 1].client_source:
        return f"hop {path.name(position - 1)} opens with its client's address"
    return ""


def _dials_servers_as_itself(path: Path, position: int) -> bool:
    """Whether the hop at `position` intercepts what the one before opens from an address of its own."""
    intercepted = position <= path.last and bool(path.hops[position].intercept)
    return intercepted and not (position > 0 and path.hops[position - 1].client_source)


def _intercepted(parties: _Parties, position: int, near: Place, far: Place) -> Iterator[Probe]:
    """Control connections that the far one intercepts: to a server that one may use, from an own address."""
    path = parties.path
    if not _dials_servers_as_itself(path, position):
        return
    for server in _places(parties, path.last + 1, path.last + 1):
        for version in versions(near, far):
            if version in server.addresses:
                target = str(server.addresses[version].public)
                probe = _flow_probe(near, far, None, version)
                yield replace(probe, target=target, ports=str(server.control))


def _internal(path: Path, position: int, near: Place, far: Place) -> Iterator[Probe]:
    """The port itself that they are handed to is nobody's."""
    if position <= path.last and path.hops[position].intercept:
        yield from direct(near, far, path.hops[position].control_port)


def _control_sockets(path: Path, host: Host) -> Iterator[tuple[str, str]]:
    for each in host.client_side.addresses:
        yield str(each.address), str(path.hops[path.positions[host.name]].control_port)
    if host.metrics:
        yield str(host.metrics[0]), str(host.metrics[1])


def _data_sockets(path: Path, host: Host) -> Iterator[tuple[str, str]]:
    """Addresses or networks, with their ports."""
    ranges = path.listening(host)
    position = path.positions[host.name]
    hop = path.hops[position]
    own = {
        "client_side": [str(each.address) for each in host.client_side.addresses],
        "server_side": [str(each.address) for each in host.server_side.addresses],
    }
    if hop.intercept == TPROXY:
        own["client_side"] = [str(each) for each in path.servers.networks]
    if hop.client_source:
        own["server_side"] = [str(each) for each in path.near_end(position)]
    for name, addresses in own.items():
        for each in addresses if name in ranges else ():
            yield each, str(ranges[name])


def _rounds(probes: Iterable[Probe]) -> tuple[tuple[Probe, ...], ...]:
    """As few rounds as come of putting each probe into the first in which its rules are free."""
    taken: dict[Rule, set[int]] = {}
    rounds: list[list[Probe]] = []
    for probe in probes:
        busy = set().union(*(taken.get(rule, set()) for rule in probe.rules))
        number = next(i for i in range(len(busy) + 1) if i not in busy)
        for rule in probe.rules:
            taken.setdefault(rule, set()).add(number)
        rounds += [[] for _round in range(number + 1 - len(rounds))]
        rounds[number].append(probe)
    return tuple(tuple(each) for each in rounds)


def _once(probes: list[Probe]) -> Iterator[Probe]:
    """A listener of another user once for each host: what waits half open there answers again after a second,
    and would count in a later round."""
    seen: set[Rule] = set()
    for probe in probes:
        last = probe.rules[-1]
        if last[1] != OTHER_SERVES or last not in seen:
            seen.add(last)
            yield probe


def _places(parties: _Parties, leg: int, position: int) -> list[Place]:
    """Who stands at `position`, as seen on the leg on the client side of `leg`."""
    path, ends = parties.path, parties.ends
    name = path.name(position)
    if 0 <= position <= path.last:
        here = [host for host in path.hops[position].hosts if host.name in parties.scopes]
        return [_hop_place(parties, leg, host) for host in here]
    if name not in ends:
        return []
    networks, listen, control = (
        (path.clients.networks, path.clients.ports, CONTROL_PORT)
        if name == CLIENTS
        else (path.servers.networks, path.servers.ports, path.servers.control_ports[0])
    )
    own: dict[int, SideAddress] = {}
    for each in ends[name].addresses:
        if any(each in network for network in networks):
            own.setdefault(each.version, SideAddress(each, each))
    return [Place(ends[name].host, own, listen, control)]


def _hop_place(parties: _Parties, leg: int, host: Host) -> Place:
    path, flows, scope = parties.path, parties.flows[host.name], parties.scopes[host.name]
    side, ports = (
        (host.client_side, host.ports.client_side)
        if leg == path.positions[host.name]
        else (host.server_side, host.ports.server_side)
    )
    own: dict[int, SideAddress] = {}
    for each in side.addresses:
        own[each.address.version] = each
    on_leg: dict[str | None, Flow] = {}
    for flow in flows:
        if flow.leg == path.leg(leg):
            on_leg[flow.mode] = flow
    identity = path.hops[path.positions[host.name]].identity
    return Place(host.name, own, ports.listen, CONTROL_PORT, host, ports, flows, on_leg, scope, identity)


def _pairs(near: list[Place], far: list[Place]) -> Iterator[tuple[Place, Place]]:
    """Every pair, in an order in which all meet somebody first; no host with more than MOST_PEERS."""
    met: dict[str, int] = {}
    seen = set()
    longest = max(len(near), len(far)) if near and far else 0
    for step in range(longest):
        for i in range(longest):
            one, other = near[i % len(near)], far[(i + step) % len(far)]
            few = met.get(one.host, 0) < MOST_PEERS and met.get(other.host, 0) < MOST_PEERS
            if few and (one.host, other.host) not in seen:
                seen.add((one.host, other.host))
                met[one.host] = met.get(one.host, 0) + 1
                met[other.host] = met.get(other.host, 0) + 1
                yield one, other


def _allowed(near: Place, far: Place, modes: Collection[str]) -> Iterator[Probe]:
    """The flows of a leg between two hosts, in each family that both have there."""
    for version in versions(near, far):
        yield _flow_probe(near, far, None, version)
        if ACTIVE in modes:
            yield _flow_probe(far, near, ACTIVE, version)
        if PASSIVE in modes:
            yield _flow_probe(near, far, PASSIVE, version)


def _flow_probe(opener: Place, acceptor: Place, mode: str | None, version: int) -> Probe:
    data = mode is not None
    return Probe(
        id="",
        passes=True,
        about="",
        opener=opener.host,
        user=opener.user,
        source=str(opener.addresses[version].address),
        source_ports=opener.source if data else "",
        acceptor=acceptor.host,
        target=str(acceptor.addresses[version].public),
        ports=str(acceptor.listen if data else acceptor.control),
        listener=acceptor.user if data else "",
        bind=str(acceptor.addresses[version].address) if data else "",
        greets=not data,
        identity=not data and acceptor.identity,
        rules=(*opener.counts(mode), *acceptor.counts(mode)),
    )


def _forwarded(parties: _Parties) -> Iterator[Probe]:
    """What would be forwarded past the first hop; only where it is one host, so that one knows which, and
    takes nothing on its way."""
    path = parties.path
    first = _places(parties, 0, 0)
    targets = _places(parties, path.last + 1, path.last + 1)
    if path.last > 0:
        targets += _places(parties, 1, 1)
    if len(path.hops[0].hosts) == 1 and first and not path.hops[0].intercept:
        for client in _places(parties, 0, -1):
            for target in targets[:1]:
                yield from past_the_proxy(first[0], client, target)


def _why_untried(path: Path, flow: Flow, hosts: Collection[str], ends: Mapping[str, End]) -> str:
    if flow.channel == "dns":
        return "resolvers are not asked"
    if flow.channel == "metrics":
        return "nobody of metrics_from takes part"
    position = next(i for i, hop in enumerate(path.hops) if hop.name == flow.host)
    position += flow.side != "down"
    why = _why_transparent(path, position)
    if flow.channel == "control" and _dials_servers_as_itself(path, position) and SERVERS not in ends:
        return f"{why}, and sluice_verify_server is not set"
    if why:
        return why
    if not flow.peer_is_hop:
        variable, where = (
            ("sluice_verify_client", "sluice_topology.clients.networks")
            if flow.peer == CLIENTS
            else ("sluice_verify_server", "sluice_topology.servers.networks")
        )
        if flow.peer not in ends:
            return f"{variable} is not set"
        end = ends[flow.peer]
        if not end.addresses:
            return f"{end.host} has no address with a route to the path"
        own = listed([str(each) for each in end.addresses])
        return f"{end.host} would use {own}, expected an address of {where}"
    neighbours = next(hop.hosts for hop in path.hops if hop.name == flow.peer)
    missing = [host.name for host in neighbours if host.name not in hosts]
    if missing:
        return f"{listed(missing)} did not take part in this run"
    return f"each host tries {MOST_PEERS} hosts of a neighbouring hop at most"
