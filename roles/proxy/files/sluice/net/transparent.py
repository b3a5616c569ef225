# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets of interception (PROTOCOL 9): at addresses of others, and what a connection was addressed to."""

from __future__ import annotations

import ipaddress
import socket
import struct

from sluice.config import Intercept
from sluice.events import Endpoint

_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75  # <linux/in.h>, <linux/in6.h>; the socket module lacks them
_ORIGINAL_DST = 80  # <linux/netfilter_ipv4.h>, <linux/netfilter_ipv6/ip6_tables.h>; as above
_SIZES = {socket.AF_INET: 16, socket.AF_INET6: 28}  # of sockaddr_in and sockaddr_in6
_LEVELS = {socket.AF_INET: socket.IPPROTO_IP, socket.AF_INET6: socket.IPPROTO_IPV6}


def make_transparent(sock: socket.socket) -> None:
    """Let it be at an address that is not this host's. Raises PermissionError without CAP_NET_RAW (F4)."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)


def original_destination(sock: socket.socket, intercept: Intercept | None) -> Endpoint | None:
    """Return what the peer of an accepted connection addressed; None where nothing says so (9.1)."""
    if intercept is Intercept.TPROXY:
        name = sock.getsockname()
        return Endpoint(ipaddress.ip_address(name[0]), name[1])
    if intercept is Intercept.REDIRECT:
        family = socket.AF_INET6 if sock.family == socket.AF_INET6 else socket.AF_INET
        try:
            raw = sock.getsockopt(_LEVELS[family], _ORIGINAL_DST, _SIZES[family])
        except OSError:  # conntrack does not know the connection
            return None
        packed = raw[8:24] if family is socket.AF_INET6 else raw[4:8]
        return Endpoint(ipaddress.ip_address(packed), struct.unpack_from("!H", raw, 2)[0])
    return None
