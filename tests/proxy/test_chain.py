# SPDX-License-Identifier: GPL-3.0-or-later
"""10.1 and 14.3: to a hop the one before is the client, and it behaves as one that is looked at closely."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from .harness import CONTROL, SERVER_CONTROL, Path, Paths, Proxy, changed, first_hop, last_hop
from .test_faults import nobody_listens, syn_goes_unanswered
from .wire import listen

Fault = Callable[[tuple[str, int]], AbstractContextManager[None]]


@pytest.mark.parametrize("mode", ["active", "passive"])
def test_10_1_data_comes_from_the_address_of_the_control_connection(paths: Paths, mode: str) -> None:
    """As N checks it of its client F (3.14, 3.16): F dials from there, or names that address."""
    x = paths.front(server_side__mode=mode).open()
    control = x.s.peer[0]
    _c_data, s_data = x.begin("RETR f")
    assert s_data.peer[0] == control
    if mode == "active":
        assert x.s.lines[-2].startswith(b"EPRT |1|" + control.encode() + b"|")


def test_14_3_a_hop_logs_the_one_before_as_its_client(paths: Paths) -> None:
    path = paths.two()
    since = len(path.last.log)
    x = path.open()
    start = path.last.record("session-start", since)
    assert start["SLUICE_CLIENT"].startswith(f"{path.net.f_server}:")
    x.in_step()


@pytest.mark.parametrize("fault", [nobody_listens, syn_goes_unanswered])
def test_15_1_in_order_a_host_that_does_not_answer_is_passed_over(paths: Paths, fault: Fault) -> None:
    """Refused, or silent until the connect timeout; then it is rested, and not tried for each session."""
    net = paths.site.net()
    dead = f"{net.prefix}.13"
    hosts = [{"name": "n2", "addresses": [dead]}, {"name": "n1", "addresses": [net.n_client]}]
    n1 = Proxy(paths.site, last_hop(net))
    f = Proxy(
        paths.site, changed(first_hop(net), {"next_hop.hosts": hosts, "timeouts.connect": 0.5, "workers": 1})
    )
    path = paths.add(Path(net, [f, n1], (net.f_client, CONTROL), (net.server, SERVER_CONTROL)))
    with fault((dead, CONTROL)):
        path.open().in_step()
    with listen(dead, CONTROL) as back:
        path.open().in_step()
        back.setblocking(False)
        with pytest.raises(BlockingIOError):
            back.accept()


@pytest.mark.parametrize(
    "says", [b"", b"SSH-2.0-OpenSSH_9.2p1\r\n", None], ids=["closes", "not FTP", "silent"]
)
def test_15_1_a_host_that_does_not_greet_is_passed_over(paths: Paths, says: bytes | None) -> None:
    """The connection stands, but nobody greets: then it is rested, too."""
    net = paths.site.net()
    dead = f"{net.prefix}.13"
    hosts = [{"name": "n2", "addresses": [dead]}, {"name": "n1", "addresses": [net.n_client]}]
    n1 = Proxy(paths.site, last_hop(net))
    settings = {"next_hop.hosts": hosts, "timeouts.greeting": 1, "workers": 1}
    f = Proxy(paths.site, changed(first_hop(net), settings))
    path = paths.add(Path(net, [f, n1], (net.f_client, CONTROL), (net.server, SERVER_CONTROL)))
    with listen(dead, CONTROL) as ill:

        def answer() -> None:
            taken, _ = ill.accept()
            with taken:
                taken.sendall(says or b"")
                if says is None:
                    assert taken.recv(1000) == b"", "the proxy gives it up"

        with ThreadPoolExecutor(1) as pool:
            answered = pool.submit(answer)
            path.open().in_step()
            answered.result()
        path.open().in_step()
        ill.setblocking(False)
        with pytest.raises(BlockingIOError):
            ill.accept()


def test_15_1_and_15_2_sessions_are_spread_over_the_hosts_of_the_next_hop(paths: Paths) -> None:
    """Both hosts get some, each with its data; when one is dead, the other takes them all."""
    net = paths.site.net()
    second = {
        "host": "n2",
        "client_side.addresses": [{"address": f"{net.prefix}.13", "public": f"{net.prefix}.13"}],
        "server_side.addresses": [{"address": f"{net.prefix}.15", "public": f"{net.prefix}.15"}],
    }
    hosts = [
        {"name": "n1", "addresses": [net.n_client]},
        {"name": "n2", "addresses": [f"{net.prefix}.13"]},
    ]
    n1 = Proxy(paths.site, last_hop(net))
    n2 = Proxy(paths.site, changed(last_hop(net), second))
    f = Proxy(paths.site, changed(first_hop(net), {"next_hop.hosts": hosts, "next_hop.order": "spread"}))
    path = paths.add(Path(net, [f, n1, n2], (net.f_client, CONTROL), (net.server, SERVER_CONTROL)))
    served = {net.n_server: 0, f"{net.prefix}.15": 0}
    for _session in range(16):
        x = path.open()
        served[x.s.peer[0]] += 1
        c_data, s_data = x.begin("RETR f")
        assert s_data.peer[0] == x.s.peer[0], "from the host that has the control connection"
        s_data.send(b"x")
        assert c_data.receive(1) == b"x"
    assert all(served.values()), served
    n2.kill()
    for _session in range(8):
        assert path.open().s.peer[0] == net.n_server
