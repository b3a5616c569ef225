# SPDX-License-Identifier: GPL-3.0-or-later
"""PROTOCOL.md section 3: who may set up a data connection, where to, and for how long."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from itertools import pairwise

import pytest

from .fake_client import SETUPS, active_command
from .fake_server import ServerSession, dial_at_once
from .harness import Path, Paths, Session
from .wire import Data, closes, dial, listen, untouched

PART = bytes(range(256)) * 400


def fetch(x: Session, setup: str = "PASV", content: bytes = PART) -> None:
    """A whole download that works."""
    c_data, s_data = x.begin("RETR f", setup)
    s_data.send(content)
    s_data.close()
    assert c_data.read_all() == (content, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226


# 3.1 Who dials when


@pytest.mark.parametrize("setup", ["PASV", "EPSV"])
def test_3_1_and_3_22_passive_client_leg_listens_before_it_says_so(path: Path, setup: str) -> None:
    """The client connects before it sends the verb."""
    x = path.open()
    agreed = x.c.setup(setup)
    c_data = agreed.open()
    x.c.line("RETR f")
    x.open_at_server("RETR f")
    s_data = x.s.data()
    s_data.send(PART)
    s_data.close()
    assert x.c.reply().code == 150
    assert c_data.read_all() == (PART, "fin")


@pytest.mark.parametrize("setup", ["PASV", "EPSV"])
def test_3_1_and_3_22_the_client_may_connect_after_150(path: Path, setup: str) -> None:
    x = path.open()
    agreed = x.c.setup(setup)
    x.c.line("RETR f")
    x.open_at_server("RETR f")
    assert x.c.reply().code == 150
    c_data = agreed.open()
    s_data = x.s.data()
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")


@pytest.mark.parametrize("setup", ["PASV", "EPSV"])
def test_3_22_the_client_may_connect_while_the_proxy_does_nothing(one: Path, setup: str) -> None:
    """The listener's queue takes the connection; that and the verb are found at once."""
    x = one.open()
    agreed = x.c.setup(setup)
    with one.last.busy():
        c_data = agreed.open()
        x.c.line("STOR f")
        c_data.send(PART)
        c_data.fin()
    x.open_at_server("STOR f")
    s_data = x.s.data()
    assert s_data.read_all() == (PART, "fin")
    s_data.close()
    x.s.reply(b"226 Stored.")
    assert x.c.replies(2) == [150, 226]


@pytest.mark.parametrize("setup", ["PORT", "EPRT"])
def test_3_1_active_client_leg_is_dialled_only_after_the_verb(path: Path, setup: str) -> None:
    x = path.open()
    agreed = x.c.setup(setup)
    x.in_step()
    assert agreed.listener is not None
    assert untouched(agreed.listener), "dialled at PORT time"
    c_data, s_data = x.run("RETR f", agreed)
    s_data.close()
    assert c_data.end() == "fin"


@pytest.mark.parametrize("mode", ["passive", "both"])
def test_3_1_passive_server_leg_is_dialled_without_waiting_for_150(paths: Paths, mode: str) -> None:
    """The server accepts before it writes 150."""
    x = paths.one(server_side__mode=mode).open()
    agreed = x.c.setup("PASV")
    x.c.line("RETR f")
    assert x.s.next() == b"RETR f"
    s_data = x.s.data()
    x.s.reply(b"150 Accepted.")
    c_data = agreed.open()
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")
    assert x.c.reply().code == 150


@pytest.mark.parametrize("setup", SETUPS)
def test_3_1_active_server_leg_listens_before_it_says_so(paths: Paths, setup: str) -> None:
    """The server connects when it reads PORT, as pyftpdlib does."""
    x = paths.one(server_side__mode="active").open({"PORT": dial_at_once, "EPRT": dial_at_once})
    fetch(x, setup)
    c_data, s_data = x.begin("STOR f", setup)
    c_data.send(PART)
    c_data.fin()
    assert s_data.read_all() == (PART, "fin")


