# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers GET /metrics over HTTP, in the supervisor, whatever the other end does: it may be anybody's.

One request a connection, few connections at once, and little time for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Sequence

from sluice import access
from sluice.config import Network

_MOST = 16  # connections at once; who comes then is reset
_SECONDS = 5.0  # for a whole connection
_LONGEST = 8192  # bytes of a request's head
_PIECE = 4096
_PAUSE = 0.2  # s without accepting when descriptors run out

Page = Callable[[], tuple[str, bytes]]  # its content type, and the text


class Scrapes:
    """Answers on one listener at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._peers: Sequence[Network] = ()
        self._page: Page | None = None
        self._running: set[asyncio.Task[None]] = set()

    def serve(self, listener: socket.socket, peers: Sequence[Network], page: Page) -> None:
        """Answer `peers` on this listener, which stays the caller's, with what `page` returns then."""
        self.stop()
        self._listener, self._peers, self._page = listener, peers, page
        self._loop.add_reader(listener.fileno(), self._accept)

    def stop(self) -> None:
        """Answer nobody any more."""
        if self._listener:
            self._loop.remove_reader(self._listener.fileno())
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - its reader is set
        try:
            sock, name = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # gone again
            return
        except OSError:  # no descriptors: breathe, then go on
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(_PAUSE, self._resume, self._listener)
            return
        peer = ipaddress.ip_address(name[0].partition("%")[0])
        if len(self._running) >= _MOST or not access.inside(peer, self._peers):
            sock.close()
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._answer(sock))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _resume(self, listener: socket.socket) -> None:
        if listener is self._listener:
            self._loop.add_reader(listener.fileno(), self._accept)

    async def _answer(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_SECONDS):
                head = await self._head(sock)
                await self._loop.sock_sendall(sock, self._response(head))
                sock.shutdown(socket.SHUT_WR)

    async def _head(self, sock: socket.socket) -> bytes:
        """The head of the request; what came, where it has no end."""
        head = b""
        while b"\r\n\r\n" not in head and len(head) <= _LONGEST:
            piece = await self._loop.sock_recv(sock, _PIECE)
            if not piece:
                break
            head += piece
        return head

    def _response(self, head: bytes) -> bytes:
        words = head.partition(b"\r\n")[0].split(b" ")
        if b"\r\n\r\n" not in head or len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _written("400 Bad Request", "text/plain; charset=utf-8", b"expected GET /metrics\n")
        if words[0] != b"GET" or words[1].partition(b"?")[0] != b"/metrics" or self._page is None:
            return _written("404 Not Found", "text/plain; charset=utf-8", b"expected GET /metrics\n")
        return _written("200 OK", *self._page())


def _written(status: str, kind: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body
