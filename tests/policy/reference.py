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

A hop that intercepts (`redirect`, `tproxy`) is dialled by nobody: who stands before it dials the servers'
addresses, and so does who stands before that, as far as hops intercept.

- It takes what its near end opens to a control port at the servers' addresses, but the host's own.
- Data follows: `redirect` takes what is for its listening range, of those pairs alone that have a control
  connection; `tproxy` what a socket of the host's at that address is there for, in the ports of the flows.
- What it takes is judged like all that arrives. A redirected connection has the host's own address and for
  control port 2121; who dials these is no flow. With tproxy the host's end is the server's address, and in
  active mode the proxy opens from there; nobody else on the host speaks from there on that leg.
- With the client's source the host's end on the server side is what it sees of its near end; it takes what
  comes back to it, and the next hop sees through it.
- Port 21 at the host's own addresses stays closed.
- What it does not take goes where it was going, and is judged like all that is forwarded.

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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
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
INTERCEPT: Final = 2121
FOREIGN: Final = "foreign"
REDIRECTED: Final = "redirected"


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
    intercept: str = ""  # redirect, tproxy
    client_source: bool = False


@dataclass(frozen=True)
class Neighbour:
    """A host of the hop before or behind, or an end of the path, as this host knows it."""

    seen: Addresses
    specifies: Ports  # where it listens for data
    arrives: Ports  # the source ports of the data that it opens
    control: Ports
    opens_from: Addresses | None = None  # its active data, if not from where it is dialled

    @property
    def active(self) -> Addresses:
        """Where its active data comes from."""
        return self.seen if self.opens_from is None else self.opens_from


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
    end: str = ""  # what the host's own end is: foreign, redirected

    @property
    def ports(self) -> Ports:
        """Where any acceptor of it listens."""
        return Ports.join(peer.ports for peer in self.peers)

    def holds(self, own: str, peer: str, port: int, source: int, end: str = "") -> bool:
        """Whether a connection with these addresses and ports is one of this flow."""
        return (
            end == self.end
            and own in self.own
            and any(
                peer in one.addresses and port in one.ports and source in one.sources for one in self.peers
            )
        )


