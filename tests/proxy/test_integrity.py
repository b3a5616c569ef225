# SPDX-License-Identifier: GPL-3.0-or-later
"""PROTOCOL.md section 6: a clean FIN is the statement "complete", so it is made only when it is true."""

from __future__ import annotations

import os
import select
import signal
import socket
import time

import pytest

from .fake_client import SETUPS
from .harness import WHOLE, Path, Paths
from .wire import eventually, refused

PART = bytes(range(256)) * 400
UPLOADS = ("STOR f", "APPE f", "STOU")
DOWNLOADS = ("RETR f", "LIST", "NLST", "MLSD")


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("verb", UPLOADS)
def test_6_1_and_6_5_client_reset_during_upload_resets_the_server(path: Path, verb: str, setup: str) -> None:
    """Through two proxies, too."""
    x = path.open()
    c_data, s_data = x.begin(verb, setup)
    c_data.send(PART)
    assert s_data.receive(len(PART)) == PART
    c_data.reset()
    assert s_data.read_all() == (b"", "reset")
    x.s.reply(b"426 Connection closed; transfer aborted.")
    assert x.c.reply().raw == b"426 Connection closed; transfer aborted.\r\n"
    x.in_step()


def test_6_1_client_reset_before_the_first_byte_resets_the_server(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.reset()
    assert s_data.read_all() == (b"", "reset")
    x.s.reply(b"451 No.")
    assert x.c.reply().code == 451
    x.in_step()


def test_6_1_client_reset_while_the_server_does_not_read(path: Path) -> None:
    """The bytes under way may be lost, the reset may not."""
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send_until_blocked()
    c_data.reset()
    assert s_data.end() == "reset"
    x.s.reply(b"426 Aborted.")
    assert x.c.reply().code == 426
    x.in_step()


@pytest.mark.parametrize("server_mode", ["active", "passive"])
def test_6_1_with_a_server_leg_of_one_mode(paths: Paths, server_mode: str) -> None:
    x = paths.one(server_side__mode=server_mode).open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(PART)
    assert s_data.receive(len(PART)) == PART
    c_data.reset()
    assert s_data.end() == "reset"


def test_6_1_a_server_that_says_226_after_the_reset_is_not_believed(path: Path) -> None:
    """6.1, 6.9: the upload was not complete, whatever the server says of it."""
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(PART)
    assert s_data.receive(len(PART)) == PART
    c_data.reset()
    assert s_data.end() == "reset"
    x.s.reply(b"226 Stored what there was.")
    assert 400 <= x.c.reply().code <= 599
    x.in_step()


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_6_2_control_lost_during_upload_resets_the_server(path: Path, how: str, setup: str) -> None:
    x = path.open()
    c_data, s_data = x.begin("STOR f", setup)
    c_data.send(PART)
    assert s_data.receive(len(PART)) == PART
    if how == "fin":
        x.c.sock.close()
    else:
        x.c.reset()
    assert s_data.read_all() == (b"", "reset")
    x.s.end()


def test_6_2_control_lost_while_the_upload_goes_on(path: Path) -> None:
    """The client's data keeps flowing and even ends with FIN after its control connection was lost."""
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send_until_blocked()
    x.c.reset()
    assert s_data.end() == "reset"
    x.s.end()


def test_6_2_control_lost_after_the_upload_has_ended(path: Path) -> None:
    """The file is complete; losing the control connection does not take that back."""
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(PART)
    c_data.fin()
    assert s_data.read_all() == (PART, "fin")
    x.c.reset()
    x.s.reply(b"226 Stored.")
    x.s.end()


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("verb", DOWNLOADS)
def test_6_3_and_6_5_server_reset_during_download_resets_the_client(
    path: Path, verb: str, setup: str
) -> None:
    """Through two proxies, too."""
    x = path.open()
    c_data, s_data = x.begin(verb, setup)
    s_data.send(PART)
    assert c_data.receive(len(PART)) == PART
    s_data.reset()
    assert c_data.read_all() == (b"", "reset")
    x.s.reply(b"451 Local error in processing.")
    assert x.c.reply().raw == b"451 Local error in processing.\r\n"
    x.in_step()


def test_6_3_server_reset_and_then_226(path: Path) -> None:
    """6.3: the client still sees the reset; 6.9: and is not told that all is well."""
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(PART)
    assert c_data.receive(len(PART)) == PART
    s_data.reset()
    x.s.reply(b"226 Transfer complete.")
    assert c_data.end() == "reset"
    assert x.c.reply().code == 426
    x.in_step()


def test_6_3_server_reset_and_then_nothing(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(b"x")
    assert c_data.receive(1) == b"x"
    s_data.reset()
    assert c_data.end() == "reset"


@pytest.mark.parametrize(("hops", "victim"), [(1, 0), (2, 0), (2, 1)], ids=["N", "F of two", "N of two"])
def test_6_4_kill_9_after_the_clients_fin_and_before_its_last_byte_went_on(
    paths: Paths, hops: int, victim: int
) -> None:
    """The proxy may have seen the end; what it has not passed on is lost, so the server must not see FIN."""
    path = paths.own(hops)
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    sent = c_data.send_until_blocked()
    c_data.fin()
    time.sleep(0.1)
    path.proxies[victim].kill()
    content, end = s_data.read_all()
    assert end == "reset" or len(content) == sent


@pytest.mark.parametrize("verb", ["STOR f", "RETR f"])
def test_6_4_second_sigterm_in_a_transfer_is_a_reset(paths: Paths, verb: str) -> None:
    """6.4, 10.3: the first lets the transfer run, the second ends it, with RST at both ends."""
    path = paths.own(1)
    x = path.open()
    c_data, s_data = x.begin(verb)
    sender, receiver = (c_data, s_data) if verb == "STOR f" else (s_data, c_data)
    sender.send(PART)
    assert receiver.receive(len(PART)) == PART
    path.last.process.terminate()
    eventually("no new session after SIGTERM", lambda: refused(*path.entry, path.net.client))
    sender.send(PART)
    assert receiver.receive(len(PART)) == PART, "the first SIGTERM ended the transfer"
    path.last.process.terminate()
    assert receiver.end() == "reset"
    assert sender.end() == "reset"
    x.c.close()
    path.last.process.wait(8)


@pytest.mark.parametrize("verb", ["STOR f", "RETR f"])
def test_6_4_silence_longer_than_data_idle_is_a_reset_at_both_ends(paths: Paths, verb: str) -> None:
    x = paths.one(timeouts__data_idle=0.5).open()
    c_data, s_data = x.begin(verb)
    sender, receiver = (c_data, s_data) if verb == "STOR f" else (s_data, c_data)
    sender.send(b"and then nothing")
    assert receiver.receive(16) == b"and then nothing"
    assert receiver.end() == "reset"
    assert sender.end() == "reset"
    x.s.reply(b"426 Data connection lost.")
    assert x.c.reply().code in {421, 425, 426}


def test_6_6_half_close_of_the_client_leaves_the_other_direction_open(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(PART)
    c_data.fin()
    assert s_data.read_all() == (PART, "fin")
    assert not select.select([c_data.sock], [], [], 0.1)[0], "the client's data connection was closed early"
    x.s.reply(b"226 Stored.")
    s_data.close()
    assert x.c.reply().code == 226
    assert c_data.read_all() == (b"", "fin")
    x.in_step()


def test_6_6_bytes_in_the_wrong_direction_of_a_download_are_discarded(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(PART)
    c_data.send(b"never asked for" * 100)
    assert c_data.receive(len(PART)) == PART
    s_data.send(PART)
    s_data.fin()
    assert c_data.read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.in_step()


def test_6_6_bytes_in_the_wrong_direction_of_an_upload_are_discarded(path: Path) -> None:
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(PART)
    s_data.send(b"never asked for" * 100)
    assert s_data.receive(len(PART)) == PART
    c_data.send(PART)
    c_data.fin()
    assert s_data.read_all() == (PART, "fin")
    s_data.close()
    x.s.reply(b"226 Stored.")
    assert x.c.reply().code == 226
    x.in_step()


@pytest.mark.parametrize("unread", [True, False], ids=["by a reset", "by a FIN"])
def test_6_7_client_that_stops_reading_stops_the_server(path: Path, unread: bool) -> None:
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(PART)
    assert c_data.receive(100 if unread else len(PART))
    c_data.close()
    assert s_data.send_until_refused() < 64 << 20, "the proxy swallowed what nobody reads"
    x.s.reply(b"426 Connection closed; transfer aborted.")
    assert x.c.reply().raw == b"426 Connection closed; transfer aborted.\r\n"
    x.in_step()


@pytest.mark.parametrize("code", [b"452", b"552"])
def test_6_7_server_that_stops_reading_stops_the_client(path: Path, code: bytes) -> None:
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(PART)
    assert s_data.receive(len(PART)) == PART
    x.s.reply(code + b" Disk full.")
    s_data.close()
    assert c_data.send_until_refused() < 64 << 20, "the proxy swallowed what nobody stores"
    assert x.c.reply().raw == code + b" Disk full.\r\n"
    x.in_step()


def test_6_8_many_small_downloads_none_short(path: Path) -> None:
    """Each 226 comes in one segment with the 150, before the data: the tail must not be lost. Ten thousand of
    them in the whole, over one hop and two."""
    x = path.open()
    for i in range(5000 if WHOLE else 100):
        agreed = x.c.setup(SETUPS[i % 4])
        content = bytes([i % 256]) * (37 * (i % 256))
        x.c.line(f"RETR {i}")
        assert x.s.next() == b"RETR %d" % i
        x.s.reply(b"150 Here it comes.", b"226 Done.")
        s_data = x.s.data()
        s_data.send(content)
        s_data.close()
        c_data = agreed.open()
        assert c_data.read_all() == (content, "fin")
        c_data.close()
        assert x.c.replies(2) == [150, 226]


def test_6_9_no_226_when_the_client_resets_after_the_server_has_finished(path: Path) -> None:
    """The server has sent everything into its kernel and says 226; the client gives up half-way: 426."""
    x = path.open()
    c_data, s_data = x.begin("RETR f", receive_buffer=4096)
    assert s_data.send_until_blocked() > 100_000
    s_data.fin()
    x.s.reply(b"226 Transfer complete.")
    time.sleep(0.2)  # so that the 226 is at the proxy before the reset
    c_data.receive(1000)
    c_data.reset()
    assert x.c.reply().code == 426
    x.in_step()


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("verb", ["STOR f", "RETR f"])
def test_6_10_server_dies_in_a_transfer(path: Path, verb: str, how: str) -> None:
    x = path.open()
    c_data, s_data = x.begin(verb)
    sender, receiver = (c_data, s_data) if verb == "STOR f" else (s_data, c_data)
    sender.send(PART)
    assert receiver.receive(len(PART)) == PART
    if how == "fin":
        x.s.close_control()
    else:
        x.s.reset()
    assert receiver.end() == "reset"
    assert sender.end() == "reset"
    assert x.c.reply().code in {421, 426}
    assert not [line for line in x.c.end()[0].splitlines() if not line.startswith(b"421 ")]


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("verb", ["STOR f", "RETR f"])
def test_4_8_urgent_data_on_a_data_connection_is_a_reset(path: Path, verb: str, ends: bool) -> None:
    """Splice does not get past it: what follows would be missing from a file that looks whole."""
    x = path.open()
    c_data, s_data = x.begin(verb)
    source, sink = (c_data, s_data) if verb == "STOR f" else (s_data, c_data)
    source.send(PART)
    assert sink.receive(len(PART)) == PART
    pids = [pid for proxy in path.proxies for pid in proxy.pids()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    source.sock.send(b"!", socket.MSG_OOB)
    source.send(PART)
    if ends:
        source.fin()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert sink.end() == "reset"
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 426
    x.in_step()
