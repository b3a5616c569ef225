# SPDX-License-Identifier: GPL-3.0-or-later
"""PROTOCOL.md section 4: replies and data of a transfer, in the right order and whole."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import time
from pathlib import Path as File
from threading import Thread

import pytest

from .fake_client import SETUPS
from .harness import WHOLE, Path, Paths
from .wire import closes, untouched

PART = bytes(range(256)) * 400


def silent(sock: socket.socket, seconds: float = 0.2) -> bool:
    """Whether nothing can be read for a while (a wrong program is caught, a right one never fails)."""
    return not select.select([sock], [], [], seconds)[0]


def test_4_1_an_unknown_verb_answered_1xx_moves_data_down(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("XDIR /")
    s_data.send(PART)
    s_data.fin()
    assert c_data.read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.in_step()


def test_4_1_an_unknown_verb_answered_1xx_moves_data_up(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("XPUT f")
    c_data.send(PART)
    c_data.fin()
    assert s_data.read_all() == (PART, "fin")
    s_data.close()
    x.s.reply(b"226 Stored.")
    assert x.c.reply().code == 226
    x.in_step()


def test_4_1_an_unknown_verb_without_1xx_is_only_a_command(one: Path) -> None:
    x = one.open()
    x.c.setup("PASV")
    x.c.line("XFOO bar")
    assert x.s.next() == b"XFOO bar"
    x.s.reply(b"500 What?")
    assert x.c.reply().raw == b"500 What?\r\n"
    x.in_step()


@pytest.mark.parametrize(
    "preliminary",
    [
        [b"150 Opening BINARY mode data connection for f (12345 bytes)."],
        [b"125 Data connection already open; transfer starting."],
        [b"150-Long story,", b" told at length,", b"150 and begun."],
        [b"125 One.", b"150 Two."],
        [b"150 FILE: unique.0001"],
        [],
    ],
    ids=["150", "125", "multi-line", "two", "STOU name", "none"],
)
def test_4_2_preliminary_replies_are_relayed_as_they_are(path: Path, preliminary: list[bytes]) -> None:
    x = path.open()
    agreed = x.c.setup("PASV")
    x.c.line("RETR f")
    c_data = agreed.open()
    assert x.s.next() == b"RETR f"
    text = b"".join(line + b"\r\n" for line in preliminary)
    x.s.send(text)
    got = b""
    while len(got) < len(text):
        got += x.c.reply().raw
    assert got == text
    s_data = x.s.data()
    s_data.send(PART)
    s_data.fin()
    assert c_data.read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().raw == b"226 Done.\r\n"
    x.in_step()


@pytest.mark.parametrize("setup", SETUPS)
def test_4_2_a_final_reply_alone_ends_an_empty_list(path: Path, setup: str) -> None:
    """No 1xx is legal: an empty directory of some servers."""
    x = path.open()
    agreed = x.c.setup(setup)
    x.c.line("NLST")
    if agreed.listener is None:
        c_data = agreed.open()
    assert x.s.next() == b"NLST"
    x.s.data().close()
    x.s.reply(b"226 No files.")
    assert x.c.reply().raw == b"226 No files.\r\n"
    if agreed.listener is None:
        assert c_data.read_all() == (b"", "fin")
    elif not untouched(agreed.listener):
        assert agreed.open().read_all() == (b"", "fin")
    x.in_step()


def test_4_3_an_early_226_waits_for_the_data(path: Path) -> None:
    """226 in one segment with the 150, before the first byte."""
    x = path.open()
    agreed = x.c.setup("PASV")
    x.c.line("RETR f")
    c_data = agreed.open()
    assert x.s.next() == b"RETR f"
    x.s.reply(b"150 Here it comes.", b"226 Done.")
    s_data = x.s.data()
    assert x.c.reply().code == 150
    s_data.send(PART)
    assert c_data.receive(len(PART)) == PART
    assert silent(x.c.sock), "226 before the end of the data"
    s_data.send(PART)
    s_data.fin()
    assert c_data.read_all() == (PART, "fin")
    assert x.c.reply().code == 226
    x.in_step()


def test_4_3_226_waits_for_a_slow_reader(path: Path) -> None:
    """The server is done and says so; the client reads late and gets every byte, and only then the 226."""
    x = path.open()
    c_data, s_data = x.begin("RETR f", receive_buffer=4096)
    count = s_data.send_until_blocked()
    s_data.fin()
    x.s.reply(b"226 Done.")
    assert silent(x.c.sock), "226 while bytes for the client stand in the proxy"
    content, end = c_data.read_all()
    assert (len(content), end) == (count, "fin")
    assert x.c.reply().code == 226
    x.in_step()


def test_4_3_an_early_226_to_an_upload_waits_for_the_clients_end(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(PART)
    assert s_data.receive(len(PART)) == PART
    x.s.reply(b"226 Stored.")
    assert silent(x.c.sock), "226 before the client's last byte"
    c_data.send(PART)
    c_data.fin()
    assert s_data.read_all() == (PART, "fin")
    s_data.close()
    assert x.c.reply().code == 226
    x.in_step()


def test_4_3_the_server_gets_fin_after_the_last_byte_of_an_upload(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    count = c_data.send_until_blocked()
    c_data.fin()
    content, end = s_data.read_all()
    assert (len(content), end) == (count, "fin")
    x.s.reply(b"226 Stored.")
    assert x.c.reply().code == 226


@pytest.mark.parametrize("setup", SETUPS)
def test_4_4_the_end_of_the_data_does_not_wait_for_226(path: Path, setup: str) -> None:
    x = path.open()
    c_data, s_data = x.begin("RETR f", setup)
    s_data.send(PART)
    s_data.close()
    assert c_data.read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.in_step()


def test_4_4_226_does_not_wait_for_the_clients_close(path: Path) -> None:
    """The client keeps its end of the data connection open until it has read the 226."""
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(PART)
    s_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    assert c_data.read_all() == (PART, "fin")
    x.in_step()


def test_4_5_after_226_the_client_may_still_read(path: Path) -> None:
    """What is in the kernel's buffers when the 226 goes out is not lost to the next command."""
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(PART)
    s_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.in_step()
    other_c, other_s = x.begin("RETR g")
    other_s.send(b"other")
    other_s.close()
    assert other_c.read_all() == (b"other", "fin")
    assert c_data.read_all() == (PART, "fin")


