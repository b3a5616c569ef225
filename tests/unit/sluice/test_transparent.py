# SPDX-License-Identifier: GPL-3.0-or-later
"""Interception: whose addresses a session's sockets have, what is refused, what the next hop is told (9)."""

from __future__ import annotations

import asyncio
import copy
import ipaddress
import socket
from dataclasses import replace
from typing import Any

import pytest
from sluice import access, config, ctl, events
from sluice.config import Intercept
from sluice.events import DataSocket, Endpoint, Leg
from sluice.net import control
from sluice.net.transparent import original_destination
from sluice.protocol.identity import HeaderReader

from tests.unit.sluice.playbook import (
    CLIENT,
    CLIENT6,
    ORIGINAL,
    PORT,
    SERVER,
    STRANGER,
    TARGET,
    Playbook,
    intercepting,
    settings,
)
from tests.unit.sluice.test_config import GOOD

OWN = ipaddress.ip_address("10.2.0.2")
OWN_SERVER_SIDE = ipaddress.ip_address("198.51.100.2")
NEXT_HOP = ipaddress.ip_address("198.51.100.11")


def hop(how: str, *, client_source: bool = False, told: bool = False) -> config.Settings:
    return settings(**intercepting(how, client_source=client_source, told=told))


def address(text: str) -> Any:
    return ipaddress.ip_address(text)


# --- settings ----------------------------------------------------------------------------------------

TAKES = {
    "intercept": "tproxy",
    "control_port": 2121,
    "destinations": ["0.0.0.0/0"],
    "destination_ports": [21],
}
TELLS = {**GOOD["next_hop"], "user_at_host": True}


def tables(changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """GOOD with keys of its tables changed, None: taken out."""
    data = copy.deepcopy(GOOD)
    for name, keys in changes.items():
        table = data.setdefault(name, {})
        for key, value in keys.items():
            table[key] = value
            if value is None:
                del table[key]
        if not table:
            del data[name]
    return data


def test_9_1_the_settings_of_an_intercepting_hop() -> None:
    side = config.parse(tables({"client_side": TAKES, "next_hop": TELLS})).client_side
    assert side.intercept is Intercept.TPROXY
    assert (side.control_port, side.destination_ports) == (2121, (21,))
    assert config.parse(GOOD).client_side.intercept is None


NO_NEXT_HOP = {"next_hop": dict.fromkeys(GOOD["next_hop"])}
SERVERS = {"networks": ["0.0.0.0/0"], "control_ports": [21]}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"client_side": {**TAKES, "intercept": "nat"}, "next_hop": TELLS},
            "client_side.intercept: found 'nat', expected redirect or tproxy.",
        ),
        (
            {"client_side": {**TAKES, "destinations": None}, "next_hop": TELLS},
            "client_side.destinations: missing, expected a list of networks.",
        ),
        (
            {"client_side": {**TAKES, "destination_ports": None}, "next_hop": TELLS},
            "client_side.destination_ports: missing, expected a list of ports of 1 to 65535.",
        ),
        (
            {"client_side": {"destinations": ["0.0.0.0/0"]}},
            "client_side.destinations: unknown key.",
        ),
        (
            {
                "client_side": {**TAKES, "intercept": "redirect"},
                "next_hop": TELLS,
                "server_side": {"client_source": True},
            },
            "server_side.client_source: found true, expected false without tproxy.",
        ),
        (
            {"server_side": {"client_source": True}},
            "server_side.client_source: found true, expected false without tproxy.",
        ),
        (
            {"server_side": {"client_source": "client"}},
            "server_side.client_source: found 'client', expected true or false.",
        ),
        (
            {"client_side": TAKES},
            "next_hop.user_at_host: found false, expected true with client_side.intercept.",
        ),
        (
            {"next_hop": TELLS},
            "next_hop.user_at_host: found true, expected false without client_side.intercept.",
        ),
        (
            {"client_side": {**TAKES, "identity": True}, "next_hop": TELLS},
            "client_side.identity: found true, expected false with client_side.intercept.",
        ),
        (
            {"client_side": TAKES, **NO_NEXT_HOP, "servers": {**SERVERS, "fixed": "192.0.2.9"}},
            "servers.fixed: unexpected with client_side.intercept: clients address the server.",
        ),
        (
            {"client_side": TAKES, **NO_NEXT_HOP, "servers": {**SERVERS, "names": ["a.example"]}},
            "servers.names: unexpected with client_side.intercept: clients name no server.",
        ),
    ],
)
def test_9_1_and_9_2_what_does_not_go_together_is_refused(
    changes: dict[str, dict[str, Any]], problem: str
) -> None:
    with pytest.raises(config.ConfigError) as error:
        config.parse(tables(changes))
    assert error.value.problems == [problem]


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "to", "says"),
    [
        (CLIENT.address, ORIGINAL, ""),
        (CLIENT.address, None, "to this proxy itself and was not intercepted"),
        (CLIENT.address, Endpoint(OWN, 2121), "to this proxy itself and was not intercepted"),
        (CLIENT.address, Endpoint(OWN_SERVER_SIDE, 21), "to this proxy itself"),
        (CLIENT.address, Endpoint(address("203.0.113.7"), 21), "to this proxy itself"),  # what clients see
        (OWN_SERVER_SIDE, ORIGINAL, "comes from 198.51.100.2, this proxy itself"),
        (CLIENT.address, Endpoint(SERVER.address, 2121), "port 2121 is not one of the allowed control ports"),
        (CLIENT.address, Endpoint(address("198.51.100.200"), 21), "198.51.100.200 is not in the allowed"),
        (CLIENT.address, Endpoint(address("127.0.0.1"), 21), "127.0.0.1 is not in the allowed"),
    ],
)
@pytest.mark.parametrize("told", [False, True], ids=["dials servers", "tells the next hop"])
@pytest.mark.parametrize("how", ["redirect", "tproxy"])
def test_9_1_neither_end_is_the_proxy_and_the_far_one_is_a_server(
    how: str, told: bool, client: Any, to: Endpoint | None, says: str
) -> None:
    """Also where the networks hold the proxy itself, as 0.0.0.0/0 does."""
    found = access.original_refused(hop(how, told=told), client, to)
    assert says in found
    assert bool(found) is bool(says)


