# SPDX-License-Identifier: GPL-3.0-or-later
"""PROTOCOL.md section 1: lines, Telnet, replies, their count and order, and how control connections end."""

from __future__ import annotations

import contextlib
import random
import re
import socket
from pathlib import Path as File
from threading import Thread

import pytest

from .harness import Path, Session
from .wire import Data, EndedError, eventually


def clean(raw: bytes) -> None:
    """No CR, LF or NUL stands alone in what the server received (1.2)."""
    assert b"\0" not in raw.replace(b"\r\0", b""), raw
    rest = raw.replace(b"\r\n", b"").replace(b"\r\0", b"")
    assert b"\r" not in rest, raw
    assert b"\n" not in rest, raw


# 1.1 to 1.7 Commands


def test_1_1_a_line_may_end_with_a_bare_lf(path: Path) -> None:
    x = path.open()
    x.c.send(b"NOOP\nSYST\r\n")
    for line in (b"NOOP", b"SYST"):
        assert x.s.next() == line
        x.s.reply(b"200 " + line)
        assert x.c.reply().raw == b"200 " + line + b"\r\n"
    assert x.s.raw.endswith(b"NOOP\r\nSYST\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"CWD a\rDELE b\r\n",
        b"CWD a\r\r\n",
        b"CWD a\0b\r\n",
        b"CWD \0\r\n",
        b"CWD a\r\0DELE b\r\n",
        b"\rCWD a\r\n",
        b"CW\rD a\r\n",
        b"CWD a\r\rDELE b\r\n",
        b"\0NOOP\r\n",
    ],
)
def test_1_2_no_lone_cr_or_nul_reaches_the_server(path: Path, line: bytes) -> None:
    """Refused with 501, and in step. (CR NUL may pass as that pair.)"""
    x = path.open({"CWD": b"250 Ok."})
    x.c.send(line)
    assert x.c.reply().code in ({501, 250} if b"\r\0" in line else {501, 500})
    x.in_step()
    clean(bytes(x.s.raw))
    assert not any(
        part.startswith(b"DELE") for part in re.split(rb"[\r\n\0]", x.s.raw.replace(b"\r\0", b"?"))
    )


def test_1_2_a_bare_lf_ends_a_command_and_the_rest_is_the_next_one(path: Path) -> None:
    """1.1 and 1.2: two commands for the proxy are two for the server."""
    x = path.open({"CWD": b"250 Ok.", "DELE": b"250 Gone."})
    x.c.send(b"CWD a\nDELE b\r\n")
    assert x.c.replies(2) == [250, 250]
    assert x.s.raw.endswith(b"CWD a\r\nDELE b\r\n")
    clean(bytes(x.s.raw))


def test_1_3_one_byte_a_segment(path: Path) -> None:
    x = path.open()
    for byte in b"CWD /a b\r\n":
        x.c.send(bytes([byte]))
    assert x.s.next() == b"CWD /a b"
    for byte in b"250-One\r\n 250 Two\r\n250 Three\r\n":
        x.s.send(bytes([byte]))
    assert x.c.reply().raw == b"250-One\r\n 250 Two\r\n250 Three\r\n"
    x.in_step()


@pytest.mark.parametrize("length", [1900, 4096])
def test_1_4_a_long_path_passes_unchanged(path: Path, length: int) -> None:
    x = path.open()
    line = b"CWD /" + b"d" * (length - 1)
    x.c.line(line)
    assert x.s.next() == line
    x.s.reply(b"250 Ok.")
    assert x.c.reply().code == 250


@pytest.mark.parametrize("length", [20_000, 300_000])
def test_1_4_a_line_over_the_cap_is_500_once_and_no_part_is_forwarded(path: Path, length: int) -> None:
    x = path.open()
    x.c.line(b"CWD /" + b"d" * length)
    assert x.c.reply().code == 500
    x.in_step()
    assert b"ddd" not in x.s.raw


def test_1_4_the_tail_of_a_long_line_is_no_command(path: Path) -> None:
    x = path.open()
    x.c.line(b"CWD /" + b"d" * 20_000 + b" DELE f", b"NOOP")
    assert x.c.reply().code == 500
    assert x.s.next() == b"NOOP"
    x.s.reply(b"200 Ok.")
    assert x.c.reply().code == 200
    assert b"DELE" not in x.s.raw


