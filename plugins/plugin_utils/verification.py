# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What verification tries on live hosts: connections that must pass and some that must not, in rounds.

A probe names the rules that have to count it, and in one round no rule is named twice: what a rule's counter
moved by between the two ends of a round belongs to one probe. The hosts of a hop probe each other as the
proxy's user; the legs at the path's ends need a client and a server that one may use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    ACTIVE,
    CLIENTS,
    CONTROL_PORT,
    PASSIVE,
    SERVERS,
    UNPRIVILEGED,
    Address,
    Host,
    Path,
    PortRange,
    SideAddress,
    SidePorts,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import (
    address,
    listed,
    mapping,
    sequence,
    wrong,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reasons import (
    ANYTHING_ELSE,
    NOT_A_FLOW,
    OTHER_OPENS_DATA,
    OTHER_SERVES,
    OTHER_SPEAKS_FTP,
    PAST_THE_PROXY,
)

# Who makes a socket: the proxy's user, another one, or whoever runs the module (at the path's ends).
PROXY, OTHER, OWN = "proxy", "other", "own"
MOST_PEERS = 4  # of the neighbouring hop: each host tries its flows with so many of its hosts at most
BLOCK = 200  # ports that another user opens from, outside the ranges of the proxy


@dataclass(frozen=True, slots=True)
class Probe:
    """One connection to try.

    `opener` and `acceptor` are inventory names. `source` is the opener's own address, `source_ports` where
    it opens from (empty: any). `target` is the address that it dials, `ports` where the acceptor listens: a
    temporary listener of user `listener` on its own address `bind`, at a free one of them, or, with an empty
    `listener`, whoever listens there already. `greets`: that is an FTP server. `passes` is what must come of
    it, and `rules` are those that count it then, as (host, comment). `about` says of a probe that must not
    pass how it differs from a flow.
    """

    id: str
    passes: bool
    about: str
    opener: str
    user: str
    source: str
    source_ports: str
    acceptor: str
    target: str
    ports: str
    listener: str
    bind: str
    greets: bool
    rules: tuple[tuple[str, str], ...]


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
            "rounds": [[_plain(each) for each in probes] for probes in self.rounds],
            "hops": dict(self.hops),
            "lines": {host: list(each) for host, each in self.lines.items()},
            "untried": {host: dict(each) for host, each in self.untried.items()},
            "control": _pairs_as_lists(self.control),
            "data": _pairs_as_lists(self.data),
            "towards": {end: list(each) for end, each in self.towards.items()},
        }


def _plain(probe: Probe) -> dict[str, Any]:
    return {**asdict(probe), "rules": [list(each) for each in probe.rules]}


def _pairs_as_lists(found: Mapping[str, list[tuple[str, str]]]) -> dict[str, list[list[str]]]:
    return {host: [list(each) for each in pairs] for host, pairs in found.items()}


@dataclass(frozen=True, slots=True)
class _Place:
    """A host on one leg: its addresses and ports there, and (a hop's host) its flows, all of them."""

    host: str
    addresses: Mapping[int, SideAddress]  # by version
    ports: SidePorts | None  # None: a client or a server, which opens from anywhere
    listen: PortRange
    control: int
    translated: bool = False
    flows: tuple[Flow, ...] = ()
    on_leg: dict[str | None, Flow] = field(default_factory=dict)  # by mode, None for control
    whole: Host | None = None

    @property
    def source(self) -> str:
        return str(self.ports.source) if self.ports else ""

    @property
    def user(self) -> str:
        return PROXY if self.ports else OWN

    def counts(self, mode: str | None) -> Iterator[tuple[str, str]]:
        """The rule that counts this leg's flow of that mode here; none at the path's ends."""
        if mode in self.on_leg:
            yield self.host, comment(self.on_leg[mode])


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


