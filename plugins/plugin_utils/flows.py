# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host must allow: the flows of its two legs, derived from the path by three rules.

For each leg A-B with A nearer the client:

1. control: A opens to B's control port.
2. active: B opens to A, to a port that A specified.
3. passive: A opens to B, to a port that B specified.

The records feed every reader alike: the notation, the rules, and people's own firewall roles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    ACTIVE,
    ANY_PORT,
    CLIENTS,
    CONTROL_PORT,
    INTERCEPT_PORT,
    MONITOR,
    PASSIVE,
    REDIRECT,
    RESOLVER,
    SERVERS,
    TPROXY,
    Hop,
    Host,
    Intercept,
    Network,
    Path,
    PortRange,
    Side,
    SidePorts,
    single,
)

PROXY_USER = "proxy user"
DNS_PORT = PortRange(53, 53)
CONTROL = (PortRange(CONTROL_PORT, CONTROL_PORT),)


@dataclass(frozen=True, slots=True)
class Flow:
    """One kind of connection that a host must allow, its own end held by the proxy user.

    `opener` and `acceptor` are names of the path; `direction` is seen from the host. `peer_addresses` are
    what the host sees of its peer, `local_addresses` its own end's (empty: whichever the route gives): where
    it is `foreign`, addresses that are not the host's own. Port ranges
    are merged and sorted; `opener_ports` 1-65535 means that the opener is free. Where the hosts of the
    neighbouring hop differ in their ports, `peer_ports` says which each address uses (else it is empty), and
    the ports at that end are those of all of them. `specified_by` is who chose the acceptor's port, None
    where it is a well-known one. `intercept` is how a hop takes the connection, which goes to an address of
    the servers', or with `tproxy` comes from one; with `redirect` its own host sees its own address instead,
    and for control port 2121.
    """

    leg: str
    channel: Literal["control", "data", "dns", "metrics"]
    mode: Literal["active", "passive"] | None
    direction: Literal["in", "out"]
    host: str
    peer: str
    opener: str
    acceptor: str
    peer_addresses: tuple[Network, ...]
    local_addresses: tuple[Network, ...]
    protocol: Literal["tcp", "udp"]
    opener_ports: tuple[PortRange, ...]
    acceptor_ports: tuple[PortRange, ...]
    peer_ports: tuple[tuple[Network, tuple[PortRange, ...]], ...]
    specified_by: str | None
    peer_is_hop: bool
    user: str
    why: str
    intercept: Intercept = ""
    foreign: bool = False

    @property
    def side(self) -> Literal["down", "up"]:
        """The host's side that the flow is on: towards the clients, or towards the servers."""
        return "up" if self.leg.startswith(f"{self.host}-") else "down"

    def as_data(self) -> dict[str, Any]:
        """The flow as plain types: addresses and ranges are strings, own addresses without a length."""
        data = asdict(self)
        for key in ("peer_addresses", "local_addresses", "opener_ports", "acceptor_ports"):
            data[key] = [str(each) for each in getattr(self, key)]
        if not self.foreign:
            data["local_addresses"] = [str(each.network_address) for each in self.local_addresses]
        data["peer_ports"] = [
            {"address": str(address), "ports": [str(each) for each in ports]}
            for address, ports in self.peer_ports
        ]
        return data


Ports = tuple[PortRange, ...]
ByAddress = tuple[tuple[Network, Ports], ...]


@dataclass(frozen=True, slots=True)
class _Use:
    """The ports that an end uses for one purpose: all of them, and by address where its hosts differ."""

    ports: Ports
    by_address: ByAddress = ()