def test_9_1_the_next_hop_is_no_server() -> None:
    to = Endpoint(NEXT_HOP, 21)
    assert "is to 198.51.100.11, of hop S" in access.original_refused(
        hop("tproxy", told=True), CLIENT.address, to
    )
    assert access.original_refused(hop("tproxy"), CLIENT.address, to) == ""


def test_9_1_a_hop_further_on_is_no_server() -> None:
    changes = intercepting("tproxy")
    changes["server_side"] = {**changes.get("server_side", {}), "further_hops": [str(SERVER.address)]}
    found = access.original_refused(settings(**changes), CLIENT.address, ORIGINAL)
    assert found == f"the connection is to {SERVER.address}, of another hop"


def test_9_1_nor_where_the_client_names_it() -> None:
    """An addressed hop before one that intercepts dials the servers itself."""
    allowed = settings()
    assert access.server_refused(allowed, SERVER.address) == ""
    behind = settings(server_side={"further_hops": [str(SERVER.address)]})
    assert access.server_refused(behind, SERVER.address) == f"server {SERVER.address} is a hop of the path"


def test_9_1_both_lists_of_servers_count() -> None:
    """What may have been addressed, and where the last hop may go."""
    changes = intercepting("redirect")
    changes["servers"] = {"networks": ["198.51.100.0/29"], "control_ports": [21]}
    found = access.original_refused(settings(**changes), CLIENT.address, ORIGINAL)
    assert found == "server 198.51.100.10 is not in the allowed networks"


@pytest.mark.parametrize("how", [None, Intercept.REDIRECT, Intercept.TPROXY])
@pytest.mark.parametrize("text", ["127.0.0.1", "::1"])
def test_9_1_a_connection_that_nobody_intercepted_has_no_other_destination(
    text: str, how: Intercept | None
) -> None:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    with socket.create_server((text, 0), family=family) as listener:
        with socket.create_connection(listener.getsockname()[:2]):
            sock, _name = listener.accept()
        with sock:
            found = original_destination(sock, how)
            own = Endpoint(address(text), sock.getsockname()[1])
    assert found in ((None, own) if how else (None,))