def plan(path: Path, hosts: Collection[str], ends: Mapping[str, End]) -> Plan:
    """What to try on `hosts`, inventory names that stand on the path, and with `ends`, by name (C, S)."""
    flows = {name: derive(path, path.host(name)) for name in hosts}
    lines = {name: [comment(flow) for flow in flows[name]] for name in hosts}
    untried: dict[str, dict[str, str]] = {name: {} for name in hosts}
    must_pass: list[Probe] = []
    must_not: list[Probe] = []
    for position in range(path.last + 2):
        near = _places(path, position, position - 1, flows, ends)
        far = _places(path, position, position, flows, ends)
        pairs = list(_pairs(near, far))
        must_pass += [probe for one, other in pairs for probe in _allowed(one, other, path.modes[position])]
        seen: set[str] = set()
        for one, other in pairs:
            if not {one.host, other.host} <= seen:
                must_not += _refused(one, other)
                seen |= {one.host, other.host}
    must_not += _past_the_proxy(path, flows, ends)
    tried = {rule for probe in must_pass for rule in probe.rules}
    for name in hosts:
        for flow in flows[name]:
            if (name, comment(flow)) not in tried:
                untried[name][comment(flow)] = _why_untried(path, flow, hosts, ends)
    numbered = [_renamed(probe, f"p{i}") for i, probe in enumerate([*must_pass, *_once(must_not)])]
    on_path = {name: path.host(name) for name in hosts}
    return Plan(
        rounds=_rounds(numbered),
        hops={name: path.name(path.positions[name]) for name in hosts},
        lines=lines,
        untried=untried,
        control={
            name: [(str(each.address), str(CONTROL_PORT)) for each in host.client_side.addresses]
            for name, host in on_path.items()
        },
        data={
            name: [
                (str(each.address), str(ports.listen))
                for side, ports in (
                    (host.client_side, host.ports.client_side),
                    (host.server_side, host.ports.server_side),
                )
                for each in side.addresses
            ]
            for name, host in on_path.items()
        },
        towards={
            CLIENTS: [str(e.public) for host in path.hops[0].hosts for e in host.client_side.addresses],
            SERVERS: [str(e.public) for host in path.hops[-1].hosts for e in host.server_side.addresses],
        },
    )


def _renamed(probe: Probe, name: str) -> Probe:
    return Probe(**{**asdict(probe), "id": name, "rules": probe.rules})


def _rounds(probes: list[Probe]) -> tuple[tuple[Probe, ...], ...]:
    """As few rounds as come of putting each probe into the first in which its rules are free."""
    taken: dict[tuple[str, str], set[int]] = {}
    rounds: list[list[Probe]] = []
    for probe in probes:
        busy = set().union(*(taken.get(rule, set()) for rule in probe.rules))
        number = next(i for i in range(len(busy) + 1) if i not in busy)
        for rule in probe.rules:
            taken.setdefault(rule, set()).add(number)
        rounds += [[] for _ in range(number + 1 - len(rounds))]
        rounds[number].append(probe)
    return tuple(tuple(each) for each in rounds)


def _once(probes: list[Probe]) -> Iterator[Probe]:
    """A listener of another user once for each host: what waits half open there answers again after a second,
    and would count in a later round."""
    seen: set[tuple[str, str]] = set()
    for probe in probes:
        last = probe.rules[-1]
        if last[1] != OTHER_SERVES or last not in seen:
            seen.add(last)
            yield probe


def _places(
    path: Path, leg: int, position: int, flows: Mapping[str, tuple[Flow, ...]], ends: Mapping[str, End]
) -> list[_Place]:
    """Who stands at `position`, as seen on the leg on the client side of `leg`; only hosts that take part."""
    if 0 <= position <= path.last:
        return [
            _hop_place(path, leg, position, host, flows[host.name])
            for host in path.hops[position].hosts
            if host.name in flows
        ]
    name = path.name(position)
    if name not in ends:
        return []
    networks, listen, control = (
        (path.clients.networks, path.clients.ports, CONTROL_PORT)
        if name == CLIENTS
        else (path.servers.networks, path.servers.ports, path.servers.control_ports[0])
    )
    own = {
        each.version: SideAddress(each, each)
        for each in ends[name].addresses
        if any(each in network for network in networks)
    }
    return [_Place(ends[name].host, own, None, listen, control)]


def _hop_place(path: Path, leg: int, position: int, host: Host, flows: tuple[Flow, ...]) -> _Place:
    side, ports = (
        (host.client_side, host.ports.client_side)
        if leg == position
        else (host.server_side, host.ports.server_side)
    )
    return _Place(
        host.name,
        dict(zip((each.address.version for each in side.addresses), side.addresses, strict=True)),
        ports,
        ports.listen,
        CONTROL_PORT,
        side.translated,
        flows,
        {flow.mode: flow for flow in flows if flow.leg == path.leg(leg)},
        host,
    )


def _pairs(near: list[_Place], far: list[_Place]) -> Iterator[tuple[_Place, _Place]]:
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


def _versions(near: _Place, far: _Place) -> list[int]:
    return sorted(near.addresses.keys() & far.addresses.keys())


