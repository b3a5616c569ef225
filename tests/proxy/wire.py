# SPDX-License-Identifier: GPL-3.0-or-later
"""What both ends of the tests share: a data connection that says how it ended, and patience with a bound."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Literal

PATIENCE = 8.0
"""Seconds after which a wait is a hang. No test asserts a time shorter than a requirement's own bound."""

End = Literal["fin", "reset"]
"""How the peer ended: `fin` is recv() returning b"", `reset` ECONNRESET at a receiver that keeps reading."""


class EndedError(Exception):
    """The connection ended where more was expected; args: the End, and the bytes that came before."""


def eventually(what: str, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until the condition holds; AssertionError naming `what` when it does not within `patience`."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(0.01)


def listen(address: str, port: int = 0, *, receive_buffer: int | None = None) -> socket.socket:
    """A listening TCP socket; `receive_buffer` bytes for what it accepts."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.bind((address, port))
    sock.listen(16)
    sock.settimeout(PATIENCE)
    return sock


def dial(
    address: str, port: int, source: str | None = None, *, receive_buffer: int | None = None
) -> socket.socket:
    """A connected TCP socket, from `source` where given."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        if source is not None:
            sock.bind((source, 0))
        sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def refused(address: str, port: int, source: str | None = None) -> bool:
    """Whether nobody listens there."""
    try:
        dial(address, port, source).close()
    except ConnectionRefusedError:
        return True
    return False


def closes(address: str, port: int, source: str | None = None) -> None:
    """Nobody listens there any more, at once or soon."""
    eventually(f"{address}:{port} is closed", lambda: refused(address, port, source))


def untouched(listener: socket.socket) -> bool:
    """Whether nobody has connected to this listener. Ask after something that would have come later."""
    return not select.select([listener], [], [], 0)[0]


class Data:
    """One end of a data connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self.local: tuple[str, int] = sock.getsockname()[:2]
        self.peer: tuple[str, int] = sock.getpeername()[:2]

    def send(self, content: bytes) -> None:
        self.sock.sendall(content)

    def send_until_blocked(self) -> int:
        """Send until the way is full for 0.3 s (the peer does not read); the number of bytes that went in."""
        sent = 0
        block = os.urandom(1 << 16)
        self.sock.setblocking(False)
        while select.select([], [self.sock], [], 0.3)[1]:
            sent += self.sock.send(block)
        self.sock.settimeout(PATIENCE)
        return sent

    def send_until_refused(self, patience: float = PATIENCE) -> int:
        """Send until the peer resets; the number of bytes that went in."""
        sent = 0
        block = os.urandom(1 << 16)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                sent += self.sock.send(block)
            except (ConnectionResetError, BrokenPipeError):
                return sent
            except TimeoutError:
                break
        raise AssertionError(f"the peer neither reset nor closed within {patience} s, {sent} bytes went in")

    def receive(self, count: int) -> bytes:
        """Exactly `count` bytes; EndedError when fewer come."""
        got = bytearray()
        while len(got) < count:
            try:
                piece = self.sock.recv(count - len(got))
            except ConnectionResetError:
                raise EndedError("reset", bytes(got)) from None
            if not piece:
                raise EndedError("fin", bytes(got))
            got += piece
        return bytes(got)

    def read_all(self) -> tuple[bytes, End]:
        """Everything up to the end, and which end it was."""
        got = bytearray()
        while True:
            try:
                piece = self.sock.recv(1 << 18)
            except ConnectionResetError:
                return bytes(got), "reset"
            except OSError as error:
                if error.errno == errno.EPIPE:
                    return bytes(got), "reset"
                raise
            if not piece:
                return bytes(got), "fin"
            got += piece

    def end(self) -> End:
        """How it ended; what came before is thrown away."""
        return self.read_all()[1]

    def fin(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST, as a host that gives up does (SO_LINGER 0)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()