ANY = _Use((ANY_PORT,))


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a leg, as the other end sees it (its own end: as it is)."""

    name: str
    networks: tuple[Network, ...]
    control: Ports  # where it accepts control connections
    listen: _Use  # the ports it specifies for data
    source: _Use  # the ports it opens data from
    active: tuple[Network, ...] = ()  # where its active data comes from, if not from the same addresses
    foreign: bool = False


def derive(path: Path, host: Host) -> tuple[Flow, ...]:
    """The host's flows: its client leg, its server leg, then DNS and metrics where its hop has them.

    In a leg control stands first, then active, then passive. The cost is in proportion to these legs:
    nothing else of the path is looked at.
    """
    position = path.positions[host.name]
    hop = path.hops[position]
    ports, own = host.ports.client_side, _own(host.client_side)
    if hop.intercept:
        there = path.servers.networks if hop.intercept == TPROXY else own
        control = _servers_control(path)
    else:
        there, control = own, CONTROL
    foreign = hop.intercept == TPROXY
    here = _End(hop.name, there, control, _Use((ports.listen,)), _Use((ports.source,)), foreign=foreign)
    flows = list(_leg(path, position, _nearer(path, position), here, local=here))
    ports, own = host.ports.server_side, path.sources(position, _own(host.server_side))
    foreign = hop.client_source
    here = _End(hop.name, own, (), _Use((ports.listen,)), _Use((ports.source,)), foreign=foreign)
    flows += _leg(path, position + 1, here, _further(path, position), local=here)
    return (*flows, *_dns(path, position), *_metrics(hop, host))


def _nearer(path: Path, position: int) -> _End:
    """The neighbour on the client side of `position`."""
    if position == 0:
        return _End(CLIENTS, path.clients.networks, (), _Use((path.clients.ports,)), ANY)
    hop = path.hops[position - 1]
    members = [(host.server_side, host.ports.server_side) for host in hop.hosts]
    if hop.client_source:
        return _at(hop.name, members, path.near_end(position))
    return _hop_end(hop.name, members)


def _further(path: Path, position: int) -> _End:
    """The neighbour on the server side of `position`."""
    if position == path.last:
        control = _servers_control(path)
        return _End(SERVERS, path.servers.networks, control, _Use((path.servers.ports,)), ANY)
    hop = path.hops[position + 1]
    members = [(host.client_side, host.ports.client_side) for host in hop.hosts]
    end = _hop_end(hop.name, members)
    if not hop.intercept:
        return end
    there = _at(hop.name, members, path.servers.networks)
    if hop.intercept == REDIRECT:  # it has not the privilege to open from the server's address (9.3)
        there = replace(there, source=end.source, active=end.networks)
    return replace(there, control=_servers_control(path))


def _servers_control(path: Path) -> Ports:
    return merged(PortRange(port, port) for port in path.servers.control_ports)


def _own(side: Side) -> tuple[Network, ...]:
    """The host's real addresses."""
    return tuple(single(each.address) for each in side.addresses)


def _at(name: str, members: Sequence[tuple[Side, SidePorts]], networks: tuple[Network, ...]) -> _End:
    """A hop that stands for others: its addresses are theirs, which do not tell its hosts apart, and which
    nobody translates."""
    listen = merged(ports.listen for _side, ports in members)
    source = merged(ports.source for _side, ports in members)
    return _End(name, networks, CONTROL, _Use(listen), _Use(source))


def _hop_end(name: str, members: Sequence[tuple[Side, SidePorts]]) -> _End:
    """A neighbouring hop, all its hosts."""
    hosts = [(side.seen, side, ports) for side, ports in members]
    networks = dict.fromkeys(each for seen, _side, _ports in hosts for each in seen)
    listen = _use((seen, ports.listen) for seen, _side, ports in hosts)
    # What translates a neighbour's addresses may give its connections other source ports too.
    source = _use((seen, ANY_PORT if side.translated else ports.source) for seen, side, ports in hosts)
    return _End(name, tuple(networks), CONTROL, listen, source)


def _use(members: Iterable[tuple[tuple[Network, ...], PortRange]]) -> _Use:
    """What hosts with these addresses and ranges use together."""
    found: dict[Network, list[PortRange]] = {}
    for addresses, ports in members:
        for address in addresses:
            found.setdefault(address, []).append(ports)
    by_address = tuple((address, merged(ranges)) for address, ranges in found.items())
    together = merged(each for _address, ranges in by_address for each in ranges)
    return _Use(together, () if all(ranges == together for _address, ranges in by_address) else by_address)


