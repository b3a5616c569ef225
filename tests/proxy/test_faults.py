# SPDX-License-Identifier: GPL-3.0-or-later
"""2.2, 2.11, "Bad input and faults": each failure is one sentence that names the hop and the cause."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread

import pytest

from .fake_server import FakeServer
from .harness import Path, Paths, Session
from .wire import eventually, listen, refused

BRIEF = {"timeouts__connect": 0.5, "timeouts__greeting": 0.5}


@contextmanager
def nobody_listens(address: tuple[str, int]) -> Iterator[None]:
    yield


@contextmanager
def syn_goes_unanswered(address: tuple[str, int]) -> Iterator[None]:
    """A host that is silent: the listener's queue is full, so the kernel drops every SYN."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        time.sleep(0.1)
        yield


def answering(*pieces: bytes, pause: float = 0.0, then: str = "wait"):  # type: ignore[no-untyped-def]
    """A server that sends these pieces to whoever connects, then waits, closes or resets."""

    @contextmanager
    def fault(address: tuple[str, int]) -> Iterator[None]:
        listener = listen(*address)
        accepted: list[socket.socket] = []

        def serve() -> None:
            try:
                sock, _ = listener.accept()
                accepted.append(sock)
                for piece in pieces:
                    sock.sendall(piece)
                    time.sleep(pause)
                if then == "close":
                    sock.close()
                if then == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    sock.close()
            except OSError:
                pass

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.close()
        thread.join(8)
        for sock in accepted:
            sock.close()

    return fault


