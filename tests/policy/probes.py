# SPDX-License-Identifier: GPL-3.0-or-later
"""Which probes are worth trying around a host: its flows, everything beside them, and what passes through it.

A flow's own probe is varied in one dimension at a time over every value, then in several at random. What
must become of any of them the reference says; here it only helps to find probes near the edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import product
from random import Random
from typing import Final, TypeVar

from .paths import FAMILIES, STUB, PathSpec
from .probe import PROTOCOLS, USERS, End, Probe, Protocol, User
from .prober import rounds
from .reference import CONTROL, Flow, Host, Ports, Reference

FIXED_PORTS: Final = (20, 21, 22, 80, 1023, 1024, 65535)
EPHEMERAL: Final = range(33000, 49000)
LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}

ROUNDS: Final = 6  # of the prober; what would need more of them is few, and is left out

T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """A probe seen from the host it is about. A source port of None is a fresh one."""

    other: str
    outgoing: bool
    own: str
    peer: str
    own_user: User
    peer_user: User
    port: int
    source: int | None
    public: bool  # dial the public address where there is one
    protocol: Protocol = "tcp"


def edges(ports: Ports) -> list[int]:
    """For each range: before it, first, middle, last, behind it."""
    return [
        port
        for first, last in ports.ranges
        for port in (first - 1, first, (first + last) // 2, last, last + 1)
        if 1 <= port <= 65535
    ]


class Around:
    """Probes around one host of a path."""

    def __init__(self, spec: PathSpec, reference: Reference, host: str, random: Random):
        self.reference = reference
        self.host = host
        self.random = random
        found = reference.host(host)
        if found is None:
            raise ValueError(f"{host} is no host of the path")
        self.side = found
        self.policy = reference.policies[host]
        self.position = reference.position(host)
        self.places = {node.name: node.addresses for node in spec.nodes() if node.addresses}
        self.neighbours = [
            place for place in self.places if abs(reference.position(place) - self.position) == 1
        ]
        self.ports = self._ports()
        self.sources = self._sources()
        self._fresh: Iterator[int] = iter(())

    # -- the values of each dimension

    def _near(self) -> Iterator[Host]:
        for place in (self.host, *self.neighbours):
            host = self.reference.host(place)
            if host:
                yield host

    def _ports(self) -> list[int]:
        found = list(FIXED_PORTS)
        for host in self._near():
            for side in (host.client_side, host.server_side):
                found += edges(side.listen)
                found.append(side.source.ranges[0][0])
        for flow in self.policy.flows:
            found += edges(flow.ports)
        for ports in (self.reference.client_ports, self.reference.server_ports, self.reference.control_ports):
            found += edges(ports)
        return _once(found)

    def _sources(self) -> list[int]:
        found = [20, 21, 22]
        for host in self._near():
            for side in (host.client_side, host.server_side):
                found += edges(side.source)
                found.append(side.listen.ranges[0][0])
        return _once(found)

    def _addresses(self, place: str, family: int, local: bool = False) -> list[str]:
        found = [one for one in self.places[place] if ip_address(one).version == family]
        return [*found, LOOPBACK[family]] if local else found

    # -- drafts

    def flow_drafts(self) -> list[tuple[Flow, Draft]]:
        """For each flow and family the draft of one connection that belongs to it."""
        found = []
        for flow in self.policy.flows:
            for family in FAMILIES:
                own = [a for a in self._addresses(self.host, family) if a in flow.own]
                peers = [
                    (place, address)
                    for place in self.neighbours
                    for address in self._addresses(place, family)
                    if self._seen_here(place, address) in flow.peers
                ]
                if not own or not peers:
                    continue
                other, peer = self.random.choice(peers)
                port = self.random.choice([p for p in edges(flow.ports) if p in flow.ports])
                inside = [p for p in edges(flow.sources) if p in flow.sources and p > 1]
                source = (
                    self.random.choice(inside) if len(flow.sources.ranges) and 0 not in flow.sources else None
                )
                draft = Draft(
                    other,
                    flow.opens,
                    self.random.choice(own),
                    peer,
                    "proxy",
                    "proxy",
                    port,
                    source,
                    True,
                    flow.protocol,
                )
                found.append((flow, draft))
        return found

    def _seen_here(self, place: str, address: str) -> str:
        """A neighbour's address as this host sees it."""
        neighbour = self.reference.host(place)
        if neighbour is None:
            return address
        left = self.reference.position(place) < self.position
        side = neighbour.server_side if left else neighbour.client_side
        return side.public.get(address, address)

    def beside(self, draft: Draft) -> Iterator[Draft]:
        """The draft varied in one dimension over every value."""
        family = ip_address(draft.own).version
        for user in USERS:
            yield replace(draft, own_user=user)
            yield replace(draft, peer_user=user)
        for own in self._addresses(self.host, family):
            yield replace(draft, own=own)
        for place in self.places:
            if place != self.host:
                for peer in self._addresses(place, family):
                    yield replace(draft, other=place, peer=peer)
        for port in self.ports:
            yield replace(draft, port=port)
        for source in (*self.sources, None):
            yield replace(draft, source=source)
        yield replace(draft, outgoing=not draft.outgoing)
        yield replace(draft, public=not draft.public)
        yield replace(draft, protocol="udp")

    def varied(self, draft: Draft, dimensions: int) -> Draft:
        """The draft with some dimensions drawn anew."""
        family = ip_address(draft.own).version
        for what in self.random.sample(
            ("own_user", "peer_user", "own", "other", "port", "source", "way"), dimensions
        ):
            if what == "own_user":
                draft = replace(draft, own_user=self.random.choice(USERS))
            elif what == "peer_user":
                draft = replace(draft, peer_user=self.random.choice(USERS))
            elif what == "own":
                draft = replace(draft, own=self.random.choice(self._addresses(self.host, family)))
            elif what == "other":
                place = self.random.choice([p for p in self.places if p != self.host])
                draft = replace(draft, other=place, peer=self.random.choice(self._addresses(place, family)))
            elif what == "port":
                draft = replace(draft, port=self.random.choice(self.ports))
            elif what == "source":
                draft = replace(draft, source=self.random.choice((*self.sources, None)))
            else:
                draft = replace(draft, outgoing=not draft.outgoing)
        return draft

    def anything(self) -> Draft:
        """Every dimension at random."""
        family = self.random.choice(FAMILIES)
        place = self.random.choice([p for p in self.places if p != self.host])
        return Draft(
            place,
            self.random.random() < 0.5,
            self.random.choice(self._addresses(self.host, family)),
            self.random.choice(self._addresses(place, family)),
            self.random.choice(USERS),
            self.random.choice(USERS),
            self.random.choice(self.ports),
            self.random.choice((*self.sources, None, None, None)),
            self.random.random() < 0.5,
            "udp" if self.random.random() < 0.05 else "tcp",
        )

    # -- probes

    def source(self, said: int | None) -> int:
        """The port said, or one that no probe of this object had before."""
        if said is not None:
            return said
        try:
            return next(self._fresh)
        except StopIteration:
            self._fresh = iter(self.random.sample(EPHEMERAL, len(EPHEMERAL)))
            return next(self._fresh)

    def probe(self, draft: Draft) -> Probe:
        """The draft as a probe."""
        source = self.source(draft.source)
        if draft.outgoing:
            opener = End(self.host, draft.own, draft.own_user, source)
            acceptor = End(draft.other, draft.peer, draft.peer_user, draft.port)
        else:
            opener = End(draft.other, draft.peer, draft.peer_user, source)
            acceptor = End(self.host, draft.own, draft.own_user, draft.port)
        return Probe(
            opener,
            acceptor,
            self._dialled(opener, acceptor) if draft.public else acceptor.address,
            draft.protocol,
        )

    def _dialled(self, opener: End, acceptor: End) -> str:
        host = self.reference.host(acceptor.place)
        if host is None or opener.place == acceptor.place:
            return acceptor.address
        left = self.reference.position(opener.place) < self.reference.position(acceptor.place)
        side = host.client_side if left else host.server_side
        return side.public.get(acceptor.address, acceptor.address)

    def through(self, pairs: int = 6, ports: Sequence[int] = ()) -> Iterator[Probe]:
        """Past this host, from either side to the other; so many pairs of addresses of every two places."""
        nearer = [p for p in self.places if self.reference.position(p) < self.position]
        further = [p for p in self.places if self.reference.position(p) > self.position]
        ports = ports or _once(
            (*FIXED_PORTS, *edges(self.reference.control_ports), *self.random.sample(self.ports, 4))
        )
        for family in FAMILIES:
            for a, b in [(a, b) for a in nearer for b in further]:
                between = [(x, y) for x in self._addresses(a, family) for y in self._addresses(b, family)]
                for x, y in self._some(between, pairs):
                    for port in ports:
                        source = self.random.choice((20, 21, None, None, None))
                        for opener, acceptor in ((a, x), (b, y)), ((b, y), (a, x)):
                            left = End(*opener, self.random.choice(USERS), self.source(source))
                            right = End(*acceptor, self.random.choice(USERS), port)
                            yield Probe(left, right, self._dialled(left, right))

    def loopback(self) -> Iterator[Probe]:
        """From this host to itself."""
        yield from self._resolving()
        for family in FAMILIES:
            own = self._addresses(self.host, family, local=True)
            for port in self.ports:
                for opener in USERS:
                    for acceptor in USERS:
                        source = self.source(self.random.choice((*self.sources, None, None, None)))
                        # over the loopback interface both addresses may be any of the host's own
                        a, b = self.random.choice(own), self.random.choice(own)
                        if self.random.random() < 0.5:
                            a = b = self.random.choice(own)
                        protocol: Protocol = "udp" if self.random.random() < 0.1 else "tcp"
                        if (a, source) != (b, port):
                            yield Probe(
                                End(self.host, a, opener, source),
                                End(self.host, b, acceptor, port),
                                b,
                                protocol,
                            )

    def _resolving(self) -> Iterator[Probe]:
        """To services of its own, where a stub resolver would be."""
        for user, port, protocol, address in product(USERS, (53, 54), PROTOCOLS, (STUB, "127.0.0.1")):
            opener = End(self.host, "127.0.0.1", user, self.source(None))
            acceptor = End(self.host, address, self.random.choice(USERS), port)
            yield Probe(opener, acceptor, address, protocol)

    def all(self, most: int) -> list[Probe]:
        """At most `most` probes: every kind has its share, drawn at random where there are more."""
        flows = [draft for _, draft in self.flow_drafts()]
        near = _once(beside for draft in flows for beside in self.beside(draft))
        share = most // 20
        drafts = [*flows, *self._some(near, 10 * share)]
        drafts += [
            self.varied(self.random.choice(flows), self.random.choice((2, 3))) for _ in range(4 * share)
        ]
        drafts += [self.anything() for _ in range(2 * share)]
        found = [self.probe(draft) for draft in _once(drafts)]
        found += self._some(list(self.through()), 2 * share)
        found += self._some(list(self.loopback()), 2 * share)
        found = self._distinct(found)
        return [found[index] for one in rounds(found)[:ROUNDS] for index in one]

    def at_edges(self) -> list[Probe]:
        """All that stand beside a flow, and FTP past this host: to see rules that are wrong by a step."""
        flows = [draft for _, draft in self.flow_drafts()]
        found = [
            self.probe(draft) for draft in _once(beside for draft in flows for beside in self.beside(draft))
        ]
        control = [
            port for port in edges(self.reference.control_ports) if port in self.reference.control_ports
        ]
        found += self.through(pairs=100, ports=[CONTROL, *control, 80])
        return self._distinct(found)

    def _distinct(self, found: Sequence[Probe]) -> list[Probe]:
        """In any order, so that nothing is always last; without those that could not be told apart."""
        found = [one for one in found if _has_two_ends(one)]
        self.random.shuffle(found)
        return list(_one_way(found))

    def _some(self, all_of_them: Sequence[T], most: int) -> list[T]:
        if len(all_of_them) <= most:
            return list(all_of_them)
        return self.random.sample(all_of_them, most)


def _one_way(probes: Sequence[Probe]) -> Iterator[Probe]:
    """Without those between whose very ends there is one the other way round, which would wait for it."""
    ways: dict[frozenset[tuple[str, int]], tuple[str, int]] = {}
    for one in probes:
        opens, accepts = (one.opener.address, one.opener.port), (one.acceptor.address, one.acceptor.port)
        if ways.setdefault(frozenset({opens, accepts}), opens) == opens:
            yield one


def _has_two_ends(probe: Probe) -> bool:
    return (probe.opener.place, probe.opener.address, probe.opener.port) != (
        probe.acceptor.place,
        probe.acceptor.address,
        probe.acceptor.port,
    )


def _once(several: Iterator[T] | Sequence[T]) -> list[T]:
    return list(dict.fromkeys(several))
