# SPDX-License-Identifier: GPL-3.0-or-later
"""PROTOCOL.md section 5: the control connection during a transfer, ABOR in all its forms, QUIT."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from .fake_client import SETUPS, Client
from .harness import Path, Paths, Session
from .wire import Data, closes

PART = bytes(range(256)) * 400


def plain(client: Client) -> None:
    client.line("ABOR")


def bsd(client: Client) -> None:
    """BSD ftp, inetutils, tnftp: IAC IP IAC with the last byte urgent, then DM in line."""
    client.send(b"\xff\xf4\xff", socket.MSG_OOB)
    client.send(b"\xf2ABOR\r\n")


def lftp(client: Client) -> None:
    """lftp: IAC IP IAC in line, then DM alone urgent."""
    client.send(b"\xff\xf4\xff")
    client.send(b"\xf2", socket.MSG_OOB)
    client.send(b"ABOR\r\n")


def ftplib(client: Client) -> None:
    """Python's ftplib: the whole line urgent, so that LF is the urgent byte."""
    client.send(b"ABOR\r\n", socket.MSG_OOB)


def synch_in_line(client: Client) -> None:
    """All of the Synch in line, nothing urgent."""
    client.send(b"\xff\xf4\xff\xf2ABOR\r\n")


FORMS = [plain, bsd, lftp, ftplib, synch_in_line]


@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
@pytest.mark.parametrize("abort", FORMS, ids=lambda form: str(form.__name__))
def test_5_2_abor_in_every_form_reaches_the_server_plain(
    path: Path, abort: Callable[[Client], None], verb: str
) -> None:
    """5.2, and 5.3: to a server it is the plain line."""
    x = path.open()
    c_data, s_data = x.begin(verb)
    _some(x, verb, c_data, s_data)
    abort(x.c)
    assert x.s.next() == b"ABOR"
    assert x.s.raw.endswith(b"\r\nABOR\r\n"), "the Telnet signals came along"
    s_data.close()
    x.s.reply(b"426 Aborted.", b"226 Abort done.")
    assert x.c.replies(2) == [426, 226]
    x.in_step()


@pytest.mark.parametrize("abort", FORMS, ids=lambda form: str(form.__name__))
def test_5_2_abor_without_a_transfer_in_every_form(path: Path, abort: Callable[[Client], None]) -> None:
    x = path.open()
    abort(x.c)
    assert x.s.next() == b"ABOR"
    x.s.reply(b"225 Nothing to abort.")
    assert x.c.reply().raw == b"225 Nothing to abort.\r\n"
    x.in_step()


@pytest.mark.parametrize("abort", [plain, bsd, ftplib], ids=lambda form: str(form.__name__))
def test_5_3_between_our_hops_abor_takes_the_synch_form(
    paths: Paths, abort: Callable[[Client], None]
) -> None:
    """IAC IP, IAC DM, ABOR, so that the next hop reads it in front of nothing."""
    x = paths.front().open()
    _, s_data = x.begin("RETR f")
    abort(x.c)
    assert x.s.next() == b"\xff\xf4\xff\xf2ABOR"
    s_data.reset()
    x.s.reply(b"426 Aborted.", b"226 Abort done.")
    assert x.c.replies(2) == [426, 226]
    x.in_step()


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("codes", [(426, 226), (426, 225), (226, 226), (451, 226), (226, 225)], ids=str)
def test_5_4_the_replies_to_abor_are_the_servers(path: Path, codes: tuple[int, int], setup: str) -> None:
    x = path.open()
    c_data, s_data = x.begin("RETR f", setup)
    s_data.send(PART)
    assert c_data.receive(len(PART)) == PART
    plain(x.c)
    assert x.s.next() == b"ABOR"
    s_data.close()
    x.s.reply(*(b"%d Reply." % code for code in codes))
    assert x.c.replies(2) == list(codes)
    x.in_step()
    c_data, s_data = x.begin("RETR next", setup)
    s_data.send(b"next")
    s_data.close()
    assert c_data.read_all() == (b"next", "fin")


