# SPDX-License-Identifier: GPL-3.0-or-later
"""The listeners: one socket for each address, opened once and handed on (F2: as the proxy's user).

Never closed and opened anew while they are wanted: closing one resets the clients that are queued on it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping

from sluice.config import Intercept, Settings
from sluice.net.control import family, freebind, prepare
from sluice.net.transparent import make_transparent
from sluice.protocol.addresses import Address, endpoint

_BACKLOG = 1024

Listeners = dict[tuple[Address, int], socket.socket]


class ListenError(Exception):
    """An address cannot be listened on; the message is a sentence."""


def listen(settings: Settings, there: Mapping[tuple[Address, int], socket.socket]) -> Listeners:
    """Return the listeners of these settings: those that are `there` already, else new ones.

    Raises ListenError; what it opened is closed again then.
    """
    side = settings.client_side
    control = [(local.address, side.control_port) for local in side.addresses]
    wanted = list(control)
    if settings.metrics:
        wanted.append((settings.metrics.address, settings.metrics.port))
    found: Listeners = {}
    try:
        for place in wanted:
            found[place] = there[place] if place in there else _open(*place)
            if side.intercept is Intercept.TPROXY and place in control:
                _take_what_is_others(found[place], *place)
    except ListenError:
        for place, sock in found.items():
            if place not in there:
                sock.close()
        raise
    return found


def _open(address: Address, port: int) -> socket.socket:
    sock = socket.socket(family(address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    prepare(sock)
    if address.version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    freebind(sock)
    try:
        sock.bind((str(address), port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {endpoint(address, port)}: {error.strerror}.") from None
    return sock


def _take_what_is_others(sock: socket.socket, address: Address, port: int) -> None:
    try:
        make_transparent(sock)
    except OSError as error:
        what = f"cannot take others' connections on {endpoint(address, port)}"
        raise ListenError(
            f"{what}: {error.strerror}. It takes CAP_NET_RAW, which a start gives and no reload."
        ) from None


def adopt(descriptors: list[int]) -> Listeners:
    """Return the listeners behind descriptors that came through exec."""
    found: Listeners = {}
    for descriptor in descriptors:
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        prepare(sock)  # an older version's may lack it
        name = sock.getsockname()
        found[ipaddress.ip_address(name[0]), name[1]] = sock
    return found