# --- whose addresses ---------------------------------------------------------------------------------


def begun(how: str, *, client_source: bool = False) -> Playbook:
    """A session of a hop that dials the servers, logged in."""
    p = Playbook(hop(how, client_source=client_source))
    (connect,) = p.did(events.Connect)
    assert isinstance(connect, events.Connect)
    assert connect.to == ORIGINAL
    local = CLIENT.address if client_source else OWN_SERVER_SIDE
    assert (connect.local, connect.transparent) == (local, client_source)
    p.feed(events.Connected(connect.local))
    assert p.server(b"220 S\r\n") == b"220 S\r\n", "2.1: the server's greeting"
    p.client(b"USER u\r\n")
    assert p.asked() == b"USER u\r\n"
    p.server(b"230 In.\r\n")
    p.did()
    return p


@pytest.mark.parametrize("how", ["redirect", "tproxy"])
def test_9_3_what_the_client_leg_listens_on_and_dials_from(how: str) -> None:
    """227 names the server in either case; only by tproxy the sockets are there."""
    p = begun(how)
    local = SERVER.address if how == "tproxy" else OWN
    assert p.client(b"PASV\r\n") == b"227 Entering Passive Mode (198,51,100,10,195,81).\r\n"
    listen, _dial = p.did(events.Listen), p.did()
    assert listen == [events.Listen(1, Leg.CLIENT, local, p.settings.client_side.listen, how == "tproxy")]
    p = begun(how)
    p.client(PORT)
    p.server(b"200 EPRT\r\n")
    p.client(b"RETR f\r\n")
    (dial,) = p.did(events.Dial)
    source = p.settings.client_side.source
    assert dial == events.Dial(1, Leg.CLIENT, local, source, TARGET, how == "tproxy")


def test_9_2_what_the_server_leg_listens_on_and_dials_from() -> None:
    p = begun("tproxy", client_source=True)
    p.client(b"PASV\r\n")
    p.server(b"229 (|||45000|)\r\n")
    (dial,) = p.did(events.Dial)
    source = p.settings.server_side.source
    assert dial == events.Dial(1, Leg.SERVER, CLIENT.address, source, SERVER, True)
    p = begun("tproxy", client_source=True)
    p.client(PORT)
    assert p.asked() == b"EPRT |1|10.1.0.10|52001|\r\n"
    (listen,) = p.did(events.Listen)
    assert listen == events.Listen(1, Leg.SERVER, CLIENT.address, p.settings.server_side.listen, True)


def test_9_2_the_servers_connection_is_not_from_the_clients_own_port() -> None:
    """For the kernel's table of connections the two would be one (POLICY F16)."""
    (connect,) = Playbook(hop("tproxy", client_source=True)).did(events.Connect)
    assert connect == events.Connect(CLIENT.address, ORIGINAL, True, CLIENT.port)


def test_9_2_to_another_family_a_session_goes_from_the_hops_own_address() -> None:
    p = Playbook(hop("tproxy", client_source=True, told=True), client_end=CLIENT6)
    (connect,) = p.did(events.Connect)
    assert connect == events.Connect(OWN_SERVER_SIDE, Endpoint(NEXT_HOP, 21))


