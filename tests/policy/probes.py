# SPDX-License-Identifier: GPL-3.0-or-later
"""Which probes are worth trying around a host: its flows, what the scope lists, everything beside them, and
what passes through it.

A flow's own probe is varied in one dimension at a time over every value, then in several at random. What
must become of any of them the reference says; here it only helps to find probes near the edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import product
from random import Random
from typing import Final, TypeVar

from .edges import FAMILIES
from .paths import STUB, PathSpec
from .probe import PROTOCOLS, USERS, End, Probe, Protocol, User
from .prober import rounds
from .reference import CONTROL, FOREIGN, INTERCEPT, REDIRECTED, Flow, Host, Reference
from .values import Addresses, Ports

FIXED_PORTS: Final = (20, 21, 22, 80, 1023, 1024, 65535)
EPHEMERAL: Final = range(33000, 49000)
LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}

PLACES: Final = 8  # pairs of places, of those between which packets pass through
ALL: Final = 10**6  # more than there are
ROUNDS: Final = 6  # of the prober; what would need more of them is few, and is left out

T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """A probe seen from the host it is about. A source port of None is a fresh one.

    Where `own` is another place's address, the host's end is there all the same. `over` is the address that
    is dialled for the host to redirect it.
    """

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
    over: str = ""


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
        self.listed = reference.besides if spec.scope.name == "exclusive" else None
        self.places = {node.name: node.addresses for node in spec.nodes() if node.addresses}
        self.owners = {address: place for place, several in self.places.items() for address in several}
        self.uninvolved = spec.uninvolved
        at = {place: reference.position(place) for place in self.places}
        self.neighbours = [place for place in self.places if abs(at[place] - self.position) == 1]
        self.nearer = [place for place in self.places if at[place] < self.position]
        self.further = [place for place in self.places if at[place] > self.position]
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
        found = [*FIXED_PORTS, *([INTERCEPT] if self.uninvolved else [])]
        for host in self._near():
            for side in (host.client_side, host.server_side):
                found += edges(side.listen)
                found.append(side.source.ranges[0][0])
        for flow in self.policy.flows:
            found += edges(flow.ports)
        for ports in (self.reference.client_ports, self.reference.server_ports, self.reference.control_ports):
            found += edges(ports)
        if self.listed:
            for opening in (*self.listed.inward, *self.listed.outward, *self.listed.past):
                found += edges(opening.ports)
        return _once(found)

    def _sources(self) -> list[int]:
        found = [20, 21, 22]
        for host in self._near():
            for side in (host.client_side, host.server_side):
                found += edges(side.source)
                found.append(side.listen.ranges[0][0])
        if self.listed:
            found += edges(self.listed.management.ports)
        return _once(found)

    def _addresses(self, place: str, family: int, local: bool = False) -> list[str]:
        found = [one for one in self.places[place] if ip_address(one).version == family]
        return [*found, LOOPBACK[family]] if local else found

    def _ends(self, places: Sequence[str], family: int) -> list[tuple[str, str]]:
        """Places with each of their addresses."""
        return [(place, address) for place in places for address in self._addresses(place, family)]

    # -- drafts

    def flow_drafts(self) -> list[tuple[Flow, Draft]]:
        """For each flow, family and place of a neighbour the draft of one connection that belongs to it."""
        found = []
        for flow, family, place in product(self.policy.flows, FAMILIES, _once(self._ends_of_flows())):
            candidates = (
                self._foreign(place, family) if flow.end == FOREIGN else self._addresses(self.host, family)
            )
            own = [address for address in candidates if address in flow.own]
            # not by a server of nobody's control connection: it would have one from then on
            servers = (one for one in self._addresses("S", family) if one not in self.uninvolved)
            over = [one for one in servers if one in self.reference.servers]
            port_of = (
                {INTERCEPT: self._one_of(self.reference.control_ports)} if flow.end == REDIRECTED else {}
            )
            met = [
                (address, peer)
                for address in self._addresses(place, family)
                for peer in flow.peers
                if self._seen_here(place, address) in peer.addresses
            ]
            if own and met:
                address, peer = self.random.choice(met)
                port = self._one_of(peer.ports)
                draft = Draft(
                    other=place,
                    outgoing=flow.opens,
                    own=self.random.choice(own),
                    peer=address,
                    own_user="proxy",
                    peer_user="proxy",
                    port=port_of.get(port, port),
                    source=None if 0 in peer.sources else self._one_of(peer.sources),
                    public=True,
                    protocol=flow.protocol,
                    over=self.random.choice(over) if flow.end == REDIRECTED else "",
                )
                found.append((flow, draft))
        return found

    def _ends_of_flows(self) -> Iterator[str]:
        """The neighbours, and who stands beyond one that takes what goes there, or does not show itself."""
        yield from self.neighbours
        for place in self.neighbours:
            host = self.reference.host(place)
            if host and host.intercept and place in self.further:
                yield "S"
            if host and host.client_source and place in self.nearer:
                yield "C"

    def _foreign(self, place: str, family: int) -> list[str]:
        """Where the host's end may be that is not its own: on the other side of it than `place`."""
        beyond = ["S"] if place in self.nearer else self.nearer
        return [address for _, address in self._ends(beyond, family)]

    def listed_drafts(self) -> list[Draft]:
        """In `exclusive`, for each entry of the user's lists and each family the draft of one connection."""
        if not self.listed:
            return []
        openings = [(one, False) for one in self.listed.inward] + [(one, True) for one in self.listed.outward]
        found = []
        for (opening, outgoing), family in product(openings, FAMILIES):
            peers = opening.destinations if outgoing else opening.sources
            met = self._met(peers, [*self.nearer, *self.further], family)
            if met and opening.protocol:
                place, address = self.random.choice(met)
                own, port = (
                    self.random.choice(self._addresses(self.host, family)),
                    self._one_of(opening.ports),
                )
                draft = Draft(
                    place, outgoing, own, address, "other", "root", port, None, True, opening.protocol
                )
                found.append(draft)
                if opening is self.listed.management:  # it answers, and nobody knows that it was asked (F10)
                    answered = self.random.choice(self.ports)
                    found.append(replace(draft, outgoing=True, port=answered, source=port))
        return found

    def _one_of(self, ports: Ports) -> int:
        """Seldom one at an edge, where two dimensions would meet in the same ends, and one be left out."""
        first, last = self.random.choice(ports.ranges)
        return self.random.randint(max(first, 1), last)

    def _met(self, addresses: Addresses, places: Sequence[str], family: int) -> list[tuple[str, str]]:
        """Those of the places' addresses that this host knows as one of these."""
        return [end for end in self._ends(places, family) if self._seen_here(*end) in addresses]

    def _seen_here(self, place: str, address: str) -> str:
        """Another place's address as this host sees it."""
        other = self.reference.host(place)
        if other is None or place not in (*self.nearer, *self.further):
            return address
        side = other.server_side if place in self.nearer else other.client_side
        return side.public.get(address, address)

    def beside(self, draft: Draft) -> Iterator[Draft]:
        """The draft varied in one dimension over every value."""
        family = ip_address(draft.own).version
        for user in USERS:
            yield replace(draft, own_user=user)
            yield replace(draft, peer_user=user)
        for own in self._addresses(self.host, family):
            yield replace(draft, own=own, over="")
            if draft.over:
                yield replace(draft, own=own, over="", port=INTERCEPT)
            if self.owners[draft.own] != self.host:
                yield replace(draft, own=own, own_user="other")
        if draft.over:
            yield from (replace(draft, over=one) for one in self._addresses("S", family))
        elif self.owners[draft.own] != self.host:
            yield from (replace(draft, own=one) for one in self._foreign(draft.other, family))
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
                own = self.random.choice(self._addresses(self.host, family))
                draft = replace(draft, own=own, over=self.random.choice((draft.over, "")))
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
        foreign = self.owners[draft.own] != self.host
        if not draft.outgoing and (draft.over or foreign):
            return self._taken(draft, source)
        if draft.outgoing:
            opener = End(self.host, draft.own, draft.own_user, source, foreign)
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

    def _taken(self, draft: Draft, source: int) -> Probe:
        """What the host is to take on its way."""
        opener = End(draft.other, draft.peer, draft.peer_user, source)
        dialled = draft.over or draft.own
        family = ip_address(dialled).version
        control = draft.port in self.reference.control_ports and self.owners[dialled] == "S"
        own = next(
            str(net.network_address)
            for net in self.side.client_side.addresses.networks
            if net.version == family
        )
        if draft.over:
            acceptor = End(self.host, own, draft.own_user, INTERCEPT if control else draft.port)
        else:
            acceptor = End(self.host, draft.own, draft.own_user, draft.port, foreign=True)
        return Probe(
            opener,
            acceptor,
            dialled,
            owner=self.owners[dialled],
            dialled_port=draft.port,
            listens=(own, INTERCEPT) if control and not draft.over else None,
        )

    def _dialled(self, opener: End, acceptor: End) -> str:
        host = self.reference.host(acceptor.place)
        to, at = self.reference.position(acceptor.place), self.reference.position(opener.place)
        if host is None or to == at:
            return acceptor.address
        side = host.client_side if at < to else host.server_side
        return side.public.get(acceptor.address, acceptor.address)

    def through(self, places: int = PLACES, pairs: int = 6, ports: Sequence[int] = ()) -> Iterator[Probe]:
        """Past this host, from either side to the other: so many pairs of places, and of their addresses."""
        ports = ports or _once(
            (*FIXED_PORTS, *edges(self.reference.control_ports), *self.random.sample(self.ports, 4))
        )
        for family in FAMILIES:
            for a, b in self._some(list(product(self.nearer, self.further)), places):
                between = [*product(self._ends([a], family), self._ends([b], family))]
                for x, y in self._some(between, pairs):
                    for port in ports:
                        source = self.random.choice((20, 21, None, None, None))
                        yield self._past(x, y, port, source)
                        yield self._past(y, x, port, source)

    def forwarded(self) -> Iterator[Probe]:
        """What `exclusive` may forward, varied in one dimension at a time."""
        for opening in self.listed.past if self.listed else ():
            for family, (near, far) in product(
                FAMILIES, ((self.nearer, self.further), (self.further, self.nearer))
            ):
                openers = self._met(opening.sources, near, family)
                acceptors = self._met(opening.destinations, far, family)
                if not openers or not acceptors:
                    continue
                x, y = self.random.choice(openers), self.random.choice(acceptors)
                port = self._one_of(opening.ports)
                protocol = opening.protocol or "tcp"
                yield from (self._past(one, y, port, None, protocol) for one in self._ends(near, family))
                yield from (self._past(x, one, port, None, protocol) for one in self._ends(far, family))
                for other, way in product(_once((*edges(opening.ports), *FIXED_PORTS)), PROTOCOLS):
                    yield self._past(x, y, other, None, way)
                    yield self._past(y, x, other, None, way)

    def _past(
        self,
        opener: tuple[str, str],
        acceptor: tuple[str, str],
        port: int,
        source: int | None,
        protocol: Protocol = "tcp",
    ) -> Probe:
        left = End(*opener, self.random.choice(USERS), self.source(source))
        right = End(*acceptor, self.random.choice(USERS), port)
        return Probe(left, right, self._dialled(left, right), protocol)

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
        allowed = self._allowed()
        near = _once(beside for draft in allowed for beside in self.beside(draft))
        share = most // 20
        drafts = [*self._some(allowed, 4 * share), *self._some(near, 8 * share)]
        drafts += [
            self.varied(self.random.choice(allowed), self.random.choice((2, 3))) for _ in range(3 * share)
        ]
        drafts += [self.anything() for _ in range(2 * share)]
        found = [self.probe(draft) for draft in _once(drafts)]
        found += self._some([*self.through(), *self.forwarded()], 2 * share)
        found += self._some(list(self.loopback()), 1 * share)
        found = self._distinct(found)
        return [found[index] for one in rounds(found)[:ROUNDS] for index in one]

    def at_edges(self) -> list[Probe]:
        """All beside what is allowed, what passes this host, and loopback: to see rules wrong by a step."""
        drafts = _once(beside for draft in self._allowed() for beside in self.beside(draft))
        found = [self.probe(draft) for draft in drafts]
        control = [
            port for port in edges(self.reference.control_ports) if port in self.reference.control_ports
        ]
        found += self.through(places=ALL, pairs=ALL, ports=[CONTROL, *control, 80])
        found += self.forwarded()
        found += self.loopback()
        return self._distinct(found)

    def _allowed(self) -> list[Draft]:
        return [*(draft for _, draft in self.flow_drafts()), *self.listed_drafts()]

    def _distinct(self, found: Sequence[Probe]) -> list[Probe]:
        """In any order, so that nothing is always last; without those that could not be told apart."""
        found = [one for one in found if _has_two_ends(one) and not self._undecided(one)]
        self.random.shuffle(found)
        return list(_one_way(_taken_once(found)))

    def _undecided(self, one: Probe) -> bool:
        """Whether what becomes of it hangs on other probes, or on who really has a foreign address.

        The answers go to that one, and come by the opener only where it stands on their way: as the first
        host of its hop, and not from another one of it.
        """
        talks = one.dialled in self.uninvolved and one.port in self.reference.control_ports
        owners = {self.owners.get(one.opener.address), one.opener.place}
        meets_itself = (one.owner or one.acceptor.place) in owners and not one.local
        position = self.reference.position
        at, to = position(one.opener.place), position(one.owner or one.acceptor.place)
        owner = position(self.owners.get(one.opener.address, one.opener.place))
        answers_stray = one.opener.foreign and (
            not (owner < at <= to or to <= at < owner)
            or one.opener.place != self.reference.hops[at - 1][0].name
            or (at == to and not one.local)
        )
        alone = one.opener.foreign and not any(
            one.opener.address in own and one.dialled in peers for own, peers in self.policy.foreign
        )
        return (
            talks or meets_itself or answers_stray or alone or (one.opener.foreign and one.protocol == "udp")
        )

    def _some(self, all_of_them: Sequence[T], most: int) -> list[T]:
        if len(all_of_them) <= most:
            return list(all_of_them)
        return self.random.sample(all_of_them, most)


def _taken_once(probes: Sequence[Probe]) -> Iterator[Probe]:
    """Of those that tproxy hands to a listener elsewhere one for each pair of ends: a request that the one
    before left half open would be found first, and its listener is gone."""
    seen = set()
    for one in probes:
        ends = (one.opener.address, one.opener.port, one.dialled, one.port)
        if one.listens is None or ends not in seen:
            seen.add(ends)
            yield one


def _one_way(probes: Iterable[Probe]) -> Iterator[Probe]:
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
