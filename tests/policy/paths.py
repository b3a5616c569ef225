# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths to try: a description, and the network in which it is true.

Leg i (0 is C-F) uses 10.<10+i>.0.0/24 and 2001:db8:<10+i>::/64: its left end has .1, its right end .2, what
the far end sees instead is .101 and .102, and .201 and .202 are further addresses of the two ends, which no
description names but for metrics. A hop's second host has ten more in each place (.11, .12, .111 ...), its
third twenty.

Between two positions stands a router of its own where one of them has several hosts, or something on the leg
translates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final

from .edges import FAMILIES, addresses, network, networks
from .network import Node, Translation
from .rules import Description
from .scopes import GUARD, HALL, MONITOR, OFFICE, STATION, Scope

NAMES: Final = ("F", "G", "H", "M", "N")
STUB: Final = "127.0.0.53"
_MORE: Final = (0, 10, 20)  # what a hop's hosts add to the numbers of the first


def leg_address(leg: int, family: int, number: int) -> str:
    """Address `number` on a leg."""
    return f"10.{10 + leg}.0.{number}" if family == 4 else f"2001:db8:{10 + leg}::{number:x}"


@dataclass(frozen=True)
class HostSpec:
    """What varies of a host: whether its client side and its server side have public addresses; its ports."""

    public: tuple[bool, bool] = (False, False)
    ports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class HopSpec:
    """What varies of a hop: families of its client side and its server side, its first host, the others."""

    families: tuple[tuple[int, ...], tuple[int, ...]] = (FAMILIES, FAMILIES)
    public: tuple[bool, bool] = (False, False)
    ports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    others: tuple[HostSpec, ...] = ()
    intercept: str = ""  # redirect, tproxy, or `tproxy client`: with the client's address on the server side

    @property
    def hosts(self) -> tuple[HostSpec, ...]:
        """All of them."""
        return (HostSpec(self.public, self.ports), *self.others)


