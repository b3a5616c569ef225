# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connections a path's policies let through, said a second time.

Written from the design's three rules and twelve lines and from the two scopes, and from nothing else: it
shares no code with the collection, reads the description by itself, and reasons about connections, not
about rules. Where the rules of a host and this module differ, one of them is wrong.

What `guard` means here, for a connection that a host with a policy opens, accepts or forwards:

- A flow of the host's two legs passes, with the proxy's user at the local end.
- The proxy's user does nothing else, on no interface.
- The ports that the proxy serves (control, and the ranges in which it listens in the modes that its legs
  allow) take nothing else, from nobody, and nobody else answers from them.
- Nobody else on the host speaks FTP control to the neighbour on the server side, nor uses port 20 where the
  proxy's active data comes from it.
- Between two proxies both ends' ranges are declared, so a data connection is one from the opener's source
  range to the acceptor's listening range, and nobody else on the opener's host opens such a one.
- FTP control between the two ends of the path is not forwarded past the proxy; anything else is, unless the
  kernel's FTP helper follows it.
- All the rest is left alone.
- Where a hop says who scrapes metrics, they may open to the host's one address and port for it; that port is
  one that the proxy serves.
- A resolver may be anywhere, on the host's own loopback, too (F23).
- A host's own address is no neighbour, whatever networks the description names: a neighbour stands
  elsewhere.

Where a hop has several hosts, each of them may be the neighbour. A port belongs to the host whose range holds
it: an address with a port that only another host of the hop uses is no flow, at either end. The hosts of one
hop are no neighbours of each other, unless an end's networks hold their addresses. What goes past a hop of
several hosts crosses its first one, as the network of these tests has it.

What `exclusive` means: nothing passes that `guard` refuses, and of what `guard` leaves alone only this:

