# SPDX-License-Identifier: GPL-3.0-or-later
"""14: the hops behind the first one know whose session it is, and take sessions of the hop before only."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any

import pytest

from .fake_client import active_command
from .harness import CONTROL, SERVER_CONTROL, Path, Paths, Proxy, Session, changed, first_hop, last_hop
from .wire import Data, dial, eventually

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")  # proxy-protocol.txt 2.2
LOCAL = SIGNATURE + b"\x20\0\0\0"


def header(client: tuple[str, int], to: tuple[str, int], ident: bytes = b"0123abcd") -> bytes:
    """As the specification says, without the proxy's own code."""
    ends = b"".join(socket.inet_aton(end[0]) for end in (client, to)) + struct.pack("!HH", client[1], to[1])
    tlv = struct.pack("!BH", 5, len(ident)) + ident
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(ends + tlv)) + ends + tlv


def carrying(paths: Paths, **changes: Any) -> Path:
    """F and N, and N wants to know for whom F comes."""
    return paths.two(f__next_hop__identity=True, n__client_side__identity=True, **changes)


@pytest.mark.parametrize("setup", ["PASV", "EPRT"])
def test_14_1_and_14_2_the_last_hop_logs_the_client_and_the_first_hops_session(
    paths: Paths, setup: str
) -> None:
    path = carrying(paths)
    marks = [len(proxy.log) for proxy in path.proxies]
    x = path.open()
    c_data, s_data = x.begin("RETR f", setup)
    s_data.send(b"data")
    s_data.close()
    assert c_data.read_all() == (b"data", "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    assert x.c.cmd("QUIT").code == 221
    for event in ("session-start", "transfer", "session-end"):
        f, n = (
            proxy.record(event, mark, CLIENT="{}:{}".format(*x.c.local))
            for proxy, mark in zip(path.proxies, marks, strict=True)
        )
        assert n["SLUICE_SESSION"] == f["SLUICE_SESSION"]
        assert n["SLUICE_PEER"].startswith(f"{path.net.f_server}:")
        assert "SLUICE_PEER" not in f


def test_14_1_and_14_2_three_hops_pass_it_on(paths: Paths) -> None:
    net = paths.site.net()
    middle, middle_up = f"{net.prefix}.20", f"{net.prefix}.21"
    n = Proxy(paths.site, changed(last_hop(net), {"client_side.identity": True}))
    onward = {"hosts": [{"name": "n1", "addresses": [net.n_client]}], "control_port": CONTROL}
    as_m = {
        "hop": "M",
        "client_side.addresses": [{"address": middle, "public": middle}],
        "client_side.identity": True,
        "server_side.addresses": [{"address": middle_up, "public": middle_up}],
        "next_hop": {**onward, "identity": True},
    }
    m = Proxy(paths.site, changed(first_hop(net), as_m))
    to_m = {"hosts": [{"name": "m1", "addresses": [middle]}], "control_port": CONTROL, "identity": True}
    f = Proxy(paths.site, changed(first_hop(net), {"next_hop": to_m}))
    path = paths.add(Path(net, [f, m, n], (net.f_client, CONTROL), (net.server, SERVER_CONTROL)))
    x = path.open()
    records = [proxy.record("session-start") for proxy in path.proxies]
    assert {r["SLUICE_CLIENT"] for r in records} == {"{}:{}".format(*x.c.local)}
    assert len({r["SLUICE_SESSION"] for r in records}) == 1
    assert records[1]["SLUICE_PEER"].startswith(f"{net.f_server}:")
    assert records[2]["SLUICE_PEER"].startswith(f"{middle_up}:")
    x.in_step()


def test_14_1_the_header_is_the_first_thing_that_the_next_hop_gets(paths: Paths) -> None:
    """It names the client's end and the end that the client addressed."""
    path = paths.front(next_hop__identity=True)
    mark = len(path.first.log)
    server, client = path.server, path.client()
    heard = server.accept({"QUIT": None}, greeting=None)  # the signature holds a line QUIT
    ident = path.first.record("session-start", mark)["SLUICE_SESSION"].encode()
    expected = header(client.local, path.entry, ident)
    eventually("the header", lambda: bytes(heard.raw) == expected)
    heard.reply(b"220 Here.")
    assert client.reply().code == 220
    client.line("USER me")
    eventually("the login", lambda: bytes(heard.raw) == expected + b"USER me\r\n")


@pytest.mark.parametrize(
    "content",
    [
        b"USER u\r\n",
        b"PROXY TCP4 10.1.0.10 10.1.0.1 40001 21\r\n",
        SIGNATURE + b"\x21\x11\0\x00",
        SIGNATURE + b"\x21\x31\0\xd8" + bytes(216),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(4000),
        header(("10.1.0.10", 1), ("10.1.0.1", 21), b"a\nb"),
    ],
    ids=["a command", "version 1", "too short", "UNIX", "too long", "a line in the id"],
)
def test_14_1_anything_else_is_closed_without_a_reply(paths: Paths, content: bytes) -> None:
    path = paths.one(client_side__identity=True)
    mark = len(path.last.log)
    c = path.client()
    c.send(content)
    assert c.end()[0] == b""
    record = path.last.record("refused", mark, CLIENT="{}:{}".format(*c.local))
    assert record["SLUICE_REASON"]
    assert not path.last.records("session-start", mark)
    c.close()
    eventually("nothing is left of it", lambda: path.last.sessions() == 0)
    assert [r for r in path.last.log[mark:] if r["SLUICE_EVENT"] != "refused"] == []


def test_14_1_who_says_nothing_and_leaves_is_let_go(paths: Paths) -> None:
    path = paths.one(client_side__identity=True)
    mark = len(path.last.log)
    c = path.client()
    c.send(SIGNATURE)
    c.sock.shutdown(socket.SHUT_WR)
    assert c.end()[0] == b""
    assert "ended before" in path.last.record("refused", mark)["SLUICE_REASON"]


def test_14_1_a_stranger_is_closed_without_a_reply(paths: Paths) -> None:
    """Also with a header: only the hop before is believed."""
    path = paths.own(1, client_side__identity=True, client_side__peers=lambda net: [f"{net.client}/32"])
    c = path.client(path.net.other_client)
    c.sock.sendall(header(("10.1.0.10", 40001), ("10.1.0.1", 21)))
    assert c.end()[0] == b""
    assert "not in the allowed networks" in path.last.record("refused")["SLUICE_REASON"]
    assert not path.last.records("session-start")


def test_14_1_a_local_header_is_a_session_of_the_hop_before_itself(paths: Paths) -> None:
    path = paths.one(client_side__identity=True)
    mark = len(path.last.log)
    server, c = path.server, path.client()
    c.send(LOCAL)
    server.accept()
    c.login()
    start = path.last.record("session-start", mark)
    assert start["SLUICE_CLIENT"] == "{}:{}".format(*c.local)
    assert "SLUICE_PEER" not in start


def test_14_1_and_2_12_a_full_hop_tells_the_client(paths: Paths) -> None:
    path = paths.own(2, f__next_hop__identity=True, n__client_side__identity=True, n__limits={"sessions": 1})
    path.open()
    late = path.client()
    reply = late.reply()
    assert reply.code == 421
    assert "the limit of 1 sessions" in reply.text


@pytest.mark.parametrize("setup", ["PASV", "EPRT"])
def test_14_1_and_10_1_data_goes_to_the_hop_before(paths: Paths, setup: str) -> None:
    """3.14 and 3.16 ask for the address of the control connection, whoever it says that it comes for."""
    path = paths.one(client_side__identity=True)
    server, c = path.server, path.client()
    c.send(header((path.net.thief, 40001), (path.net.f_client, 21)))
    x = Session(c, server.accept())
    c.login()
    assert c.cmd(active_command("PORT", path.net.thief, 40002)).code == 504
    agreed = c.setup(setup)
    if setup == "PASV":
        with contextlib.suppress(ConnectionResetError):  # before connect() returned
            assert Data(dial(*agreed.address, path.net.thief)).end() == "reset"
    c_data, s_data = x.run("RETR f", agreed)
    s_data.send(b"data")
    s_data.close()
    assert c_data.read_all() == (b"data", "fin")


def test_10_5_and_14_2_operators_find_the_session_by_the_first_hops_id(paths: Paths) -> None:
    path = carrying(paths)
    mark = len(path.first.log)
    x = path.open()
    ident = path.first.record("session-start", mark)["SLUICE_SESSION"]
    (found,) = json.loads(path.last.ask("--json", "sessions").stdout)
    assert (found["session"], found["client"]) == (ident, "{}:{}".format(*x.c.local))
    assert path.last.ask("kill", ident).returncode == 0
    assert x.c.reply().code == 421


def test_14_5_each_session_has_a_connection_of_its_own_opened_for_it(paths: Paths) -> None:
    """There is no pool: nothing is connected before a client is, and no connection serves two."""
    path = carrying(paths)
    mark = len(path.last.log)
    x, y = path.open(), path.open()
    records = [
        path.last.record("session-start", mark, CLIENT="{}:{}".format(*each.c.local)) for each in (x, y)
    ]
    assert len({record["SLUICE_PEER"] for record in records}) == 2
    assert len(path.last.log) == mark + 2
    assert x.s.peer != y.s.peer