def test_5_4_226_crosses_abor(path: Path) -> None:
    """The transfer ended while ABOR was on its way: 226 and 226, both the server's own."""
    x = path.open()
    _, s_data = x.begin("RETR f")
    s_data.send(PART)
    s_data.close()
    x.s.reply(b"226 Done.")
    plain(x.c)
    assert x.s.next() == b"ABOR"
    x.s.reply(b"226 Nothing left to abort.")
    assert [x.c.reply().raw, x.c.reply().raw] == [b"226 Done.\r\n", b"226 Nothing left to abort.\r\n"]
    x.in_step()


def test_5_5_abor_of_a_stalled_download(path: Path) -> None:
    """The server blocks in send() and reads ABOR once the proxy drains; the client gets a reset and 426."""
    x = path.open()
    c_data, s_data = x.begin("RETR f", receive_buffer=4096)
    s_data.send_until_blocked()
    plain(x.c)
    drained = threading.Thread(target=s_data.send, args=(bytes(16 << 20),), daemon=True)
    drained.start()
    drained.join(5)
    assert not drained.is_alive(), "the proxy does not drain the server after ABOR"
    assert x.s.next() == b"ABOR"
    s_data.reset()
    x.s.reply(b"426 Aborted.", b"226 Abort done.")
    assert c_data.end() == "reset"
    assert x.c.replies(2) == [426, 226]
    x.in_step()


def test_5_5_abor_of_an_upload_resets_nothing_into_a_complete_file(path: Path) -> None:
    """An upload that was aborted must not end in a FIN at the server (6.1)."""
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(PART)
    assert s_data.receive(len(PART)) == PART
    plain(x.c)
    assert x.s.next() == b"ABOR"
    x.s.reply(b"426 Aborted.", b"226 Abort done.")
    assert s_data.end() == "reset"
    assert x.c.replies(2) == [426, 226]
    x.in_step()


@pytest.mark.parametrize("setup", ["PASV", "EPSV"])
def test_5_6_abor_after_pasv_closes_the_listener(one: Path, setup: str) -> None:
    x = one.open()
    agreed = x.c.setup(setup)
    plain(x.c)
    assert x.s.next() == b"ABOR"
    x.s.reply(b"226 Closed.")
    assert x.c.reply().code == 226
    closes(*agreed.address, x.c.local[0])
    assert x.c.cmd("RETR f").code == 425
    x.in_step()


def test_5_6_abor_while_the_client_has_not_connected(path: Path) -> None:
    x = path.open()
    agreed = x.c.setup("PASV")
    x.c.line("RETR f")
    assert x.s.next() == b"RETR f"
    x.s.reply(b"150 Waiting.")
    assert x.c.reply().code == 150
    plain(x.c)
    assert x.s.next() == b"ABOR"
    x.s.reply(b"426 Aborted.", b"226 Abort done.")
    assert x.c.replies(2) == [426, 226]
    closes(*agreed.address, x.c.local[0])
    x.in_step()


def test_5_6_abor_in_one_segment_with_its_transfer(path: Path) -> None:
    """Aborted at the server; or, where the verb has not left yet (13.6: the dial first), it never will."""
    x = path.open()
    agreed = x.c.setup("PASV")
    x.c.line("RETR f", "ABOR", "NOOP")
    if (first := x.s.next()) == b"RETR f":
        x.s.reply(b"150 Opening.")
        assert x.s.next() == b"ABOR"
        x.s.reply(b"426 Aborted.", b"226 Abort done.")
        expected = [150, 426, 226, 200]
    else:
        assert first == b"ABOR"
        x.s.reply(b"225 Nothing to abort.")
        expected = [426, 225, 200]
    assert x.s.next() == b"NOOP"
    x.s.reply(b"200 Noop.")
    assert x.c.replies(len(expected)) == expected
    closes(*agreed.address, path.net.client)
    x.in_step()
    assert x.s.lines[-3:] == [b"ABOR", b"NOOP", b"SYST"]


@pytest.mark.parametrize("line", [b"NOOP", b"STAT", b"noop"])
def test_5_1_noop_and_stat_pass_at_once_during_a_transfer(path: Path, line: bytes) -> None:
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    _some(x, "RETR f", c_data, s_data)
    x.c.line(line)
    assert x.s.next().upper() == line.upper()
    x.s.reply(b"200-Under way.", b"200 Still.")
    assert x.c.reply().raw == b"200-Under way.\r\n200 Still.\r\n"
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.in_step()


