# SPDX-License-Identifier: GPL-3.0-or-later
"""2.12: limits of sessions and of bandwidth, and a proxy out of descriptors: it says why, and it recovers."""

from __future__ import annotations

import threading

import pytest

from .harness import CONTROL, SERVER_CONTROL, Path, Paths, Proxy, Session, changed, last_hop
from .wire import eventually


def test_2_12_one_session_over_the_limit_is_421(paths: Paths) -> None:
    path = paths.own(1, limits={"sessions": 2})
    first, second = path.open(), path.open()
    for _ in range(3):
        c = path.client()
        assert c.reply().text == "421 N: the limit of 2 sessions at once is reached."
        assert c.end()[0] == b""
    reason = "the limit of 2 sessions at once is reached"
    eventually("three records", lambda: len(path.last.records("refused", REASON=reason)) == 3)
    second.in_step()
    assert first.c.cmd("QUIT").code == 221
    first.c.close()
    second.c.close()
    eventually("the sessions are over", lambda: path.last.sessions() == 0)
    path.open().in_step()


def test_2_12_one_session_of_an_address_over_the_limit_is_421(paths: Paths) -> None:
    path = paths.own(1, limits={"sessions_per_client": 1})
    x = path.open()
    assert path.client().reply().text == "421 N: the limit of 1 sessions of one client at once is reached."
    y = path.open(source=path.net.other_client)
    x.in_step()
    y.in_step()
    x.c.reset()
    y.c.close()
    eventually("the sessions are over", lambda: path.last.sessions() == 0)
    path.open().in_step()


def test_2_12_more_sessions_in_a_minute_than_a_client_may_begin_are_421(paths: Paths) -> None:
    """Whichever worker takes them; those that are over count, too, and nobody else's."""
    path = paths.own(1, workers=2, limits={"sessions_per_client_per_minute": 3})
    for _ in range(3):
        x = path.open()
        assert x.c.cmd("QUIT").code == 221
    reason = "the limit of 3 sessions of one client in a minute is reached"
    for _ in range(3):
        c = path.client()
        assert c.reply().text == f"421 N: {reason}."
        assert c.end()[0] == b""
    eventually("three records", lambda: len(path.last.records("refused", REASON=reason)) == 3)
    path.open(source=path.net.other_client).in_step()


CONTENT = bytes(range(256)) * 1200


def fetch(x: Session, into: list[tuple[bytes, str]]) -> None:
    """Start a download of CONTENT; what comes of it goes to `into`."""
    c_data, s_data = x.begin("RETR f")

    def send() -> None:
        s_data.send(CONTENT)
        s_data.close()

    threads = [threading.Thread(target=send), threading.Thread(target=lambda: into.append(c_data.read_all()))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226


@pytest.mark.parametrize(
    "limits", [{"bandwidth": 500_000}, {"bandwidth_per_session": 500_000, "bandwidth": 800_000}]
)
def test_2_12_and_4_8_two_limited_sessions_share_and_get_all(paths: Paths, limits: dict[str, int]) -> None:
    path = paths.own(1, workers=2, limits=limits, timeouts__data_idle=1)
    sessions = [path.open() for _ in range(2)]
    found: list[tuple[bytes, str]] = []
    threads = [threading.Thread(target=fetch, args=(x, found)) for x in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(CONTENT, "fin")] * 2
    for x in sessions:
        x.in_step()


def test_2_12_and_4_8_a_limited_upload_gets_there(paths: Paths) -> None:
    path = paths.own(2, f__limits={"bandwidth_per_session": 500_000}, n__limits={"bandwidth": 600_000})
    x = path.open()
    c_data, s_data = x.begin("STOR f")

    def send() -> None:
        c_data.send(CONTENT)
        c_data.close()

    sender = threading.Thread(target=send)
    sender.start()
    assert s_data.read_all() == (CONTENT, "fin")
    sender.join()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.in_step()


@pytest.mark.parametrize("limit", ["bandwidth", "bandwidth_per_session"])
def test_2_12_and_5_5_abor_ends_a_limited_transfer_at_once(paths: Paths, limit: str) -> None:
    """It does not wait for the transfer's next turn."""
    path = paths.own(1, workers=1, limits={limit: 1000})
    x = path.open()
    c_data, s_data = x.begin("RETR f")
    s_data.send(CONTENT[:3000])
    assert c_data.receive(300) == CONTENT[:300]
    x.c.line("ABOR")
    assert x.s.next() == b"ABOR"
    assert c_data.read_all()[1] == "reset"
    x.s.reply(b"426 Aborted.")
    x.s.reply(b"226 ABOR done.")
    assert [x.c.reply().code for _ in range(2)] == [426, 226]
    s_data.close()
    x.in_step()
    assert path.last.record("transfer", OUTCOME="aborted")


@pytest.mark.parametrize("spare", [0, 1])
def test_2_12_a_proxy_out_of_descriptors_recovers(paths: Paths, spare: int) -> None:
    """Nobody's session ends; who had no place is told, and is served once there is one again."""
    enough = paths.one().last.baseline + 12
    net = paths.site.net()
    proxy = Proxy(paths.site, changed(last_hop(net), {"timeouts.greeting": 0.3}), descriptors=enough + spare)
    path = paths.add(Path(net, [proxy], (net.n_client, CONTROL), (net.server, SERVER_CONTROL)))
    x = path.open()
    crowd = [path.client() for _ in range(20)]
    eventually("it runs out", lambda: proxy.descriptors() >= enough - 1)
    x.in_step()
    assert x.c.cmd("PASV").code in {227, 425}
    x.in_step()
    for client in crowd:
        client.close()
    x.c.close()
    eventually("all is over", lambda: proxy.sessions() == 0)
    path.server.close()
    path.tidy()
    y = path.open()
    c_data, s_data = y.begin("RETR f")
    s_data.send(b"content")
    s_data.close()
    assert c_data.read_all() == (b"content", "fin")