def _allowed(near: _Place, far: _Place, modes: Collection[str]) -> Iterator[Probe]:
    """The flows of a leg between two hosts, in each family that both have there."""
    for version in _versions(near, far):
        yield _flow_probe(near, far, None, version)
        if ACTIVE in modes:
            yield _flow_probe(far, near, ACTIVE, version)
        if PASSIVE in modes:
            yield _flow_probe(near, far, PASSIVE, version)


def _flow_probe(opener: _Place, acceptor: _Place, mode: str | None, version: int) -> Probe:
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
        rules=(*opener.counts(mode), *acceptor.counts(mode)),
    )


def _refused(near: _Place, far: _Place) -> Iterator[Probe]:
    """A sample of what must not pass between two hosts; the families take turns."""
    versions = _versions(near, far)
    found: list[Probe | None] = []

    def version() -> int:
        return versions[len(found) % len(versions)]

    if not versions:
        return
    for one, other in ((near, far), (far, near)):
        if one.whole is not None:
            if one is near:
                found.append(_as_other("another user", one, other, version(), other.control))
            else:
                found.append(_as_proxy(one, other, version(), "another direction", other.control))
            found.append(_as_proxy(one, other, version(), "another port", _beyond(other.listen)))
            found.append(_opens_data_as_other(one, other, version()))
            found.append(_from_elsewhere(one, other, version()))
        for port in _served(other, elsewhere=True):
            found.append(_as_other("another port", one, other, version(), port))
        if one is far and other.whole is not None:
            found.append(_as_other("another direction", one, other, version(), CONTROL_PORT))
    for mode, opener, acceptor in ((PASSIVE, near, far), (ACTIVE, far, near)):
        if mode in acceptor.on_leg or mode in opener.on_leg:
            found.append(_served_by_other(opener, acceptor, mode, version()))
    yield from (each for each in found if each is not None)


def _probe(
    about: str,
    opener: _Place,
    acceptor: _Place,
    version: int,
    *,
    user: str,
    ports: str,
    rules: tuple[tuple[str, str], ...],
    source: Address | None = None,
    source_ports: str = "",
    listener: str = "",
) -> Probe:
    """One that must not pass, to a port where nobody need listen: even a reset would show that it passed."""
    return Probe(
        id="",
        passes=False,
        about=about,
        opener=opener.host,
        user=user,
        source=str(source or opener.addresses[version].address),
        source_ports=source_ports,
        acceptor=acceptor.host,
        target=str(acceptor.addresses[version].public),
        ports=ports,
        listener=listener,
        bind=str(acceptor.addresses[version].address) if listener else "",
        greets=False,
        rules=rules,
    )


def _as_proxy(opener: _Place, acceptor: _Place, version: int, about: str, port: int) -> Probe | None:
    """The proxy's user opens what is no flow of its."""
    target, source = acceptor.addresses[version].public, opener.addresses[version].address
    for flow in opener.flows:
        if flow.direction == "out" and _within(flow, source, target) and _holds(flow.acceptor_ports, port):
            return None
    rules = ((opener.host, ANYTHING_ELSE),)
    return _probe(about, opener, acceptor, version, user=PROXY, ports=str(port), rules=rules)


def _as_other(
    about: str,
    opener: _Place,
    acceptor: _Place,
    version: int,
    port: int,
    *,
    source: Address | None = None,
) -> Probe | None:
    """Another user, or an end of the path, opens to a port that the acceptor serves for somebody else."""
    source = source or opener.addresses[version].address
    target = acceptor.addresses[version]
    user, source_ports = (OTHER, _elsewhere(opener.whole)) if opener.whole else (OWN, "")
    rule = (acceptor.host, NOT_A_FLOW)
    if opener.whole is not None and _is_upstream(opener, target.public, port):
        rule = (opener.host, OTHER_SPEAKS_FTP)
    elif acceptor.whole is None or _may_come_in(acceptor, source, target.address, port, source_ports):
        return None
    return _probe(
        about,
        opener,
        acceptor,
        version,
        user=user,
        ports=str(port),
        rules=(rule,),
        source=source,
        source_ports=source_ports,
    )


def _opens_data_as_other(opener: _Place, acceptor: _Place, version: int) -> Probe | None:
    """Another user opens data to a hop from the proxy's own source ports."""
    for mode in (ACTIVE, PASSIVE):
        flow = opener.on_leg.get(mode)
        if flow is not None and flow.direction == "out" and flow.peer_is_hop:
            return _probe(
                "another user",
                opener,
                acceptor,
                version,
                user=OTHER,
                ports=str(acceptor.listen.first),
                rules=((opener.host, OTHER_OPENS_DATA),),
                source_ports=opener.source,
            )
    return None