@pytest.mark.parametrize("line", [b"CWD /d", b"SIZE f", b"USER other", b"REIN"])
def test_5_1_and_5_9_other_commands_wait_for_the_end_of_the_transfer(path: Path, line: bytes) -> None:
    """REIN and USER above all."""
    x = path.open({"USER": b"331 Password please."})
    c_data, s_data = x.begin("STOR f")
    before = list(x.s.lines)
    x.c.line(line)
    _some(x, "STOR f", c_data, s_data)
    time.sleep(0.1)
    assert x.s.lines == before, "a command overtook the transfer"
    c_data.fin()
    assert s_data.read_all() == (b"", "fin")
    s_data.close()
    x.s.reply(b"226 Stored.")
    assert x.c.reply().code == 226
    if line.startswith(b"USER"):
        assert x.c.reply().code == 331
        assert x.s.lines[-1] == line
    else:
        assert x.s.next() == line
        x.s.reply(b"220 Ok.")
        assert x.c.reply().code == 220


@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
def test_5_7_quit_in_a_transfer_lets_it_finish(path: Path, verb: str) -> None:
    """Data, 226 and 221 all reach the client."""
    x = path.open({"QUIT": None})
    c_data, s_data = x.begin(verb)
    _some(x, verb, c_data, s_data)
    x.c.line("QUIT")
    time.sleep(0.1)
    sender, receiver = (s_data, c_data) if verb == "RETR f" else (c_data, s_data)
    sender.send(PART)
    sender.fin()
    assert receiver.read_all() == (PART, "fin")
    s_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().raw == b"226 Done.\r\n"
    assert x.s.next() == b"QUIT"
    x.s.reply(b"221 Goodbye.")
    assert x.c.reply().raw == b"221 Goodbye.\r\n"
    assert x.c.end() == (b"", "fin")


@pytest.mark.parametrize("setup", SETUPS)
def test_5_7_quit_in_one_segment_with_its_transfer(path: Path, setup: str) -> None:
    x = path.open({"QUIT": None})
    agreed = x.c.setup(setup)
    x.c.line("RETR f", "QUIT")
    c_data = agreed.open() if agreed.listener is None else None
    x.open_at_server("RETR f")
    s_data = x.s.data()
    s_data.send(PART)
    s_data.close()
    assert (c_data or agreed.open()).read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    assert x.s.next() == b"QUIT"
    x.s.reply(b"221 Goodbye.")
    assert x.c.replies(3) == [150, 226, 221]
    assert x.c.end() == (b"", "fin")


@pytest.mark.parametrize("setup", SETUPS)
def test_5_1_stat_in_one_segment_with_its_transfer(path: Path, setup: str) -> None:
    x = path.open()
    agreed = x.c.setup(setup)
    x.c.line("RETR f", "STAT")
    c_data = agreed.open() if agreed.listener is None else None
    x.open_at_server("RETR f")
    s_data = x.s.data()
    assert x.s.next() == b"STAT"
    x.s.reply(b"213 Under way.")
    s_data.send(PART)
    s_data.close()
    assert (c_data or agreed.open()).read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.replies(3) == [150, 213, 226]
    x.in_step()


def test_5_8_quit_is_answered_221_and_closed(path: Path) -> None:
    x = path.open()
    assert x.c.cmd("QUIT").raw == b"221 Goodbye.\r\n"
    assert x.c.end() == (b"", "fin")
    assert x.s.end() == "fin"


def test_5_8_a_server_that_closes_without_221(path: Path) -> None:
    x = path.open({"QUIT": None})
    x.c.line("QUIT")
    assert x.s.next() == b"QUIT"
    x.s.close_control()
    assert x.c.reply().code == 221
    assert x.c.end() == (b"", "fin")


def _some(x: Session, verb: str, c_data: Data, s_data: Data) -> None:
    """Prove that the data moves."""
    sender, receiver = (s_data, c_data) if verb == "RETR f" else (c_data, s_data)
    sender.send(PART)
    assert receiver.receive(len(PART)) == PART