def test_9_2_a_port_that_is_to_be_avoided_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = control._bound

    async def connect(listener: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[socket.socket] = loop.create_future()
        here = address("127.0.0.1")
        where = events.Connect(here, Endpoint(here, listener.getsockname()[1]))
        first = bound(where)
        where = replace(where, avoid=first.getsockname()[1])
        drawn = [first]
        monkeypatch.setattr(control, "_bound", lambda where: drawn.pop() if drawn else bound(where))
        control.Connector(loop, where, lambda sock, _local: connected.set_result(sock), print)
        with await connected as sock:
            assert not drawn
            assert sock.getsockname()[1] != where.avoid
            assert first.fileno() == -1
        return where.avoid

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert asyncio.run(connect(listener))


# --- what the next hop is told -----------------------------------------------------------------------


def told(client: Endpoint = CLIENT) -> Playbook:
    """A session whose next hop is explicit, greeted."""
    p = Playbook(hop("redirect", told=True), client_end=client)
    p.feed(events.Connected(OWN_SERVER_SIDE))
    greeted = p.server(b"220 M: FTP proxy ready, log in as user@host.\r\n")
    assert greeted == b"220 N: FTP proxy ready.\r\n"
    return p


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (b"USER anna", b"USER anna@198.51.100.10:21"),
        (b"USER anna@example.org", b"USER anna@example.org@198.51.100.10:21"),
        (b"user a b ", b"user a b @198.51.100.10:21"),
    ],
)
def test_9_5_the_next_hop_is_told_the_server_and_the_log_the_client(line: bytes, asked: bytes) -> None:
    p = told()
    assert p.client(line + b"\r\n") == b""
    assert p.asked() == asked + b"\r\n"
    p.server(b"331 Password.\r\n")
    p.client(b"PASS x\r\n")
    assert p.asked() == b"PASS x\r\n"
    p.server(b"230 In.\r\n")
    fields = p.session.log_fields()
    assert fields["SLUICE_USER"] == line[5:].decode()
    assert fields["SLUICE_DESTINATION"] == "198.51.100.10:21"
    assert fields["SLUICE_SERVER"] == "198.51.100.11:21"


def test_9_5_an_ipv6_server_is_told_in_brackets() -> None:
    p = told(CLIENT6)
    p.client(b"USER anna\r\n")
    assert p.asked() == b"USER anna@[2001:db8:3::10]:21\r\n"


def test_9_5_a_user_without_a_name_tells_nothing() -> None:
    p = told()
    assert p.client(b"USER\r\nUSER \r\n") == b"501 USER wants a name.\r\n" * 2
    assert p.asked() == b""


def test_9_5_where_the_hop_dials_the_server_an_at_sign_stays() -> None:
    p = begun("tproxy")
    p.client(b"USER anna@192.0.2.1\r\n")
    assert p.asked() == b"USER anna@192.0.2.1\r\n"


@pytest.mark.parametrize("line", [b"OPEN 192.0.2.1", b"SITE 192.0.2.1", b"SITE CHMOD 600 f"])
def test_9_5_before_the_login_no_other_server_is_chosen_at_the_next_hop(line: bytes) -> None:
    """To it OPEN and SITE would name one; to a server they are what they are."""
    p = told()
    assert p.client(line + b"\r\n") == b"530 N: log in first.\r\n"
    assert p.asked() == b""
    p.client(b"USER u\r\n")
    p.server(b"230 In.\r\n")
    p.asked()
    p.client(line + b"\r\n")
    assert p.asked() == line + b"\r\n"


def test_9_5_and_14_1_the_header_names_what_the_client_addressed() -> None:
    changes = intercepting("redirect", told=True)
    changes["next_hop"]["identity"] = True
    p = Playbook(settings(**changes))
    p.feed(events.Connected(OWN_SERVER_SIDE))
    header = HeaderReader()
    assert header.feed(p.asked())
    assert header.identity
    assert (header.identity.destination, header.identity.destination_port) == (SERVER.address, 21)
    assert (header.identity.client, header.identity.client_port) == (CLIENT.address, CLIENT.port)


# --- a reload (10.4, POLICY F9) ----------------------------------------------------------------------

HOPS = {
    "none": settings(),
    "redirect": hop("redirect"),
    "tproxy": hop("tproxy"),
    "client": hop("tproxy", client_source=True),
    "told": hop("tproxy", told=True),
}


CHOOSES = settings(servers=intercepting("redirect")["servers"])  # USER user@host


