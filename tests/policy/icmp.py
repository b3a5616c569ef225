# SPDX-License-Identifier: GPL-3.0-or-later
"""What ICMP does for a path: echo, the discovery of neighbours, and errors that shorten the packets.

Probes cannot see any of it: they are small, and their neighbours permanent. The path is C - f1 - a router -
n1 and n2 - a router - S; f1 lets port 80 in, and past it."""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from .edges import FAMILIES
from .paths import leg_address
from .probe import End, User, probe
from .prober import SILENCE, TRANSPARENT, as_user
from .trial import Trial

SIZE: Final = 200_000  # bytes, as in F12
STALLED: Final = 0.6  # s
SMALL: Final = 1280
_ROUTER: Final = ("192.0.2.1/32 dev lo", "2001:db8:ffff::1/128 dev lo nodad")


def echo_comes_back(path: Trial, place: str, address: str, user: User = "root") -> bool:
    """Send one echo request from `place` to `address`."""
    kind = (socket.AF_INET6, 58, 128) if ":" in address else (socket.AF_INET, 1, 8)
    with path.network.namespaces[place].inside(), as_user(user):
        one = socket.socket(kind[0], socket.SOCK_DGRAM, kind[1])
    with one:
        one.settimeout(SILENCE)
        with suppress(OSError):
            one.sendto(struct.pack("!BBHHH", kind[2], 0, 0, 0, 1), (address, 0))
            return bool(one.recv(100))
    return False


def neighbours_are_found(path: Trial, place: str, device: str, far: str) -> bool:
    """Whether a connection from C to port 80 of f1 comes through when `place` must ask who `far` is."""
    namespace = path.network.namespaces[place]
    entry = namespace.run("ip", "neigh", "show", far, "dev", device).split()
    opener = End("C", leg_address(0, 6, 1), "root", random.randrange(33000, 49000))
    namespace.run("ip", "neigh", "del", far, "dev", device)
    try:
        asked = probe(opener, End("f1", leg_address(0, 6, 2), "root", 80))
        return path.prober.run([asked])[0].passed
    finally:
        namespace.run(
            "ip", "neigh", "replace", far, "dev", device, "lladdr", entry[entry.index("lladdr") + 1],
            "nud", "permanent",
        )  # fmt: skip


@contextmanager
def smaller_mtu(path: Trial, place: str, device: str, senders: Sequence[str]) -> Iterator[None]:
    """`place` sends on by packets of SMALL only, and says so; the senders have never heard of it."""
    namespace = path.network.namespaces[place]
    bare = not next(node for node in path.network.nodes if node.name == place).addresses
    for address in _ROUTER if bare else ():
        namespace.run("ip", "addr", "add", *address.split())
    namespace.run("ip", "link", "set", device, "mtu", str(SMALL))
    try:
        for sender in senders:
            for family in ("-4", "-6"):
                path.network.namespaces[sender].run("ip", family, "route", "flush", "cache")
        yield
    finally:
        namespace.run("ip", "link", "set", device, "mtu", "1500")
        for address in _ROUTER if bare else ():
            namespace.run("ip", "addr", "del", *address.split()[:3])


def data_arrives(path: Trial, opener: End, acceptor: End) -> bool:
    """Connect and send SIZE bytes; whether all of them come."""
    path.network.forget_connections()
    with ExitStack() as stack:

        def made(end: End) -> socket.socket:
            with path.network.namespaces[end.place].inside(), as_user(end.user):
                one = socket.socket(socket.AF_INET6 if ":" in end.address else socket.AF_INET)
            stack.enter_context(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.settimeout(STALLED)
            if end.foreign:
                one.setsockopt(*TRANSPARENT[6 if ":" in end.address else 4], 1)
            one.bind((end.address, end.port))
            return one

        listener, sender = made(acceptor), made(opener)
        listener.listen()
        if sender.connect_ex((acceptor.address, acceptor.port)):
            return False
        receiver = stack.enter_context(listener.accept()[0])
        sender.setblocking(False)
        receiver.setblocking(False)
        sent = received = 0
        moved = time.monotonic()
        while received < SIZE and time.monotonic() < moved + STALLED:
            writing = [sender] if sent < SIZE else []
            readable, writable, _ = select.select([receiver], writing, [], STALLED)
            if writable:
                sent += sender.send(bytes(SIZE - sent))
            if readable:
                received += len(receiver.recv(SIZE))
                moved = time.monotonic()
        return received == SIZE


def own(path: Trial, family: int) -> tuple[End, End]:
    """The proxy of f1 sends to that of n1, with the client's address where the description says so."""
    client = path.spec.hops[0].intercept == "tproxy client"
    return (
        End("f1", leg_address(0 if client else 1, family, 1), "proxy", 53500, foreign=client),
        End("n1", leg_address(1, family, 2), "proxy", 50500),
    )


def past(_path: Trial, family: int) -> tuple[End, End]:
    """C sends to S past f1."""
    return End("C", leg_address(0, family, 1), "root", 33000), End("S", leg_address(2, family, 2), "root", 80)


# whose packets are too long, and who says so over which device: f1 hears it, passes it on, says it itself
SAYS: Final = {
    "heard": (own, "between1", "right0"),
    "passed on": (past, "between1", "right0"),
    "said": (past, "f1", "right0"),
}
# who asks, over which device, for whom
ASKS: Final = {"asked": ("C", "right0", "fe80::2"), "asking": ("f1", "left0", "fe80::1")}


def all_of_it_works(path: Trial) -> bool:
    """Errors, neighbours and echo, each both ways and of both families."""
    for family in FAMILIES:
        client, host = leg_address(0, family, 1), leg_address(0, family, 2)
        if not echo_comes_back(path, "C", host) or not echo_comes_back(path, "f1", client):
            return False
        for ends, place, device in SAYS.values():
            with smaller_mtu(path, place, device, ["C", "f1"]):
                if not data_arrives(path, *ends(path, family)):
                    return False
    return all(neighbours_are_found(path, *asks) for asks in ASKS.values())
