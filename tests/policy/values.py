# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports, addresses and packets, as the reference thinks of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Ports:
    """Ports as inclusive ranges."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, said: object) -> Ports:
        """From `50000-50999`, `20`, 20, or a list of such."""
        if isinstance(said, list):
            return cls(tuple(r for one in said for r in cls.read(one).ranges))
        first, _, last = str(said).partition("-")
        return cls(((int(first), int(last or first)),))

    @classmethod
    def join(cls, several: Iterable[Ports]) -> Ports:
        """All of them."""
        return cls(tuple(dict.fromkeys(r for one in several for r in one.ranges)))

    def __contains__(self, port: int) -> bool:
        return any(first <= port <= last for first, last in self.ranges)

    def __or__(self, other: Ports) -> Ports:
        return Ports.join((self, other))


@dataclass(frozen=True)
class Addresses:
    """Addresses and networks of both families."""

    networks: tuple[Network, ...]

    @classmethod
    def read(cls, said: object) -> Addresses:
        """From one address or network, or a list of them."""
        listed = said if isinstance(said, list) else [] if said is None else [said]
        return cls(tuple(ip_network(str(one)) for one in listed))

    @classmethod
    def join(cls, several: Iterable[Addresses]) -> Addresses:
        """All of them."""
        return cls(tuple(dict.fromkeys(net for one in several for net in one.networks)))

    def __contains__(self, address: str) -> bool:
        found = ip_address(address)
        return any(found.version == net.version and found in net for net in self.networks)

    def __or__(self, other: Addresses) -> Addresses:
        return Addresses.join((self, other))

    @property
    def families(self) -> set[int]:
        """4, 6 or both."""
        return {net.version for net in self.networks}

    def of(self, families: set[int]) -> Addresses:
        """Those of these families."""
        return Addresses(tuple(net for net in self.networks if net.version in families))


@dataclass(frozen=True)
class Packet:
    """An opening packet, or one of its answers, as one host sees it.

    `end` is what the host's own end is: its own address, `foreign`, or its own that was not dialled
    (`redirected`).
    """

    source: str
    sport: int
    destination: str
    dport: int
    end: str = ""


ANY_PORT: Final = Ports(((0, 65535),))
NO_PORT: Final = Ports(())
NO_ADDRESS: Final = Addresses(())
ANYWHERE: Final = Addresses((ip_network("0.0.0.0/0"), ip_network("::/0")))
