# SPDX-License-Identifier: GPL-3.0-or-later
"""10.5: what stands in the log of a session, a transfer and a refusal, and what does not."""

from __future__ import annotations

import json

import pytest

from .fake_client import active_command
from .harness import Path, Paths, Proxy, Session, last_hop
from .wire import eventually

PART = bytes(range(256)) * 40


def test_10_5_a_session_has_a_start_and_an_end(path: Path) -> None:
    marks = [len(proxy.log) for proxy in path.proxies]
    x = path.open()
    assert x.c.cmd("QUIT").code == 221
    x.c.end()
    for proxy, mark in zip(path.proxies, marks, strict=True):
        end = proxy.record("session-end", mark)
        start = proxy.record("session-start", mark)
        assert start["SLUICE_SESSION"] == end["SLUICE_SESSION"]
        assert start["SLUICE_HOP"] == end["SLUICE_HOP"] == proxy.name
        assert start["SLUICE_CLIENT"] == end["SLUICE_CLIENT"]
        assert end["SLUICE_USER"] == "anonymous"
    assert path.first.record("session-end", marks[0])["SLUICE_CLIENT"] == "{}:{}".format(*x.c.local)
    server = "{}:{}".format(*path.server_address)
    assert path.last.record("session-end", marks[-1])["SLUICE_SERVER"] == server


@pytest.mark.parametrize("setup", ["PASV", "PORT"])
@pytest.mark.parametrize("server_mode", ["active", "passive"])
@pytest.mark.parametrize("verb", ["RETR", "STOR"])
def test_10_5_the_fields_of_a_transfer(paths: Paths, verb: str, server_mode: str, setup: str) -> None:
    path = paths.one(server_side__mode=server_mode)
    mark = len(path.last.log)
    x = path.open()
    c_data, s_data = x.begin(f"{verb} /dir/a file", setup)
    sender, receiver = (s_data, c_data) if verb == "RETR" else (c_data, s_data)
    sender.send(PART)
    sender.fin()
    assert receiver.read_all() == (PART, "fin")
    s_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    record = path.last.record("transfer", mark)
    assert record["SLUICE_HOP"] == "N"
    assert record["SLUICE_SESSION"] == path.last.record("session-start", mark)["SLUICE_SESSION"]
    assert record["SLUICE_CLIENT"] == "{}:{}".format(*x.c.local)
    assert record["SLUICE_USER"] == "anonymous"
    assert record["SLUICE_SERVER"] == "{}:{}".format(*path.server_address)
    assert record["SLUICE_COMMAND"] == verb
    assert record["SLUICE_FILE"] == "/dir/a file"
    assert int(record["SLUICE_BYTES"]) == len(PART)
    assert float(record["SLUICE_SECONDS"]) >= 0
    assert record["SLUICE_CLIENT_MODE"] == ("passive" if setup == "PASV" else "active")
    assert record["SLUICE_SERVER_MODE"] == server_mode
    assert record["SLUICE_CLIENT_PORTS"] == f"{c_data.peer[1]}:{c_data.local[1]}"
    assert record["SLUICE_SERVER_PORTS"] == f"{s_data.peer[1]}:{s_data.local[1]}"
    assert record["SLUICE_OUTCOME"] == "complete"
    assert record["MESSAGE"]
    assert int(record["PRIORITY"]) <= 6


def test_10_5_outcome_reset_by_client(path: Path) -> None:
    marks = [len(proxy.log) for proxy in path.proxies]
    x = path.open()
    c_data, s_data = x.begin("STOR f")
    c_data.send(PART)
    s_data.receive(len(PART))
    c_data.reset()
    s_data.end()
    x.s.reply(b"426 Aborted.")
    assert x.c.reply().code == 426
    for proxy, mark in zip(path.proxies, marks, strict=True):
        record = proxy.record("transfer", mark)
        assert record["SLUICE_OUTCOME"] == "reset-by-client"
        assert int(record["SLUICE_BYTES"]) == len(PART)


def test_10_5_outcome_reset_by_server(path: Path) -> None:
    marks = [len(proxy.log) for proxy in path.proxies]
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(PART)
    c_data.receive(len(PART))
    s_data.reset()
    c_data.end()
    x.s.reply(b"426 Aborted.")
    assert x.c.reply().code == 426
    for proxy, mark in zip(path.proxies, marks, strict=True):
        assert proxy.record("transfer", mark)["SLUICE_OUTCOME"] == "reset-by-server"


def test_10_5_outcome_aborted(path: Path) -> None:
    mark = len(path.first.log)
    x = path.open()
    x.begin("RETR f")
    x.c.line("ABOR")
    assert x.s.next() == b"ABOR"
    x.s.reply(b"426 Aborted.", b"226 Done.")
    assert x.c.replies(2) == [426, 226]
    assert path.first.record("transfer", mark)["SLUICE_OUTCOME"] == "aborted"