def test_1_4_a_mebibyte_without_lf_harms_nobody(path: Path) -> None:
    x, other = path.open(), path.open()
    before = len(x.s.raw)
    try:
        x.c.sock.sendall(b"A" * (1 << 20))
        other.in_step()
        x.c.sock.sendall(b"\r\n")
        assert x.c.reply().code == 500
    except (ConnectionError, EndedError):
        pass
    other.in_step()
    assert len(x.s.raw) - before <= 64 << 10


def test_1_4_a_12_kilobyte_reply_line_comes_whole(path: Path) -> None:
    x = path.open()
    x.c.line("PWD")
    assert x.s.next() == b"PWD"
    line = b'257 "/' + b"d" * 12_000 + b'" is here'
    x.s.reply(line)
    assert x.c.reply().raw == line + b"\r\n"
    x.in_step()


def test_1_4_a_reply_line_without_end_is_421(path: Path) -> None:
    x = path.open()
    other = path.open()
    x.c.line("PWD")
    assert x.s.next() == b"PWD"

    def pour() -> None:
        with contextlib.suppress(OSError):
            x.s.send(b"A" * (16 << 20))

    flood = Thread(target=pour, daemon=True)
    flood.start()
    rest, _ = x.c.end()
    assert len(rest) < 1 << 18
    assert rest.splitlines()[-1].startswith(b"421 ")
    other.in_step()
    flood.join(8)
    assert not flood.is_alive(), "the server was not cut off"


PATHS = [
    b"\xc3\xa4\xc3\xb6\xc3\xbc.txt",
    b"latin-\xe4\xf6\xfc",
    b" leading blank",
    b"trailing blank ",
    b"   ",
    b"two  inner   blanks",
    b"per%20cent %s %d",
    b'it\'s "quoted" `so`',
    b"*.?[a-z]{x}~$HOME;&|<>()\\",
    b"\x01\x7f\x80\x9f\xfe",
    b"tab\there",
    b"-la /x",
]


@pytest.mark.parametrize("name", PATHS)
def test_1_5_the_bytes_of_an_argument_do_not_change(path: Path, name: bytes) -> None:
    x = path.open()
    x.c.line(b"CWD " + name)
    assert x.s.next() == b"CWD " + name
    x.s.reply(b'250 "' + name + b'" it is.')
    assert x.c.reply().raw == b'250 "' + name + b'" it is.\r\n'
    c_data, s_data = _begin(x, b"RETR " + name)
    s_data.close()
    assert c_data.end() == "fin"


def test_1_6_a_doubled_iac_is_a_byte_of_the_name(path: Path) -> None:
    """`IAC IAC` is seen as one of the two legal forms."""
    x = path.open()
    x.c.send(b"CWD a\xff\xffb\r\n")
    assert x.s.next() in {b"CWD a\xffb", b"CWD a\xff\xffb"}
    x.s.reply(b"250 Ok.")
    assert x.c.reply().code == 250


def test_1_6_a_lone_iac_before_a_plain_byte_is_kept(path: Path) -> None:
    x = path.open()
    x.c.send(b"CWD a\xffb\r\n")
    assert x.s.next() in {b"CWD a\xffb", b"CWD a\xff\xffb"}
    x.s.reply(b"250 Ok.")
    assert x.c.reply().code == 250


@pytest.mark.parametrize(
    "signal",
    [
        b"\xff\xf1",
        b"\xff\xf4",
        b"\xff\xf2",
        b"\xff\xf4\xff\xf2",
        b"\xff\xf9",
        b"\xff\xfd\x06",
        b"\xff\xfb\x01",
    ],
    ids=["NOP", "IP", "DM", "IP DM", "GA", "DO", "WILL"],
)
@pytest.mark.parametrize("place", ["before", "inside"])
def test_1_6_telnet_commands_are_not_part_of_a_line(path: Path, place: str, signal: bytes) -> None:
    x = path.open()
    x.c.send(signal + b"SYST\r\n" if place == "before" else b"SY" + signal + b"ST\r\n")
    assert x.s.next() == b"SYST"
    x.s.reply(b"215 UNIX")
    got = b""
    while not got.endswith(b"215 UNIX\r\n"):
        piece = x.c.sock.recv(100)
        assert piece
        got += piece
    answer = got.removesuffix(b"215 UNIX\r\n")  # a DO or WILL may be answered with WONT or DONT
    assert re.fullmatch(rb"(\xff[\xfc\xfe].)*", answer, re.DOTALL), answer
    assert b"\xff" not in x.s.raw


