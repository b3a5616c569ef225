# SPDX-License-Identifier: GPL-3.0-or-later
"""10.5: what stands in the log of a session, a transfer and a refusal, and what does not."""

from __future__ import annotations

import json
import time

import pytest

from .fake_client import active_command
from .fake_server import unreachable_port
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
    assert record["SLUICE_TYPE"] == "A"
    for side, data in (("CLIENT", c_data), ("SERVER", s_data)):  # the 4-tuple, the proxy's end first
        own, far = ("{}:{}".format(*end) for end in (data.peer, data.local))
        assert record[f"SLUICE_{side}_DATA"] == f"{own} {far}"
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


def test_10_5_a_transfer_that_failed_says_why(paths: Paths) -> None:
    path = paths.one(server_side__mode="passive")
    mark = len(path.last.log)
    x = path.open({"EPSV": unreachable_port, "RETR": b"226 No."})
    x.c.setup("PASV")
    assert x.c.cmd("RETR f").code == 425
    record = path.last.record("transfer", mark)
    assert "refused the connection" in record["SLUICE_REASON"]
    assert record["SLUICE_REASON"] in record["MESSAGE"]
    assert record["SLUICE_SERVER_DATA"].startswith(f"{path.net.n_server}:")


def test_10_5_the_type_is_the_one_that_the_server_took(one: Path) -> None:
    mark = len(one.last.log)
    x = one.open({"RETR": b"550 No.", "REIN": b"220 Anew.", "TYPE": None})
    for line, answer, expected in (
        ("TYPE I", b"200 Ok.", "I"),
        ("type a n", b"200 Ok.", "A"),
        ("TYPE L 8", b"200 Ok.", "L"),
        ("TYPE E", b"504 No.", "L"),
        ("REIN", b"", "A"),
    ):
        x.c.line(line)
        if answer:
            assert x.s.next() == line.encode()
            x.s.reply(answer)
        x.c.reply()
        if line == "REIN":
            x.c.line("USER u", "PASS p")
            assert x.c.replies(2) == [331, 230]
        x.c.setup("PASV")
        assert x.c.cmd(f"RETR after {line}").code == 550
        assert one.last.record("transfer", mark, FILE=f"after {line}")["SLUICE_TYPE"] == expected


def test_10_5_an_xferlog_has_a_line_for_each_file(paths: Paths) -> None:
    """wu-ftpd's format, where it is asked for: files that moved, whole or not; no listing, no refusal."""
    path = paths.one(xferlog=True)
    mark = len(path.last.log)
    x = path.open()
    assert x.c.cmd("TYPE I").code == 200
    for verb, name, whole in (("RETR", "/a file", True), ("STOR", "b", False), ("LIST", "", True)):
        c_data, s_data = x.begin(f"{verb} {name}".strip())
        sender, receiver = (c_data, s_data) if verb == "STOR" else (s_data, c_data)
        sender.send(PART)
        receiver.receive(len(PART))
        sender.close() if whole else sender.reset()
        assert receiver.end() == ("fin" if whole else "reset")
        receiver.close()
        x.s.reply(b"226 Done." if whole else b"426 Broken.")
        assert x.c.reply().code == (226 if whole else 426)
    x.c.setup("PASV")
    x.c.line("RETR gone")
    assert x.s.next() == b"RETR gone"
    x.s.reply(b"550 No such file.")
    assert x.c.reply().code == 550
    path.last.record("transfer", mark, FILE="gone")
    lines = [record["MESSAGE"] for record in path.last.records("xferlog", mark)]
    size = len(PART)
    assert [line[25:] for line in lines] == [
        f"1 {path.net.client} {size} /a_file b _ o a anonymous ftp 0 * c",
        f"1 {path.net.client} {size} b b _ i a anonymous ftp 0 * i",
    ]
    time.strptime(lines[0][:24], "%a %b %d %H:%M:%S %Y")
    record = path.last.records("xferlog", mark)[0]
    assert record["SLUICE_SESSION"] == path.last.record("session-start", mark)["SLUICE_SESSION"]


def test_10_5_no_xferlog_unless_asked_for(one: Path) -> None:
    mark = len(one.last.log)
    x = one.open()
    c_data, s_data = x.begin("RETR f")
    s_data.close()
    assert c_data.end() == "fin"
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    assert one.last.record("transfer", mark)
    x.in_step()
    assert not one.last.records("xferlog", mark)


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
    assert record["SLUICE_COMMAND"] == "PORT"
    assert record["SLUICE_CLIENT"] == "{}:{}".format(*x.c.local)


def test_10_5_a_refused_server_says_why(paths: Paths) -> None:
    path = paths.one(servers__fixed=None)
    mark = len(path.last.log)
    c = path.client()
    assert c.reply().code == 220
    assert c.cmd(f"USER me@{path.net.forbidden_server}:2100").code == 530
    record = path.last.record("refused", mark)
    assert path.net.forbidden_server in record["SLUICE_REASON"]
    assert record["SLUICE_SERVER"] == f"{path.net.forbidden_server}:2100"
    assert record["SLUICE_USER"] == "me"


def test_10_5_a_refused_command_says_of_which_file(paths: Paths) -> None:
    """Where its argument is a file's name; SITE may say anything."""
    path = paths.one(server_side__commands=[{"networks": ["0.0.0.0/0"], "preset": "read-only"}])
    x = path.open()
    records = []
    for line in ("DELE a\x1bfile", "SITE CHPASS secret"):
        mark = len(path.last.log)
        assert x.c.cmd(line).code == 550
        records.append(path.last.record("refused", mark))
    first, second = records
    assert (first["SLUICE_COMMAND"], first["SLUICE_FILE"]) == ("DELE", "a\\x1bfile")
    assert second["SLUICE_COMMAND"] == "SITE"
    assert "secret" not in str(second)


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
