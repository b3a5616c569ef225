# SPDX-License-Identifier: GPL-3.0-or-later
"""A control connection's socket: reads to a callback, writes from a buffer, closes in peace."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import os
import socket
import struct
from collections.abc import Callable

from sluice import events
from sluice.net.transparent import make_transparent
from sluice.protocol.addresses import Address

_READ = 65536
_AHEAD = 16  # pieces read at once, then others have their turn
_HIGH_WATER = 262144  # bytes unsent on one leg at which the other is not read (1.9)
_LINGER = 2.0  # s for the peer to close after us (1.14)
_RST = struct.pack("ii", 1, 0)
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78  # <linux/in.h>, <linux/in6.h>; the socket module lacks them
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))  # 1.16


def prepare(sock: socket.socket) -> None:
    """Set what control sockets need (1.16, 1.17, 5.2); one that is accepted has it from its listener."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def freebind(sock: socket.socket) -> None:
    """Let it bind an address that is not on this host yet, or moves between hosts (15.4)."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)


def on_this_host(address: Address) -> bool:
    """Whether the address is there now."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((str(address), 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
        return True


def why(error: OSError, local: Address) -> str:
    """Say in a sentence's rest why a connection from `local` failed."""
    if error.errno in (errno.EINVAL, errno.ENETUNREACH) and not on_this_host(local):  # bound all the same
        return f"cannot be reached: {local} is not on this host"
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection"
    return f"cannot be reached: {(error.strerror or str(error)).lower()}"


def family(address: Address) -> socket.AddressFamily:
    """Return the socket family of an address."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


@functools.lru_cache(maxsize=1024)
def from_text(text: str) -> Address:
    """Return an address as the kernel writes it; the same few come again and again, and parsing is slow."""
    return ipaddress.ip_address(text.partition("%")[0])


class ControlSocket:
    """One control connection; its socket is prepared, and does not block.

    received: called with bytes, at most `piece` at a time; ended: with whether it was a reset; relieved:
    when it is not `congested` any more; closed: when the socket is gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        received: Callable[[bytes], None],
        ended: Callable[[bool], None],
        relieved: Callable[[], None],
        closed: Callable[[], None],
        piece: int = _READ,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._received = received
        self._ended = ended
        self._relieved = relieved
        self._closed = closed
        self._piece = piece
        self.unsent = bytearray()  # what `flush` has to write
        self.reading = False
        self._writing = False
        self._at_end = False  # the peer sends no more
        self._closing = False
        self._timeout: asyncio.TimerHandle | None = None
        self.gone = False

    @property
    def congested(self) -> bool:
        """Whether much is unsent."""
        return len(self.unsent) > _HIGH_WATER

    def read(self, wanted: bool) -> None:
        """Read on, or stop reading."""
        wanted = (wanted or self._closing) and not self._at_end and not self.gone
        if wanted is self.reading:
            return
        self.reading = wanted
        if wanted:
            self._loop.add_reader(self._sock.fileno(), self._readable)
        else:
            self._loop.remove_reader(self._sock.fileno())

    def read_ahead(self) -> None:
        """Read now what the loop would hand over in its turn; of a flood only the beginning."""
        for _piece in range(_AHEAD):
            if not (self.reading and self._readable()):
                return

    def send(self, data: bytes) -> None:
        """Queue bytes; `flush` writes them."""
        if not self._closing and not self.gone:
            self.unsent += data

    def send_urgent(self, data: bytes) -> None:
        """Send bytes, the last one urgent; in line where the kernel takes no more just now."""
        self.flush()
        sent = 0
        if not (self.unsent or self._closing or self.gone):
            with contextlib.suppress(OSError):  # what is broken shows on the next read
                sent = self._sock.send(data, socket.MSG_OOB)
        self.send(data[sent:])

    def flush(self) -> None:
        """Write what the kernel takes now; the rest follows by itself."""
        if self.unsent and not self._writing and not self.gone:
            self._writable()

    def _writable(self) -> None:
        unsent = self.unsent
        congested = len(unsent) > _HIGH_WATER
        try:
            sent = self._sock.send(unsent)
            del unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._broken()
            return
        if not unsent:
            if self._writing:
                self._stop_writing()
            if self._closing:
                self._half_close()
        elif not self._writing:
            self._loop.add_writer(self._sock.fileno(), self._writable)
            self._writing = True
        if congested and not self.congested:
            self._relieved()

    def _stop_writing(self) -> None:
        if self._writing:
            self._loop.remove_writer(self._sock.fileno())
            self._writing = False

    def _readable(self) -> bool:
        """Read a piece; return whether there may be more."""
        try:
            data = self._sock.recv(self._piece)
        except BlockingIOError:
            return False
        except OSError:
            self._broken()
            return False
        if data:
            if not self._closing:
                self._received(data)
            return True
        self._at_end = True
        self.read(False)
        if self._closing:
            if not self.unsent:
                self._dispose()
        else:
            self._ended(False)
        return False

    def _broken(self) -> None:
        told = self._closing or self.gone
        self._dispose()
        if not told:
            self._ended(True)

    def close(self) -> None:
        """Send what is queued, then FIN; wait a little for the peer's, so that nothing is lost to an RST."""
        if self._closing or self.gone:
            return
        self._closing = True
        self._timeout = self._loop.call_later(_LINGER, self._dispose)
        if self.unsent:
            self.read(True)  # and throw it away
            self.flush()
        else:
            self._half_close()

    def _half_close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        if self._at_end:
            self._dispose()
        else:
            self.read(True)

    def reset(self) -> None:
        """Close at once, with RST."""
        if not self.gone:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            self._dispose()

    def _dispose(self) -> None:
        if self.gone:
            return
        self._at_end = True
        self.read(False)
        self._stop_writing()
        self.unsent.clear()
        self.gone = True
        if self._timeout:
            self._timeout.cancel()
        self._sock.close()
        self._closed()


def _bound(where: events.Connect) -> socket.socket:
    """Make a control socket and bind it, to a port of the kernel's choice. Raises OSError."""
    sock = socket.socket(family(where.to.address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        prepare(sock)
        freebind(sock)
        if where.transparent:
            make_transparent(sock)
        sock.bind((str(where.local), 0))
    except OSError:
        sock.close()
        raise
    return sock


class Connector:
    """A control connection being opened."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        where: events.Connect,
        connected: Callable[[socket.socket, Address], None],
        failed: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._connected = connected
        self._failed = failed
        self._local = where.local
        self.began = loop.time()
        self._sock: socket.socket | None = None
        sock: socket.socket | None = None
        try:
            sock = _bound(where)
            if sock.getsockname()[1] == where.avoid:
                with sock:  # bound until there is another one
                    sock = _bound(where)
            sock.connect((str(where.to.address), where.to.port))
        except BlockingIOError:
            pass
        except OSError as error:
            if sock:
                sock.close()
            loop.call_soon(failed, why(error, where.local))
            return
        assert sock is not None  # noqa: S101 - connect was reached
        self._sock = sock
        loop.add_writer(sock.fileno(), self._done)

    def _done(self) -> None:
        sock = self._sock
        if sock is None:
            return
        self._loop.remove_writer(sock.fileno())
        self._sock = None
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            sock.close()
            self._failed(why(OSError(error, os.strerror(error)), self._local))
        else:
            self._connected(sock, self._local)

    def cancel(self) -> None:
        """Give it up."""
        if self._sock:
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
