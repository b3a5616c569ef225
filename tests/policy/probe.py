# SPDX-License-Identifier: GPL-3.0-or-later
"""One attempt at a connection, as a value: what the prober does and what the reference judges."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Literal

User = Literal["proxy", "other", "root"]
Protocol = Literal["tcp", "udp"]

PROTOCOLS: Final[tuple[Protocol, ...]] = ("udp", "tcp")
USERS: Final[tuple[User, ...]] = ("proxy", "other", "root")


@dataclass(frozen=True)
class End:
    """One end of a connection: the place on the path that holds the socket, its address, user and port.

    `place` is `C`, `S` or the inventory name of a host; `address` is one that the place itself has.
    """

    place: str
    address: str
    user: User
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{self.place} {address}:{self.port}"


@dataclass(frozen=True)
class Probe:
    """`opener` connects to `dialled`: the acceptor's address, or the public one that stands for it."""

    opener: End
    acceptor: End
    dialled: str
    protocol: Protocol = "tcp"

    @property
    def family(self) -> int:
        """4 or 6."""
        return ip_address(self.dialled).version

    @property
    def local(self) -> bool:
        """Both ends stand on one host."""
        return self.opener.place == self.acceptor.place

    def __str__(self) -> str:
        dialled = "" if self.dialled == self.acceptor.address else f" dialled as {self.dialled}"
        return f"{self.protocol} {self.opener} -> {self.acceptor}{dialled}"


def probe(opener: End, acceptor: End, *, dialled: str | None = None, protocol: Protocol = "tcp") -> Probe:
    """A probe that dials the acceptor's own address unless told another."""
    return Probe(opener, acceptor, dialled or acceptor.address, protocol)
