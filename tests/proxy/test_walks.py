# SPDX-License-Identifier: GPL-3.0-or-later
"""1.11, 1.12, 3.18, 13.4: seeded random walks through a session, commands in batches of one segment each.

The server answers every command with what it was. So each reply is known: one too many, one too few or two in
the wrong order are seen at once, as is a byte of a file that is lost or belongs to another.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from .fake_client import SETUPS, Client, Reply, active_command, passive_address
from .fake_server import STANDARD, Answer, ServerSession
from .harness import Path, Paths
from .wire import Data, dial, listen

ECHOED = ("NOOP", "MKD", "SIZE", "CWD", "SITE", "XFOO", "STAT")


def content(name: str) -> bytes:
    """What a file of this name holds."""
    return name.encode() * (int(name) * 7919 % 30_000)


def retr(session: ServerSession, argument: bytes) -> bytes:
    if argument == b"missing":
        return b"550 missing: No such file."
    session.reply(b"150 Here is " + argument)
    data = session.data()
    data.send(content(argument.decode()))
    data.close()
    return b"226 Sent " + argument


def stor(session: ServerSession, argument: bytes) -> bytes:
    if argument == b"forbidden":
        return b"553 forbidden: Permission denied."
    session.reply(b"150 Waiting for " + argument)
    data = session.data()
    complete = data.read_all() == (content(argument.decode()), "fin")
    data.close()
    return (b"226 Stored " if complete else b"451 Damaged ") + argument


def echo(session: ServerSession, argument: bytes) -> bytes:
    return b"250-Several lines\r\n 226 of nothing\r\n250 " + session.lines[-1]


SERVER: Mapping[str, Answer] = {
    **STANDARD,
    **dict.fromkeys(ECHOED, echo),
    "RETR": retr,
    "STOR": stor,
    "ABOR": b"225 Nothing to abort.",
}


@dataclass
class Walker:
    """A client that knows what it must hear."""

    c: Client
    source: random.Random
    ready: Data | None = None
    """A data connection that is there."""
    listener: socket.socket | None = None
    set_up: bool = False
    names: int = 0
    coming: list[socket.socket] = field(default_factory=list)
    """Listeners of PORT and EPRT that are sent and not answered yet."""

    def batch(self) -> list[str]:
        """Commands for one segment.

        A passive port that the client has not connected to yet may be drawn again for the next set-up; so
        a second passive set-up comes only behind a transfer that used the first, as a client would have it.
        """
        commands: list[str] = []
        announced = ""
        for _ in range(self.source.choice([1, 1, 2, 3, 6])):
            command = self._command()
            verb, _, argument = command.partition(" ")
            if verb in {"PASV", "EPSV"} and announced:
                continue
            if verb in SETUPS:
                announced = verb if verb in {"PASV", "EPSV"} else announced and "replaced"
            elif verb in {"RETR", "STOR"} and argument.isdigit() and announced != "replaced":
                announced = ""
            commands.append(command)
        return commands

    def hear(self, command: str) -> None:
        """Read what the command must be answered, and do what the answer asks for."""
        verb, _, argument = command.partition(" ")
        reply = self.c.reply()
        if verb in {"PASV", "EPSV"}:
            assert reply.code in {227, 229}, reply
            self._replace()
            with contextlib.suppress(OSError):  # what follows in the batch may have replaced it already
                self.ready = self.c.adopt(dial(*passive_address(reply, self.c.peer[0]), self.c.local[0]))
        elif verb in {"PORT", "EPRT"}:
            assert reply.code == 200, reply
            self._replace()
            self.listener = self.coming.pop(0)
            self.set_up = True
        elif verb == "AUTH":
            assert reply.code == 502, reply
        elif verb == "ABOR":
            assert reply.code == 225, reply
            self._replace()
            self.set_up = False
        elif verb in {"RETR", "STOR"}:
            self._transfer(verb, argument, reply)
        else:
            assert reply.raw == b"250-Several lines\r\n 226 of nothing\r\n250 " + command.encode() + b"\r\n"

    def _transfer(self, verb: str, name: str, reply: Reply) -> None:
        if not self.set_up:
            assert reply.code == 425, reply
            return
        if name in {"missing", "forbidden"}:
            assert reply.code in {550, 553}, reply
        else:
            assert reply.code == 150, reply
            assert reply.text.endswith(name)
            data = self.ready or self._accept()
            if verb == "RETR":
                assert data.read_all() == (content(name), "fin")
            else:
                data.send(content(name))
                data.fin()
            reply = self.c.reply()
            assert reply.text in {f"226 Sent {name}", f"226 Stored {name}"}
            data.close()
        self._replace()
        self.set_up = False

    def _accept(self) -> Data:
        assert self.listener is not None, "the passive port was closed before its transfer"
        return self.c.adopt(self.listener.accept()[0])

    def _replace(self) -> None:
        for thing in (self.ready, self.listener):
            if thing is not None:
                thing.close()
        self.ready = self.listener = None
        self.set_up = True

    def _command(self) -> str:
        kind = self.source.random()
        if kind < 0.35:
            verb = self.source.choice(SETUPS)
            if verb in {"PASV", "EPSV"}:
                return verb
            listener = listen(self.c.local[0])
            self.coming.append(listener)
            return active_command(verb, *listener.getsockname()[:2])
        if kind < 0.7:
            verb = self.source.choice(["RETR", "STOR"])
            if self.source.random() < 0.25:
                return f"{verb} {'missing' if verb == 'RETR' else 'forbidden'}"
            self.names += 1
            return f"{verb} {self.names}"
        if kind < 0.75:
            return "AUTH TLS"
        self.names += 1
        return f"{self.source.choice(ECHOED)} {self.names}"


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("server_mode", ["both", "active", "passive"])
@pytest.mark.parametrize("hops", [1, 2])
def test_1_11_random_walks(paths: Paths, hops: int, server_mode: str, seed: int) -> None:
    path = paths.one(server_side__mode=server_mode) if hops == 1 else _chain(paths, server_mode)
    source = random.Random(f"{hops} {server_mode} {seed}")
    x = path.open(SERVER)
    walker = Walker(x.c, source)
    history: list[list[str]] = []
    try:
        for _ in range(10):
            batch = walker.batch()
            history.append(batch)
            x.c.line(*batch)
            for command in batch:
                walker.hear(command)
        assert x.c.cmd("QUIT").raw == b"221 Goodbye.\r\n"
        assert x.c.end() == (b"", "fin")
    except Exception as failure:
        failure.add_note(f"the batches: {history}; the server read: {x.s.lines}")
        raise


def _chain(paths: Paths, server_mode: str) -> Path:
    """The middle leg takes the other mode."""
    middle = {"both": "both", "active": "passive", "passive": "active"}[server_mode]
    if middle == "both":
        return paths.two()
    return paths.two(
        f__server_side__mode=middle, n__client_side__mode=middle, n__server_side__mode=server_mode
    )