@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
@pytest.mark.parametrize("code", [b"550", b"425", b"452", b"553"])
@pytest.mark.parametrize("setup", SETUPS)
def test_4_6_a_negative_reply_ends_the_set_up(one: Path, setup: str, code: bytes, verb: str) -> None:
    x = one.open()
    agreed = x.c.setup(setup)
    c_data = agreed.open() if agreed.listener is None else None
    x.c.line(verb)
    assert x.s.next() == verb.encode()
    x.s.reply(code + b" No.")
    assert x.c.reply().raw == code + b" No.\r\n"
    if c_data is not None:
        assert c_data.read_all()[0] == b""
    assert x.c.cmd(verb).code == 425, "the set-up outlived its transfer (3.19, 3.20)"
    x.in_step()
    c_data, s_data = x.begin("RETR again", setup)
    s_data.send(b"again")
    s_data.close()
    assert c_data.read_all() == (b"again", "fin")


def test_4_6_a_client_that_never_connected_hears_550_at_once(path: Path) -> None:
    x = path.open()
    agreed = x.c.setup("PASV")
    x.c.line("RETR missing")
    assert x.s.next() == b"RETR missing"
    x.s.reply(b"550 missing: No such file.")
    assert x.c.reply().code == 550
    closes(*agreed.address, x.c.local[0])
    x.in_step()


@pytest.mark.parametrize("code", [b"426", b"451", b"552"])
@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
def test_4_7_an_error_after_150_resets_the_data(path: Path, verb: str, code: bytes) -> None:
    """The server says that it failed and has not sent FIN: the client does not see FIN either."""
    x = path.open()
    c_data, s_data = x.begin(verb)
    if verb == "RETR f":
        s_data.send(PART)
        assert c_data.receive(len(PART)) == PART
    x.s.reply(code + b" Failed.")
    assert x.c.reply().raw == code + b" Failed.\r\n"
    assert c_data.end() == "reset"
    x.in_step()


