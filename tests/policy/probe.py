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

    `place` is `C`, `S` or the inventory name of a host; `address` is one that the place itself has, unless it
    is `foreign`: another place's.
    """

    place: str
    address: str
    user: User
    port: int
    foreign: bool = False

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{self.place} {address}:{self.port}"


@dataclass(frozen=True)
class Probe:
    """`opener` connects to `dialled`: the acceptor's address, or the public one that stands for it.

    Where the acceptor is to take it on its way, `owner` is the place that has the dialled address, and
    `dialled_port` the port there if not the acceptor's (redirect). `listens`: the socket that is to accept it
    stands at another address and port than what it sees as its own (tproxy).
    """

    opener: End
    acceptor: End
    dialled: str
    protocol: Protocol = "tcp"
    owner: str = ""
    dialled_port: int = 0
    listens: tuple[str, int] | None = None

    @property
    def port(self) -> int:
        """The port that is dialled."""
        return self.dialled_port or self.acceptor.port

    @property
    def listener(self) -> tuple[str, str, int, str]:
        """Where the acceptor listens: place, address, port, protocol."""
        address, port = self.listens or (self.acceptor.address, self.acceptor.port)
        return self.acceptor.place, address, port, self.protocol

    @property
    def family(self) -> int:
        """4 or 6."""
        return ip_address(self.dialled).version

    @property
    def local(self) -> bool:
        """Both ends stand on one host."""
        return self.opener.place == self.acceptor.place

    def __str__(self) -> str:
        dialled = "" if self.dialled == self.acceptor.address else f" dialled as {self.dialled} {self.port}"
        dialled += f" of {self.owner}" if self.owner else ""
        return f"{self.protocol} {self.opener} -> {self.acceptor}{dialled}"


def probe(opener: End, acceptor: End, *, dialled: str | None = None, protocol: Protocol = "tcp") -> Probe:
    """A probe that dials the acceptor's own address unless told another."""
    return Probe(opener, acceptor, dialled or acceptor.address, protocol)