def test_10_5_outcome_refused(path: Path) -> None:
    mark = len(path.first.log)
    x = path.open({"RETR": b"550 No such file."})
    x.c.setup("PASV")
    assert x.c.cmd("RETR f").code == 550
    assert path.first.record("transfer", mark)["SLUICE_OUTCOME"] == "refused"


def test_10_5_outcome_timeout(paths: Paths) -> None:
    path = paths.one(timeouts__data_idle=0.5)
    mark = len(path.last.log)
    x = path.open()
    c_data, _ = x.begin("RETR f")
    assert c_data.end() == "reset"
    assert path.last.record("transfer", mark)["SLUICE_OUTCOME"] == "timeout"


def test_10_5_a_name_cannot_forge_the_log(one: Path) -> None:
    """Escape sequences, 8-bit bytes and quotes stand escaped."""
    mark = len(one.last.log)
    x = one.open({"RETR": b"550 No.", "USER": b"331 Word.", "CWD": b"250 Ok."}, login=False)
    x.c.login("eve\x1b[31m")
    x.c.setup("PASV")
    assert x.c.cmd(b'RETR \x1b[2J\xff\xffname "x" \xc2\x9b\x07\\').code == 550
    record = one.last.record("transfer", mark)
    assert "name" in record["SLUICE_FILE"]
    for text in (record["SLUICE_FILE"], record["SLUICE_USER"], record["MESSAGE"]):
        assert text.isprintable(), text


def test_10_5_a_refused_address_says_why(one: Path) -> None:
    mark = len(one.last.log)
    x = one.open()
    assert x.c.cmd(active_command("PORT", one.net.thief, 9999)).code >= 500
    record = one.last.record("refused", mark)
    assert one.net.thief in record["SLUICE_REASON"] or one.net.thief in record["MESSAGE"]
    assert record["SLUICE_SESSION"]
    assert record["SLUICE_CLIENT"] == "{}:{}".format(*x.c.local)


def test_10_5_a_refused_server_says_why(paths: Paths) -> None:
    path = paths.one(servers__fixed=None)
    mark = len(path.last.log)
    c = path.client()
    assert c.reply().code == 220
    assert c.cmd(f"USER me@{path.net.forbidden_server}:2100").code == 530
    assert path.net.forbidden_server in path.last.record("refused", mark)["SLUICE_REASON"]


def test_2_7_no_password_in_any_log(paths: Paths) -> None:
    """Right or wrong, before or after the host is known, misspelt verbs of login included."""
    path = paths.one(servers__fixed=None)
    secret = "hidden-word-6021"
    server, c = path.server, path.client()
    assert c.reply().code == 220
    c.cmd(f"PASS {secret}")
    c.cmd(f"pass {secret}")
    c.line(f"USER me@{path.net.server}:{server.port}")
    x = Session(c, server.accept({"PASS": b"530 Wrong.", "ACCT": b"530 Wrong."}))
    assert c.reply().code == 331
    c.cmd(f"PASS {secret}")
    c.cmd(f"ACCT {secret}")
    assert c.cmd("QUIT").code == 221
    x.s.end()
    path.last.record("session-end", 0, CLIENT="{}:{}".format(*c.local))
    assert secret not in json.dumps(path.last.log)


def test_every_record_has_a_message_a_priority_and_an_event(paths: Paths) -> None:
    path = paths.own(1)
    x = path.open()
    assert x.c.cmd("QUIT").code == 221
    path.last.record("session-end")
    assert path.last.records("started")
    for record in path.last.log:
        assert record["MESSAGE"]
        assert 0 <= int(record["PRIORITY"]) <= 7
        assert record["SLUICE_EVENT"]
        assert record["SLUICE_HOP"] == "N"


def test_one_warning_where_no_policy_protects_the_proxy(paths: Paths) -> None:
    net = paths.site.net()
    text = "No policy protects this proxy: sluice-policy.service is not installed on this host."
    with_policy = Proxy(paths.site, last_hop(net))
    try:
        eventually("it has started", lambda: bool(with_policy.records("started")))
        assert text not in json.dumps(with_policy.log)
    finally:
        with_policy.stop()
    without = Proxy(paths.site, last_hop(paths.site.net()), {"SLUICE_POLICY": ""})
    try:
        eventually("the warning", lambda: bool(without.records("warning")))
        assert [record["MESSAGE"] for record in without.records("warning")] == [text]
        assert int(without.records("warning")[0]["PRIORITY"]) == 4
    finally:
        without.stop()
