# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: destinations of sessions, targets of data connections (PROTOCOL 2.3, 3.13-3.16)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sluice.config import LegSettings, Network, Servers, split_host
from sluice.protocol.addresses import Address

FIRST_UNPRIVILEGED = 1024  # RFC 2577 section 3: never a data port below


@dataclass(frozen=True, slots=True)
class Destination:
    """Where `USER user@host[:port]` wants to go."""

    user: bytes
    host: Address | str
    port: int


def parse_destination(argument: bytes, port: int) -> Destination | None:
    """Split at the last @ (2.3); `port` where none is said. None when there is no usable host."""
    user, at, place = argument.rpartition(b"@")
    if not at or not user:
        return None
    try:
        host, port = split_host(place.decode("ascii"), port)
    except ValueError:
        return None
    return Destination(user, host, port)


def inside(address: Address, networks: Iterable[Network]) -> bool:
    """Whether one of the networks holds the address."""
    return any(address in network for network in networks)


def destination_refused(servers: Servers, host: Address | str, port: int) -> str:
    """Why no session may go there, before any DNS query or SYN; "" when it may."""
    if port not in servers.control_ports:
        return f"port {port} is not one of the allowed control ports"
    if isinstance(host, str):
        return "" if servers.resolvers else f"{host} is a name, and this hop resolves no names"
    return "" if inside(host, servers.networks) else f"server {host} is not in the allowed networks"


def data_port_refused(leg: LegSettings, port: int) -> str:
    """Why no data connection may go to that port of the leg's neighbour; "" when it may (3.15)."""
    if port < FIRST_UNPRIVILEGED:
        return f"data port {port} is below {FIRST_UNPRIVILEGED}"
    if port not in leg.peer_ports:
        return f"data port {port} is not in {leg.peer_ports}"
    return ""