def _from_elsewhere(opener: _Place, acceptor: _Place, version: int) -> Probe | None:
    """A peer that is not listed: the opener's address on its other side."""
    if opener.whole is None or acceptor.whole is None:
        return None
    here = {each.address for each in opener.addresses.values()}
    for side in (opener.whole.client_side, opener.whole.server_side):
        for each in side.addresses:
            if each.address not in here and each.address.version == version:
                for port in _served(acceptor, elsewhere=False):
                    return _as_other("another peer", opener, acceptor, version, port, source=each.address)
    return None


def _served_by_other(opener: _Place, acceptor: _Place, mode: str, version: int) -> Probe | None:
    """A flow whose local end another user holds: the answer to the opening packet does not leave (F3)."""
    if acceptor.whole is None:
        return None
    return _probe(
        "another user",
        opener,
        acceptor,
        version,
        user=opener.user,
        ports=str(acceptor.listen),
        rules=(*opener.counts(mode), *acceptor.counts(mode), (acceptor.host, OTHER_SERVES)),
        source_ports=opener.source,
        listener=OTHER,
    )


def _past_the_proxy(
    path: Path, flows: Mapping[str, tuple[Flow, ...]], ends: Mapping[str, End]
) -> Iterator[Probe]:
    """A client's control connection to a server, or to the second hop, that the first would forward."""
    first = [host for host in path.hops[0].hosts if host.name in flows]
    if len(path.hops[0].hosts) != 1 or not first:
        return
    clients = _places(path, 0, -1, flows, ends)
    targets = _places(path, path.last + 1, path.last + 1, flows, ends)
    if path.last > 0:
        targets += _places(path, 1, 1, flows, ends)
    for client in clients:
        for target in targets[:1]:
            for version in _versions(client, target)[:1]:
                rules = ((first[0].name, PAST_THE_PROXY),)
                port = str(target.control)
                yield _probe("past the proxy", client, target, version, user=OWN, ports=port, rules=rules)


def _served(place: _Place, *, elsewhere: bool) -> list[int]:
    """A data port that the host serves, if any: on its other side, or (not `elsewhere`) on this leg."""
    own = {id(flow) for flow in place.on_leg.values()}
    return [
        flow.acceptor_ports[0].first
        for flow in place.flows
        if flow.direction == "in" and flow.channel == "data" and (id(flow) not in own) == elsewhere
    ][:1]


def _within(flow: Flow, local: Address, peer: Address) -> bool:
    if flow.local_addresses and local not in flow.local_addresses:
        return False
    return any(peer in network for network in flow.peer_addresses if network.version == peer.version)


def _holds(ranges: Collection[PortRange], port: int) -> bool:
    return any(each.first <= port <= each.last for each in ranges)


def _may_come_in(place: _Place, peer: Address, local: Address, port: int, source_ports: str) -> bool:
    """Whether a flow lets this in, or might: a range of source ports that touches the flow's is enough."""
    low, _dash, high = (source_ports or "1-65535").partition("-")
    source = PortRange(int(low), int(high or low))
    return any(
        flow.direction == "in"
        and _within(flow, local, peer)
        and _holds(flow.acceptor_ports, port)
        and any(each.overlaps(source) for each in flow.opener_ports)
        for flow in place.flows
    )


def _is_upstream(place: _Place, target: Address, port: int) -> bool:
    """Whether the host's rules count this as FTP upstream, which is the proxy's alone."""
    return any(
        flow.channel == "control"
        and flow.direction == "out"
        and _holds(flow.acceptor_ports, port)
        and any(target in network for network in flow.peer_addresses if network.version == target.version)
        for flow in place.flows
    )


def _beyond(ports: PortRange) -> int:
    return ports.last + 1 if ports.last < UNPRIVILEGED.last else ports.first - 1


def _elsewhere(host: Host) -> str:
    """Ports outside the host's four ranges for another user to open from; empty where there are none."""
    ranges = [
        each
        for side in (host.ports.client_side, host.ports.server_side)
        for each in (side.listen, side.source)
    ]
    for first in range(UNPRIVILEGED.last - BLOCK, UNPRIVILEGED.first, -BLOCK):
        block = PortRange(first, first + BLOCK - 1)
        if not any(block.overlaps(each) for each in ranges):
            return str(block)
    return ""


def _why_untried(path: Path, flow: Flow, hosts: Collection[str], ends: Mapping[str, End]) -> str:
    if flow.channel == "dns":
        return "resolvers are not asked"
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