def _leg(path: Path, position: int, near: _End, far: _End, *, local: _End) -> Iterator[Flow]:
    """The flows of the leg on the client side of `position`, seen from `local`, one of its two ends."""
    leg = path.leg(position)
    peer = near if local is far else far
    intercept = path.hops[position].intercept if position <= path.last else ""
    versions = {each.version for each in local.networks} & {each.version for each in peer.networks}
    if intercept:
        versions &= path.intercepted(position)

    def of_leg(networks: tuple[Network, ...]) -> tuple[Network, ...]:
        return tuple(each for each in networks if each.version in versions)

    peer_addresses, local_addresses = of_leg(peer.networks), of_leg(local.networks)

    def flow(
        opener: _End,
        acceptor: _End,
        mode: Literal["active", "passive"] | None,
        uses: tuple[_Use, _Use],
        why: str,
    ) -> Flow:
        opens, accepts = uses
        return Flow(
            leg=leg,
            channel="data" if mode else "control",
            mode=mode,
            direction="out" if opener is local else "in",
            host=local.name,
            peer=peer.name,
            opener=opener.name,
            acceptor=acceptor.name,
            peer_addresses=of_leg(peer.active) if mode == ACTIVE and peer.active else peer_addresses,
            local_addresses=local_addresses,
            protocol="tcp",
            opener_ports=opens.ports,
            acceptor_ports=accepts.ports,
            peer_ports=tuple(
                (address, ports)
                for address, ports in (opens if opener is peer else accepts).by_address
                if address.version in versions
            ),
            specified_by=None if mode is None else (PROXY_USER if acceptor is local else acceptor.name),
            peer_is_hop=peer.name not in (CLIENTS, SERVERS),
            user=PROXY_USER,
            why=why,
            intercept="" if mode == ACTIVE and intercept == REDIRECT else intercept,
            foreign=local.foreign,
        )

    modes = path.modes[position]
    why = f"control connections: {near.name} opens them to {far.name}"
    yield flow(near, far, None, (ANY, _Use(far.control)), why)
    if ACTIVE in modes:
        why = f"active data: {far.name} opens it to the port that {near.name} specified"
        yield flow(far, near, "active", (far.source, near.listen), why)
    if PASSIVE in modes:
        why = f"passive data: {near.name} opens it to the port that {far.name} specified"
        yield flow(near, far, "passive", (near.source, far.listen), why)


def _dns(path: Path, position: int) -> Iterator[Flow]:
    """DNS exists only where names are resolved (F23: a resolver elsewhere, or a stub on loopback)."""
    hop = path.hops[position]
    for protocol in ("udp", "tcp") if hop.resolvers else ():
        yield Flow(
            leg=f"{hop.name}-{RESOLVER}",
            channel="dns",
            mode=None,
            direction="out",
            host=hop.name,
            peer=RESOLVER,
            opener=hop.name,
            acceptor=RESOLVER,
            peer_addresses=tuple(single(each) for each in hop.resolvers),
            local_addresses=(),
            protocol=protocol,
            opener_ports=(ANY_PORT,),
            acceptor_ports=(DNS_PORT,),
            peer_ports=(),
            specified_by=None,
            peer_is_hop=False,
            user=PROXY_USER,
            why=f"names of servers: {hop.name} asks its resolvers",
        )


def _metrics(hop: Hop, host: Host) -> Iterator[Flow]:
    """Scrapes exist only where the hop says from where, and each host of it at which address."""
    if host.metrics:
        address, port = host.metrics
        yield Flow(
            leg=f"{MONITOR}-{hop.name}",
            channel="metrics",
            mode=None,
            direction="in",
            host=hop.name,
            peer=MONITOR,
            opener=MONITOR,
            acceptor=hop.name,
            peer_addresses=tuple(each for each in hop.metrics_from if each.version == address.version),
            local_addresses=(single(address),),
            protocol="tcp",
            opener_ports=(ANY_PORT,),
            acceptor_ports=(PortRange(port, port),),
            peer_ports=(),
            specified_by=None,
            peer_is_hop=False,
            user=PROXY_USER,
            why=f"metrics: {MONITOR} scrapes {hop.name}",
        )


def served(flows: Iterable[Flow]) -> tuple[PortRange, ...]:
    """The ports at the host's own addresses that nobody but the proxy may serve: those of inbound flows. A
    hop that intercepts keeps port 21, too: nobody should find another FTP server in the proxy's place."""
    kept = (PortRange(CONTROL_PORT, CONTROL_PORT), PortRange(INTERCEPT_PORT, INTERCEPT_PORT))
    return merged(
        each
        for flow in flows
        if flow.direction == "in"
        for each in (kept if flow.intercept and flow.channel == "control" else flow.acceptor_ports)
    )


def merged(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The same ports as few, sorted, disjoint ranges (F21: named interval sets refuse overlaps)."""
    result: list[PortRange] = []
    for each in sorted(ranges):
        if result and each.first <= result[-1].last + 1:
            result[-1] = PortRange(result[-1].first, max(result[-1].last, each.last))
        else:
            result.append(each)
    return tuple(result)
