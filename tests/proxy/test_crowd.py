# SPDX-License-Identifier: GPL-3.0-or-later
"""Many idle sessions and a dripping client beside transfers (2.11, 10.7): none starves; memory is bounded."""

from __future__ import annotations

import contextlib
import resource
import socket
from pathlib import Path as File

import pytest

from .fake_client import SETUPS
from .harness import WHOLE, Path, Paths
from .wire import dial, eventually

IDLE, TRANSFERS = (2000, 50) if WHOLE else (200, 10)
PER_SESSION = 16 << 10  # bytes of memory of an idle session; the target is 6 KiB
PIECE, PIECES = 1 << 15, 16


@pytest.fixture
def descriptors() -> None:
    """This process has two for each session, the proxy has two, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * IDLE + 2000
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def memory(path: Path) -> int:
    """Bytes that the proxy's processes have of their own or share, each counted once (PSS)."""
    found = 0
    for pid in path.last.pids():
        lines = File(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return found << 10


def ask(client: socket.socket, server: socket.socket, line: bytes, answer: bytes) -> None:
    """One command and its reply."""
    client.sendall(line + b"\r\n")
    assert server.recv(1000) == line + b"\r\n"
    server.sendall(answer + b"\r\n")
    assert client.recv(1000) == answer + b"\r\n"


def idle_session(path: Path, stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Logged in; both far ends of its control connections."""
    client = stack.enter_context(dial(*path.entry, path.net.client))
    server = stack.enter_context(path.server.listener.accept()[0])
    server.settimeout(client.gettimeout())
    server.sendall(b"220 Ready.\r\n")
    assert client.recv(1000) == b"220 Ready.\r\n"
    ask(client, server, b"USER me", b"230 In.")
    return client, server


@pytest.mark.usefixtures("descriptors")
def test_10_7_transfers_beside_many_idle_sessions_and_a_client_that_drips(paths: Paths) -> None:
    ranges = {
        f"{side}__{what}": f"{first}-{first + 2 * TRANSFERS}"
        for side, what, first in (
            ("client_side", "listen", 24000),
            ("client_side", "source", 25000),
            ("server_side", "listen", 26000),
            ("server_side", "source", 27000),
        )
    }
    path = paths.own(1, timeouts__idle=3600, timeouts__reply=600, timeouts__data_idle=600, **ranges)
    path.open().in_step()
    before, descriptors_before = memory(path), path.last.descriptors()
    with contextlib.ExitStack() as stack:
        crowd = [idle_session(path, stack) for _ in range(IDLE)]
        assert path.last.sessions() == IDLE + 1
        used = memory(path) - before
        assert used < IDLE * PER_SESSION + (4 << 20), f"{used / IDLE:.0f} bytes for each idle session"
        drip, _ = idle_session(path, stack)
        running = []
        for i in range(TRANSFERS):
            x = path.open()
            verb = f"{('STOR', 'RETR')[i // 4 % 2]} {i}"
            c_data, s_data = x.begin(verb, SETUPS[i % 4])
            running.append((x, *((c_data, s_data) if verb.startswith("STOR") else (s_data, c_data))))
        for piece in range(PIECES):
            for i, (_x, sender, receiver) in enumerate(running):
                content = bytes([piece, i]) * (PIECE // 2)
                sender.send(content)
                with contextlib.suppress(OSError):  # 2.11: a line that never ends has its time
                    drip.send(b"N")
                assert receiver.receive(PIECE) == content
        for x, sender, receiver in running:
            sender.fin()
            assert receiver.read_all() == (b"", "fin")
            x.s.reply(b"226 Done.")
            assert x.c.reply().code == 226
            x.in_step()
        for client, server in crowd:
            ask(client, server, b"NOOP", b"200 Here.")
        assert memory(path) - before < IDLE * PER_SESSION + (32 << 20)
    path.tidy()
    eventually("all sessions are over", lambda: path.last.sessions() == 0, patience=30)
    pipes = 2 * 16 * len(path.last.pids())  # of each worker's pool
    eventually(
        "descriptors come back", lambda: path.last.descriptors() <= descriptors_before + pipes, patience=30
    )
    path.check()
