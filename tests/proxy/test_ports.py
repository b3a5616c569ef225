# SPDX-License-Identifier: GPL-3.0-or-later
"""PROTOCOL.md section 13: the four ranges are never left, and what is used comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from .fake_client import SETUPS, active_command
from .harness import WHOLE, Path, Paths, Session
from .wire import Data, eventually, listen

CONTENT = b"some content\r\n" * 100


@contextmanager
def occupied(address: str, ports: range | list[int]) -> Iterator[None]:
    """Ports on which somebody else listens: nobody can bind them then, SO_REUSEADDR or not."""
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(listen(address, port))
        yield


def fetch(x: Session, setup: str) -> tuple[Data, Data]:
    """A whole download; both ends of its data connection, closed."""
    c_data, s_data = x.begin("RETR f", setup)
    s_data.send(CONTENT)
    s_data.close()
    assert c_data.read_all() == (CONTENT, "fin")
    c_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    return c_data, s_data


@pytest.mark.parametrize("server_mode", ["active", "passive"])
@pytest.mark.parametrize("setup", SETUPS)
def test_13_1_every_port_lies_in_its_own_range(paths: Paths, setup: str, server_mode: str) -> None:
    path = paths.one(server_side__mode=server_mode)
    x = path.open()
    for _ in range(4):
        c_data, s_data = fetch(x, setup)
        assert c_data.peer[0] == path.net.n_client
        assert s_data.peer[0] == path.net.n_server
        low = 24000 if setup in {"PASV", "EPSV"} else 25000
        assert low <= c_data.peer[1] < low + 20
        low = 27000 if server_mode == "passive" else 26000
        assert low <= s_data.peer[1] < low + 20


@pytest.mark.parametrize("setup", SETUPS)
def test_13_1_in_a_chain_too(paths: Paths, setup: str) -> None:
    x = paths.two().open()
    c_data, s_data = fetch(x, setup)
    passive = setup in {"PASV", "EPSV"}
    assert 0 <= c_data.peer[1] - (20000 if passive else 21000) < 20
    assert 0 <= s_data.peer[1] - (27000 if passive else 26000) < 20


@pytest.mark.parametrize("free", [24000, 24007, 24019])
def test_13_2_the_last_free_listening_port_is_found(one: Path, free: int) -> None:
    x = one.open()
    others = [port for port in range(24000, 24020) if port != free]
    with occupied(one.net.n_client, others):
        for setup in ("PASV", "EPSV"):
            agreed = x.c.setup(setup)
            assert agreed.address[1] == free
        c_data, s_data = x.run("RETR f", agreed)
        s_data.close()
        assert c_data.end() == "fin"


def test_13_2_no_free_listening_port_is_425(one: Path) -> None:
    x = one.open()
    with occupied(one.net.n_client, range(24000, 24020)):
        mark = len(one.last.log)
        for setup in ("PASV", "EPSV"):
            assert x.c.cmd(setup).text == "425 N: no free port in 24000-24019."
        eventually("a record of it", lambda: any("24000-24019" in str(r) for r in one.last.log[mark:]))
    x.in_step()
    fetch(x, "PASV")


@pytest.mark.parametrize("free", [25000, 25013, 25019])
def test_13_2_the_last_free_source_port_towards_the_client_is_found(one: Path, free: int) -> None:
    x = one.open()
    others = [port for port in range(25000, 25020) if port != free]
    with occupied(one.net.n_client, others):
        c_data, _ = fetch(x, "PORT")
    assert c_data.peer[1] == free


def test_13_2_no_free_source_port_towards_the_client_is_425(one: Path) -> None:
    x = one.open({"ABOR": b"226 Done."})
    agreed = x.c.setup("PORT")
    with occupied(one.net.n_client, range(25000, 25020)):
        x.c.line("RETR f")
        reply = x.c.reply()
    assert reply.text == "425 N: no free port in 25000-25019."
    assert agreed.listener is not None


@pytest.mark.parametrize("free", [27000, 27019])
def test_13_2_the_last_free_source_port_towards_the_server_is_found(paths: Paths, free: int) -> None:
    path = paths.one(server_side__mode="passive")
    x = path.open()
    others = [port for port in range(27000, 27020) if port != free]
    with occupied(path.net.n_server, others):
        _, s_data = fetch(x, "PASV")
    assert s_data.peer[1] == free


@pytest.mark.parametrize("free", [26000, 26019])
def test_13_2_the_last_free_listening_port_towards_the_server_is_found(paths: Paths, free: int) -> None:
    path = paths.one(server_side__mode="active")
    x = path.open()
    others = [port for port in range(26000, 26020) if port != free]
    with occupied(path.net.n_server, others):
        _, s_data = fetch(x, "PASV")
    assert s_data.peer[1] == free


@pytest.mark.parametrize(("mode", "low"), [("active", 26000), ("passive", 27000)])
def test_13_2_no_free_port_towards_the_server_is_425(paths: Paths, mode: str, low: int) -> None:
    path = paths.one(server_side__mode=mode)
    x = path.open()
    with occupied(path.net.n_server, range(low, low + 20)):
        reply = x.c.cmd("PASV")
        if reply.code == 227:
            reply = x.c.cmd("RETR f")
        assert reply.text == f"425 N: no free port in {low}-{low + 19}."
    x.in_step()
    fetch(x, "PASV")


@pytest.mark.parametrize("server_mode", ["active", "passive"])
@pytest.mark.parametrize("setup", SETUPS)
def test_13_3_a_range_of_two_carries_two_transfers_at_once(
    paths: Paths, setup: str, server_mode: str
) -> None:
    path = paths.one(
        client_side__listen="24000-24001",
        client_side__source="25000-25001",
        server_side__listen="26000-26001",
        server_side__source="27000-27001",
        server_side__mode=server_mode,
    )
    sessions = [path.open(), path.open()]
    for _ in range(3):
        running = [x.begin("RETR f", setup) for x in sessions]
        for x, (c_data, s_data) in zip(sessions, running, strict=True):
            s_data.send(CONTENT)
            s_data.close()
            assert c_data.read_all() == (CONTENT, "fin")
            x.s.reply(b"226 Done.")
            assert x.c.reply().code == 226


@pytest.mark.parametrize("server_mode", ["active", "passive"])
@pytest.mark.parametrize("setup", SETUPS)
def test_13_7_a_limit_of_transfers_bounds_transfers_not_sessions(
    paths: Paths, setup: str, server_mode: str
) -> None:
    """limits.transfers: one more is told 425 and stays; its place is free again after each transfer."""
    path = paths.one(limits={"transfers": 2}, server_side__mode=server_mode)
    first, second, third = (path.open() for _ in range(3))
    for _ in range(3):
        running = [x.begin("RETR f", setup) for x in (first, second)]
        third.c.line(active_command(setup, path.net.client, 40000) if setup in {"PORT", "EPRT"} else setup)
        reply = third.c.reply()
        if reply.code == 200:
            reply = third.c.cmd("RETR f")
        assert reply.text == "425 N: the limit of 2 transfers at once is reached."
        for x, (c_data, s_data) in zip((first, second), running, strict=True):
            s_data.send(CONTENT)
            s_data.close()
            assert c_data.read_all() == (CONTENT, "fin")
            x.s.reply(b"226 Done.")
            assert x.c.reply().code == 226
        third.in_step()
        fetch(third, setup)


@pytest.mark.parametrize("setup", SETUPS)
def test_13_3_twenty_ports_carry_twenty_transfers_at_once(path: Path, setup: str) -> None:
    sessions = [path.open() for _ in range(20)]
    running = [x.begin("RETR f", setup) for x in sessions]
    assert len({c_data.peer[1] for c_data, _ in running}) == 20 or setup in {"PORT", "EPRT"}
    for c_data, s_data in reversed(running):
        s_data.send(CONTENT)
        s_data.close()
        assert c_data.read_all() == (CONTENT, "fin")
    for x in sessions:
        x.s.reply(b"226 Done.")
        assert x.c.reply().code == 226


@pytest.mark.parametrize("server_mode", ["active", "passive"])
@pytest.mark.parametrize("setup", SETUPS)
def test_13_3_a_range_of_one_is_free_again_after_each_transfer(
    paths: Paths, setup: str, server_mode: str
) -> None:
    """TIME_WAIT does not eat the range, nor does a transfer that was reset (6.4)."""
    path = paths.one(
        client_side__listen="24000",
        client_side__source="25000",
        server_side__listen="26000",
        server_side__source="27000",
        server_side__mode=server_mode,
    )
    x = path.open()
    for i in range(8):
        if i % 4 == 3:
            c_data, s_data = x.begin("STOR f", setup)
            c_data.reset()
            assert s_data.end() == "reset"
            x.s.reply(b"426 Aborted.")
            assert x.c.reply().code == 426
        else:
            fetch(x, setup)


@pytest.mark.parametrize("setup", ["PORT", "EPRT"])
def test_3_4_a_source_range_of_one_serves_two_transfers_to_one_client(paths: Paths, setup: str) -> None:
    """`source: 20` is a range of one; the port is shared by connections to different ports of the client."""
    path = paths.one(client_side__source="25000")
    x, y = path.open(), path.open()
    first, second = x.begin("RETR f", setup), y.begin("RETR g", setup)
    assert first[0].peer[1] == second[0].peer[1] == 25000
    for c_data, s_data in (first, second):
        s_data.send(CONTENT)
        s_data.close()
        assert c_data.read_all() == (CONTENT, "fin")


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("server_mode", ["active", "passive"])
def test_13_4_refused_transfers_leave_no_port_and_no_descriptor(
    paths: Paths, server_mode: str, setup: str
) -> None:
    """A thousand in a row (a hundred in a sample), with ranges of three: what leaked three times would stop
    the fourth."""
    path = paths.one(
        client_side__listen="24000-24002",
        client_side__source="25000-25002",
        server_side__listen="26000-26002",
        server_side__source="27000-27002",
        server_side__mode=server_mode,
    )
    x = path.open({"RETR": b"550 No such file.", "STOR": b"553 Not that name."})
    x.in_step()
    before = path.last.descriptors()
    for i in range(1000 if WHOLE else 100):
        agreed = x.c.setup(setup)
        if agreed.listener is None and i % 2:
            agreed.open()
        assert x.c.cmd("STOR f" if i % 3 else "RETR f").code == (553 if i % 3 else 550)
        if agreed.listener is not None:
            agreed.listener.close()
    eventually("the descriptors are those of before", lambda: path.last.descriptors() <= before)
    x.s.auto = {**x.s.auto, "RETR": None}
    fetch(x, setup)


def test_13_4_set_ups_without_a_transfer_leave_no_port(paths: Paths) -> None:
    """PASV twice, PASV then PORT, PORT then PASV, in one session, with ranges of two."""
    path = paths.one(client_side__listen="24000-24001", client_side__source="25000-25001")
    x = path.open()
    for setup in [*SETUPS, *reversed(SETUPS), *SETUPS, "PASV", "PASV", "PORT", "PORT"] * 3:
        x.c.setup(setup)
    fetch(x, "PASV")
    y = path.open()
    x.c.setup("PASV")
    fetch(y, "PASV")
    x.in_step()


def test_13_5_226_comes_once_the_data_has_gone(path: Path) -> None:
    """Not held back until somebody closes: the server's FIN and 226, and the client keeps its end open."""
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(CONTENT)
    s_data.fin()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    assert c_data.read_all() == (CONTENT, "fin")


def test_13_7_sessions_without_a_transfer_hold_no_port(paths: Paths) -> None:
    path = paths.one(
        client_side__listen="24000",
        client_side__source="25000",
        server_side__listen="26000",
        server_side__source="27000",
    )
    sessions = [path.open() for _ in range(5)]
    for x in sessions:
        for setup in SETUPS:
            fetch(x, setup)
        x.in_step()


@pytest.mark.parametrize("end", ["QUIT", "fin", "reset"])
def test_13_4_a_session_that_ends_gives_its_port_back(paths: Paths, end: str) -> None:
    path = paths.one(client_side__listen="24000", client_side__source="25000")
    for _ in range(3):
        x = path.open()
        x.c.setup("PASV")
        if end == "QUIT":
            assert x.c.cmd("QUIT").code == 221
        elif end == "fin":
            x.c.close()
        else:
            x.c.reset()
        x.s.end()
    y = path.open()
    eventually("the port is free", lambda: y.c.cmd("PASV").code == 227)
