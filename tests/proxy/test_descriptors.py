# SPDX-License-Identifier: GPL-3.0-or-later
"""10.7: after many sessions of every kind, nothing is left behind."""

from __future__ import annotations

import random
from functools import partial

from .fake_client import SETUPS
from .harness import Path, Paths, Proxy
from .wire import eventually


def some_session(path: Path, kind: int, source: random.Random) -> None:
    """One of sixteen ways in which a session can go; all sockets of the test are closed afterwards."""
    setup = SETUPS[kind % 4]
    x = path.open({"RETR": b"550 No."} if kind % 16 == 5 else None)
    match kind % 16:
        case 0:
            assert x.c.cmd("QUIT").code == 221
        case 1:
            x.c.setup(setup)
        case 2 | 3:
            c_data, s_data = x.begin("RETR f", setup)
            s_data.send(b"some")
            s_data.close()
            assert c_data.end() == "fin"
            x.s.reply(b"226 Done.")
            assert x.c.reply().code == 226
        case 4:
            c_data, s_data = x.begin("STOR f", setup)
            c_data.reset()
            assert s_data.end() == "reset"
        case 5:
            x.c.setup(setup)
            assert x.c.cmd("RETR f").code == 550
        case 6:
            c_data, s_data = x.begin("RETR f", setup)
            x.c.reset()
        case 7:
            c_data, s_data = x.begin("RETR f", setup)
            s_data.send(b"some")
            c_data.receive(4)
            s_data.reset()
            assert c_data.end() == "reset"
        case 8:
            x.begin("STOR f", setup)
            x.s.close_control()
            assert x.c.reply().code in {421, 426}
        case 9:
            x.begin("RETR f", setup)
            x.c.line("ABOR")
            assert x.s.next() == b"ABOR"
            x.s.reply(b"426 Aborted.", b"226 Done.")
            assert x.c.replies(2) == [426, 226]
        case 10:
            x.c.setup("PASV").open()
            x.c.close()
        case 11:
            x.s.reset()
            assert x.c.reply().code == 421
        case 12:
            x.c.sock.sendall(source.randbytes(3000))
        case 13:
            x.s.send(source.randbytes(3000))
        case 14:
            for verb in SETUPS:
                x.c.setup(verb)
        case _:
            x.begin("STOR f", setup)[0].send_until_blocked()
    path.tidy()


def test_10_7_descriptors_are_back_at_the_baseline(paths: Paths) -> None:
    # One worker each: of several, one that had no session before the count has not filled its pool of pipes.
    path = paths.own(2, f__workers=1, n__workers=1)
    source = random.Random(959)
    some_session(path, 2, source)
    some_session(path, 3, source)
    eventually("the first sessions are over", lambda: _open_sessions(path) == 0)
    before = [proxy.descriptors() for proxy in path.proxies]
    for kind in range(64):
        some_session(path, kind + kind // 16, source)
    for proxy, count in zip(path.proxies, before, strict=True):
        eventually(f"{proxy.name} is back at {count}", partial(_at_most, proxy, count))
    assert _open_sessions(path) == 0
    path.check()


def test_10_7_connections_that_say_nothing(paths: Paths) -> None:
    """Connect and go, with and without a reset, before the greeting."""
    path = paths.own(1, timeouts__greeting=0.5)
    server = path.server
    before = path.last.descriptors()
    for i in range(40):
        c = path.client()
        if i % 2:
            c.reset()
        else:
            c.close()
    eventually("back at the baseline", lambda: path.last.descriptors() <= before)
    server.close()
    path.check()


def _open_sessions(path: Path) -> int:
    return sum(
        len(proxy.records("session-start")) - len(proxy.records("session-end")) for proxy in path.proxies
    )


def _at_most(proxy: Proxy, count: int) -> bool:
    return proxy.descriptors() <= count


def test_13_7_ends_that_a_client_does_not_close_are_bounded(paths: Paths) -> None:
    """They are nobody's transfer any more, and kept open for a while to let the client read."""
    path = paths.own(1, workers=1)
    x = path.open()
    before = path.last.descriptors()
    kept = []
    for _ in range(40):
        c_data, s_data = x.begin("RETR f")
        s_data.close()
        x.s.reply(b"226 Done.")
        assert x.c.reply().code == 226
        kept.append(c_data)
    assert path.last.descriptors() < before + 30
    assert kept[0].end() == "fin"
    x.in_step()