@dataclass(frozen=True)
class PathSpec:
    """What varies of a path."""

    hops: tuple[HopSpec, ...]
    modes: tuple[str, ...]
    clients: tuple[str, ...] = (
        "leg",
    )  # leg: the /25 of the leg; host: one address; edge: networks beside others; all
    servers: tuple[str, ...] = ("leg",)
    families: tuple[int, ...] = FAMILIES  # of the networks of both ends
    client_ports: str = ""
    server_ports: str = ""
    control_ports: tuple[int, ...] = ()
    resolvers: tuple[str, ...] = ()  # server: S has one of each family; stub: the last hop's own, on loopback
    metrics: str = ""  # where hosts answer scrapes: own, at their client side's address; other; with :PORT
    ports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    scope: Scope = GUARD

    def __post_init__(self) -> None:
        if len(self.modes) != len(self.hops) + 1:
            raise ValueError("one mode for each leg")

    @property
    def intercepts(self) -> bool:
        """Whether any hop does."""
        return any(hop.intercept for hop in self.hops)

    @property
    def uninvolved(self) -> tuple[str, ...]:
        """Addresses of S to which nobody has a control connection."""
        return tuple(_both(len(self.hops), 3)) if self.intercepts else ()

    @property
    def names(self) -> list[str]:
        """Names of the hops: F first, N last where there are two or more."""
        count = len(self.hops)
        return list(NAMES[:1] if count == 1 else (*NAMES[: count - 1], NAMES[-1]))

    @property
    def hosts(self) -> list[str]:
        """Inventory names."""
        return [name for at in range(len(self.hops)) for name in self.hosts_of(at)]

    def hosts_of(self, hop: int) -> list[str]:
        """Inventory names of one hop, by its number from 0."""
        return [f"{self.names[hop].lower()}{number + 1}" for number in range(len(self.hops[hop].hosts))]

    def description(self) -> Description:
        """As a user writes it."""
        last = len(self.hops)
        hops = [
            {
                "name": name,
                "hosts": {
                    host: _host(at, number, spec, one) | self._metrics(at, number)
                    for number, (host, one) in enumerate(zip(self.hosts_of(at), spec.hosts, strict=True))
                },
                **({"metrics_from": [*networks(MONITOR), *_both(at, 201)]} if self.metrics else {}),
                **_intercepts(spec.intercept),
            }
            for at, (name, spec) in enumerate(zip(self.names, self.hops, strict=True))
        ]
        # names are resolved before the first hop that intercepts
        naming = next((at for at, hop in enumerate(self.hops) if hop.intercept), len(hops)) - 1
        if self.resolvers and naming >= 0:
            hops[naming]["resolvers"] = [
                address for kind in self.resolvers for address in self._resolver(kind)
            ]
        clients: dict[str, Any] = {"networks": self._networks(self.clients, 0, 1, 0)}
        servers: dict[str, Any] = {"networks": self._networks(self.servers, last, 2, 50)}
        if self.client_ports:
            clients["ports"] = self.client_ports
        if self.server_ports:
            servers["ports"] = self.server_ports
        if self.control_ports:
            servers["control_ports"] = list(self.control_ports)
        ends = ["C", *self.names, "S"]
        modes = {f"{a}-{b}": mode for a, b, mode in zip(ends, ends[1:], self.modes, strict=False)}
        return Description(
            {"clients": clients, "hops": hops, "servers": servers},
            modes,
            {side: dict(leaves) for side, leaves in self.ports.items()},
            self.scope.said(),
        )

    def nodes(self) -> list[Node]:
        """All that stand somewhere."""
        return [node for several in self.row() for node in several]

    def row(self) -> list[list[Node]]:
        """The network: at each position its places, and what stands between two."""
        last = len(self.hops)
        at_clients, at_servers = _edges(self.clients, 0), _edges(self.servers, 50)
        if self.metrics:
            at_clients = [*at_clients, MONITOR]
        if self.scope != GUARD:
            at_clients, at_servers = [*at_clients, STATION, OFFICE], [*at_servers, HALL]
        row = [[Node("C", (*_both(0, 1, 201), *addresses(*at_clients)))]]
        for at in range(last):
            row += self._between(at)
            row.append(
                [
                    Node(host, tuple(_both(at, 2 + more, 202 + more) + _both(at + 1, 1 + more, 201 + more)))
                    for host, more in zip(self.hosts_of(at), _MORE, strict=False)
                ]
            )
        row += self._between(last)
        of_s = (*_both(last, 2, 202), *self.uninvolved, *self._resolver("server"), *addresses(*at_servers))
        row.append([Node("S", of_s)])
        return row

    def _between(self, leg: int) -> list[list[Node]]:
        left = self.hops[leg - 1] if leg > 0 else None
        right = self.hops[leg] if leg < len(self.hops) else None
        translations = _translations(leg, left, right)
        crowded = any(hop and hop.others for hop in (left, right))
        return [[Node(f"between{leg}", (), tuple(translations))]] if translations or crowded else []

    def _metrics(self, at: int, number: int) -> dict[str, Any]:
        """Where a host answers scrapes, over IPv4 or IPv6 in turns."""
        kind, _, port = self.metrics.partition(":")
        if not kind:
            return {}
        families = self.hops[at].families[0]
        family = families[(at + number) % len(families)]
        address = leg_address(at, family, (2 if kind == "own" else 202) + _MORE[number])
        if port:
            address = f"{address}:{port}" if family == 4 else f"[{address}]:{port}"
        return {"metrics": address}

    def _resolver(self, kind: str) -> list[str]:
        return [STUB] if kind == "stub" else _both(len(self.hops), 53)

    def _networks(self, kinds: Sequence[str], leg: int, number: int, edge: int) -> list[str]:
        found = []
        for family in self.families:
            for at, kind in enumerate(kinds):
                if kind == "edge":
                    found.append(network(edge + at, family))
                elif kind == "all":
                    found.append("0.0.0.0/0" if family == 4 else "::/0")
                else:
                    length = {("leg", 4): 25, ("leg", 6): 121, ("host", 4): 32, ("host", 6): 128}[
                        kind, family
                    ]
                    address = leg_address(leg, family, number)
                    found.append(str(ip_network(f"{address}/{length}", strict=False)))
        return found


def _intercepts(said: str) -> dict[str, str]:
    kind, _, source = said.partition(" ")
    return {"intercept": kind, **({"source": source} if source else {})} if said else {}


def _both(leg: int, *numbers: int) -> list[str]:
    return [leg_address(leg, family, number) for family in FAMILIES for number in numbers]


def _edges(kinds: Sequence[str], first: int) -> list[int]:
    return [first + at for at, kind in enumerate(kinds) if kind == "edge"]


def _host(at: int, number: int, hop: HopSpec, spec: HostSpec) -> dict[str, Any]:
    """A host as a user writes it: of the hop at position `at`, counted from 0, the host of that number."""
    said: dict[str, Any] = {}
    public: dict[str, Any] = {}
    for side, leg, own, seen, families, has_public in (
        ("client_side", at, 2, 102, hop.families[0], spec.public[0]),
        ("server_side", at + 1, 1, 101, hop.families[1], spec.public[1]),
    ):
        said[side] = [leg_address(leg, family, own + _MORE[number]) for family in families]
        if has_public:
            public[side] = [leg_address(leg, family, seen + _MORE[number]) for family in families]
    if public:
        said["public"] = public
    if spec.ports:
        said["ports"] = {side: dict(leaves) for side, leaves in spec.ports.items()}
    return said


def _translations(leg: int, left: HopSpec | None, right: HopSpec | None) -> list[Translation]:
    found = []
    for hop, side, at, own, seen in ((left, "left", 1, 1, 101), (right, "right", 0, 2, 102)):
        for spec, more in zip(hop.hosts if hop else (), _MORE, strict=False):
            for family in hop.families[at] if hop and spec.public[at] else ():
                real, public = (leg_address(leg, family, number + more) for number in (own, seen))
                found.append(Translation(side, real, public))
    return found
