# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths to try: a description, and the network in which it is true.

Leg i (0 is C-F) uses 10.<10+i>.0.0/24 and 2001:db8:<10+i>::/64: its left end has .1, its right end .2, what
the far end sees instead is .101 and .102, and .201 and .202 are further addresses of the two ends, which no
description names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final

from .network import Node, Translation
from .rules import Description

FAMILIES: Final = (4, 6)
NAMES: Final = ("F", "G", "H", "M", "N")
STUB: Final = "127.0.0.53"
EDGE: Final = {
    # networks with, for each, addresses inside (its first and last) and outside (the ones beside them)
    4: ("172.20.{}.64/26", ("172.20.{}.64", "172.20.{}.127"), ("172.20.{}.63", "172.20.{}.128")),
    6: (
        "2001:db8:20{:02}::40/122",
        ("2001:db8:20{:02}::40", "2001:db8:20{:02}::7f"),
        ("2001:db8:20{:02}::3f", "2001:db8:20{:02}::80"),
    ),
}


def leg_address(leg: int, family: int, number: int) -> str:
    """Address `number` on a leg."""
    return f"10.{10 + leg}.0.{number}" if family == 4 else f"2001:db8:{10 + leg}::{number:x}"


@dataclass(frozen=True)
class HopSpec:
    """What varies of a hop. `families` are those of its client side and its server side."""

    families: tuple[tuple[int, ...], tuple[int, ...]] = (FAMILIES, FAMILIES)
    public: tuple[bool, bool] = (False, False)
    ports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


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
    ports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.modes) != len(self.hops) + 1:
            raise ValueError("one mode for each leg")

    @property
    def names(self) -> list[str]:
        """Names of the hops: F first, N last where there are two or more."""
        count = len(self.hops)
        return list(NAMES[:1] if count == 1 else (*NAMES[: count - 1], NAMES[-1]))

    @property
    def hosts(self) -> list[str]:
        """Inventory names."""
        return [f"{name.lower()}1" for name in self.names]

    def description(self) -> Description:
        """As a user writes it."""
        last = len(self.hops)
        hops = []
        for at, (name, host, spec) in enumerate(zip(self.names, self.hosts, self.hops, strict=True)):
            said: dict[str, Any] = {}
            public: dict[str, Any] = {}
            for side, leg, own, seen, families in (
                ("client_side", at, 2, 102, spec.families[0]),
                ("server_side", at + 1, 1, 101, spec.families[1]),
            ):
                said[side] = [leg_address(leg, family, own) for family in families]
                if spec.public[0 if side == "client_side" else 1]:
                    public[side] = [leg_address(leg, family, seen) for family in families]
            if public:
                said["public"] = public
            if spec.ports:
                said["ports"] = {side: dict(leaves) for side, leaves in spec.ports.items()}
            hops.append({"name": name, "hosts": {host: said}})
        if self.resolvers:
            hops[-1]["resolvers"] = [address for kind in self.resolvers for address in self._resolver(kind)]
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
        )

    def nodes(self) -> list[Node]:
        """The network: the places, and what translates between them."""
        last = len(self.hops)
        nodes = [Node("C", (*_both(0, 1, 201), *_edges(self.clients, 0)))]
        for at, (host, spec) in enumerate(zip(self.hosts, self.hops, strict=True)):
            before = self.hops[at - 1] if at else None
            translations = _translations(at, before, spec)
            if translations:
                nodes.append(Node(f"translation{at}", (), tuple(translations)))
            nodes.append(Node(host, (*_both(at, 2, 202), *_both(at + 1, 1, 201))))
        translations = _translations(last, self.hops[-1], None)
        if translations:
            nodes.append(Node(f"translation{last}", (), tuple(translations)))
        nodes.append(Node("S", (*_both(last, 2, 202), *self._resolver("server"), *_edges(self.servers, 50))))
        return nodes

    def _resolver(self, kind: str) -> list[str]:
        return [STUB] if kind == "stub" else _both(len(self.hops), 53)

    def _networks(self, kinds: Sequence[str], leg: int, number: int, edge: int) -> list[str]:
        found = []
        for family in self.families:
            for at, kind in enumerate(kinds):
                if kind == "edge":
                    found.append(EDGE[family][0].format(edge + at))
                elif kind == "all":
                    found.append("0.0.0.0/0" if family == 4 else "::/0")
                else:
                    length = {("leg", 4): 25, ("leg", 6): 121, ("host", 4): 32, ("host", 6): 128}[
                        kind, family
                    ]
                    address = leg_address(leg, family, number)
                    found.append(str(ip_network(f"{address}/{length}", strict=False)))
        return found


def _both(leg: int, *numbers: int) -> list[str]:
    return [leg_address(leg, family, number) for family in FAMILIES for number in numbers]


def _edges(kinds: Sequence[str], edge: int) -> list[str]:
    return [
        template.format(edge + at)
        for at, kind in enumerate(kinds)
        if kind == "edge"
        for family in FAMILIES
        for template in (*EDGE[family][1], *EDGE[family][2])
    ]


def _translations(leg: int, left: HopSpec | None, right: HopSpec | None) -> list[Translation]:
    found = []
    if left and left.public[1]:
        found += [
            Translation("left", leg_address(leg, family, 1), leg_address(leg, family, 101))
            for family in left.families[1]
        ]
    if right and right.public[0]:
        found += [
            Translation("right", leg_address(leg, family, 2), leg_address(leg, family, 102))
            for family in right.families[0]
        ]
    return found