@pytest.mark.parametrize("after", [*HOPS, "user@host"])
@pytest.mark.parametrize("before", HOPS)
def test_10_4_a_session_ends_where_another_way_of_interception_begins(before: str, after: str) -> None:
    p = Playbook(HOPS[before])
    local = CLIENT.address if before == "client" else OWN_SERVER_SIDE
    p.feed(events.Connected(local))
    p.server(b"220 S\r\n")
    p.said()
    p.feed(events.Enforce(HOPS.get(after, CHOOSES), "", now=False))
    assert p.session.over is (before != after)
    assert p.said().startswith(b"421 N: the settings have changed: " if before != after else b"")


def test_10_4_a_session_ends_whose_destination_is_not_allowed_any_more() -> None:
    changes = intercepting("redirect")
    changes["client_side"]["destinations"] = ["198.51.100.0/29"]
    p = begun("redirect")
    p.feed(events.Enforce(settings(**changes), "", now=False))
    assert b"server 198.51.100.10 is not in the allowed networks" in p.said()


@pytest.mark.parametrize(
    ("leg", "accepts", "local", "peer", "carried"),
    [
        (Leg.CLIENT, True, SERVER.address, None, {"tproxy", "client"}),
        (Leg.CLIENT, True, SERVER.address, CLIENT, {"tproxy", "client"}),
        (Leg.CLIENT, True, OWN, CLIENT, {"none", "redirect"}),
        (Leg.CLIENT, False, SERVER.address, TARGET, {"tproxy", "client"}),
        (Leg.CLIENT, False, OWN, TARGET, {"none", "redirect"}),
        (Leg.CLIENT, True, STRANGER.address, CLIENT, set()),
        (Leg.SERVER, True, CLIENT.address, SERVER, {"client"}),
        (Leg.SERVER, False, CLIENT.address, SERVER, {"client"}),
        (Leg.SERVER, True, OWN_SERVER_SIDE, SERVER, {"none", "redirect", "tproxy", "client"}),
        (Leg.SERVER, False, address("192.0.2.1"), SERVER, set()),
    ],
)
def test_10_4_which_settings_carry_a_data_socket(
    leg: Leg, accepts: bool, local: Any, peer: Endpoint | None, carried: set[str]
) -> None:
    """At whose address it may be; of `client` the other family's stays at the hop's own."""
    ports = {(Leg.CLIENT, True): 50001, (Leg.CLIENT, False): 51001, (Leg.SERVER, True): 52001}
    sock = DataSocket(leg, accepts, Endpoint(local, ports.get((leg, accepts), 53001)), peer)
    found = {name for name, each in HOPS.items() if name != "told" and not access.data_refused(each, sock)}
    assert found == carried


def test_9_3_and_10_4_a_redirect_hop_behind_opens_active_data_from_its_own_address() -> None:
    """It is taken, and carried, though that address is no server's."""
    elsewhere = {"data_networks": ["203.0.113.2/32"]}
    changed = settings(
        server_side=elsewhere,
        servers={"networks": ["198.51.100.0/25"], "control_ports": [21], "fixed": "198.51.100.10"},
    )
    peer = Endpoint(address("203.0.113.2"), 51001)
    p = Playbook(changed).log_in()
    p.client(PORT)
    p.server(b"200 x\r\n")
    p.incoming(Leg.SERVER, peer)
    assert p.did(events.Take)
    assert not access.data_refused(
        changed, DataSocket(Leg.SERVER, True, Endpoint(OWN_SERVER_SIDE, 52001), peer)
    )


# --- what an operator sees ---------------------------------------------------------------------------


def test_9_1_the_destination_is_shown_where_there_is_one() -> None:
    session = {"session": "f00d", "client": "10.1.0.10:40001", "server": "10.2.0.2:21", "seconds": "3"}
    assert "destination" not in ctl.show_sessions([session])
    shown = ctl.show_sessions([session | {"destination": "192.0.2.9:21"}, session]).splitlines()
    assert shown[0].split() == [
        "session",
        "client",
        "user",
        "destination",
        "server",
        "doing",
        "bytes",
        "seconds",
    ]
    assert shown[1].split()[3:5] == ["192.0.2.9:21", "10.2.0.2:21"]
    assert shown[2].split()[3:5] == ["-", "10.2.0.2:21"]