- The flows.
- What the host says to itself over loopback.
- Management: the listed networks may open TCP to the listed ports of the host. Both ways are stateless (F10),
  so whoever may bind such a port (not the proxy's user) may send from it to these networks, and hear them.
- The host's own needs: what it may open and what may be opened to it, by the proxy's user neither. Answers
  belong to them; an entry without networks means anywhere.
- What may be forwarded, one way, and its answers. FTP control past the proxy is not forwarded even then.
- ICMP, which is no connection: test_icmp.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from .besides import Besides
from .probe import PROTOCOLS, Probe, Protocol
from .values import ANY_PORT, ANYWHERE, NO_PORT, Addresses, Packet, Ports

PORTS: Final = {
    "client_side": {"listen": "50000-50999", "source": "51000-51999"},
    "server_side": {"listen": "52000-52999", "source": "53000-53999"},
}
UNPRIVILEGED: Final = "1024-65535"
CONTROL: Final = 21


@dataclass(frozen=True)
class Side:
    """A host's side of a leg: its own addresses, what the far end sees instead, and its two ranges."""

    addresses: Addresses
    public: Mapping[str, str]  # own address -> the address that the far end sees
    listen: Ports
    source: Ports

    @property
    def seen(self) -> Addresses:
        """The addresses by which the far end knows this side: `public` where given, else the real ones."""
        real = [str(net.network_address) for net in self.addresses.networks]
        return Addresses.read([self.public.get(address, address) for address in real])

    @property
    def arrives(self) -> Ports:
        """The source ports that the far end sees of data opened here; what translates may change them."""
        return ANY_PORT if self.public else self.source

    @property
    def all(self) -> Addresses:
        """Own and public ones."""
        return self.addresses | self.seen


@dataclass(frozen=True)
class Host:
    """A host that runs a proxy."""

    name: str
    hop: str
    client_side: Side
    server_side: Side
    scrapes: Flow | None


@dataclass(frozen=True)
class Neighbour:
    """A host of the hop before or behind, or an end of the path, as this host knows it."""

    seen: Addresses
    specifies: Ports  # where it listens for data
    arrives: Ports  # the source ports of the data that it opens
    control: Ports


@dataclass(frozen=True)
class Peer:
    """Who stands at the other end of a flow, and the ports used with it."""

    addresses: Addresses
    ports: Ports  # where the acceptor listens
    sources: Ports  # where the opener opens from, as far as this host can say


@dataclass(frozen=True)
class Flow:
    """One line of a host's flow table."""

    line: str
    opens: bool  # this host opens; else the neighbour
    own: Addresses
    peers: tuple[Peer, ...]
    protocol: Protocol = "tcp"
    stub: bool = False  # the peer may be a service on the host's own loopback

    @property
    def ports(self) -> Ports:
        """Where any acceptor of it listens."""
        return Ports.join(peer.ports for peer in self.peers)

    def holds(self, own: str, peer: str, port: int, source: int) -> bool:
        """Whether a connection with these addresses and ports is one of this flow."""
        return own in self.own and any(
            peer in one.addresses and port in one.ports and source in one.sources for one in self.peers
        )


@dataclass(frozen=True)
class Policy:
    """What a host needs to know of the path to judge a packet."""

    flows: tuple[Flow, ...]
    serve: Ports
    sources: Ports  # the ports that the proxy's data comes from, in the modes that its legs allow
    between: tuple[Flow, ...]  # those of the flows in which it opens data to another proxy
    upstream: tuple[tuple[Addresses, Ports], ...]  # FTP control that only the proxy's user may open
    nearer: Addresses
    further: tuple[tuple[Addresses, Ports], ...]  # FTP control that goes only through the proxy

    def opened(self, protocol: str, packet: Packet) -> Flow | None:
        """The first line that an opening packet of this host belongs to."""
        for flow in self.flows:
            ends = (packet.source, packet.destination, packet.dport, packet.sport)
            if flow.opens and flow.protocol == protocol and flow.holds(*ends):
                return flow
        return None

    def accepted(self, protocol: str, packet: Packet) -> Flow | None:
        """The first line that an opening packet to this host belongs to."""
        for flow in self.flows:
            ends = (packet.destination, packet.source, packet.dport, packet.sport)
            if not flow.opens and flow.protocol == protocol and flow.holds(*ends):
                return flow
        return None


@dataclass(frozen=True)
class Verdict:
    """What must become of a probe, why, and the flows (host, line) that its opening packet belongs to.

    `arrives`: the opening packet comes through to the acceptor, whatever becomes of the answer.
    """

    passes: bool
    why: str
    flows: tuple[tuple[str, str], ...]
    arrives: bool


class Reference:
    """The path of one description."""

    def __init__(
        self,
        topology: Mapping[str, Any],
        mode: Any = "both",
        ports: Mapping[str, Any] | None = None,
        *,
        scope: str = "guard",
        management: Mapping[str, Any] | None = None,
        exclusive_host: Sequence[Mapping[str, Any]] = (),
        exclusive_forward: Sequence[Mapping[str, Any]] | None = None,
    ):
        self.besides = (
            Besides.listed(management or {}, exclusive_host, exclusive_forward)
            if scope == "exclusive"
            else Besides.everything()
        )
        self.clients = Addresses.read(topology["clients"]["networks"])
        self.client_ports = Ports.read(topology["clients"].get("ports", UNPRIVILEGED))
        servers = topology["servers"]
        self.servers = Addresses.read(servers["networks"])
        self.server_ports = Ports.read(servers.get("ports", UNPRIVILEGED))
        self.control_ports = Ports.read(servers.get("control_ports", [CONTROL]))
        self.resolvers = Addresses.read(topology["hops"][-1].get("resolvers"))
        self.hops: tuple[tuple[Host, ...], ...] = tuple(
            tuple(_host(name, hop, said, ports or {}) for name, said in hop["hosts"].items())
            for hop in topology["hops"]
        )
        names = ["C", *(hop["name"] for hop in topology["hops"]), "S"]
        self.names = tuple(names)
        self.modes = tuple(mode if isinstance(mode, str) else mode[f"{a}-{b}"] for a, b in pairwise(names))
        self.policies: dict[str, Policy] = {
            host.name: self._policy(position, host)
            for position, hosts in enumerate(self.hops, start=1)
            for host in hosts
        }

    # -- who stands where

    def position(self, place: str) -> int:
        """0 for C, 1 for the first hop, and so on to S."""
        if place == "C":
            return 0
        if place == "S":
            return len(self.hops) + 1
        return next(
            position
            for position, hosts in enumerate(self.hops, start=1)
            if place in [host.name for host in hosts]
        )

    def host(self, place: str) -> Host | None:
        """The host of that inventory name; None for the ends."""
        return next((host for hosts in self.hops for host in hosts if host.name == place), None)

    # -- the twelve lines

    def _allows(self, leg: int, mode: str) -> bool:
        return self.modes[leg] in (mode, "both")

    def _nearer(self, position: int) -> tuple[Neighbour, ...]:
        """Who stands on the client side of that position."""
        if position == 1:
            return (Neighbour(self.clients, self.client_ports, ANY_PORT, NO_PORT),)
        sides = [host.server_side for host in self.hops[position - 2]]
        return tuple(Neighbour(side.seen, side.listen, side.arrives, NO_PORT) for side in sides)

    def _further(self, position: int) -> tuple[Neighbour, ...]:
        """Who stands on the server side of that position."""
        if position == len(self.hops):
            return (Neighbour(self.servers, self.server_ports, ANY_PORT, self.control_ports),)
        sides = [host.client_side for host in self.hops[position]]
        return tuple(Neighbour(side.seen, side.listen, side.arrives, Ports.read(CONTROL)) for side in sides)

    def _policy(self, position: int, host: Host) -> Policy:
        lower, upper = position - 1, position  # its two legs; leg 0 is C-F
        a, me, b = self.names[position - 1 : position + 2]
        down, up = host.client_side, host.server_side
        nearer, further = self._nearer(position), self._further(position)

        def opened_by_peer(line: str, own: Side, *peers: Peer) -> Flow:
            return Flow(line, False, own.addresses, peers)

        def opened_here(line: str, own: Side, *peers: Peer) -> Flow:
            return Flow(line, True, own.addresses, peers)

        user = "proxy user"
        flows = [
            opened_by_peer(
                f"{a} -> {me}: -> {user}: to port 21",
                down,
                *(Peer(one.seen, Ports.read(CONTROL), ANY_PORT) for one in nearer),
            )
        ]
        serve, sources = Ports.read(CONTROL), NO_PORT
        between: list[Flow] = []
        if self._allows(lower, "active"):
            line = f"{a} <- {me}: <- {user}: to port specified by {a}"
            peers = [Peer(one.seen, one.specifies, down.source) for one in nearer]
            flows.append(opened_here(line, down, *peers))
            sources |= down.source
            between += flows[-1:] if lower > 0 else []
        if self._allows(lower, "passive"):
            line = f"{a} -> {me}: -> {user}: to port specified by {user}"
            peers = [Peer(one.seen, down.listen, one.arrives) for one in nearer]
            flows.append(opened_by_peer(line, down, *peers))
            serve |= down.listen
        control = ", ".join(str(first) for first, _ in sorted(further[0].control.ranges))
        flows.append(
            opened_here(
                f"{b} <- {me}: <- {user}: to port {control}",
                up,
                *(Peer(one.seen, one.control, ANY_PORT) for one in further),
            )
        )
        if self._allows(upper, "active"):
            line = f"{b} -> {me}: -> {user}: to port specified by {user}"
            peers = [Peer(one.seen, up.listen, one.arrives) for one in further]
            flows.append(opened_by_peer(line, up, *peers))
            serve |= up.listen
        if self._allows(upper, "passive"):
            line = f"{b} <- {me}: <- {user}: to port specified by {b}"
            peers = [Peer(one.seen, one.specifies, up.source) for one in further]
            flows.append(opened_here(line, up, *peers))
            sources |= up.source
            between += flows[-1:] if upper < len(self.hops) else []
        if upper == len(self.hops) and self.resolvers.networks:
            for protocol in PROTOCOLS:
                line = f"resolver <- {me}: <- {user}: to port 53 ({protocol})"
                resolver = Peer(self.resolvers, Ports.read(53), ANY_PORT)
                flows.append(Flow(line, True, ANYWHERE, (resolver,), protocol, stub=True))
        if host.scrapes:
            flows.append(host.scrapes)
            serve |= host.scrapes.ports
        beyond = [(_addresses(hosts), Ports.read(CONTROL)) for hosts in self.hops[position:]]
        return Policy(
            flows=tuple(flows),
            serve=serve,
            sources=sources,
            between=tuple(between),
            upstream=tuple((one.seen, one.control) for one in further),
            nearer=Addresses.join((self.clients, *map(_addresses, self.hops[: position - 1]))),
            further=(*beyond, (self.servers, self.control_ports)),
        )

    # -- the judgement

    def judge(self, probe: Probe, policed: Sequence[str] | None = None) -> Verdict:
        """Say what becomes of `probe` when the hosts `policed` (all unless said) have their policy loaded."""
        on = [
            place
            for place in self._way(probe)
            if place in self.policies and (policed is None or place in policed)
        ]
        flows: list[tuple[str, str]] = []
        for place in on:
            packet = self._packet(probe, place)
            refused, flow = self._opening(probe, place, packet)
            if flow is not None:
                flows.append((place, flow.line))
            if refused:
                return Verdict(False, f"{place}: {refused}", tuple(flows), arrives=False)
        for place in reversed(on):
            packet = self._packet(probe, place)
            answer = Packet(packet.destination, packet.dport, packet.source, packet.sport)
            refused = self._answer(probe, place, packet, answer)
            if refused:
                return Verdict(False, f"{place}: {refused}", tuple(flows), arrives=True)
        why = "; ".join(f"{place}: {line}" for place, line in flows) or "left alone"
        return Verdict(True, why, tuple(flows), arrives=True)

    def _way(self, probe: Probe) -> list[str]:
        """The places that see the packets, the opener first."""
        if probe.local:
            return [probe.opener.place]
        start, end = self.position(probe.opener.place), self.position(probe.acceptor.place)
        step = 1 if start < end else -1
        between = [self.hops[at - 1][0].name for at in range(start + step, end, step)]
        return [probe.opener.place, *between, probe.acceptor.place]

    def _packet(self, probe: Probe, place: str) -> Packet:
        """The opening packet as `place` sees it: what translates stands right beyond the side of a host."""
        source, destination = probe.opener.address, probe.dialled
        opener = self.host(probe.opener.place)
        here, there = self.position(place), self.position(probe.opener.place)
        if opener and here != there:
            side = opener.server_side if here > there else opener.client_side
            source = side.public.get(source, source)
        if place == probe.acceptor.place:
            destination = probe.acceptor.address
        return Packet(source, probe.opener.port, destination, probe.acceptor.port)

    def _opening(self, probe: Probe, place: str, packet: Packet) -> tuple[str, Flow | None]:
        """Why `place` refuses the opening packet (empty: it does not), and its flow."""
        policy = self.policies[place]
        if probe.local:
            flow = policy.opened(probe.protocol, packet) if probe.opener.user == "proxy" else None
            flow = flow if flow and flow.stub else None
            return (
                self._leaves(probe, policy, packet, probe.opener.user, flow)
                or self._enters(probe, policy, packet, None),
                flow,
            )
        if place == probe.opener.place:
            flow = None
            if probe.opener.user == "proxy":
                flow = policy.opened(probe.protocol, packet)
            refused = self._leaves(probe, policy, packet, probe.opener.user, flow)
            listed = self.besides.leaves(probe.protocol, packet)
            return refused or ("" if flow or listed else "nothing else leaves"), flow
        if place == probe.acceptor.place:
            flow = policy.accepted(probe.protocol, packet)
            refused = self._enters(probe, policy, packet, flow)
            listed = self.besides.enters(probe.protocol, packet)
            return refused or ("" if flow or listed else "nothing else enters"), flow
        refused = self._through(probe, policy, packet)
        listed = self.besides.passes(probe.protocol, packet)
        return refused or ("" if listed else "nothing else is forwarded"), None

    def _answer(self, probe: Probe, place: str, packet: Packet, answer: Packet) -> str:
        """Why `place` refuses the acceptor's packets of a connection whose opening it let pass."""
        policy = self.policies[place]
        if place == probe.acceptor.place:
            user = probe.acceptor.user
            if user == "proxy":
                flow = policy.accepted(probe.protocol, packet)
                return "" if flow and not probe.local else "proxy user: anything else"
            if probe.protocol == "tcp" and answer.sport in policy.serve:
                return "other user serves on a proxy port"
            return self._leaves(probe, policy, answer, user, None)
        if place == probe.opener.place:
            return ""
        return self._through(probe, policy, answer)

    def _leaves(self, probe: Probe, policy: Policy, packet: Packet, user: str, flow: Flow | None) -> str:
        if user == "proxy":
            return "" if flow else "proxy user: anything else"
        if probe.protocol != "tcp":
            return ""
        if not probe.local and _speaks(policy.upstream, packet):
            return "other user speaks FTP upstream"
        if packet.sport == 20 and 20 in policy.sources:
            return "other user uses port 20"
        if not probe.local and any(
            flow.holds(packet.source, packet.destination, packet.dport, packet.sport)
            for flow in policy.between
        ):
            return "other user opens data as the proxy"
        return ""

    def _enters(self, probe: Probe, policy: Policy, packet: Packet, flow: Flow | None) -> str:
        if flow is None and probe.protocol == "tcp" and packet.dport in policy.serve:
            return "not a flow: to a proxy port"
        return ""

    def _through(self, probe: Probe, policy: Policy, packet: Packet) -> str:
        if probe.protocol == "tcp" and packet.source in policy.nearer and _speaks(policy.further, packet):
            return "FTP only through the proxy"
        return ""


def _speaks(control: Sequence[tuple[Addresses, Ports]], packet: Packet) -> bool:
    return any(packet.destination in addresses and packet.dport in ports for addresses, ports in control)


def _addresses(hosts: Sequence[Host]) -> Addresses:
    """All that they have, and all that stands for them."""
    return Addresses.join(side.all for host in hosts for side in (host.client_side, host.server_side))


def _scrapes(hop: Mapping[str, Any], said: str) -> Flow:
    """ADDRESS, IPV4:PORT or [IPV6]:PORT, and who may open to it."""
    address, port = said, "9421"
    if said.startswith("["):
        address, _, port = said[1:].partition("]:")
    elif said.count(":") == 1:
        address, _, port = said.partition(":")
    line = f"monitor -> {hop['name']}: -> proxy user: to port {port}"
    peer = Peer(Addresses.read(hop["metrics_from"]), Ports.read(port), ANY_PORT)
    return Flow(line, False, Addresses.read(address), (peer,))


def _host(name: str, hop: Mapping[str, Any], said: Mapping[str, Any], ports: Mapping[str, Any]) -> Host:
    def side(key: str) -> Side:
        addresses = Addresses.read(said[key])
        public = Addresses.read(said.get("public", {}).get(key))
        own = said.get("ports", {}).get(key, {})
        shared = ports.get(key, {})
        ranges = {
            leaf: Ports.read(own.get(leaf, shared.get(leaf, default))) for leaf, default in PORTS[key].items()
        }
        return Side(
            addresses=addresses,
            public={
                str(real.network_address): str(seen.network_address)
                for real in addresses.networks
                for seen in public.networks
                if real.version == seen.version
            },
            listen=ranges["listen"],
            source=ranges["source"],
        )

    scrapes = _scrapes(hop, said["metrics"]) if "metrics" in said else None
    return Host(name, hop["name"], side("client_side"), side("server_side"), scrapes)
