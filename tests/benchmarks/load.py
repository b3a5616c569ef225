#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""An FTP client that costs little, for benchmarks: passive mode, anonymous login, IPv4.

    load.py HOST fetch --file big --at-once 8      seconds
    load.py HOST store --file target --source /path     seconds
    load.py HOST sessions --file small --at-once 16 --seconds 1     sessions, seconds
    load.py HOST files --file small --seconds 1     files, seconds, p99 (s)
    load.py HOST idle --at-once 500     opens them, prints, and holds them until its standard input ends

Prints one JSON object. A session is: connect, log in, fetch the file, QUIT. What goes wrong ends it with the
reply that was not expected."""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

PORT = 21
LOGIN = ((b"USER anonymous", b"331"), (b"PASS x@", b"230"), (b"TYPE I", b"200"))
PATIENCE = 10.0  # s without anything
_PIECE = 1 << 20
_BACKLOG, _BREATH = 16, 0.02  # vsftpd lets 32 wait; a SYN beyond them would come again after a second
_REPLY = re.compile(rb"(?:^|\n)[0-9]{3} [^\n]*\n\Z")  # the last line of a whole reply
_NUMBERS = re.compile(rb"(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)")


class UnexpectedReplyError(Exception):
    """Another reply than the one that this client knows."""


def no_delay(sock: socket.socket) -> socket.socket:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def announced(reply: bytes) -> tuple[str, int]:
    """Where a 227 says that the server listens."""
    found = _NUMBERS.search(reply)
    if not found:
        raise UnexpectedReplyError(f"no address in {reply!r}")
    *address, high, low = (int(number) for number in found.groups())
    return ".".join(map(str, address)), high * 256 + low


class Session:
    """A session of blocking sockets, logged in."""

    def __init__(self, host: str) -> None:
        self.control = no_delay(socket.create_connection((host, PORT), PATIENCE))
        self.reply(b"220")
        for line, code in LOGIN:
            self.ask(line, code)

    def reply(self, code: bytes) -> bytes:
        """Read one reply, and no byte more than the server sent for it."""
        read = b""
        while not _REPLY.search(read):
            piece = self.control.recv(4096)
            if not piece:
                raise UnexpectedReplyError(f"the connection ended after {read!r}")
            read += piece
        if not read.startswith(code):
            raise UnexpectedReplyError(f"found {read!r}, expected {code.decode()}")
        return read

    def ask(self, line: bytes, code: bytes) -> bytes:
        self.control.sendall(line + b"\r\n")
        return self.reply(code)

    def data(self) -> socket.socket:
        return no_delay(socket.create_connection(announced(self.ask(b"PASV", b"227")), PATIENCE))

    def done(self) -> None:
        """Read the end of a transfer, which may have come with its beginning."""
        self.reply(b"226")


def swallow(data: socket.socket) -> None:
    """Read to the end without looking at it."""
    data.settimeout(None)
    read, write = os.pipe()
    nowhere = os.open("/dev/null", os.O_WRONLY)
    while got := os.splice(data.fileno(), write, _PIECE):
        while got:
            got -= os.splice(read, nowhere, got)
    for end in (read, write, nowhere):
        os.close(end)


def fetch(host: str, file: str, at_once: int) -> dict[str, float]:
    """Fetch the file in so many sessions at once; the clock runs from the first RETR to the last 226."""
    start = threading.Barrier(at_once + 1)
    wrong: list[Exception] = []

    def one() -> None:
        try:
            session = Session(host)
            data = session.data()
            start.wait()
            session.ask(f"RETR {file}".encode(), b"150")
            swallow(data)
            session.done()
        except Exception as error:
            wrong.append(error)
            start.abort()

    threads = [threading.Thread(target=one) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        start.wait()
    except threading.BrokenBarrierError:
        raise wrong[0] from None
    began = time.monotonic()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    if wrong:
        raise wrong[0]
    return {"seconds": seconds}


def store(host: str, file: str, source: str) -> dict[str, float]:
    """Store the file at `source` over one that is there already."""
    session = Session(host)
    data = session.data()
    with open(source, "rb") as content:  # noqa: PTH123
        size = os.fstat(content.fileno()).st_size
        began = time.monotonic()
        session.ask(f"STOR {file}".encode(), b"150")
        data.settimeout(None)
        at = 0
        while at < size:
            at += os.sendfile(data.fileno(), content.fileno(), at, size - at)
    data.close()
    session.done()
    return {"seconds": time.monotonic() - began}


def files(host: str, file: str, seconds: float) -> dict[str, float]:
    """Fetch a small file again and again in one session."""
    session = Session(host)
    retr = f"RETR {file}".encode()
    took: list[float] = []
    began = now = time.monotonic()
    while now < began + seconds:
        data = session.data()
        reply = session.ask(retr, b"150")
        while data.recv(65536):
            pass
        data.close()
        if b"\n226 " not in reply:
            session.done()
        took.append(time.monotonic() - now)
        now = time.monotonic()
    return {"files": len(took), "seconds": now - began, "p99": sorted(took)[len(took) * 99 // 100]}


def session_steps(host: str, file: str, poll: select.epoll, mine: Callable[[int], None]) -> Iterator[None]:
    """One session on non-blocking sockets; yields where it has to wait. `mine` is told its descriptors."""
    control = opened(host, PORT, poll, select.EPOLLIN, mine)
    read = b""

    def whole(code: bytes) -> bool:
        nonlocal read
        try:
            piece = control.recv(4096)
        except BlockingIOError:
            return False
        read += piece
        if not _REPLY.search(read):
            if not piece:
                raise UnexpectedReplyError(f"the connection ended after {read!r}, expected {code.decode()}")
            return False
        if not read.startswith(code):
            raise UnexpectedReplyError(f"found {read!r}, expected {code.decode()}")
        return True

    for line, code in ((b"", b"220"), *LOGIN, (b"PASV", b"227")):
        if line:
            read = b""
            control.send(line + b"\r\n")
        while not whole(code):
            yield
    data = opened(*announced(read), poll, select.EPOLLIN | select.EPOLLOUT, mine)
    yield
    read = b""
    control.send(f"RETR {file}".encode() + b"\r\n")
    at_end = False
    while not at_end:
        try:
            at_end = not data.recv(65536)
        except BlockingIOError:
            yield
    data.close()
    while not (whole(b"150") and b"226 " in read):
        yield
    read = b""
    control.send(b"QUIT\r\n")
    while not whole(b"221"):
        yield
    control.close()


def opened(
    host: str, port: int, poll: select.epoll, events: int, mine: Callable[[int], None]
) -> socket.socket:
    """A connection on its way, of which `poll` tells each change once."""
    sock = no_delay(socket.socket())
    sock.setblocking(False)
    sock.connect_ex((host, port))
    mine(sock.fileno())
    poll.register(sock.fileno(), events | select.EPOLLET)
    return sock


def sessions(host: str, file: str, at_once: int, seconds: float) -> dict[str, float]:
    """Whole sessions, so many at once, for about so long."""
    poll = select.epoll()
    running: dict[int, Iterator[None]] = {}  # by descriptor; a closed one is another's soon
    alive: set[Iterator[None]] = set()
    done = 0

    def begin() -> None:
        steps: list[Iterator[None]] = []

        def mine(fd: int) -> None:
            running[fd] = steps[0]

        steps.append(session_steps(host, file, poll, mine))
        alive.add(steps[0])
        next(steps[0])

    for at in range(at_once):
        if at % _BACKLOG == 0:
            time.sleep(_BREATH)
        begin()
    began = time.monotonic()
    while alive:
        ready = poll.poll(PATIENCE)
        if not ready:
            raise UnexpectedReplyError(f"nothing came for {PATIENCE:g} s, {len(alive)} sessions wait")
        for fd, _events in ready:
            steps = running[fd]
            if steps not in alive:
                continue
            try:
                next(steps)
            except StopIteration:
                alive.remove(steps)
                done += 1
                if time.monotonic() < began + seconds:
                    begin()
    return {"sessions": done, "seconds": time.monotonic() - began}


def idle(host: str, at_once: int) -> None:
    """Hold sessions that do nothing."""
    held = [Session(host) for _ in range(at_once)]
    print(json.dumps({"sessions": len(held)}), flush=True)
    sys.stdin.read()


def main() -> None:
    parser = argparse.ArgumentParser(description="An FTP client that costs little.")
    parser.add_argument("host")
    parser.add_argument("what", choices=("fetch", "store", "sessions", "files", "idle"))
    parser.add_argument("--file", default="")
    parser.add_argument("--source", default="")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    said = parser.parse_args()
    try:
        if said.what == "idle":
            idle(said.host, said.at_once)
            return
        done = {
            "fetch": lambda: fetch(said.host, said.file, said.at_once),
            "store": lambda: store(said.host, said.file, said.source),
            "sessions": lambda: sessions(said.host, said.file, said.at_once, said.seconds),
            "files": lambda: files(said.host, said.file, said.seconds),
        }[said.what]()
    except (UnexpectedReplyError, OSError) as error:
        sys.exit(f"{said.what} from {said.host}: {error}")
    print(json.dumps(done))


if __name__ == "__main__":
    main()
