# SPDX-License-Identifier: GPL-3.0-or-later
"""A busy proxy finds several things at once: each counts, whichever it is handed first (1.9, 5.5, 6.2)."""

from __future__ import annotations

import select
import socket
from threading import Thread

import pytest

from .harness import Path, Paths, Session
from .wire import Data


def upload(path: Path) -> tuple[Session, Data, Data]:
    """An upload whose first bytes have arrived."""
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(b"first")
    assert s_data.receive(5) == b"first"
    return x, c_data, s_data


@pytest.mark.parametrize("how", ["close", "reset"])
def test_6_2_control_lost_before_the_end_of_the_upload_resets_the_server(one: Path, how: str) -> None:
    x, c_data, s_data = upload(one)
    with one.first.busy():
        c_data.send(b"second")
        x.c.reset() if how == "reset" else x.c.sock.close()
        c_data.close()
    assert s_data.end() == "reset"


def test_5_5_abor_before_the_end_of_the_upload_resets_the_server(one: Path) -> None:
    x, c_data, s_data = upload(one)
    with one.first.busy():
        c_data.send(b"second")
        x.c.line("ABOR")
        c_data.close()
    assert s_data.end() == "reset"
    assert x.s.next() == b"ABOR"
    x.s.reply(b"426 Aborted.", b"226 Abort successful.")
    assert x.c.replies(2) == [426, 226]
    x.in_step()


def test_1_14_a_client_whose_end_shows_on_our_answer_is_gone(paths: Paths) -> None:
    path = paths.own(1)
    x = path.open()
    with path.first.busy():
        x.c.line("AUTH TLS")
        x.c.reset()
    x.s.end()
    path.first.record("session-end")


def test_1_14_a_server_whose_end_shows_on_a_command_is_gone(one: Path) -> None:
    x = one.open()
    with one.first.busy():
        x.c.line("SYST")
        x.s.reset()
    assert x.c.reply().code == 421
    assert x.c.end() == (b"", "fin")


def test_1_9_a_client_that_does_not_read_its_answers_is_not_read(paths: Paths) -> None:
    """An empty line costs it a byte and is answered with thirty: nothing of it may pile up here."""
    path = paths.own(1)
    x = path.open()
    before = path.first.memory()
    x.c.sock.settimeout(0.5)
    sent = 0
    try:
        while sent < 1 << 20:
            sent += x.c.sock.send(b"\n" * 65536)
    except TimeoutError:
        pass
    path.open().in_step()
    assert path.first.memory() - before < 8 << 20


def test_1_9_a_server_waits_for_a_client_that_does_not_read(one: Path) -> None:
    """And goes on when the client does; nothing is lost."""
    x = one.open()
    x.c.line("STAT /")
    assert x.s.next() == b"STAT /"
    text = b"213-Status\r\n" + (b" " + b"x" * 8000 + b"\r\n") * 8000 + b"213 End.\r\n"
    sent = 0
    while sent < len(text) and select.select([], [x.s.sock], [], 0.5)[1]:
        sent += x.s.sock.send(text[sent : sent + 65536], socket.MSG_DONTWAIT)
    assert sent < len(text)
    rest = Thread(target=x.s.send, args=(text[sent:],), daemon=True)
    rest.start()
    got = bytearray()
    while len(got) < len(text):
        got += x.c.sock.recv(1 << 20)
    assert got == text
    rest.join()
    x.in_step()
