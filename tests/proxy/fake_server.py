# SPDX-License-Identifier: GPL-3.0-or-later
"""An FTP server whose every move a test decides.

What is of no interest to a test (login, data set-up, TYPE) a thread answers by itself from the table `auto`;
every other command waits in a queue until the test takes it with next() and answers it with reply().
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable, Mapping

from .wire import PATIENCE, Data, End, EndedError, dial, listen

Answer = bytes | Callable[["ServerSession", bytes], bytes | None] | None
"""The answer to a verb: bytes (CRLF added), a function of session and argument, or None: the test does it."""


def answer_pasv(session: ServerSession, argument: bytes) -> bytes:
    """227 with the server's own address."""
    port = session.open_listener()
    address = session.sock.getsockname()[0].replace(".", ",")
    return f"227 Entering Passive Mode ({address},{port // 256},{port % 256}).".encode()


def answer_epsv(session: ServerSession, argument: bytes) -> bytes:
    return f"229 Entering Extended Passive Mode (|||{session.open_listener()}|)".encode()


def answer_port(session: ServerSession, argument: bytes) -> bytes:
    numbers = [int(x) for x in argument.split(b",")]
    session.aim(".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5])
    return b"200 PORT command successful."


def answer_eprt(session: ServerSession, argument: bytes) -> bytes:
    _, _, address, port, _ = argument.split(argument[:1])
    session.aim(address.decode(), int(port))
    return b"200 EPRT command successful."


def dial_at_once(session: ServerSession, argument: bytes) -> bytes:
    """PORT or EPRT as pyftpdlib serves it: it connects before it answers, and 425 where it cannot."""
    (answer_eprt if b"|" in argument else answer_port)(session, argument)
    try:
        session.ready = session.dial_target()
    except OSError:
        return b"425 Can't connect to specified address."
    return b"200 Active data connection established."


def unreachable_port(session: ServerSession, argument: bytes) -> bytes:
    """A 227 or 229 (the argument of EPSV may be empty) that names a port on which nobody listens."""
    listener = listen(session.sock.getsockname()[0])
    port = listener.getsockname()[1]
    listener.close()
    if session.lines[-1].upper().startswith(b"EPSV"):
        return f"229 Entering Extended Passive Mode (|||{port}|)".encode()
    address = session.sock.getsockname()[0].replace(".", ",")
    return f"227 Entering Passive Mode ({address},{port // 256},{port % 256}).".encode()


STANDARD: Mapping[str, Answer] = {
    "USER": b"331 Password please.",
    "PASS": b"230 Logged in.",
    "TYPE": b"200 Type set.",
    "PASV": answer_pasv,
    "EPSV": answer_epsv,
    "PORT": answer_port,
    "EPRT": answer_eprt,
    "QUIT": b"221 Goodbye.",
}


class ServerSession:
    """The server's end of one control connection."""

    def __init__(self, sock: socket.socket, auto: Mapping[str, Answer], greeting: bytes | None) -> None:
        self.sock = sock
        self.peer: tuple[str, int] = sock.getpeername()[:2]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.auto = auto
        self.raw = bytearray()
        """Every byte received, urgent ones in line."""
        self.lines: list[bytes] = []
        """Every line received, without its CRLF; what stands in them besides is the test's to judge."""
        self.setups: list[bytes] = []
        """The verbs among them that set up a data connection, in order."""
        self.ready: socket.socket | None = None
        """A data connection that is there already."""
        self.listener: socket.socket | None = None
        self.target: tuple[str, int] | None = None
        self._queue: queue.Queue[bytes | EndedError] = queue.Queue()
        self._ended: End | None = None
        self._open: list[socket.socket] = [sock]
        if greeting is not None:
            self.reply(greeting)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def next(self) -> bytes:
        """The next command that is not answered by itself; EndedError when the connection ends instead."""
        try:
            item = self._queue.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"no command within {PATIENCE} s; so far: {self.lines}") from None
        if isinstance(item, EndedError):
            self._queue.put(item)
            raise item
        return item

    def idle(self) -> bool:
        """Whether no command waits to be taken. Ask after something that would have come later."""
        return self._queue.empty()

    def end(self) -> End:
        """Wait for the end of the control connection (what comes before it is thrown away)."""
        while True:
            try:
                self.next()
            except EndedError as ended:
                kind: End = ended.args[0]
                return kind

    def send(self, content: bytes) -> None:
        """Bytes as they are."""
        self.sock.sendall(content)

    def reply(self, *lines: bytes) -> None:
        """Reply lines, CRLF added, all in one segment."""
        self.send(b"".join(line + b"\r\n" for line in lines))

    def data(self) -> Data:
        """The data connection that the last set-up agreed on."""
        sock = self.ready
        self.ready = None
        if sock is None:
            if self.listener is not None:
                sock, _ = self.listener.accept()
                self.listener.close()
                self.listener = None
            else:
                sock = self.dial_target()
        self._open.append(sock)
        return Data(sock)

    def dial_target(self) -> socket.socket:
        assert self.target is not None, "no data connection was set up"
        target, self.target = self.target, None
        return dial(*target, self.sock.getsockname()[0])

    def open_listener(self) -> int:
        """Listen for data, in place of what was agreed before; the port."""
        self._forget()
        self.listener = listen(self.sock.getsockname()[0])
        self._open.append(self.listener)
        port: int = self.listener.getsockname()[1]
        return port

    def aim(self, address: str, port: int) -> None:
        """Dial there for data, in place of what was agreed before."""
        self._forget()
        self.target = (address, port)

    def reset(self) -> None:
        """Lose the control connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_control()

    def close_control(self) -> None:
        """Close the control connection while the reading thread holds it, too."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RD)
        self._thread.join(PATIENCE)
        self.sock.close()

    def close(self) -> None:
        self.close_control()
        for sock in self._open:
            sock.close()
        if self.ready is not None:
            self.ready.close()

    def _forget(self) -> None:
        for sock in (self.listener, self.ready):
            if sock is not None:
                sock.close()
        self.listener = self.ready = self.target = None

    def _run(self) -> None:
        buffer = bytearray()
        self.sock.settimeout(None)
        while True:
            try:
                piece = self.sock.recv(1 << 16)
            except ConnectionResetError:
                self._queue.put(EndedError("reset", bytes(buffer)))
                return
            except OSError:
                return
            if not piece:
                self._queue.put(EndedError("fin", bytes(buffer)))
                return
            self.raw += piece
            buffer += piece
            while (at := buffer.find(b"\n")) >= 0:
                line = bytes(buffer[:at]).removesuffix(b"\r")
                del buffer[: at + 1]
                self._take(line)

    def _take(self, line: bytes) -> None:
        self.lines.append(line)
        verb, _, argument = line.partition(b" ")
        name = verb.decode("latin-1").upper()
        if name in {"PASV", "EPSV", "PORT", "EPRT"}:
            self.setups.append(verb.upper())
        answer = self.auto.get(name)
        if callable(answer):
            answer = answer(self, argument)
        if answer is None:
            self._queue.put(line)
            return
        try:
            self.reply(answer)
            if name == "QUIT":
                self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return


class FakeServer:
    """Listens at (address, port); each session is taken when the test wants it."""

    def __init__(self, address: str, port: int) -> None:
        self.listener = listen(address, port)
        self.address = address
        self.port = port
        self._sessions: list[ServerSession] = []

    def accept(
        self,
        auto: Mapping[str, Answer] | None = None,
        greeting: bytes | None = b"220 Fake server ready.",
    ) -> ServerSession:
        """The next session; `auto` changes the table STANDARD verb by verb."""
        sock, _ = self.listener.accept()
        sock.settimeout(PATIENCE)
        session = ServerSession(sock, {**STANDARD, **(auto or {})}, greeting)
        self._sessions.append(session)
        return session

    def close(self) -> None:
        self.listener.close()
        for session in self._sessions:
            session.close()
