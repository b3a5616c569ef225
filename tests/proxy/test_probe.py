# SPDX-License-Identifier: GPL-3.0-or-later
"""`sluice probe`: which leg of the path fails, and why."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .fake_server import Answer, ServerSession, unreachable_port
from .harness import CONTROL, SERVER_CONTROL, Path, Paths, Proxy
from .wire import EndedError, eventually, listen

LOGIN = ("--user", "anna")
Walk = dict[str, Any]


def probe(proxy: Proxy, *words: str, password: str = "secret\n") -> tuple[int, Walk]:
    """Its exit status, and the one walk that it tells of."""
    done = proxy.ask("--json", "probe", *words, stdin=password)
    assert done.stdout, done.stderr
    (walk,) = json.loads(done.stdout)
    return done.returncode, walk


def told(walk: Walk) -> dict[str, bool | None]:
    return {f"{step['leg']} {step['what']}": step["ok"] for step in walk["steps"]}


def serve(path: Path, auto: Mapping[str, Answer] | None = None, transfer: bytes = b"150 Here.") -> Any:
    """The server answers one probe by itself; the session, when it is over."""
    server = path.server

    def work() -> ServerSession:
        x = server.accept(auto)
        while True:
            try:
                line = x.next()
            except (EndedError, AssertionError):
                return x
            if line == b"LIST":
                x.reply(transfer)
                if transfer[:1] == b"1":
                    data = x.data()
                    data.send(b"a listing\r\n")
                    data.close()
                    x.reply(b"226 Done.")

    return ThreadPoolExecutor(1).submit(work)


EVERYTHING = {
    "F-N control": True,
    "beyond N control": True,
    "beyond N login": True,
    "F-N data passive": True,
    "beyond N data": True,
    "F-N data active": True,
}


def test_a_whole_path_through_two_hops(paths: Paths) -> None:
    path = paths.two()
    f = path.first
    before = f.descriptors()  # with the pipes that transfers of other tests have left in its pool
    since = len(f.log)
    over = serve(path)
    code, walk = probe(f, *LOGIN)
    assert (code, walk["verdict"]) == (0, "Every leg works.")
    assert told(walk) == EVERYTHING
    session = over.result()
    assert b"PASS secret" in session.lines
    assert session.lines.count(b"LIST") == 2
    record = f.record("probe", since)
    assert record["MESSAGE"] == f"probe of {path.net.n_client}:{CONTROL}: Every leg works."
    assert "secret" not in json.dumps(f.log)
    eventually("nothing of the probe is open", lambda: f.descriptors() <= before)


def test_14_1_a_next_hop_that_asks_for_whom_is_told_for_nobody(paths: Paths) -> None:
    path = paths.two(f__next_hop__identity=True, n__client_side__identity=True)
    over = serve(path)
    code, walk = probe(path.first, *LOGIN)
    assert (code, walk["verdict"]) == (0, "Every leg works.")
    assert over.result().lines.count(b"LIST") == 2


def test_the_last_hop_walks_its_own_leg(one: Path) -> None:
    serve(one)
    code, walk = probe(one.last, *LOGIN)
    assert (code, walk["verdict"]) == (0, "Every leg works.")
    assert list(told(walk)) == ["N-S control", "N-S login", "N-S data passive", "N-S data active"]


@pytest.mark.parametrize("mode", ["active", "passive"])
def test_a_mode_that_the_leg_does_not_have_is_not_tried(paths: Paths, mode: str) -> None:
    path = paths.one(server_side__mode=mode)
    over = serve(path)
    code, walk = probe(path.last, *LOGIN)
    other = {"active": "passive", "passive": "active"}[mode]
    assert code == 0
    assert told(walk) == {
        "N-S control": True,
        "N-S login": True,
        f"N-S data {mode}": True,
        f"N-S data {other}": None,
    }
    assert over.result().setups == [{"active": b"EPRT", "passive": b"EPSV"}[mode]]


def test_without_a_user_data_is_not_tried(one: Path) -> None:
    over = serve(one)
    code, walk = probe(one.last)
    assert (code, walk["verdict"]) == (0, "What was tried works.")
    assert told(walk) == {"N-S control": True, "N-S data": None}
    assert over.result().lines == [b"QUIT"]


def test_the_next_hop_is_down(paths: Paths) -> None:
    path = paths.own(2)
    path.last.kill()
    done = path.first.ask("probe", *LOGIN, stdin="secret\n")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        f"F-N control fails: next hop N ({path.net.n_client}:{CONTROL}) refused the connection "
        "(nothing listens there)."
    )
    path.proxies.remove(path.last)


def test_the_server_is_down(paths: Paths) -> None:
    """N says so when it greets; the leg is taken from its words."""
    path = paths.two()
    code, walk = probe(path.first, *LOGIN)
    assert code == 1
    assert told(walk) == {"F-N control": True, "N-S control": False}
    assert walk["verdict"] == (
        f"N-S control fails: next hop N ({path.net.n_client}:{CONTROL}) greeted with: "
        f"421 N: server {path.net.server}:{SERVER_CONTROL} refused the connection (nothing listens there)."
    )


def test_a_silent_server_is_told_from_one_that_refuses(paths: Paths) -> None:
    path = paths.own(1, timeouts__greeting=0.5)
    silent = listen(path.net.server, SERVER_CONTROL)
    code, walk = probe(path.last, *LOGIN)
    assert code == 1
    assert walk["verdict"].startswith("N-S control fails: server ")
    assert "sent no greeting within 0.5 s" in walk["verdict"]
    silent.close()


def test_a_login_that_is_refused(one: Path) -> None:
    serve(one, {"PASS": b"530 Login incorrect."})
    code, walk = probe(one.last, *LOGIN)
    assert code == 1
    assert walk["verdict"] == "N-S login fails: the login was answered with: 530 Login incorrect."


def test_passive_data_that_is_blocked(one: Path) -> None:
    """The control connection and the other mode work all the same."""
    serve(one, {"EPSV": unreachable_port, "PASV": unreachable_port})
    code, walk = probe(one.last, *LOGIN)
    assert code == 1
    assert told(walk) == {
        "N-S control": True,
        "N-S login": True,
        "N-S data passive": False,
        "N-S data active": True,
    }
    assert walk["verdict"].startswith("N-S data passive fails: server ")
    assert "refused the connection (data port " in walk["verdict"]


def test_active_data_that_never_comes_is_told_on_the_last_leg(paths: Paths) -> None:
    path = paths.own(1, server_side__mode="active", timeouts__data_connect=0.5)
    server = path.server
    threading.Thread(target=lambda: stall(server), daemon=True).start()
    code, walk = probe(path.last, *LOGIN)
    assert code == 1
    assert walk["verdict"].startswith("N-S data active fails: server ")
    assert "did not open its data connection within 10.5 s" in walk["verdict"]


def test_active_data_that_never_comes_is_the_leg_beyond(paths: Paths) -> None:
    """N waits for S in vain, and says so to F: the leg F-N is not to blame."""
    path = paths.own(
        2, n__server_side__mode="active", f__server_side__mode="passive", n__timeouts__data_connect=1
    )
    server = path.server
    stalls = threading.Thread(target=lambda: stall(server), daemon=True)
    stalls.start()
    code, walk = probe(path.first, *LOGIN)
    assert code == 1
    assert told(walk)["F-N data passive"] is True
    assert told(walk)["N-S data"] is False
    assert "did not open its data connection within 1 s" in walk["verdict"]
    assert "a packet filter on the way drops it" in walk["verdict"]


def stall(server: Any) -> None:
    """A server that answers LIST with 150 and never connects."""
    x = server.accept()
    try:
        while True:
            if x.next() == b"LIST":
                x.reply(b"150 Here it comes.")
    except (EndedError, AssertionError):
        return


def test_a_server_that_a_user_may_not_reach_is_not_probed(paths: Paths) -> None:
    path = paths.one(servers__fixed=None)
    for words, sentence in (
        ((), "name a server"),
        ((f"{path.net.forbidden_server}:{SERVER_CONTROL}",), "is not in the allowed networks"),
        ((f"{path.net.server}:22",), "port 22 is not one of the allowed control ports"),
    ):
        done = path.last.ask("probe", *words)
        assert done.returncode == 1
        assert sentence in done.stderr


@pytest.mark.parametrize("key", ["server", "user", "password"])
def test_no_line_is_smuggled_into_a_command(one: Path, key: str) -> None:
    """Whoever may open the door may log in where a client may; still, a part of a line is no other line."""
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(8)
        door.connect(str(one.last.runtime / "control"))
        door.sendall(json.dumps({"ask": "probe", "user": "u", key: "a\r\nDELE f"}).encode() + b"\n")
        answer = json.loads(door.makefile().readline())
    assert answer == {"failed": f"the {key} is no text of one line."}