# 3.3 to 3.8 Addresses and the forms of replies


@pytest.mark.parametrize("setup", ["PORT", "EPRT"])
def test_3_3_active_data_comes_from_the_control_address_and_the_source_range(path: Path, setup: str) -> None:
    x = path.open()
    c_data, _ = x.begin("RETR f", setup)
    assert c_data.peer[0] == x.c.peer[0]
    low, high = map(int, path.first.settings["client_side"]["source"].split("-"))
    assert low <= c_data.peer[1] <= high


def test_3_5_227_has_exactly_one_form_and_names_the_control_address(path: Path) -> None:
    x = path.open()
    reply = x.c.cmd("PASV")
    match = re.fullmatch(
        rb"227 Entering Passive Mode \((\d+),(\d+),(\d+),(\d+),(\d+),(\d+)\)\.\r\n", reply.raw
    )
    assert match, reply
    assert b".".join(match.groups()[:4]).decode() == x.c.peer[0]
    low, high = map(int, path.first.settings["client_side"]["listen"].split("-"))
    assert low <= int(match[5]) * 256 + int(match[6]) <= high


def test_3_5_227_names_the_public_address(paths: Paths) -> None:
    path = paths.own(
        1, client_side__addresses=lambda net: [{"address": net.n_client, "public": "203.0.113.7"}]
    )
    reply = path.open().c.cmd("PASV")
    assert reply.raw.startswith(b"227 Entering Passive Mode (203,0,113,7,"), reply


FORMS_OF_227 = [
    b"227 Entering Passive Mode (%s)",
    b"227 Entering Passive Mode (%s).",
    b"227 Entering Passive Mode %s",
    b"227 Entering Passive Mode. %s",
    b"227 =%s",
    b"227 Passive mode OK (%s) 1 2",
    b"227 %s",
]