def test_4_7_an_error_after_the_servers_fin_leaves_the_fin(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(PART)
    s_data.fin()
    assert c_data.read_all() == (PART, "fin")
    x.s.reply(b"451 And yet.")
    assert x.c.reply().code == 451
    x.in_step()


@pytest.mark.parametrize("parameter", ["TYPE A", "TYPE E", "TYPE L 8", "MODE S", "STRU F", "STRU R"])
def test_4_8_no_byte_changes_in_any_representation(one: Path, parameter: str) -> None:
    """Content that would suffer from any conversion: bare CR, bare LF, CRLF, NUL, 0xFF."""
    x = one.open({"TYPE": b"200 Ok.", "MODE": b"200 Ok.", "STRU": b"200 Ok."})
    assert x.c.cmd(parameter).code == 200
    content = b"a\rb\nc\r\nd\0e\xff\xf4\xff\xf2f\x1a\r\n" + bytes(range(256))
    c_data, s_data = x.begin("RETR f")
    s_data.send(content)
    s_data.close()
    assert c_data.read_all() == (content, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    c_data, s_data = x.begin("STOR f")
    c_data.send(content)
    c_data.fin()
    assert s_data.read_all() == (content, "fin")


def test_4_9_a_stalled_client_costs_little_memory_and_stops_the_server(paths: Paths) -> None:
    """A hundred stalled downloads, or four; what a process buffers is bounded."""
    ranges = {"client_side__listen": "24000-24199", "server_side__source": "27000-27199"}
    path = paths.own(1, **ranges)
    before = path.last.memory()
    sent = []
    count = 100 if WHOLE else 4
    for _ in range(count):
        x = path.open()
        _, s_data = x.begin("RETR f", receive_buffer=4096)
        sent.append(s_data.send_until_blocked())
    assert max(sent) < 32 << 20
    assert path.last.memory() - before < (4 << 20) + count * (1 << 20)


@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
@pytest.mark.parametrize("setup", SETUPS)
def test_4_10_a_byte_passes_without_another(path: Path, setup: str, verb: str) -> None:
    """Nothing waits for a buffer to fill: each byte is there before the next one is sent."""
    c_data, s_data = path.open().begin(verb, setup)
    sender, receiver = (s_data, c_data) if verb == "RETR f" else (c_data, s_data)
    for byte in (b"a", b"b", b"c"):
        sender.send(byte)
        assert receiver.receive(1) == byte


@pytest.mark.skipif(not WHOLE, reason="seconds; SLUICE_TEST_ALL=1")
@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
def test_4_14_more_than_4_gib(one: Path, verb: str, tmp_path: File) -> None:
    """A hole of 4 GiB and some bytes after it: counters of 32 bits would wrap."""
    size = (4 << 30) + 4097
    hole = tmp_path / "hole"
    with hole.open("wb") as file:
        file.truncate(size - 3)
        file.seek(0, os.SEEK_END)
        file.write(b"end")
    x = one.open()
    since = len(one.last.log)
    c_data, s_data = x.begin(verb)
    sender, receiver = (s_data, c_data) if verb == "RETR f" else (c_data, s_data)

    def send() -> None:
        with hole.open("rb") as file:
            sender.sock.sendfile(file)
        sender.fin()

    thread = Thread(target=send)
    thread.start()
    got, tail, buffer = 0, b"", bytearray(1 << 20)
    while count := receiver.sock.recv_into(buffer):
        got += count
        tail = (tail + bytes(buffer[:count][-3:]))[-3:]
    thread.join()
    assert (got, tail) == (size, b"end")
    s_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    assert one.last.record("transfer", since)["SLUICE_BYTES"] == str(size)


def test_4_11_trickling_data_keeps_a_session_alive(paths: Paths) -> None:
    """The control connection may be idle for longer than `idle` while data moves."""
    x = paths.one(timeouts__idle=0.5, timeouts__data_idle=2).open()
    c_data, s_data = x.begin("RETR f")
    for _ in range(10):
        s_data.send(b"x")
        assert c_data.receive(1) == b"x"
        time.sleep(0.1)
    s_data.close()
    assert c_data.end() == "fin"
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226


PLAIN_COMMANDS = [
    b"REST 9876543210",
    b"ALLO 1000000000000 R 80",
    b"TYPE L 8",
    b"MODE Z",
    b"STRU R",
    b"SIZE /a b",
    b"MDTM f",
    b"MFMT 20261123120000 f",
    b"MFF modify=20261123120000; f",
    b"MLST f",
    b"OPTS UTF8 ON",
    b"OPTS MLST type;size;modify;",
    b"SITE CHMOD 640 f",
    b"SITE UTIME f 20261123120000",
    b"CWD /d",
    b"CDUP",
    b"PWD",
    b"XPWD",
    b"MKD d",
    b"XMKD d",
    b"RMD d",
    b"XRMD d",
    b"DELE f",
    b"RNFR f",
    b"RNTO g",
    b"STAT /d",
    b"HELP SITE",
    b"SMNT /x",
    b"LANG en",
    b"CLNT tests",
    b"ACCT x",
    b"XCRC f",
]


def test_4_12_commands_pass_unchanged(path: Path) -> None:
    x = path.open({"TYPE": None})
    for line in PLAIN_COMMANDS:
        x.c.line(line)
        assert x.s.next() == line
        x.s.reply(b"250 " + line)
        assert x.c.reply().raw == b"250 " + line + b"\r\n"
    x.in_step()


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("server_mode", ["both", "active", "passive"])
def test_4_12_nothing_comes_between_rest_and_the_transfer(paths: Paths, server_mode: str, setup: str) -> None:
    x = paths.one(server_side__mode=server_mode).open({"REST": b"350 Restarting."})
    agreed = x.c.setup(setup)
    assert x.c.cmd("REST 5000000000").code == 350
    c_data, s_data = x.run("RETR f", agreed)
    assert x.s.lines[-2:] == [b"REST 5000000000", b"RETR f"]
    s_data.send(b"tail")
    s_data.close()
    assert c_data.read_all() == (b"tail", "fin")


@pytest.mark.parametrize("setup", SETUPS)
def test_4_12_the_set_up_may_stand_between_rest_and_the_transfer(one: Path, setup: str) -> None:
    """REST, PASV, RETR as some clients do: nothing but the set-up comes between, and REST only once."""
    x = one.open({"REST": b"350 Restarting."})
    assert x.c.cmd("REST 7").code == 350
    c_data, s_data = x.begin("RETR f", setup)
    between = x.s.lines[x.s.lines.index(b"REST 7") + 1 : -1]
    assert all(line[:4] in {b"PASV", b"EPSV", b"PORT", b"EPRT"} for line in between), between
    assert x.s.lines.count(b"REST 7") == 1
    s_data.close()
    assert c_data.end() == "fin"


@pytest.mark.parametrize("setup", SETUPS)
def test_4_13_zero_length_files(path: Path, setup: str) -> None:
    x = path.open()
    c_data, s_data = x.begin("RETR empty", setup)
    s_data.close()
    assert c_data.read_all() == (b"", "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    c_data, s_data = x.begin("STOR empty", setup)
    c_data.fin()
    assert s_data.read_all() == (b"", "fin")
    s_data.close()
    x.s.reply(b"226 Stored.")
    assert x.c.reply().code == 226
    x.in_step()


def test_4_8_16_mib_both_ways_are_the_same(path: Path) -> None:
    """Enough to wrap every buffer on the way many times."""
    x = path.open()
    block = os.urandom(1 << 20)
    for verb in ("RETR f", "STOR f"):
        c_data, s_data = x.begin(verb)
        sender, receiver = (s_data, c_data) if verb == "RETR f" else (c_data, s_data)
        sent, got = hashlib.sha256(), hashlib.sha256()
        for _ in range(16):
            sender.sock.setblocking(False)
            left = memoryview(block)
            while left:
                readable, writable, _ = select.select([receiver.sock], [sender.sock], [], 8)
                assert readable or writable
                if writable:
                    count = sender.sock.send(left)
                    sent.update(left[:count])
                    left = left[count:]
                if readable:
                    got.update(receiver.sock.recv(1 << 18))
        sender.fin()
        content, end = receiver.read_all()
        got.update(content)
        assert (got.digest(), end) == (sent.digest(), "fin")
        s_data.close()
        x.s.reply(b"226 Done.")
        assert x.c.reply().code == 226
