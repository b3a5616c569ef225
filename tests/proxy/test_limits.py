# SPDX-License-Identifier: GPL-3.0-or-later
"""2.12: limits of sessions, and a proxy out of descriptors: refused with a sentence, and it recovers."""

from __future__ import annotations

import pytest

from .harness import CONTROL, SERVER_CONTROL, Path, Paths, Proxy, changed, last_hop
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