@pytest.mark.parametrize("mode", ["passive", "both"])
@pytest.mark.parametrize("blank", [b",", b", ", b" , "], ids=["tight", "blank after", "blanks around"])
@pytest.mark.parametrize("form", FORMS_OF_227)
def test_3_6_the_six_numbers_are_found_wherever_they_stand(
    paths: Paths, form: bytes, blank: bytes, mode: str
) -> None:
    def answer(session: ServerSession, argument: bytes) -> bytes:
        port = session.open_listener()
        numbers = [*session.sock.getsockname()[0].split("."), str(port // 256), str(port % 256)]
        return form % blank.join(n.encode() for n in numbers)

    fetch(paths.one(server_side__mode=mode).open({"PASV": answer, "EPSV": b"500 Unknown."}))


def test_3_6_the_numbers_in_the_last_line_of_a_multi_line_227(one: Path) -> None:
    """3.6, 1.8: lines between may hold numbers of their own."""

    def answer(session: ServerSession, argument: bytes) -> bytes:
        port = session.open_listener()
        address = session.sock.getsockname()[0].replace(".", ",").encode()
        return b"227-Note: (9,9,9,9,9,9)\r\n227 Entering Passive Mode (%s,%d,%d)" % (
            address,
            port // 256,
            port % 256,
        )

    x = one.open({"PASV": answer, "EPSV": b"500 Unknown."})
    fetch(x)
    x.in_step()


@pytest.mark.parametrize("stated", ["10,99,99,99", "0,0,0,0", "127,0,0,1", "255,255,255,255"])
@pytest.mark.parametrize("mode", ["passive", "both"])
def test_3_7_the_address_in_227_is_not_trusted(paths: Paths, mode: str, stated: str) -> None:
    """The control peer's address is dialled, only the port counts."""

    def answer(session: ServerSession, argument: bytes) -> bytes:
        port = session.open_listener()
        return f"227 Entering Passive Mode ({stated},{port // 256},{port % 256}).".encode()

    x = paths.one(server_side__mode=mode).open({"PASV": answer, "EPSV": b"502 Not implemented."})
    for _ in range(2):
        fetch(x)
    assert b"PORT" not in x.s.setups
    assert b"EPRT" not in x.s.setups


def test_3_7_another_hosts_listener_in_227_is_not_touched(one: Path) -> None:
    """The classic bounce of a proxy."""
    victim = listen(one.net.thief)
    port = victim.getsockname()[1]
    stated = one.net.thief.replace(".", ",")
    answer = f"227 Entering Passive Mode ({stated},{port // 256},{port % 256}).".encode()
    x = one.open({"PASV": answer, "EPSV": b"502 Not implemented.", "PORT": b"502 No.", "EPRT": b"502 No."})
    _fails(x, "PASV")
    assert untouched(victim)
    victim.close()


@pytest.mark.parametrize(
    "form",
    [
        b"229 Entering Extended Passive Mode (|||%d|)",
        b"229 Entering Extended Passive Mode (|||%d|).",
        b"229 (!!!%d!)",
        b"229 Ok (see manual) (~~~%d~) and more",
        b"229 Extended (|1|10.9.8.7|%d|)",
        b"229-Long\r\n229 (|||%d|)",
    ],
)
def test_3_8_forms_of_229(paths: Paths, form: bytes) -> None:
    def answer(session: ServerSession, argument: bytes) -> bytes:
        return form % session.open_listener()

    fetch(
        paths.one(server_side__mode="passive").open({"EPSV": answer, "PASV": b"502 Not implemented."}), "EPSV"
    )


@pytest.mark.parametrize(
    "reply",
    [
        b"229 Entering Extended Passive Mode (|||0|)",
        b"229 Entering Extended Passive Mode (|||65536|)",
        b"229 Entering Extended Passive Mode (|||22|)",
        b"229 Entering Extended Passive Mode (|||)",
        b"229 Entering Extended Passive Mode",
    ],
)
def test_3_8_a_bad_229_fails_the_set_up_and_nothing_else(paths: Paths, reply: bytes) -> None:
    x = paths.one(server_side__mode="passive").open({"EPSV": reply, "PASV": b"502 Not implemented."})
    _fails(x, "EPSV")
    x.in_step()


@pytest.mark.parametrize(
    "numbers", [b"127,0,0,1,0,0", b"1,2,3,4,5", b"256,0,0,1,9,9", b"127,0,0,1,256,1", b"none at all", b""]
)
def test_3_6_a_bad_227_fails_the_set_up_and_nothing_else(paths: Paths, numbers: bytes) -> None:
    answer = b"227 Entering Passive Mode (%s)." % numbers
    x = paths.one(server_side__mode="passive").open({"PASV": answer, "EPSV": b"502 Not implemented."})
    _fails(x, "PASV")
    x.in_step()


# 3.9 to 3.11 EPSV


def test_3_9_epsv_1_is_as_epsv(one: Path) -> None:
    x = one.open()
    assert x.c.cmd("EPSV 1").code == 229


def test_3_9_epsv_of_the_other_family_is_522(one: Path) -> None:
    x = one.open()
    reply = x.c.cmd("EPSV 2")
    assert reply.code == 522
    assert b"(1" in reply.raw
    x.in_step()


@pytest.mark.parametrize("argument", ["9", "3", "0", "x", "ALL now", "|1|", "1 2"])
def test_3_9_junk_after_epsv_is_refused(one: Path, argument: str) -> None:
    x = one.open()
    assert x.c.cmd(f"EPSV {argument}").code in {501, 522}
    x.in_step()
    assert x.s.setups == []


def test_3_10_after_epsv_all_only_epsv(path: Path) -> None:
    x = path.open()
    assert x.c.cmd("EPSV ALL").code == 200
    for line in (
        "PASV",
        "PORT 127,0,0,1,99,99",
        "EPRT |1|127.0.0.1|9999|",
        "LPSV",
        "LPRT 4,4,127,0,0,1,2,99,99",
    ):
        assert 500 <= x.c.cmd(line).code <= 599, line
    fetch(x, "EPSV")
    assert b"EPSV ALL" not in x.s.lines
    x.in_step()


@pytest.mark.parametrize("code", [b"500", b"501", b"502", b"522"])
@pytest.mark.parametrize("setup", ["PASV", "EPSV"])
def test_3_11_a_server_without_epsv_is_served_with_pasv(paths: Paths, setup: str, code: bytes) -> None:
    x = paths.one(server_side__mode="passive").open({"EPSV": code + b" Unknown."})
    for _ in range(3):
        fetch(x, setup)
    assert x.s.setups.count(b"EPSV") <= 1, "it does not remember"
    assert x.s.setups.count(b"PASV") == 3


# 3.13 to 3.16 Whose addresses


BAD_PORT = [
    "PORT 127,0,0,1,99",
    "PORT 127,0,0,1,99,99,99",
    "PORT 127,0,0,1,99,256",
    "PORT 256,0,0,1,99,99",
    "PORT 127,0,0,1,-1,99",
    "PORT 127,0,0,1,x,99",
    "PORT 127,0,0,1,99,",
    "PORT 127.0.0.1,99,99",
    "PORT +127,0,0,1,99,99",
    "PORT 127,0,0,1,9_9,99",
    "PORT",
    "PORT ",
]
BAD_EPRT = [
    "EPRT",
    "EPRT |",
    "EPRT ||||",
    "EPRT |1|127.0.0.1|",
    "EPRT |1|127.0.0.1|9999",
    "EPRT |1|127.0.0.1|9999|x",
    "EPRT |1|127.0.0.1|0|",
    "EPRT |1|127.0.0.1|65536|",
    "EPRT |1|127.0.0.1|-9999|",
    "EPRT |1|localhost|9999|",
    "EPRT |1|::1|9999|",
    "EPRT |1|127.0.0.1!9999|",
    "EPRT |2|127.0.0.1|9999|",
    "EPRT |2|::1%lo|9999|",
]


@pytest.mark.parametrize("line", [*BAD_PORT, *BAD_EPRT])
def test_3_13_a_malformed_address_is_refused_and_the_session_goes_on(one: Path, line: str) -> None:
    x = one.open()
    reply = x.c.cmd(line)
    assert reply.code in {501, 522}, reply
    assert x.s.setups == []
    x.in_step()
    fetch(x, "PORT")


def test_3_13_an_unknown_family_is_522(one: Path) -> None:
    x = one.open()
    for line in ("EPRT |3|127.0.0.1|9999|", f"EPRT |9|{one.net.client}|9999|"):
        reply = x.c.cmd(line)
        assert reply.code == 522, reply
        assert b"(1" in reply.raw
    x.in_step()


@pytest.mark.parametrize("delimiter", ["|", "!", "~", "/"])
def test_3_13_any_delimiter(one: Path, delimiter: str) -> None:
    x = one.open()
    listener = listen(one.net.client)
    d = delimiter
    assert x.c.cmd(f"EPRT {d}1{d}{one.net.client}{d}{listener.getsockname()[1]}{d}").code == 200
    x.c.line("RETR f")
    x.open_at_server("RETR f")
    assert x.c.reply().code == 150
    x.s.data().close()
    assert Data(listener.accept()[0]).end() == "fin"
    listener.close()


@pytest.mark.parametrize("verb", ["PORT", "EPRT"])
@pytest.mark.parametrize("transfer", ["RETR f", "STOR f", "LIST"])
def test_3_14_a_foreign_address_is_refused_and_not_dialled(path: Path, transfer: str, verb: str) -> None:
    x = path.open()
    victim = listen(path.net.thief)
    reply = x.c.cmd(active_command(verb, *victim.getsockname()[:2]))
    assert reply.code in {500, 501, 504}, reply
    assert x.c.cmd(transfer).code == 425
    x.in_step()
    assert untouched(victim)
    victim.close()
    fetch(x, verb)


@pytest.mark.parametrize("verb", ["PORT", "EPRT"])
@pytest.mark.parametrize("port", [1, 20, 21, 22, 1023])
def test_3_15_a_low_port_of_the_client_is_refused(one: Path, port: int, verb: str) -> None:
    x = one.open()
    assert x.c.cmd(active_command(verb, one.net.client, port)).code in {500, 501, 504}
    assert x.c.cmd("RETR f").code == 425
    x.in_step()


@pytest.mark.parametrize("verb", ["PORT", "EPRT"])
def test_3_15_a_port_outside_peer_ports_is_refused(paths: Paths, verb: str) -> None:
    """The neighbour's declared ports narrow what may be named."""
    path = paths.one(client_side__peer_ports="40000-40099")
    x = path.open()
    for port in (39999, 40100, 1024, 65535):
        assert x.c.cmd(active_command(verb, path.net.client, port)).code in {500, 501, 504}
    assert x.c.cmd(active_command(verb, path.net.client, 40000)).code == 200
    x.in_step()


@pytest.mark.parametrize("setup", ["PASV", "EPSV"])
@pytest.mark.parametrize("low", [True, False], ids=["low", "outside peer_ports"])
def test_3_15_a_forbidden_port_of_the_server_is_not_dialled(paths: Paths, low: bool, setup: str) -> None:
    changes = {} if low else {"server_side__peer_ports": "40000-40099"}
    path = paths.one(server_side__mode="passive", **changes)
    root = os.geteuid() == 0  # who else could listen on a low port to see the dial
    port = 39999 if not low else 987 if root else 22
    victim = listen(path.net.server, port) if root or not low else None
    x = path.open(
        {
            "PASV": f"227 Entering Passive Mode (127,0,0,1,{port // 256},{port % 256}).".encode(),
            "EPSV": f"229 Entering Extended Passive Mode (|||{port}|)".encode(),
        }
    )
    _fails(x, setup)
    x.in_step()
    if victim is not None:
        assert untouched(victim)
        victim.close()


@pytest.mark.parametrize("setup", ["PASV", "EPSV"])
@pytest.mark.parametrize("transfer", ["RETR f", "STOR f"])
def test_3_16_a_thief_at_the_client_leg_gets_a_reset_and_the_owner_the_file(
    path: Path, transfer: str, setup: str
) -> None:
    x = path.open()
    agreed = x.c.setup(setup)
    thieves = [_thief(path.net.thief, agreed.address) for _ in range(3)]
    x.c.line(transfer)
    x.open_at_server(transfer)
    late = _thief(path.net.thief, agreed.address)
    c_data, s_data = agreed.open(), x.s.data()
    assert x.c.reply().code == 150
    sender, receiver = (s_data, c_data) if transfer == "RETR f" else (c_data, s_data)
    sender.send(PART)
    sender.fin()
    assert receiver.read_all() == (PART, "fin")
    for thief in (*thieves, late):
        assert _robbed(thief) == (b"", "reset")


@pytest.mark.parametrize("transfer", ["RETR f", "STOR f"])
def test_3_16_a_thief_at_an_active_server_leg_gets_a_reset(paths: Paths, transfer: str) -> None:
    path = paths.one(server_side__mode="active")
    x = path.open()
    agreed = x.c.setup("PASV")
    x.c.line(transfer)
    assert x.s.next() == transfer.encode()
    assert x.s.target is not None
    thieves = [_thief(path.net.thief, x.s.target), _thief(path.net.client, x.s.target)]
    x.s.reply(b"150 Coming.")
    c_data, s_data = agreed.open(), x.s.data()
    sender, receiver = (s_data, c_data) if transfer == "RETR f" else (c_data, s_data)
    sender.send(PART)
    sender.fin()
    assert receiver.read_all() == (PART, "fin")
    for thief in thieves:
        assert _robbed(thief) == (b"", "reset")


# The switches of 3.7, 3.14 and 3.16


def test_3_7_a_servers_data_may_be_at_another_address_that_is_listed(paths: Paths) -> None:
    path = paths.own(
        1,
        server_side__mode="passive",
        server_side__data_networks=lambda net: [f"{net.other_server}/32"],
    )
    other = listen(path.net.other_server)
    port = other.getsockname()[1]
    stated = path.net.other_server.replace(".", ",")
    x = path.open({"PASV": f"227 Entering Passive Mode ({stated},{port // 256},{port % 256}).".encode()})
    agreed = x.c.setup("PASV")
    c_data = agreed.open()
    x.c.line("RETR f")
    x.open_at_server("RETR f")
    s_data = Data(other.accept()[0])
    assert x.c.reply().code == 150
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    assert f" {path.net.other_server}:" in path.last.record("transfer")["SLUICE_SERVER_DATA"]
    other.close()


@pytest.mark.parametrize("verb", ["PORT", "EPRT"])
def test_3_14_a_client_may_name_another_address_that_is_listed(paths: Paths, verb: str) -> None:
    """FXP: the file goes from one server to the other, and the client has the control connections only."""
    path = paths.own(1, client_side__data_networks=lambda net: [f"{net.other_client}/32"])
    x = path.open()
    other, victim = listen(path.net.other_client), listen(path.net.thief)
    assert x.c.cmd(active_command(verb, *victim.getsockname()[:2])).code == 504
    assert x.c.cmd(active_command(verb, *other.getsockname()[:2])).code == 200
    x.c.line("RETR f")
    x.open_at_server("RETR f")
    s_data, c_data = x.s.data(), Data(other.accept()[0])
    assert x.c.reply().code == 150
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    assert f" {path.net.other_client}:" in path.last.record("transfer")["SLUICE_CLIENT_DATA"]
    assert untouched(victim)
    other.close()
    victim.close()


def test_3_16_a_clients_data_may_come_from_another_address_that_is_listed(paths: Paths) -> None:
    path = paths.own(1, client_side__data_networks=lambda net: [f"{net.other_client}/32"])
    x = path.open()
    agreed = x.c.setup("PASV")
    thief = _thief(path.net.thief, agreed.address)
    c_data = Data(dial(*agreed.address, path.net.other_client))
    x.c.line("RETR f")
    x.open_at_server("RETR f")
    s_data = x.s.data()
    assert x.c.reply().code == 150
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")
    assert _robbed(thief) == (b"", "reset")


# 3.17 to 3.21 How long it stands


def test_3_17_passive_ports_are_random_and_of_the_range(one: Path) -> None:
    x = one.open()
    ports = [x.c.setup("EPSV").address[1] for _ in range(16)]
    assert all(24000 <= port <= 24019 for port in ports)
    assert len(set(ports)) > 2
    steps = {b - a for a, b in pairwise(ports)}
    assert len(steps) > 2, f"not random: {ports}"


def test_3_17_an_exhausted_range_is_425_and_is_free_again_after_use(paths: Paths) -> None:
    """Two ports, three sessions."""
    path = paths.one(client_side__listen="24000-24001")
    x, y, z = path.open(), path.open(), path.open()
    ports = {x.c.setup("PASV").address[1]}
    second = y.c.setup("EPSV")
    ports.add(second.address[1])
    assert ports == {24000, 24001}
    for setup in ("PASV", "EPSV"):
        reply = z.c.cmd(setup)
        assert reply.code == 425
        assert reply.text == "425 N: no free port in 24000-24001."
    z.in_step()
    c_data, s_data = y.run("RETR f", second)
    s_data.close()
    assert c_data.end() == "fin"
    y.s.reply(b"226 Done.")
    assert y.c.reply().code == 226
    fetch(z)
    fetch(z)


@pytest.mark.parametrize("second", ["PASV", "EPSV"])
@pytest.mark.parametrize("first", ["PASV", "EPSV"])
def test_3_18_pasv_twice_closes_the_first_listener(path: Path, first: str, second: str) -> None:
    x = path.open()
    old = x.c.setup(first)
    new = x.c.setup(second)
    while new.address == old.address:  # drawn again at random
        new = x.c.setup(second)
    closes(*old.address, path.net.client)
    c_data, s_data = x.run("RETR f", new)
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")


@pytest.mark.parametrize("second", SETUPS)
def test_3_18_a_connection_that_was_not_started_is_closed(path: Path, second: str) -> None:
    x = path.open()
    old = x.c.setup("PASV").open()
    x.in_step()
    new = x.c.setup(second)
    assert old.read_all()[0] == b""
    c_data, s_data = x.run("RETR f", new)
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")


@pytest.mark.parametrize("second", SETUPS)
@pytest.mark.parametrize("first", ["PORT", "EPRT"])
def test_3_18_an_abandoned_port_is_never_dialled(path: Path, first: str, second: str) -> None:
    x = path.open()
    old = x.c.setup(first)
    fetch(x, second)
    assert old.listener is not None
    assert untouched(old.listener)
    x.in_step()


@pytest.mark.parametrize("first", ["PASV", "EPSV"])
@pytest.mark.parametrize("second", ["PORT", "EPRT"])
def test_3_18_port_after_pasv_closes_the_listener(path: Path, first: str, second: str) -> None:
    x = path.open()
    old = x.c.setup(first)
    new = x.c.setup(second)
    closes(*old.address, path.net.client)
    c_data, s_data = x.run("RETR f", new)
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")


def test_3_19_a_second_connection_to_the_listener_is_refused(path: Path) -> None:
    x = path.open()
    agreed = x.c.setup("PASV")
    c_data, s_data = x.run("RETR f", agreed)
    s_data.send(PART)
    assert c_data.receive(len(PART)) == PART
    closes(*agreed.address, x.c.local[0])
    s_data.close()
    assert c_data.end() == "fin"


@pytest.mark.parametrize("setup", SETUPS)
def test_3_19_one_transfer_for_each_set_up(path: Path, setup: str) -> None:
    x = path.open()
    fetch(x, setup)
    assert x.c.cmd("RETR f").code == 425
    assert x.s.idle()
    x.in_step()


@pytest.mark.parametrize("verb", ["RETR f", "STOR f", "APPE f", "STOU", "LIST", "NLST", "MLSD", "retr f"])
def test_3_20_a_transfer_verb_without_set_up_is_425_and_not_forwarded(path: Path, verb: str) -> None:
    x = path.open()
    assert x.c.cmd(verb).code == 425
    x.in_step()
    assert x.s.idle()


# 3.21 Connections that never come


class Aborting:
    """A server whose transfer fails, and that says so once: on ABOR with 426 and 226, else when told to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said = False

    def abor(self, session: ServerSession, argument: bytes) -> bytes:
        with self._lock:
            if self._said:
                return b"226 Abort done."
            self._said = True
            return b"426 Aborted.\r\n226 Abort done."

    def transfer(self, session: ServerSession, argument: bytes) -> bytes:
        """150, and 426 when the data connection ends."""

        def run() -> None:
            with contextlib.suppress(OSError):
                session.data().end()
            self.fail(session, b"426")

        threading.Thread(target=run, daemon=True).start()
        return b"150 Opening."

    def fail(self, session: ServerSession, code: bytes) -> None:
        with self._lock:
            if not self._said:
                self._said = True
                session.reply(code + b" Failed.")


@pytest.mark.parametrize("preliminary", [True, False], ids=["150", "no 1xx"])
@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
@pytest.mark.parametrize("server_mode", ["both", "active", "passive"])
def test_3_21_a_client_that_never_connects_hears_425_and_only_that(
    paths: Paths, server_mode: str, verb: str, preliminary: bool
) -> None:
    server = Aborting()
    path = paths.one(timeouts__data_connect=0.5, server_side__mode=server_mode)
    x = path.open({"ABOR": server.abor})
    agreed = x.c.setup("PASV")
    x.c.line(verb)
    assert x.s.next() == verb.encode()
    if preliminary:
        x.s.reply(b"150 Opening.")
        assert x.c.reply().code == 150
    s_data = x.s.data()
    assert s_data.end() == "reset", "a FIN would say that the file is complete"
    server.fail(x.s, b"426")
    reply = x.c.reply()
    assert reply.code == 425
    assert reply.text.startswith("425 N: ")
    x.in_step()
    closes(*agreed.address, path.net.client)
    fetch(x)


@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
@pytest.mark.parametrize("setup", ["PORT", "EPRT"])
def test_3_21_a_client_that_does_not_listen_hears_425_and_only_that(
    paths: Paths, setup: str, verb: str
) -> None:
    """Whether the proxy dials before it sends the verb to the server, or after."""
    server = Aborting()
    path = paths.one(timeouts__data_connect=0.5)
    x = path.open({"ABOR": server.abor, "RETR": server.transfer, "STOR": server.transfer})
    agreed = x.c.setup(setup)
    assert agreed.listener is not None
    agreed.listener.close()
    reply = x.c.cmd(verb)
    if reply.code == 150:
        reply = x.c.reply()
    assert reply.code == 425
    assert reply.text.startswith("425 N: ")
    x.in_step()
    x.s.auto = {**x.s.auto, "RETR": None, "STOR": None}
    fetch(x, setup)


@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
@pytest.mark.parametrize("setup", SETUPS)
def test_3_21_a_server_that_never_connects(paths: Paths, setup: str, verb: str) -> None:
    server = Aborting()
    path = paths.one(timeouts__data_connect=0.5, server_side__mode="active")
    x = path.open({"ABOR": server.abor})
    agreed = x.c.setup(setup)
    x.c.line(verb)
    if agreed.listener is None:
        c_data = agreed.open()
    x.open_at_server(verb)
    if agreed.listener is not None:
        c_data = agreed.open()
    assert x.c.reply().code == 150
    assert c_data.end() == "reset"
    server.fail(x.s, b"425")
    reply = x.c.reply()
    assert reply.code == 425
    x.in_step()
    fetch(x, setup)


@pytest.mark.parametrize("line", ["LPRT 4,4,127,0,0,1,2,99,99", "LPSV", "SPSV", "CPSV", "SSCN ON", "CEPR on"])
def test_3_23_verbs_that_carry_addresses_are_not_forwarded(path: Path, line: str) -> None:
    x = path.open()
    assert x.c.cmd(line).code == 502
    assert x.c.cmd(line.lower()).code == 502
    x.in_step()
    assert x.s.idle()


def _fails(x: Session, setup: str) -> None:
    """The set-up is refused, or the transfer is, with 4xx or 5xx and before its verb is at the server."""
    reply = x.c.cmd(setup)
    if reply.code in {200, 227, 229}:
        reply = x.c.cmd("RETR f")
    assert 400 <= reply.code <= 599, reply
    assert x.s.idle()


def _thief(source: str, target: tuple[str, int]) -> Data | None:
    """A stranger's connection; None where it was reset before it was made."""
    try:
        return Data(dial(*target, source))
    except OSError:
        return None


def _robbed(thief: Data | None) -> tuple[bytes, str]:
    """What the thief got, and how it ended."""
    if thief is None:
        return b"", "reset"
    result = thief.read_all()
    thief.close()
    return result
