# SPDX-License-Identifier: GPL-3.0-or-later
"""3.5, 3.9, 3.12, 3.13 with IPv6 on either leg. There is but ::1, so ports keep the tests apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import SERVER_CONTROL, Path, Proxy, Session, Site, changed, last_hop
from .wire import listen, untouched

LOOPBACK = [{"address": "::1", "public": "::1"}]
CONTENT = bytes(range(256)) * 40


def _start(site: Site, *, v6_server: bool, offset: int) -> Path:
    """A proxy with a client leg of both families, and a server leg of IPv4 or IPv6."""
    net = site.net()
    settings = last_hop(net)
    first = offset + 2
    sides = {}
    for i, name in enumerate(
        ("client_side.listen", "client_side.source", "server_side.listen", "server_side.source")
    ):
        low = site.v6_port(first + 8 * i)
        sides[name] = f"{low}-{low + 7}"
    server = ("::1", site.v6_port(offset + 1)) if v6_server else (net.server, SERVER_CONTROL)
    settings = changed(
        settings,
        {
            **sides,
            "client_side.addresses": [*settings["client_side"]["addresses"], *LOOPBACK],
            "client_side.peers": [*settings["client_side"]["peers"], "::1/128"],
            "client_side.control_port": site.v6_port(offset),
            "server_side.addresses": [*settings["server_side"]["addresses"], *LOOPBACK],
            "servers.networks": [*settings["servers"]["networks"], "::1/128"],
            "servers.control_ports": [server[1]],
            "servers.fixed": f"[::1]:{server[1]}" if v6_server else f"{server[0]}:{server[1]}",
        },
    )
    return Path(net, [Proxy(site, settings)], ("::1", site.v6_port(offset)), server)


@pytest.fixture(scope="module")
def proxies(site: Site) -> Iterator[dict[str, Path]]:
    paths: dict[str, Path] = {}
    try:
        paths["v4 server"] = _start(site, v6_server=False, offset=0)
        paths["v6 server"] = _start(site, v6_server=True, offset=35)
        yield paths
    finally:
        for path in paths.values():
            path.stop()


@pytest.fixture(params=["v4 server", "v6 server"])
def v6(request: pytest.FixtureRequest, proxies: dict[str, Path]) -> Iterator[Path]:
    path = proxies[request.param]
    yield path
    path.tidy()
    path.check()


def both_ways(x: Session, setup: str) -> None:
    for verb in ("RETR f", "STOR f"):
        c_data, s_data = x.begin(verb, setup)
        sender, receiver = (s_data, c_data) if verb == "RETR f" else (c_data, s_data)
        sender.send(CONTENT)
        sender.fin()
        assert receiver.read_all() == (CONTENT, "fin")
        s_data.close()
        x.s.reply(b"226 Done.")
        assert x.c.reply().code == 226


@pytest.mark.parametrize("setup", ["EPSV", "EPRT"])
def test_3_12_a_v6_client_with_either_server(v6: Path, setup: str) -> None:
    x = v6.open()
    both_ways(x, setup)
    assert b"::ffff:" not in bytes(x.s.raw) + bytes(x.c.received)
    x.in_step()


@pytest.mark.parametrize("setup", ["PASV", "EPSV", "PORT", "EPRT"])
def test_3_12_a_v4_client_with_either_server(v6: Path, setup: str) -> None:
    """The same proxy, dialled on its IPv4 address."""
    entry = v6.entry
    v6.entry = (v6.net.n_client, entry[1])
    try:
        x = v6.open()
    finally:
        v6.entry = entry
    both_ways(x, setup)
    x.in_step()


def test_3_5_pasv_of_a_v6_client_is_refused(v6: Path) -> None:
    """Or names an IPv4 address, which then is this host's own."""
    x = v6.open()
    reply = x.c.cmd("PASV")
    assert reply.code in {425, 500, 501, 502, 522}, reply
    x.in_step()


def test_3_9_epsv_of_a_v6_client(v6: Path) -> None:
    x = v6.open()
    assert x.c.cmd("EPSV 2").code == 229
    reply = x.c.cmd("EPSV 1")
    assert reply.code == 522
    assert b"2)" in reply.raw
    x.in_step()


@pytest.mark.parametrize(
    "line",
    [
        "EPRT |2|::1%lo|9999|",
        "EPRT |1|::1|9999|",
        "EPRT |2|127.0.0.1|9999|",
        "EPRT |2|::g|9999|",
        "EPRT |2|::1|80|",
        "EPRT |2|::2|9999|",
        "EPRT |2|::ffff:127.0.0.1|9999|",
        "PORT 127,0,0,1,39,15",
    ],
)
def test_3_13_eprt_and_port_that_a_v6_client_may_not_send(v6: Path, line: str) -> None:
    x = v6.open()
    assert x.c.cmd(line).code in {500, 501, 504, 522}
    assert x.s.setups == []
    x.in_step()


def test_3_14_eprt_of_the_other_family_is_not_dialled(v6: Path) -> None:
    x = v6.open()
    victim = listen(v6.net.client)
    assert x.c.cmd(f"EPRT |1|{v6.net.client}|{victim.getsockname()[1]}|").code >= 500
    assert x.c.cmd("RETR f").code == 425
    x.in_step()
    assert untouched(victim)
    victim.close()


def test_6_1_client_reset_during_upload_with_v6(v6: Path) -> None:
    x = v6.open()
    c_data, s_data = x.begin("STOR f", "EPSV")
    c_data.send(CONTENT)
    assert s_data.receive(len(CONTENT)) == CONTENT
    c_data.reset()
    assert s_data.end() == "reset"


def test_1_14_the_server_ends_with_v6(v6: Path) -> None:
    x = v6.open()
    x.s.close_control()
    assert x.c.reply().code == 421
    assert x.c.end() == (b"", "fin")