@pytest.mark.parametrize("line", [b"syst", b"Syst", b"cwd /q", b"cWd  two blanks", b"LIST".lower() + b" -a "])
def test_1_7_verbs_in_any_case_and_blanks_kept(path: Path, line: bytes) -> None:
    x = path.open()
    if line.startswith(b"list"):
        c_data, s_data = _begin(x, line)
        s_data.close()
        assert c_data.end() == "fin"
        return
    x.c.line(line)
    verb, blank, argument = line.partition(b" ")
    assert x.s.next() in {line, verb.upper() + blank + argument}
    x.s.reply(b"200 Ok.")
    assert x.c.reply().code == 200


def test_1_7_pasv_in_lower_case_is_pasv(path: Path) -> None:
    x = path.open()
    assert x.c.cmd("pasv").code == 227
    assert x.c.cmd("epsv").code == 229
    x.in_step()


def test_1_7_an_empty_line_does_not_break_the_step(path: Path) -> None:
    """Answered 500 by the proxy, ignored, or passed to the server; one of them."""
    x = path.open({"": b"500 Empty."})
    x.c.send(b"\r\n")
    x.c.line("SYST")
    assert x.s.next() == b"SYST"
    x.s.reply(b"215 UNIX")
    code = x.c.reply().code
    if code != 215:
        assert 500 <= code <= 504
        assert x.c.reply().code == 215
    x.in_step()


# 1.8 to 1.10 Replies


TRAPS = [
    b"214-The following commands are recognised:\r\n",
    b"200 this is not the end\r\n",
    b"\r\n",
    b"214-nor this\r\n",
    b"214x\r\n",
    b" 214 nor this, it is indented\r\n",
    b"2140 nor this\r\n",
    b"421 Timeout? no.\r\n",
    b"  trailing blanks  \r\n",
    b"\xc3\xa4 \xe4 8-bit\r\n",
    b"226 Done? no.\r\n",
    b"214 End of HELP.\r\n",
]


def test_1_8_a_multi_line_reply_with_traps_is_one_reply(path: Path) -> None:
    x = path.open()
    x.c.line("HELP")
    assert x.s.next() == b"HELP"
    x.s.send(b"".join(TRAPS))
    assert x.c.reply().raw == b"".join(TRAPS)
    x.in_step()


def test_1_8_a_multi_line_reply_with_a_command_behind_it(path: Path) -> None:
    x = path.open()
    x.c.line("HELP", "NOOP")
    assert x.s.next() == b"HELP"
    x.s.send(b"".join(TRAPS))
    assert x.s.next() == b"NOOP"
    x.s.send(b"200 Noop.\r\n")
    assert x.c.reply().raw == b"".join(TRAPS)
    assert x.c.reply().raw == b"200 Noop.\r\n"


def test_1_8_a_multi_line_greeting_and_login(path: Path) -> None:
    greeting = b"220-Welcome\r\n230 to all\r\n\r\n220-who\r\n220 come"
    x = path.open(
        {"USER": b"331-A word:\r\n530 \r\n331 please", "PASS": b"230-Quota:\r\n 10 %\r\n230 In."},
        login=False,
        greeting=greeting,
    )
    assert x.c.reply().raw == greeting + b"\r\n"
    assert x.c.cmd("USER me").raw == b"331-A word:\r\n530 \r\n331 please\r\n"
    assert x.c.cmd("PASS x").raw == b"230-Quota:\r\n 10 %\r\n230 In.\r\n"
    x.in_step()


