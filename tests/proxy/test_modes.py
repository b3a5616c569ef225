# SPDX-License-Identifier: GPL-3.0-or-later
"""3.2 and 13.6: any mode of the client's leg with any of the server's, and what a leg of both modes tries."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import pytest

from .fake_client import SETUPS, active_command
from .fake_server import Answer, dial_at_once, unreachable_port
from .harness import Path, Paths, Session
from .wire import untouched

CONTENT = os.urandom(3 << 16) + b"\r\n\xff\x00tail"
ACTIVE = {b"PORT", b"EPRT"}
PASSIVE = {b"PASV", b"EPSV"}
REFUSING_PASSIVE: Mapping[str, Answer] = {"PASV": b"502 No.", "EPSV": b"502 No."}
REFUSING_ACTIVE: Mapping[str, Answer] = {
    "PORT": b"500 Illegal PORT command.",
    "EPRT": b"500 Illegal EPRT command.",
}


def moves(x: Session, verb: str, setup: str) -> None:
    """A whole transfer, compared by its SHA-256."""
    c_data, s_data = x.begin(verb, setup)
    sender, receiver = (c_data, s_data) if verb == "STOR f" else (s_data, c_data)
    sender.send(CONTENT)
    sender.fin()
    got, end = receiver.read_all()
    assert (hashlib.sha256(got).hexdigest(), end) == (hashlib.sha256(CONTENT).hexdigest(), "fin")
    s_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().raw == b"226 Done.\r\n"


@pytest.mark.parametrize("verb", ["RETR f", "STOR f", "LIST"])
@pytest.mark.parametrize("server_mode", ["active", "passive"])
@pytest.mark.parametrize("setup", SETUPS)
def test_3_2_any_mode_on_either_leg(paths: Paths, setup: str, server_mode: str, verb: str) -> None:
    x = paths.one(server_side__mode=server_mode).open()
    moves(x, verb, setup)
    assert set(x.s.setups) <= (ACTIVE if server_mode == "active" else PASSIVE)
    x.in_step()


@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("far", ["active", "passive"])
@pytest.mark.parametrize("middle", ["active", "passive"])
def test_3_2_any_mode_on_each_of_three_legs(
    paths: Paths, middle: str, far: str, setup: str, verb: str
) -> None:
    x = paths.two(f__server_side__mode=middle, n__client_side__mode=middle, n__server_side__mode=far).open()
    moves(x, verb, setup)
    assert set(x.s.setups) <= (ACTIVE if far == "active" else PASSIVE)
    x.in_step()


@pytest.mark.parametrize("setup", SETUPS)
def test_13_6_a_leg_of_both_modes_uses_the_clients_own(path: Path, setup: str) -> None:
    x = path.open()
    moves(x, "RETR f", setup)
    assert set(x.s.setups) <= (PASSIVE if setup in {"PASV", "EPSV"} else ACTIVE)
    assert x.s.setups


@pytest.mark.parametrize("code", [b"500", b"502", b"522"])
@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
@pytest.mark.parametrize("setup", SETUPS)
def test_13_6_the_other_mode_when_the_server_refuses(path: Path, setup: str, verb: str, code: bytes) -> None:
    verbs = ("PASV", "EPSV") if setup in {"PASV", "EPSV"} else ("PORT", "EPRT")
    x = path.open(dict.fromkeys(verbs, code + b" Refused."))
    moves(x, verb, setup)
    assert x.s.setups[-1] in (ACTIVE if setup in {"PASV", "EPSV"} else PASSIVE)
    moves(x, verb, setup)
    x.in_step()


@pytest.mark.parametrize("setup", ["PASV", "EPSV"])
def test_13_6_the_other_mode_when_the_announced_port_cannot_be_connected(path: Path, setup: str) -> None:
    x = path.open({"PASV": unreachable_port, "EPSV": unreachable_port})
    moves(x, "RETR f", setup)
    assert x.s.setups[-1] in ACTIVE
    moves(x, "STOR f", setup)
    x.in_step()


@pytest.mark.parametrize("setup", SETUPS)
def test_13_6_a_server_that_refuses_both_modes(path: Path, setup: str) -> None:
    """Each is tried once; the client hears one 4xx or 5xx; the verb is never sent."""
    x = path.open({**REFUSING_PASSIVE, **REFUSING_ACTIVE})
    reply = x.c.cmd(setup if setup in {"PASV", "EPSV"} else _port_command(x, setup))
    if reply.code < 400:
        reply = x.c.cmd("RETR f")
    assert 400 <= reply.code <= 599
    assert x.s.idle(), "the transfer verb went to a server that agreed on nothing"
    x.in_step()


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("mode", ["active", "passive"])
def test_13_6_a_leg_of_one_mode_does_not_try_the_other(paths: Paths, mode: str, setup: str) -> None:
    refusing = REFUSING_ACTIVE if mode == "active" else REFUSING_PASSIVE
    x = paths.one(server_side__mode=mode).open(refusing)
    reply = x.c.cmd(setup if setup in {"PASV", "EPSV"} else _port_command(x, setup))
    if reply.code < 400:
        reply = x.c.cmd("RETR f")
    assert 400 <= reply.code <= 599
    assert x.s.idle()
    assert set(x.s.setups) <= (ACTIVE if mode == "active" else PASSIVE)
    x.in_step()


def test_13_6_a_server_that_dials_at_port_time_and_cannot(path: Path) -> None:
    """425 to PORT (pyftpdlib behind a filter) is a failed set-up as well; the session stays in step."""
    x = path.open({"PORT": b"425 Can't connect to specified address.", "EPRT": b"425 Can't connect."})
    reply = x.c.cmd(_port_command(x, "PORT"))
    if reply.code < 400:
        reply = x.c.cmd("RETR f")
        if reply.code < 400:  # the proxy found the other mode
            return
    assert 400 <= reply.code <= 599
    x.in_step()


@pytest.mark.parametrize("setup", SETUPS)
def test_13_6_where_both_modes_are_allowed_the_server_may_dial_at_once(path: Path, setup: str) -> None:
    x = path.open({"PORT": dial_at_once, "EPRT": dial_at_once})
    moves(x, "RETR f", setup)
    moves(x, "STOR f", setup)


@pytest.mark.parametrize(
    ("mode", "forbidden"), [("active", ("PASV", "EPSV", "EPSV ALL")), ("passive", ("PORT", "EPRT"))]
)
def test_13_6_a_mode_that_the_clients_leg_forbids_is_502(
    paths: Paths, mode: str, forbidden: tuple[str, ...]
) -> None:
    x = paths.one(client_side__mode=mode).open()
    for verb in forbidden:
        line = _port_command(x, verb) if verb in {"PORT", "EPRT"} else verb
        reply = x.c.cmd(line)
        assert reply.code == 502, (verb, reply)
    assert x.c.cmd("RETR f").code == 425
    assert x.s.setups == []
    x.in_step()
    for setup in SETUPS:
        if setup not in forbidden:
            moves(x, "RETR f", setup)


@pytest.mark.parametrize(("mode", "forbidden"), [("active", ("PASV", "EPSV")), ("passive", ("PORT", "EPRT"))])
def test_13_6_a_forbidden_mode_is_left_out_of_feat(
    paths: Paths, mode: str, forbidden: tuple[str, ...]
) -> None:
    x = paths.one(client_side__mode=mode).open()
    x.c.line("FEAT")
    assert x.s.next() == b"FEAT"
    x.s.reply(b"211-Features:", b" EPRT", b" EPSV", b" PASV", b" PORT", b" SIZE", b"211 End")
    features = x.c.reply().text.split("\r\n")
    assert " SIZE" in features
    for verb in forbidden:
        assert f" {verb}" not in features
    assert " EPSV" in features or mode == "active"
    assert " EPRT" in features or mode == "passive"


def test_13_6_a_client_without_a_listener_on_its_port_gets_no_second_mode(paths: Paths) -> None:
    """After the verb there is no second try: 425 (3.21)."""
    x = paths.one(timeouts__data_connect=0.5).open()
    agreed = x.c.setup("PORT")
    assert agreed.listener is not None
    agreed.listener.close()
    x.c.line("RETR f")
    reply = x.c.reply()
    while reply.code < 200:
        reply = x.c.reply()
    assert reply.code == 425


def test_13_6_the_dial_is_finished_before_the_verb(paths: Paths) -> None:
    """A server leg of both modes is connected when the server reads RETR."""
    x = paths.one().open()
    agreed = x.c.setup("PASV")
    x.c.line("RETR f")
    assert x.s.next() == b"RETR f"
    assert x.s.listener is not None
    assert not untouched(x.s.listener)
    x.s.data().close()
    agreed.open()


def _port_command(x: Session, verb: str) -> str:
    """With a port that may be named; nobody dials it in these tests."""
    return active_command(verb, *x.c.local)