@dataclass(frozen=True)
class Takes:
    """What a host takes on its way: from whom, to which addresses and ports."""

    sources: Addresses
    destinations: Addresses
    ports: Ports
    talking: bool = False  # of pairs alone that have a control connection
    waited_for: bool = False  # only where a socket at that very address is there for it
    to: Addresses | None = None  # whose address it then bears


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
    takes: tuple[Takes, ...] = ()
    foreign: tuple[tuple[Addresses, Addresses], ...] = ()  # own and peer where the own end is foreign

    def opened(self, protocol: str, packet: Packet) -> Flow | None:
        """The first line that an opening packet of this host belongs to."""
        for flow in self.flows:
            ends = (packet.source, packet.destination, packet.dport, packet.sport, packet.end)
            if flow.opens and flow.protocol == protocol and flow.holds(*ends):
                return flow
        return None

    def accepted(self, protocol: str, packet: Packet) -> Flow | None:
        """The first line that an opening packet to this host belongs to."""
        for flow in self.flows:
            ends = (packet.destination, packet.source, packet.dport, packet.sport, packet.end)
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
        uninvolved: Sequence[str] = (),
    ):
        self.uninvolved = tuple(uninvolved)  # servers to which nobody has a control connection
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
        self.resolvers = tuple(Addresses.read(hop.get("resolvers")) for hop in topology["hops"])
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

    def seen(self, place: str) -> Addresses:
        """What a host sees of whom stands before it."""
        return self._seen(self.position(place))

    # -- the twelve lines

    def _allows(self, leg: int, mode: str) -> bool:
        return self.modes[leg] in (mode, "both")

    def _nearer(self, position: int) -> tuple[Neighbour, ...]:
        """Who stands on the client side of that position."""
        if position == 1:
            return (Neighbour(self.clients, self.client_ports, ANY_PORT, NO_PORT),)
        hosts = self.hops[position - 2]
        sides = [host.server_side for host in hosts]
        if hosts[0].client_source:
            near = self._seen(position)
            return tuple(Neighbour(near, side.listen, side.source, NO_PORT) for side in sides)
        return tuple(Neighbour(side.seen, side.listen, side.arrives, NO_PORT) for side in sides)

    def _further(self, position: int) -> tuple[Neighbour, ...]:
        """Who stands on the server side of that position."""
        if position == len(self.hops):
            return (Neighbour(self.servers, self.server_ports, ANY_PORT, self.control_ports),)
        sides = [host.client_side for host in self.hops[position]]
        if self.hops[position][0].intercept:
            families = self._taken(position + 1)
            return tuple(
                Neighbour(self.servers.of(families), side.listen, side.arrives, self.control_ports, side.seen)
                if self.hops[position][0].intercept == "redirect"
                else Neighbour(self.servers.of(families), side.listen, side.source, self.control_ports)
                for side in sides
            )
        return tuple(Neighbour(side.seen, side.listen, side.arrives, Ports.read(CONTROL)) for side in sides)

    def _seen(self, position: int) -> Addresses:
        """What the hop at that position sees of whom stands before it."""
        if position == 1:
            return self.clients
        before = self.hops[position - 2]
        if not before[0].client_source:
            return Addresses.join(host.server_side.seen for host in before)
        families = self._taken(position - 1) & before[0].server_side.addresses.families
        return self._seen(position - 1).of(families)

    def _taken(self, position: int) -> set[int]:
        """The families in which the hop at that position can intercept."""
        return self.hops[position - 1][0].client_side.addresses.families & self.servers.families

    def _policy(self, position: int, host: Host) -> Policy:
        lower, upper = position - 1, position  # its two legs; leg 0 is C-F
        a, me, b = self.names[position - 1 : position + 2]
        down, up = host.client_side, host.server_side
        nearer, further = self._nearer(position), self._further(position)

        kind = host.intercept
        versions = self._taken(position) if kind else {4, 6}
        ends: dict[int, tuple[Addresses, str]] = {  # by the side
            id(down): (down.addresses.of(versions), ""),
            id(up): (up.addresses, ""),
        }
        if kind == "tproxy":
            ends[id(down)] = (self.servers.of(versions), FOREIGN)
        if host.client_source:
            families = versions & up.addresses.families
            ends[id(up)] = (self._seen(position).of(families), FOREIGN)

        def opened_by_peer(line: str, own: Side, *peers: Peer) -> Flow:
            addresses, end = ends[id(own)]
            if kind == "redirect" and own is down:
                end = REDIRECTED
            return Flow(line, False, addresses, peers, end=end)

        def opened_here(line: str, own: Side, *peers: Peer) -> Flow:
            addresses, end = ends[id(own)]
            return Flow(line, True, addresses, peers, end=end)

        user = "proxy user"
        own_control = {
            "": Ports.read(CONTROL),
            "redirect": Ports.read(INTERCEPT),
            "tproxy": self.control_ports,
        }
        of_servers = ", ".join(str(first) for first, _ in sorted(self.control_ports.ranges))
        flows = [
            opened_by_peer(
                f"{a} -> {me}: -> {user}: to port {f'{of_servers} of S' if kind else 21}",
                down,
                *(Peer(one.seen, own_control[kind], ANY_PORT) for one in nearer),
            )
        ]
        serve, sources = Ports.read(CONTROL), NO_PORT
        if kind:
            serve |= Ports.read(INTERCEPT)
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
        if upper < len(self.hops) and self.hops[position][0].intercept:
            control += " of S"
        flows.append(
            opened_here(
                f"{b} <- {me}: <- {user}: to port {control}",
                up,
                *(Peer(one.seen, one.control, ANY_PORT) for one in further),
            )
        )
        if self._allows(upper, "active"):
            line = f"{b} -> {me}: -> {user}: to port specified by {user}"
            peers = [Peer(one.active, up.listen, one.arrives) for one in further]
            flows.append(opened_by_peer(line, up, *peers))
            serve |= up.listen
        if self._allows(upper, "passive"):
            line = f"{b} <- {me}: <- {user}: to port specified by {b}"
            peers = [Peer(one.seen, one.specifies, up.source) for one in further]
            flows.append(opened_here(line, up, *peers))
            sources |= up.source
            between += flows[-1:] if upper < len(self.hops) else []
        if self.resolvers[position - 1].networks:
            for protocol in PROTOCOLS:
                line = f"resolver <- {me}: <- {user}: to port 53 ({protocol})"
                resolver = Peer(self.resolvers[position - 1], Ports.read(53), ANY_PORT)
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
            takes=tuple(self._takes(position, host, flows)),
            foreign=tuple(
                (flow.own, peer.addresses) for flow in flows if flow.end == FOREIGN for peer in flow.peers
            ),
        )

    def _takes(self, position: int, host: Host, flows: Sequence[Flow]) -> Iterator[Takes]:
        near, servers = self._seen(position), self.servers.of(self._taken(position))
        listens = host.client_side.listen if self._allows(position - 1, "passive") else NO_PORT
        own = host.client_side.addresses
        if host.intercept == "redirect":
            yield Takes(near, servers, self.control_ports, to=own)
            yield Takes(near, servers, listens, talking=True, to=own)
        if host.intercept == "tproxy":
            yield Takes(near, servers, self.control_ports)
        for flow in flows[1:]:
            for peer in flow.peers if flow.end == FOREIGN and not flow.opens else ():
                yield Takes(peer.addresses, flow.own, peer.ports, waited_for=True)

    # -- the judgement

    def judge(self, probe: Probe, policed: Sequence[str] | None = None) -> Verdict:
        """Say what becomes of `probe` when the hosts `policed` (all unless said) have their policy loaded."""
        flows: list[tuple[str, str]] = []
        on: list[tuple[str, Packet]] = []
        taken = False
        for place in self._way(probe):
            if place not in self.policies or (policed is not None and place not in policed):
                continue
            packet = self._packet(probe, place)
            taken = self._passes(probe, place) and self._takes_it(probe, place, packet)
            if taken:
                packet = self._as_taken(place, packet)
            refused, flow = self._opening(probe, place, packet)
            if flow is not None:
                flows.append((place, flow.line))
            if not refused and taken and place != probe.acceptor.place:
                refused = "takes it"
            if refused:
                return Verdict(False, f"{place}: {refused}", tuple(flows), arrives=False)
            on.append((place, packet))
            if taken:
                break
        if probe.owner and not taken:
            return Verdict(False, "nobody takes it", tuple(flows), arrives=False)
        for place, packet in reversed(on):
            answer = Packet(packet.destination, packet.dport, packet.source, packet.sport, packet.end)
            refused = self._answer(probe, place, packet, answer)
            if refused:
                return Verdict(False, f"{place}: {refused}", tuple(flows), arrives=True)
        why = "; ".join(f"{place}: {line}" for place, line in flows) or "left alone"
        return Verdict(True, why, tuple(flows), arrives=True)

    def _passes(self, probe: Probe, place: str) -> bool:
        """Whether the packets would pass `place` if it did not take them."""
        return not probe.local and place not in (probe.opener.place, probe.owner or probe.acceptor.place)

    def _takes_it(self, probe: Probe, place: str, packet: Packet) -> bool:
        here = probe.acceptor.place == place and probe.acceptor.foreign and probe.listens is None
        return probe.protocol == "tcp" and any(
            packet.source in one.sources
            and packet.destination in one.destinations
            and packet.dport in one.ports
            and (not one.talking or packet.destination not in self.uninvolved)
            and (not one.waited_for or here)
            for one in self.policies[place].takes
        )

    def _as_taken(self, place: str, packet: Packet) -> Packet:
        """What the host sees of an opening packet that it takes."""
        for one in self.policies[place].takes:
            if one.to is not None:
                own = next(
                    str(net.network_address)
                    for net in one.to.networks
                    if net.version == ip_address(packet.destination).version
                )
                port = INTERCEPT if packet.dport in self.control_ports else packet.dport
                return replace(packet, destination=own, dport=port, end=REDIRECTED)
        return replace(packet, end=FOREIGN)

    def _way(self, probe: Probe) -> list[str]:
        """The places that see the packets or would, the opener first."""
        if probe.local:
            return [probe.opener.place]
        owner = probe.owner or probe.acceptor.place
        start, end = self.position(probe.opener.place), self.position(owner)
        step = 1 if start < end else -1
        between = [self.hops[at - 1][0].name for at in range(start + step, end, step)]
        return [probe.opener.place, *between, owner]

    def _packet(self, probe: Probe, place: str) -> Packet:
        """The opening packet as `place` sees it: what translates stands right beyond the side of a host."""
        source, destination = probe.opener.address, probe.dialled
        opener = self.host(probe.opener.place)
        here, there = self.position(place), self.position(probe.opener.place)
        if opener and here != there:
            side = opener.server_side if here > there else opener.client_side
            source = side.public.get(source, source)
        if place == probe.acceptor.place and not probe.owner:
            destination = probe.acceptor.address
        end = FOREIGN if place == probe.opener.place and probe.opener.foreign else ""
        return Packet(source, probe.opener.port, destination, probe.port, end)

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
        if packet.end or not self._passes(probe, place):
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
        if packet.end == FOREIGN and any(
            packet.source in own and packet.destination in peers for own, peers in policy.foreign
        ):
            return "other user at an address of another host"
        if packet.sport == 20 and 20 in policy.sources:
            return "other user uses port 20"
        if not probe.local and any(
            flow.holds(packet.source, packet.destination, packet.dport, packet.sport, packet.end)
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
    return Host(
        name,
        hop["name"],
        side("client_side"),
        side("server_side"),
        scrapes,
        intercept=hop.get("intercept", ""),
        client_source=hop.get("source") == "client",
    )
