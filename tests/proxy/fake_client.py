# SPDX-License-Identifier: GPL-3.0-or-later
"""An FTP client that does what a test says, byte by byte."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .wire import Data, End, EndedError, dial, listen

SETUPS = ("PASV", "EPSV", "PORT", "EPRT")


@dataclass(frozen=True)
class Reply:
    """One reply, whole: its code and its bytes as they came, CRLF included."""

    code: int
    raw: bytes

    @property
    def text(self) -> str:
        return self.raw.decode("utf-8", "surrogateescape").rstrip("\r\n")


@dataclass(frozen=True)
class Setup:
    """A data connection agreed on; open() makes it (active: after the verb was sent)."""

    verb: str
    reply: Reply
    address: tuple[str, int]
    open: Callable[[], Data]
    listener: socket.socket | None = None


class Client:
    """A control connection from `source` to the proxy at (address, port)."""

    def __init__(self, address: str, port: int, source: str | None = None) -> None:
        self.sock = dial(address, port, source)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local: tuple[str, int] = self.sock.getsockname()[:2]
        self.peer: tuple[str, int] = self.sock.getpeername()[:2]
        self.received = bytearray()
        """All bytes of replies so far."""
        self._rest = bytearray()
        self._at = 0  # what stands before it in _rest has been read
        self._open: list[Any] = [self.sock]

    def send(self, content: bytes, flags: int = 0) -> None:
        """Bytes as they are, in one segment where they fit."""
        assert self.sock.send(content, flags) == len(content)

    def line(self, *lines: str | bytes) -> None:
        """Command lines, CRLF added, all in one segment."""
        self.sock.sendall(b"".join((x if isinstance(x, bytes) else x.encode()) + b"\r\n" for x in lines))

    def reply(self) -> Reply:
        """The next whole reply (RFC 959 4.2); EndedError when the connection ends instead."""
        lines = [self._read_line()]
        if not re.match(rb"[0-9]{3}[ -]", lines[0]):
            raise AssertionError(f"not a reply line: {lines[0]!r}")
        code = lines[0][:3]
        if lines[0][3:4] == b"-":
            while not lines[-1].startswith(code + b" "):
                lines.append(self._read_line())
        return Reply(int(code), b"".join(lines))

    def replies(self, count: int) -> list[int]:
        """The codes of the next `count` replies."""
        return [self.reply().code for _ in range(count)]

    def cmd(self, line: str | bytes) -> Reply:
        """One command and its next reply."""
        self.line(line)
        return self.reply()

    def end(self) -> tuple[bytes, End]:
        """Read to the end of the control connection: the bytes not yet read as replies, and how it ended."""
        try:
            while True:
                self._fill()
        except EndedError as ended:
            kind: End = ended.args[0]
            return bytes(self._rest[self._at :]), kind

    def login(self, user: str = "anonymous", password: str | bytes = "guest@example.org") -> None:
        """220 is read, then USER and PASS."""
        assert self.reply().code == 220
        reply = self.cmd(f"USER {user}")
        assert reply.code == 331, reply
        secret = password if isinstance(password, bytes) else password.encode()
        reply = self.cmd(b"PASS " + secret)
        assert reply.code == 230, reply

    def setup(self, verb: str, *, receive_buffer: int | None = None) -> Setup:
        """PASV, EPSV, PORT or EPRT, answered with success."""
        if verb in {"PASV", "EPSV"}:
            reply = self.cmd(verb)
            address = passive_address(reply, self.peer[0])

            def connect() -> Data:
                return self.adopt(dial(*address, self.local[0], receive_buffer=receive_buffer))

            return Setup(verb, reply, address, connect)
        listener = listen(self.local[0], receive_buffer=receive_buffer)
        self._open.append(listener)
        reply = self.cmd(active_command(verb, *listener.getsockname()[:2]))
        assert reply.code == 200, reply

        def accept() -> Data:
            return self.adopt(listener.accept()[0])

        return Setup(verb, reply, listener.getsockname()[:2], accept, listener)

    def adopt(self, sock: socket.socket) -> Data:
        """A data connection that close() ends too."""
        self._open.append(sock)
        return Data(sock)

    def reset(self) -> None:
        """Lose the control connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        for sock in self._open:
            sock.close()

    def _read_line(self) -> bytes:
        while (at := self._rest.find(b"\n", self._at)) < 0:
            del self._rest[: self._at]
            self._at = 0
            self._fill()
        line = bytes(self._rest[self._at : at + 1])
        self._at = at + 1
        return line

    def _fill(self) -> None:
        try:
            piece = self.sock.recv(1 << 16)
        except ConnectionResetError:
            raise EndedError("reset", bytes(self._rest)) from None
        if not piece:
            raise EndedError("fin", bytes(self._rest))
        self.received += piece
        self._rest += piece


def passive_address(reply: Reply, peer: str) -> tuple[str, int]:
    """Where a 227 or 229 says to connect, strictly in the form of requirements 3.5 and 3.8."""
    if reply.code == 227:
        match = re.fullmatch(
            rb"227 Entering Passive Mode \((\d+),(\d+),(\d+),(\d+),(\d+),(\d+)\)\.\r\n", reply.raw
        )
        assert match, reply
        numbers = [int(x) for x in match.groups()]
        return ".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5]
    match = re.fullmatch(rb"229 Entering Extended Passive Mode \(\|\|\|(\d+)\|\)\.?\r\n", reply.raw)
    assert match, reply
    return peer, int(match[1])


def active_command(verb: str, address: str, port: int) -> str:
    """PORT or EPRT for an address."""
    if verb == "PORT":
        return f"PORT {address.replace('.', ',')},{port // 256},{port % 256}"
    return f"EPRT |{2 if ':' in address else 1}|{address}|{port}|"