FAULTS = {
    "down": (nobody_listens, "refused the connection"),
    "unreachable": (syn_goes_unanswered, "within 0.5 s"),
    "silent": (answering(), "sent no FTP greeting within 0.5 s"),
    "slow": (answering(*([b"2"] * 15), pause=0.1), "within 0.5 s"),
    "closes": (answering(then="close"), "closed"),
    "resets": (answering(then="reset"), ""),
    "not FTP": (answering(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), ""),
    "HTTP": (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", then="close"), ""),
    "binary": (answering(b"\x16\x03\x01\x00\x02\x02\x28\r\n"), ""),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("hop", ["F", "N"])
def test_2_2_a_far_end_that_fails_is_421_with_hop_and_cause(paths: Paths, hop: str, fault: str) -> None:
    """And the session of another client does not notice."""
    path = paths.front(**BRIEF) if hop == "F" else paths.one(**BRIEF)
    other = path.open()
    path.server.listener.close()
    cause, words = FAULTS[fault]
    address = "{}:{}".format(*path.server_address)
    with cause(path.server_address):
        c = path.client()
        other.in_step()
        reply = c.reply()
        assert reply.code == 421
        who = f"next hop N ({address})" if hop == "F" else f"server {address}"
        assert reply.text.startswith(f"421 {hop}: {who} "), reply.text
        assert words in reply.text
        assert reply.text.endswith(".")
        assert c.end() == (b"", "fin")
        other.in_step()


def test_2_2_the_texts_of_the_contract(paths: Paths) -> None:
    path = paths.front(**BRIEF)
    address = "{}:{}".format(*path.server_address)
    assert path.client().reply().text == f"421 F: next hop N ({address}) refused the connection."
    path = paths.one(**BRIEF)
    address = "{}:{}".format(*path.server_address)
    with answering()(path.server_address):
        assert path.client().reply().text == f"421 N: server {address} sent no FTP greeting within 0.5 s."


def test_2_2_an_address_without_a_route_is_421(paths: Paths) -> None:
    path = paths.own(0, **BRIEF, next_hop__hosts=[{"name": "n1", "addresses": ["192.0.2.1"]}])
    c = path.client()
    reply = c.reply()
    assert reply.text.startswith("421 F: next hop N (192.0.2.1:2121) "), reply.text
    assert c.end() == (b"", "fin")


def test_2_2_through_two_hops_the_nearest_cause_speaks(paths: Paths) -> None:
    """10.2: N says what is wrong with the server, F passes it on."""
    path = paths.two()
    c = path.client()
    address = "{}:{}".format(*path.server_address)
    assert c.reply().text == f"421 N: server {address} refused the connection."
    assert c.end() == (b"", "fin")


def test_10_2_through_two_hops_a_silent_server_is_named_by_n(paths: Paths) -> None:
    path = paths.two(f__timeouts__greeting=3, n__timeouts__greeting=0.5)
    address = "{}:{}".format(*path.server_address)
    with answering()(path.server_address):
        assert path.client().reply().text == f"421 N: server {address} sent no FTP greeting within 0.5 s."


def test_2_2_a_hop_that_comes_back_serves_the_next_session(path: Path) -> None:
    path.server.listener.close()
    assert path.client().reply().code == 421
    server = FakeServer(*path.server_address)
    c = path.client()
    x = Session(c, server.accept())
    c.login()
    x.in_step()
    c.close()
    server.close()


def test_2_11_a_reply_that_never_comes_is_421(paths: Paths) -> None:
    x = paths.one(timeouts__reply=0.5).open()
    x.c.line("SYST")
    assert x.s.next() == b"SYST"
    reply = x.c.reply()
    assert reply.code == 421
    assert reply.text.startswith("421 N: ")
    assert x.c.end() == (b"", "fin")
    x.s.end()


def test_2_11_a_final_reply_that_never_comes_after_a_transfer(paths: Paths) -> None:
    """The data came whole; the 226 does not: no 226 is made up (6.9)."""
    x = paths.one(timeouts__reply=0.5).open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(b"content")
    s_data.close()
    assert c_data.read_all() == (b"content", "fin")
    assert x.c.reply().code in {421, 426, 451}
    x.s.end()


def test_2_11_an_idle_session_is_421(paths: Paths) -> None:
    x = paths.one(timeouts__idle=0.5, timeouts__data_idle=2).open()
    reply = x.c.reply()
    assert reply.code == 421
    assert reply.text.startswith("421 N: ")
    assert x.c.end() == (b"", "fin")
    x.s.end()


def test_2_11_a_login_that_does_not_come_is_421(paths: Paths) -> None:
    """Retries do not keep it alive; a session that is in time lives on."""
    x = paths.one(timeouts__login=0.5).open(login=False)
    for _ in range(20):
        time.sleep(0.1)
        x.c.line("USER nobody")
        reply = x.c.reply()
        if reply.code == 421:
            break
        assert reply.code in {220, 331}, reply
    assert reply.text == "421 N: no login within 0.5 s."
    x.c.end()
    x = paths.one(timeouts__login=0.5).open()
    time.sleep(0.7)
    x.in_step()


def test_2_11_a_line_that_never_ends_does_not_keep_a_session(paths: Paths) -> None:
    """Slowloris: a byte now and then is no command."""
    x = paths.one(timeouts__idle=0.5, timeouts__data_idle=2).open()
    assert trickle(x) < 50
    x.s.end()


def test_2_11_a_running_transfer_survives_the_idle_time(paths: Paths) -> None:
    """Silence on control and, for less than data_idle, on the data connection."""
    x = paths.one(timeouts__idle=0.5, timeouts__data_idle=4).open()
    c_data, s_data = x.begin("STOR f")
    time.sleep(1)
    c_data.send(b"late")
    c_data.fin()
    assert s_data.read_all() == (b"late", "fin")
    s_data.close()
    x.s.reply(b"226 Stored.")
    assert x.c.reply().code == 226


def test_10_3_sigterm_tells_idle_sessions_421_and_ends(paths: Paths) -> None:
    path = paths.own(1)
    x, y = path.open(), path.open()
    path.last.process.terminate()
    for session in (x, y):
        reply = session.c.reply()
        assert reply.code == 421
        assert reply.text.startswith("421 N: ")
        assert session.c.end() == (b"", "fin")
        session.c.close()
        session.s.end()
    assert path.last.process.wait(8) == 0


@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
def test_10_3_sigterm_lets_a_running_transfer_finish(paths: Paths, verb: str) -> None:
    path = paths.own(1)
    x = path.open()
    c_data, s_data = x.begin(verb)
    sender, receiver = (s_data, c_data) if verb == "RETR f" else (c_data, s_data)
    sender.send(b"first")
    assert receiver.receive(5) == b"first"
    path.last.process.terminate()
    eventually("its listener is closed", lambda: refused(*path.entry, path.net.client))
    sender.send(b"second")
    sender.fin()
    assert receiver.read_all() == (b"second", "fin")
    c_data.close()
    s_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    assert x.c.reply().code == 421
    x.c.close()
    assert path.last.process.wait(8) == 0


def trickle(x: Session) -> int:
    """Send a byte each tenth of a second until the proxy closes; how many went."""
    for i in range(60):
        try:
            x.c.send(b"N")
        except OSError:
            return i
        time.sleep(0.1)
    return 60