def test_1_8_a_code_that_opens_with_a_dash_in_a_transfer(path: Path) -> None:
    """A multi-line 150 and a multi-line 226 with the other's code inside."""
    x = path.open()
    agreed = x.c.setup("PASV")
    x.c.line("RETR f")
    assert x.s.next() == b"RETR f"
    x.s.reply(b"150-About to open", b"226 what it says here counts for nothing", b"150 Open.")
    c_data, s_data = agreed.open(), x.s.data()
    assert x.c.reply().code == 150
    s_data.send(b"content")
    s_data.close()
    assert c_data.read_all() == (b"content", "fin")
    x.s.reply(b"226-Statistics", b"426 none", b"226 Done.")
    assert x.c.reply().raw == b"226-Statistics\r\n426 none\r\n226 Done.\r\n"
    x.in_step()


@pytest.mark.parametrize(("lines", "width"), [(2_000, 70), (40_000, 80)])
def test_1_9_a_big_multi_line_reply_streams_through(path: Path, lines: int, width: int) -> None:
    x = path.open()
    x.c.line("STAT /")
    assert x.s.next() == b"STAT /"
    body = b"".join(b" %06d %s\r\n" % (i, b"x" * (width - 10)) for i in range(lines))
    text = b"213-Status\r\n" + body + b"213 End.\r\n"
    x.s.send(text[: len(text) // 2])
    x.s.send(text[len(text) // 2 :])
    assert x.c.reply().raw == text
    x.in_step()


@pytest.mark.parametrize("greeting", [b"1 Hola", b"Hello", b"", b"22x Ready", b"2200 Ready", b"\xff\xfe\x00"])
def test_1_10_a_malformed_greeting_is_421(path: Path, greeting: bytes) -> None:
    x = path.open(login=False, greeting=greeting)
    assert x.c.reply().code == 421
    assert x.c.end()[1] == "fin"
    x.s.end()


@pytest.mark.parametrize("answer", [b"Hello?\r\n", b"20 Ok\r\n", b"\r\n", b"2000 Ok\r\n"])
def test_1_10_a_malformed_reply_is_421(path: Path, answer: bytes) -> None:
    x = path.open()
    x.c.line("SYST")
    assert x.s.next() == b"SYST"
    x.s.send(answer)
    assert x.c.reply().code == 421
    assert x.c.end()[1] == "fin"
    x.s.end()


@pytest.mark.parametrize("part", [b"21", b"215 UN", b"215-UNIX\r\n", b"215-UNIX\r\n half a line"])
def test_1_10_the_end_in_the_middle_of_a_reply(path: Path, part: bytes) -> None:
    """The session ends; nothing is made up to complete the reply."""
    x = path.open()
    x.c.line("SYST")
    assert x.s.next() == b"SYST"
    x.s.send(part)
    x.s.close_control()
    rest, _ = x.c.end()
    assert part.startswith(rest) or (rest.splitlines()[-1].startswith(b"421 ") and b"215 UN" not in rest)


# 1.11 to 1.13 Order and count


def test_1_11_five_commands_in_a_segment_five_replies_in_order(path: Path) -> None:
    x = path.open()
    lines = [b"SYST", b"PWD", b"NOOP", b"SIZE f", b"MDTM f"]
    x.c.line(*lines)
    for i, line in enumerate(lines):
        assert x.s.next() == line
        x.s.reply(b"2%02d Reply %d" % (i, i))
    assert x.c.replies(5) == [200, 201, 202, 203, 204]
    x.in_step()


def test_1_11_a_reply_of_the_proxys_own_waits_for_its_turn(path: Path) -> None:
    """AUTH is answered by the proxy, PORT too; neither overtakes the server's answer to what came before."""
    x = path.open()
    address, port = x.c.local
    x.c.line(
        "SYST", "AUTH TLS", "PWD", f"PORT {address.replace('.', ',')},{port // 256},{port % 256}", "NOOP"
    )
    assert x.s.next() == b"SYST"
    x.s.reply(b"215 One.")
    assert x.s.next() == b"PWD"
    x.s.reply(b"257 Two.")
    assert x.s.next() == b"NOOP"
    x.s.reply(b"204 Three.")
    assert x.c.replies(5) == [215, 502, 257, 200, 204]
    x.in_step()


def test_1_11_retr_noop_syst_in_one_segment(path: Path) -> None:
    x = path.open()
    agreed = x.c.setup("PASV")
    x.c.line("RETR f", "NOOP", "SYST")
    c_data = agreed.open()
    assert x.s.next() == b"RETR f"
    x.s.reply(b"150 Here it comes.")
    s_data = x.s.data()
    s_data.send(b"content")
    s_data.close()
    assert c_data.read_all() == (b"content", "fin")
    x.s.reply(b"226 Done.")
    assert x.s.next() == b"NOOP"
    x.s.reply(b"200 Noop.")
    assert x.s.next() == b"SYST"
    x.s.reply(b"215 UNIX")
    assert x.c.replies(4) == [150, 226, 200, 215]
    x.in_step()


def test_1_12_pasv_type_retr_in_one_segment(path: Path) -> None:
    """lftp with sync-mode off."""
    x = path.open()
    x.c.line("PASV", "TYPE I", "RETR f")
    match = re.search(rb"(\d+),(\d+)\)", x.c.reply().raw)
    assert match
    c_data = x.c.adopt(
        socket.create_connection(
            (x.c.peer[0], int(match[1]) * 256 + int(match[2])), 8, source_address=(x.c.local[0], 0)
        )
    )
    assert x.c.reply().code == 200
    x.open_at_server("RETR f")
    s_data = x.s.data()
    assert x.c.reply().code == 150
    s_data.send(b"content")
    s_data.close()
    assert c_data.read_all() == (b"content", "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.in_step()


def test_1_12_two_transfers_in_one_segment(path: Path) -> None:
    """The second PASV waits for the end of the first transfer."""
    x = path.open()
    x.c.line("EPSV", "RETR f", "EPSV", "RETR g")
    for name in ("f", "g"):
        match = re.search(rb"\(\|\|\|(\d+)\|\)", x.c.reply().raw)
        assert match
        c_data = x.c.adopt(
            socket.create_connection((x.c.peer[0], int(match[1])), 8, source_address=(x.c.local[0], 0))
        )
        x.open_at_server(f"RETR {name}")
        s_data = x.s.data()
        assert x.c.reply().code == 150
        s_data.send(name.encode())
        s_data.close()
        assert c_data.read_all() == (name.encode(), "fin")
        x.s.reply(b"226 Done.")
        assert x.c.reply().code == 226
    x.in_step()


@pytest.mark.parametrize("line", [b"220 By the way.", b"500-Two\r\n500 lines", b"150 Odd."])
def test_1_13_an_unsolicited_reply_is_passed_on_at_once(path: Path, line: bytes) -> None:
    x = path.open()
    x.s.reply(line)
    assert x.c.reply().raw == line + b"\r\n"
    x.in_step()


def test_1_13_an_unsolicited_421_closes_both_sides(path: Path) -> None:
    x = path.open()
    x.s.reply(b"421 Timeout (60 seconds): closing control connection.")
    assert x.c.reply().raw == b"421 Timeout (60 seconds): closing control connection.\r\n"
    assert x.c.end() == (b"", "fin")
    x.s.end()


def test_1_13_421_as_an_answer_closes_both_sides(path: Path) -> None:
    x = path.open()
    x.c.line("SYST")
    assert x.s.next() == b"SYST"
    x.s.reply(b"421 Shutting down.")
    assert x.c.reply().raw == b"421 Shutting down.\r\n"
    assert x.c.end() == (b"", "fin")
    x.s.end()


# 1.14 to 1.16 Ends


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_1_14_the_server_ends(path: Path, how: str) -> None:
    x = path.open()
    if how == "fin":
        x.s.close_control()
    else:
        x.s.reset()
    assert x.c.reply().code == 421
    assert x.c.end() == (b"", "fin")


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_1_14_the_client_ends(path: Path, how: str) -> None:
    x = path.open()
    if how == "fin":
        x.c.close()
    else:
        x.c.reset()
    x.s.end()
    assert x.s.lines[2:] in ([], [b"QUIT"])


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("stage", ["connected", "user"])
def test_1_14_the_client_ends_before_login(path: Path, stage: str, how: str) -> None:
    x = path.open(login=False)
    assert x.c.reply().code == 220
    if stage == "user":
        assert x.c.cmd("USER me").code == 331
    if how == "fin":
        x.c.close()
    else:
        x.c.reset()
    x.s.end()


def test_1_14_control_reset_in_a_download_ends_it_at_the_server(path: Path) -> None:
    x = path.open()
    _, s_data = x.begin("RETR f")
    s_data.send(b"some")
    x.c.reset()
    s_data.send_until_refused()
    x.s.end()


def test_1_14_quit_and_fin_delivers_quit(path: Path) -> None:
    x = path.open({"QUIT": None})
    x.c.line("QUIT")
    x.c.sock.shutdown(socket.SHUT_WR)
    assert x.s.next() == b"QUIT"
    x.s.reply(b"221 Goodbye.")
    assert x.c.reply().code == 221
    assert x.c.end() == (b"", "fin")


def test_1_14_a_half_line_at_the_end_is_not_forwarded(path: Path) -> None:
    x = path.open()
    x.c.send(b"DELE f")
    x.c.close()
    x.s.end()
    assert b"DELE" not in x.s.raw


def test_1_15_half_close_still_gets_the_pending_replies(path: Path) -> None:
    """printf 'NOOP\\r\\nQUIT\\r\\n' | nc"""
    x = path.open({"QUIT": None})
    x.c.line("NOOP", "QUIT")
    x.c.sock.shutdown(socket.SHUT_WR)
    assert x.s.next() == b"NOOP"
    x.s.reply(b"200 Noop.")
    assert x.s.next() == b"QUIT"
    x.s.reply(b"221 Goodbye.")
    assert x.c.replies(2) == [200, 221]
    assert x.c.end() == (b"", "fin")


def test_1_15_half_close_without_quit(path: Path) -> None:
    x = path.open()
    x.c.line("NOOP")
    x.c.sock.shutdown(socket.SHUT_WR)
    assert x.s.next() == b"NOOP"
    x.s.reply(b"200 Noop.")
    assert x.c.reply().code == 200
    assert x.c.end()[1] == "fin"


def test_1_16_both_control_legs_have_a_keep_alive_timer(one: Path) -> None:
    x = one.open()
    x.in_step()
    legs = {_hex(x.c.peer) + _hex(x.c.local), _hex(x.s.peer) + _hex(x.s.sock.getsockname())}

    def keep_alive() -> bool:
        """Timer 02 on both (it is 01 while an acknowledgement is awaited), the first probe within 5 min."""
        lines = [line.split() for line in File("/proc/net/tcp").read_text().splitlines()[1:]]
        timers = [fields[5] for fields in lines if fields[1] + fields[2] in legs]
        return len(timers) == 2 and all(t.startswith("02:") and int(t[3:], 16) <= 30000 for t in timers)

    eventually("a keep-alive timer on both control connections", keep_alive)


def test_10_7_random_bytes_harm_nobody(path: Path) -> None:
    """Seeded noise at either end of the control path; another session goes on, and no process dies."""
    source = random.Random(959)
    other = path.open()
    for i in range(24):
        x = path.open()
        noise = bytes(
            source.choices(b"\r\n\0\xff\xf4\xf2 -0123456789AUPSTORELIST|,()" + bytes(range(256)), k=900)
        )
        try:
            if i % 2:
                x.c.sock.sendall(noise + b"\r\n")
            else:
                x.c.line("SYST")
                x.s.send(noise + b"\r\n")
            x.c.sock.shutdown(socket.SHUT_WR)
            x.s.close_control()
            x.c.end()
        except OSError:
            pass
        x.c.close()
        other.in_step()


def _hex(address: tuple[str, int]) -> str:
    """An IPv4 address as /proc/net/tcp has it."""
    return f"{int.from_bytes(socket.inet_aton(address[0]), 'little'):08X}:{address[1]:04X}"


def _begin(x: Session, line: bytes) -> tuple[Data, Data]:
    """Start a download whose verb and name are bytes."""
    agreed = x.c.setup("PASV")
    x.c.line(line)
    c_data = agreed.open()
    verb, blank, argument = line.partition(b" ")
    assert x.s.next() in {line, verb.upper() + blank + argument}
    x.s.reply(b"150 Opening.")
    s_data = x.s.data()
    assert x.c.reply().code == 150
    return c_data, s_data
