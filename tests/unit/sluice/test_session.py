# SPDX-License-Identifier: GPL-3.0-or-later
"""The session without a network (PROTOCOL 1, 2, 3, 5, 7)."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any

import pytest
from sluice import access, events
from sluice.config import PeerPorts
from sluice.events import Endpoint, Leg, Timer
from sluice.ports import PortRange

from tests.unit.sluice.playbook import CLIENT, CLIENT6, PORT, SERVER, STRANGER, TARGET, Playbook, settings

DYNAMIC = {"networks": ["198.51.100.0/25", "2001:db8:3::/120"], "control_ports": [21, 2121]}


def fixed(**arguments: Any) -> Playbook:
    return Playbook(settings(**arguments)).log_in()


def dynamic(**servers: Any) -> Playbook:
    return Playbook(settings(servers=DYNAMIC | servers))


# --- the way to the server -----------------------------------------------------------------------


def test_2_1_fixed_connects_at_once_and_relays_the_greeting() -> None:
    p = Playbook()
    local = ipaddress.ip_address("198.51.100.2")
    assert p.did(events.Connect) == [events.Connect(local, Endpoint(SERVER.address, 21))]
    p.feed(events.Connected(local))
    assert p.server(b"120 Wait.\r\n") == b"120 Wait.\r\n"
    assert p.server(b"220-a\r\n220 b\r\n") == b"220-a\r\n220 b\r\n"


@pytest.mark.parametrize("greeting", [b"421 Full.\r\n", b"530 No.\r\n"])
def test_2_1_a_bad_greeting_passes_and_ends(greeting: bytes) -> None:
    p = Playbook()
    p.feed(events.Connected(SERVER.address))
    assert p.server(greeting) == greeting
    assert p.session.over


def test_2_2_refused_names_hop_and_cause() -> None:
    hop = {"hosts": [{"name": "s", "addresses": ["198.51.100.10", "2001:db8:3::10"]}], "control_port": 21}
    p = Playbook(settings(next_hop=hop), client_end=CLIENT6)
    (first,) = p.did(events.Connect)
    assert isinstance(first, events.Connect)
    assert first.to.address.version == 6, "the client's family first"
    p.feed(events.ConnectFailed("refused the connection"))
    (second,) = p.did(events.Connect)
    assert isinstance(second, events.Connect)
    assert second.to.address.version == 4
    p.feed(events.Expired(Timer.CONNECT))
    assert p.said() == b"421 N: next hop S (198.51.100.10:21) did not answer within 5 s.\r\n"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (events.Expired(Timer.GREETING), b"sent no FTP greeting within 20 s."),
        (events.Ended(Leg.SERVER, reset=False), b"sent no FTP greeting and closed the connection."),
        (
            events.Received(Leg.SERVER, b"1 Hola\n"),
            b"sent no FTP greeting: a reply does not begin with a code.",
        ),
    ],
)
def test_2_2_and_1_10_no_ftp_greeting(event: events.Event, text: bytes) -> None:
    p = Playbook()
    p.feed(events.Connected(SERVER.address))
    p.feed(event)
    assert p.said() == b"421 N: server 198.51.100.10:21 " + text + b"\r\n"
    assert p.session.over


def test_2_3_user_at_host_goes_where_it_says() -> None:
    p = dynamic()
    assert p.said().startswith(b"220 N: FTP proxy ready")
    assert p.client(b"USER a@b@198.51.100.11:2121\r\n") == b""
    (connect,) = p.did(events.Connect)
    assert isinstance(connect, events.Connect)
    assert str(connect.to) == "198.51.100.11:2121"
    p.feed(events.Connected(SERVER.address))
    assert p.server(b"220 S\r\n") == b""
    assert p.asked() == b"USER a@b\r\n"
    assert p.server(b"331 Word\r\n") == b"331 Word\r\n"


@pytest.mark.parametrize(
    ("place", "reply"),
    [
        (b"192.0.2.9", b"530 N: server 192.0.2.9 is not in the allowed networks."),
        (b"[2001:db8:9::1]", b"530 N: server 2001:db8:9::1 is not in the allowed networks."),
        (b"198.51.100.10:22", b"530 N: port 22 is not one of the allowed control ports."),
        (b"ftp.example.org", b"530 N: ftp.example.org is a name, and this hop resolves no names."),
    ],
)
def test_2_3_refused_before_any_syn(place: bytes, reply: bytes) -> None:
    p = dynamic()
    p.said()
    assert p.client(b"USER u@" + place + b"\r\n") == reply + b"\r\n"
    assert p.did(events.Connect, events.Resolve) == []
    assert not p.session.over


@pytest.mark.parametrize(
    "argument", [b"u", b"u@", b"@198.51.100.10", b"u@[::1", b"u@h:0", b"u@h:99999", b"u@a b"]
)
def test_2_3_no_usable_host_is_501(argument: bytes) -> None:
    p = dynamic()
    p.said()
    assert p.client(b"USER " + argument + b"\r\n").startswith(b"501 ")


@pytest.mark.parametrize(
    ("place", "goes"),
    [
        (b"FTP.Example.org.", True),
        (b"other.example.org", False),
        (b"198.51.100.10", False),
        (b"[::1]", False),
    ],
)
def test_2_3_only_these_names_may_be_asked_for(place: bytes, goes: bool) -> None:
    """Nobody is asked for another one; an address is no name, though a network holds it."""
    refusal = b"530 N: server " + place.strip(b"[]") + b" is not one of the allowed names.\r\n"
    for verb in (b"USER u@", b"OPEN "):
        p = dynamic(resolvers=["192.0.2.53"], names=["ftp.example.org"])
        p.said()
        assert p.client(verb + place + b"\r\n") == (b"" if goes else refusal)
        assert len(p.did(events.Resolve)) == goes
        assert p.did(events.Connect) == []


def test_2_3_each_resolved_address_is_checked() -> None:
    p = dynamic(resolvers=["192.0.2.53"])
    p.said()
    p.client(b"USER u@ftp.example.org\r\n")
    assert p.did(events.Resolve) == [events.Resolve("ftp.example.org")]
    p.feed(events.Resolved("ftp.example.org", (ipaddress.ip_address("192.0.2.1"),)))
    assert p.said() == b"530 N: server ftp.example.org has no address in the allowed networks.\r\n"
    p.client(b"USER u@ftp.example.org\r\n")
    p.feed(events.Resolved("ftp.example.org", (ipaddress.ip_address("192.0.2.1"), SERVER.address)))
    connects = p.did(events.Connect)
    assert [c.to.address for c in connects if isinstance(c, events.Connect)] == [SERVER.address]


def test_2_3_a_late_answer_is_not_taken_for_the_next_name() -> None:
    p = dynamic(resolvers=["192.0.2.53"])
    p.client(b"USER u@slow.example.org\r\n")
    p.said(), p.did()
    p.feed(events.Expired(Timer.CONNECT))
    assert p.said()[:3] == b"530"
    assert p.did(events.Close) == [events.Close(Leg.SERVER)], "the lookup is given up"
    p.client(b"USER u@other.example.org\r\n")
    p.feed(events.Resolved("slow.example.org", (SERVER.address,)))
    assert p.did(events.Connect) == []
    p.feed(events.Resolved("other.example.org", (SERVER.address,)))
    assert len(p.did(events.Connect)) == 1


OWN = ["10.2.0.2", "203.0.113.7", "198.51.100.2", "2001:db8:2::2", "2001:db8:3::2"]
NOBODY = ["127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:c633:640a"]


@pytest.mark.parametrize("address", OWN + NOBODY)
def test_2_3_a_wide_network_does_not_lead_to_the_proxy_itself(address: str) -> None:
    """Else one session opens the next, until every descriptor is gone."""
    why = "is this proxy itself" if address in OWN else "is not in the allowed networks"
    p = dynamic(networks=["0.0.0.0/0", "::/0"], resolvers=["192.0.2.53"])
    p.said()
    place = f"[{address}]" if ":" in address else address
    assert p.client(f"USER u@{place}\r\n".encode()) == f"530 N: server {address} {why}.\r\n".encode()
    p.client(b"USER u@ftp.example.org\r\n")
    p.feed(events.Resolved("ftp.example.org", (ipaddress.ip_address(address),)))
    assert p.said()[:3] == b"530"
    assert p.did(events.Connect) == []


def test_2_3_loopback_may_be_meant() -> None:
    p = dynamic(networks=["127.0.0.0/8"])
    p.client(b"USER u@127.0.0.1\r\n")
    assert len(p.did(events.Connect)) == 1


@pytest.mark.parametrize("line", [b"OPEN 198.51.100.10", b"SITE 198.51.100.10", b"open 198.51.100.10:21"])
def test_2_4_open_leads_to_the_server_and_user_is_its_own_then(line: bytes) -> None:
    p = dynamic()
    p.said(), p.asked()
    assert p.client(line + b"\r\n") == b""
    assert isinstance(p.did(events.Connect)[0], events.Connect)
    p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
    assert p.server(b"120 Wait.\r\n220 S\r\n") == b"120 Wait.\r\n220 S\r\n"
    assert p.asked() == b"", "it goes no further"
    p.client(b"USER u\r\n")
    assert p.asked() == b"USER u\r\n"
    assert p.server(b"230 In.\r\n") == b"230 In.\r\n"
    p.client(b"SITE 198.51.100.11\r\n")
    assert p.asked() == b"SITE 198.51.100.11\r\n", "SITE is the server's from then on"
    p.server(b"200 x\r\n")
    assert p.client(b"USER u@198.51.100.11\r\n")[:3] == b"530", "2.8: never the old server"
    p.client(b"USER v@198.51.100.10\r\n")
    assert p.asked() == b"USER v\r\n"


def test_2_4_open_with_a_port_after_a_blank() -> None:
    p = dynamic()
    p.client(b"OPEN 198.51.100.10 2121\r\n")
    (connect,) = p.did(events.Connect)
    assert isinstance(connect, events.Connect)
    assert connect.to == Endpoint(SERVER.address, 2121)


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"OPEN 192.0.2.1", b"530"), (b"OPEN 198.51.100.10 22", b"530"), (b"SITE host", b"530"),
     (b"OPEN", b"501"), (b"SITE a b c", b"501"), (b"OPEN 198.51.100.10:x", b"501")],
)  # fmt: skip
def test_2_4_open_is_checked_as_user_at_host_is(line: bytes, code: bytes) -> None:
    p = dynamic()
    p.said()
    assert p.client(line + b"\r\n")[:3] == code
    assert not p.did(events.Connect, events.Resolve)
    assert p.client(b"NOOP\r\n")[:3] == b"200"


def test_2_4_with_a_fixed_server_open_is_the_servers() -> None:
    p = fixed()
    p.client(b"OPEN x\r\n")
    assert p.asked() == b"OPEN x\r\n"


def test_2_10_host_after_login_is_503() -> None:
    p = Playbook()
    p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
    p.server(b"220 S\r\n")
    p.client(b"HOST ftp.example.org\r\n")
    assert p.asked() == b"HOST ftp.example.org\r\n"
    assert p.server(b"220 H\r\n") == b"220 H\r\n"
    p = fixed()
    assert p.client(b"HOST ftp.example.org\r\n") == b"503 HOST comes before USER.\r\n"
    assert p.asked() == b""


def test_2_5_before_a_server_is_chosen() -> None:
    p = dynamic()
    p.said()
    lines = [
        b"FEAT",
        b"NOOP",
        b"SYST",
        b"OPTS UTF8 ON",
        b"CLNT x",
        b"HELP",
        b"HOST h",
        b"AUTH TLS",
        b"PASV",
        b"PWD",
    ]
    replies = p.client(b"".join(line + b"\r\n" for line in lines)).split(b"\r\n")
    assert [r[:3] for r in replies[:-1]] == [
        b"211", b"200", b"215", b"200", b"200", b"214", b"502", b"502", b"530", b"530",
    ]  # fmt: skip
    assert p.client(b"QUIT\r\n")[:3] == b"221"


@pytest.mark.parametrize(
    ("replies", "logged_in"),
    [([b"230"], True), ([b"331", b"230"], True), ([b"331", b"202"], True), ([b"331", b"332", b"230"], True),
     ([b"331", b"530"], False), ([b"331"], False), ([b"530"], False)],
)  # fmt: skip
def test_2_6_every_way_in(replies: list[bytes], logged_in: bool) -> None:
    p = Playbook()
    p.feed(events.Connected(SERVER.address))
    p.server(b"220 S\r\n")
    for verb, code in zip((b"USER", b"PASS", b"ACCT"), replies, strict=False):
        p.client(verb + b" x\r\n")
        assert p.server(code + b" x\r\n") == code + b" x\r\n"
    assert (p.client(b"PASV\r\n")[:3] == b"227") is logged_in


def test_2_7_a_password_is_in_no_log() -> None:
    p = Playbook()
    p.feed(events.Connected(SERVER.address))
    p.server(b"220 S\r\n")
    p.client(b"USER u\r\nPASS s3cret@: \r\n")
    p.server(b"331 x\r\n")
    assert p.asked() == b"USER u\r\nPASS s3cret@: \r\n"
    p.feed(events.Ended(Leg.CLIENT, reset=True))
    assert "s3cret" not in repr([a for a in p.actions if isinstance(a, events.Log)])


def test_2_8_a_second_user_never_gets_the_old_server_silently() -> None:
    p = dynamic()
    p.client(b"USER u@198.51.100.10\r\n")
    p.feed(events.Connected(SERVER.address))
    p.server(b"220 S\r\n")
    p.server(b"331 x\r\n")
    p.said(), p.asked()
    assert p.client(b"USER v@198.51.100.11\r\n")[:3] == b"530"
    p.client(b"USER v@198.51.100.10\r\n")
    assert p.asked() == b"USER v\r\n"


# --- control -------------------------------------------------------------------------------------


def test_1_1_forwarded_with_crlf_and_untouched() -> None:
    p = fixed()
    p.client(b"cwd  a \xffb*\n")
    assert p.asked() == b"cwd  a \xffb*\r\n"


def test_1_2_a_refused_line_leaves_the_session_in_step() -> None:
    p = fixed()
    assert p.client(b"CWD a\rDELE b\r\n")[:3] == b"501"
    p.client(b"SYST\r\n")
    assert p.asked() == b"SYST\r\n"


def test_1_4_too_long_is_500_once_and_nothing_of_it_is_forwarded() -> None:
    p = fixed()
    assert p.client(b"CWD " + b"a" * 9000) == b"500 the command line is too long.\r\n"
    assert p.client(b"a" * 9000 + b"\r\nSYST\r\n") == b""
    assert p.asked() == b"SYST\r\n"


@pytest.mark.parametrize("longest", [512, 65536])
def test_1_4_the_longest_line_may_be_said(longest: int) -> None:
    p = Playbook(settings(limits={"command_line": longest})).log_in()
    line = b"CWD " + b"a" * (longest - 4)
    p.client(line + b"\r\n")
    assert p.asked() == line + b"\r\n"
    p.server(b"250 x\r\n")
    assert p.client(line + b"a\r\n") == b"500 the command line is too long.\r\n"
    assert p.asked() == b""


def test_1_8_a_multi_line_reply_passes_as_it_came_and_counts_once() -> None:
    p = fixed()
    trap = b"214-Help\r\n200 no\r\n\r\n214-x\r\n214 End\r\n"
    p.client(b"HELP\r\nSYST\r\n")
    assert p.asked() == b"HELP\r\n"
    assert p.server(trap) == trap
    assert p.asked() == b"SYST\r\n"


def test_1_9_a_reply_streams() -> None:
    p = fixed()
    p.client(b"STAT d\r\n")
    assert p.server(b"213-begin\r\n line\r\n") == b"213-begin\r\n line\r\n"


def test_1_11_local_replies_wait_for_their_turn() -> None:
    p = fixed()
    assert p.client(b"SYST\r\nAUTH TLS\r\nPWD\r\n") == b""
    assert p.server(b"215 U\r\n")[:8] == b"215 U\r\n5"
    assert p.asked() == b"SYST\r\nPWD\r\n"


def test_1_12_nothing_gets_between_a_set_up_and_the_server() -> None:
    p = fixed()
    p.client(PORT + b"NOOP\r\n")
    assert p.asked() == b"EPRT |1|198.51.100.2|52001|\r\n"
    p.server(b"200 ok\r\n")
    assert p.asked() == b"NOOP\r\n"
    assert p.server(b"204 x\r\n") == b"204 x\r\n"


def test_1_13_unsolicited_replies_pass_and_421_ends_both_sides() -> None:
    p = fixed()
    assert p.server(b"200 hello\r\n") == b"200 hello\r\n"
    assert p.server(b"421 Idle.\r\n") == b"421 Idle.\r\n"
    assert p.did(events.Close) == [events.Close(Leg.SERVER), events.Close(Leg.CLIENT)]


def test_1_14_the_servers_end_is_421_but_not_within_a_reply() -> None:
    p = fixed()
    p.feed(events.Ended(Leg.SERVER, reset=False))
    assert p.said() == b"421 N: server 198.51.100.10:21 closed the connection.\r\n"
    p = fixed()
    p.client(b"HELP\r\n")
    p.server(b"214-half\r\n")
    p.feed(events.Ended(Leg.SERVER, reset=False))
    assert p.said() == b""
    assert p.session.over


def test_1_14_the_clients_end_is_quit_to_the_server() -> None:
    p = fixed()
    p.feed(events.Ended(Leg.CLIENT, reset=False))
    assert p.asked() == b"QUIT\r\n"
    assert p.session.over


def test_1_15_half_close_still_gets_its_replies() -> None:
    p = fixed()
    p.client(b"NOOP\r\nQUIT\r\n")
    p.feed(events.Ended(Leg.CLIENT, reset=False))
    assert p.server(b"200 ok\r\n") == b"200 ok\r\n"
    assert p.server(b"221 Bye\r\n") == b"221 Bye\r\n"
    assert p.session.over


def test_2_9_rein_forgets() -> None:
    p = fixed()
    p.client(b"EPSV ALL\r\n")
    assert p.client(b"PASV\r\n")[:3] == b"503"
    p.client(b"REIN\r\n")
    assert p.server(b"220 Ready\r\n") == b"220 Ready\r\n"
    assert p.client(b"PASV\r\n")[:3] == b"530"


def test_2_11_timers_run_when_they_should() -> None:
    p = fixed()
    assert set(p.timers) == {Timer.IDLE}
    p.client(b"SYST\r\nNO")
    assert set(p.timers) == {Timer.REPLY, Timer.LINE}
    p.feed(events.Expired(Timer.REPLY))
    assert p.said() == b"421 N: server 198.51.100.10:21 did not reply within 600 s.\r\n"


def test_2_11_a_login_has_its_time_and_so_has_a_session() -> None:
    p = Playbook(settings(timeouts={"login": 100, "total": 5000}))
    assert p.timers == {Timer.CONNECT: 10, Timer.TOTAL: 5000}
    p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
    assert Timer.LOGIN not in p.timers, "the server has not greeted yet"
    p.server(b"220 S\r\n")
    assert p.timers[Timer.LOGIN] == 100
    p.timers[Timer.LOGIN] = 50
    p.client(b"USER u\r\n")
    p.server(b"331 Go on.\r\n")
    assert p.timers[Timer.LOGIN] == 50, "a try to log in buys no time"
    p.client(b"PASS p\r\n")
    p.server(b"230 In.\r\n")
    assert Timer.LOGIN not in p.timers
    p.client(b"REIN\r\n")
    p.server(b"220 Ready.\r\n")
    assert p.timers[Timer.LOGIN] == 100
    p.asked()
    p.feed(events.Expired(Timer.LOGIN))
    assert p.said() == b"421 N: no login within 100 s.\r\n"
    assert p.asked() == b"QUIT\r\n"


def test_2_11_the_login_of_user_at_host_is_timed_from_the_start() -> None:
    p = dynamic()
    assert p.timers[Timer.LOGIN] == 120
    assert Timer.TOTAL not in p.timers, "no limit unless it is said"


def test_2_11_and_6_4_a_session_over_its_time_resets_its_transfer() -> None:
    p = fixed(timeouts={"total": 5000}).begin(b"STOR")
    p.feed(events.Expired(Timer.TOTAL))
    assert p.said() == b"421 N: a session may last 5000 s.\r\n"
    assert events.Reset(p.number) in p.did(events.Reset)
    assert p.asked() == b"", "no QUIT: to the next hop it would say that all is well"


def test_2_11_each_line_has_its_own_time_to_end() -> None:
    p = fixed()
    p.client(b"NO")
    p.timers[Timer.LINE] = 7
    p.client(b"O")
    assert p.timers[Timer.LINE] == 7, "a byte now and then buys no time"
    p.client(b"P\r\nSY")
    assert p.timers[Timer.LINE] == 30


def test_2_11_a_line_whose_rest_is_not_read_is_not_late() -> None:
    p = fixed().begin(b"STOR")
    p.client(b"TYPE I\r\n" * 64 + b"TY")
    assert not p.session.accepts_input
    assert Timer.LINE not in p.timers


def test_2_11_a_reply_that_does_not_end_has_a_limit_although_nobody_asked() -> None:
    p = fixed()
    p.server(b"200-open\r\n")
    assert Timer.REPLY in p.timers


def test_1_9_what_waits_for_the_end_of_a_reply_is_bounded() -> None:
    p = fixed()
    p.server(b"200-open\r\n")
    assert p.client(b"\n" * 100) == b""
    assert not p.session.accepts_input
    assert p.server(b"200 end\r\n").count(b"500 the command line is empty.") == 100


@pytest.mark.parametrize(
    "line",
    [b"PORT\t10,0,0,5,0,22", b"AUTH\tTLS", b"EPRT\x0b|1|10.0.0.5|22|", b"SPSV\t", b"PASV\xa0", b"XF\xffO"],
)
def test_3_14_and_8_1_no_other_blank_hides_a_verb(line: bytes) -> None:
    p = fixed()
    assert p.client(line + b"\r\n")[:3] == b"500"
    assert p.asked() == b""


def test_7_2_a_verb_may_hold_a_digit() -> None:
    p = fixed()
    p.client(b"XMD5 f\r\n")
    assert p.asked() == b"XMD5 f\r\n"


@pytest.mark.parametrize(
    "reply",
    [b"227 (10,0,0,5,0,22)", b"228 (10,0,0,5,0,22)", b"229 (|||22|)", b"227-x\r\n227 (10,0,0,5,0,22)"],
)
@pytest.mark.parametrize("command", [b"", b"SYST\r\n"])
def test_3_7_a_server_cannot_say_where_the_client_shall_connect(command: bytes, reply: bytes) -> None:
    p = fixed()
    p.client(command)
    said = p.server(reply + b"\r\n")
    assert (
        said
        == b"421 N: server 198.51.100.10:21 does not speak FTP: %s answers nothing that was asked.\r\n"
        % (reply[:3])
    )
    assert p.session.over


def test_5_8_quit_without_an_answer_is_221() -> None:
    p = fixed()
    p.client(b"QUIT\r\n")
    p.feed(events.Ended(Leg.SERVER, reset=False))
    assert p.said()[:3] == b"221"


def test_7_1_feat_is_filtered() -> None:
    p = fixed(client_mode="passive")
    p.client(b"FEAT\r\n")
    assert p.server(b"211-F\r\n AUTH TLS\r\n EPRT\r\n SIZE\r\n211 End\r\n") == (
        b"211-F\r\n SIZE\r\n EPSV\r\n PASV\r\n211 End\r\n"
    )
    p.client(b"FEAT\r\n")
    assert p.server(b"502 no\r\n") == b"502 no\r\n"


@pytest.mark.parametrize(
    "verb",
    [
        b"AUTH",
        b"PBSZ",
        b"PROT",
        b"CCC",
        b"ADAT",
        b"MIC",
        b"ENC",
        b"CONF",
        b"LPRT",
        b"LPSV",
        b"SPSV",
        b"CPSV",
        b"SSCN",
        b"CEPR",
    ],
)
def test_8_1_and_3_23_never_reach_the_server(verb: bytes) -> None:
    p = fixed()
    assert p.client(verb + b" x\r\n")[:3] == b"502"
    assert p.asked() == b""


@pytest.mark.parametrize(("mode", "code"), [(b"b", b"504"), (b"C", b"504"), (b"S", b""), (b"Z", b"")])
def test_7_10_modes_that_keep_the_connection_are_refused(mode: bytes, code: bytes) -> None:
    p = fixed()
    assert p.client(b"MODE " + mode + b"\r\n")[:3] == code


# --- set-up --------------------------------------------------------------------------------------


def test_3_1_passive_the_listener_is_up_before_227() -> None:
    p = Playbook(listens=False).log_in()
    assert p.client(b"PASV\r\n") == b""
    (listen,) = p.did(events.Listen)
    assert isinstance(listen, events.Listen)
    assert str(listen.address) == "10.2.0.2", "the address of the control connection (3.3)"
    p.feed(events.Listening(p.number, Leg.CLIENT, 50007))
    assert p.said() == b"227 Entering Passive Mode (203,0,113,7,195,87).\r\n", "its public one (3.5)"
    assert p.asked() == b"EPSV\r\n"


def test_3_1_active_the_client_is_dialled_after_the_verb() -> None:
    p = fixed().active()
    assert p.did(events.Dial) == []
    p.client(b"RETR f\r\n")
    (dial,) = p.did(events.Dial)
    assert isinstance(dial, events.Dial)
    assert (dial.leg, dial.to, str(dial.ports)) == (Leg.CLIENT, TARGET, "51000-51999")
    assert p.asked() == b""
    p.feed(events.Dialled(p.number, Leg.CLIENT, 51001))
    assert p.asked() == b"RETR f\r\n"


def test_13_6_the_servers_port_is_connected_before_the_verb() -> None:
    p = fixed()
    p.client(b"EPSV\r\n")
    assert p.client(b"RETR f\r\n") == b""
    p.server(b"229 (|||45000|)\r\n")
    assert p.asked() == b"EPSV\r\n"
    p.feed(events.Dialled(p.number, Leg.SERVER, 53001))
    assert p.asked() == b"RETR f\r\n"


def test_3_7_only_the_port_of_227_counts() -> None:
    p = fixed(server_mode="passive")
    p.client(b"PASV\r\n")
    p.server(b"502 no EPSV\r\n")
    assert p.asked() == b"EPSV\r\nPASV\r\n"
    p.server(b"227 (10,99,99,99,175,200)\r\n")
    (dial,) = p.did(events.Dial)
    assert isinstance(dial, events.Dial)
    assert dial.to == SERVER
    assert str(dial.address) == "198.51.100.2", "from the control connection's address (10.1)"


@pytest.mark.parametrize("answer", [b"229 (|||22|)\r\n", b"229 (|||1023|)\r\n"])
def test_3_15_a_servers_privileged_port_is_not_dialled(answer: bytes) -> None:
    p = fixed()
    p.client(b"PASV\r\n")
    p.server(answer)
    assert p.did(events.Dial) == []
    assert p.client(b"RETR f\r\n")[:3] == b"425"
    assert p.logs("refused")


def test_3_15_the_limit_holds_whatever_range_the_settings_say() -> None:
    server = ipaddress.ip_address("198.51.100.10")
    everybody = (ipaddress.ip_network("0.0.0.0/0"),)
    leg = dataclasses.replace(
        settings().server_side, peer_ports=PeerPorts(((everybody, PortRange(1, 40000)),))
    )
    tried = (22, 1023, 1024, 40000, 40001)
    assert [p for p in tried if not access.data_port_refused(leg, Endpoint(server, p))] == [1024, 40000]


def test_each_host_of_the_next_hop_may_name_its_own_ports() -> None:
    """15.2: hosts of one hop may differ in their ranges; nothing is dialled that no host uses."""
    hop = {"hosts": [{"name": "m1", "addresses": ["198.51.100.10"]}], "control_port": 21}
    one, other = ipaddress.ip_address("198.51.100.10"), ipaddress.ip_address("198.51.100.11")
    side = {
        "leg": "N-M",
        "neighbour": "M",
        "mode": "both",
        "addresses": [{"address": "198.51.100.2"}],
        "listen": "52000-52999",
        "source": "53000-53999",
        "peer_ports": [
            {"peers": [f"{one}/32"], "ports": "40000-40099"},
            {"peers": [f"{other}/32"], "ports": "41000-41099"},
        ],
    }
    leg = settings(next_hop=hop, server_side=side).server_side
    tried = [Endpoint(address, port) for address in (one, other) for port in (40000, 41000)]
    assert [to for to in tried if not access.data_port_refused(leg, to)] == [tried[0], tried[3]]
    assert access.data_port_refused(leg, tried[1]) == "data port 41000 is not in 40000-40099"
    stranger = Endpoint(ipaddress.ip_address("198.51.100.12"), 40000)
    assert access.data_port_refused(leg, stranger) == "data port 40000 is not in any range of its host"


def test_15_1_the_hosts_of_the_next_hop_are_tried_in_order() -> None:
    """Refused or silent: the next one; the last one's cause reaches the client (15.3)."""
    hosts = [{"name": f"m{i}", "addresses": [f"198.51.100.{i}"]} for i in (11, 12)]
    p = Playbook(settings(next_hop={"hosts": hosts, "control_port": 21}))
    local = ipaddress.ip_address("198.51.100.2")
    to = [Endpoint(ipaddress.ip_address(f"198.51.100.{i}"), 21) for i in (11, 12)]
    assert p.did(events.Connect) == [events.Connect(local, to[0])]
    p.feed(events.ConnectFailed("refused the connection"))
    assert p.did(events.Connect)[-1] == events.Connect(local, to[1])
    p.feed(events.ConnectFailed("refused the connection"))
    assert p.said()[:3] == b"421"


def test_3_11_a_server_without_epsv_is_remembered() -> None:
    p = fixed()
    for asked in (b"EPSV\r\nPASV\r\n", b"PASV\r\n"):
        p.client(b"EPSV\r\n")
        if asked.startswith(b"EPSV"):
            p.server(b"500 what\r\n")
        p.server(b"227 (1,2,3,4,175,200)\r\n")
        assert p.asked() == asked


def test_13_6_the_other_mode_once() -> None:
    p = fixed()
    p.client(b"PASV\r\n")
    p.server(b"502 x\r\n")
    p.server(b"502 x\r\n")
    assert p.asked() == b"EPSV\r\nPASV\r\nEPRT |1|198.51.100.2|52001|\r\n"
    p.server(b"500 x\r\n")
    assert p.asked() == b"PORT 198,51,100,2,203,33\r\n"
    p.server(b"500 x\r\n")
    assert p.asked() == b""
    assert p.client(b"RETR f\r\n") == b"425 N: server 198.51.100.10:21 answered PORT with: 500 x.\r\n"


def test_13_6_a_port_that_cannot_be_connected_leads_to_the_other_mode() -> None:
    p = fixed()
    p.client(b"PASV\r\nRETR f\r\n")
    p.server(b"229 (|||45000|)\r\n")
    p.feed(events.DialFailed(p.number, Leg.SERVER, "refused the connection"))
    assert p.asked() == b"EPSV\r\nEPRT |1|198.51.100.2|52001|\r\n"
    p.server(b"200 ok\r\n")
    assert p.asked() == b"RETR f\r\n"


def test_13_6_one_mode_only_is_that_mode() -> None:
    p = fixed(server_mode="active")
    p.client(b"PASV\r\n")
    assert p.asked().startswith(b"EPRT ")
    p = fixed(client_mode="active")
    for line in (b"EPSV", b"EPSV ALL", b"PASV"):
        assert p.client(line + b"\r\n") == b"502 N: leg F-N does not allow passive transfers.\r\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"PORT 10,1,0,99,175,201", b"504"), (b"EPRT |1|127.0.0.1|5000|", b"504"),
     (b"PORT 10,1,0,10,0,22", b"504"), (b"EPRT |1|10.1.0.10|1023|", b"504"),
     (b"EPRT |2|::ffff:10.1.0.10|5000|", b"504"),
     (b"PORT 1,2,3,4,5,6,7", b"501"), (b"EPRT |9|x|5000|", b"522")],
)  # fmt: skip
def test_3_14_and_3_15_bad_targets_are_refused(line: bytes, code: bytes) -> None:
    p = fixed()
    assert p.client(line + b"\r\n")[:3] == code
    assert p.client(b"RETR f\r\n")[:3] == b"425"
    assert p.did(events.Dial) == []


@pytest.mark.parametrize(
    ("argument", "code"),
    [(b"", b"229"), (b" 1", b"229"), (b" 2", b"522"), (b" 9", b"522"), (b" x", b"501"), (b" all", b"200")],
)
def test_3_9_epsv_arguments(argument: bytes, code: bytes) -> None:
    assert fixed().client(b"EPSV" + argument + b"\r\n")[:3] == code


def test_3_10_epsv_all_stays_here() -> None:
    p = fixed()
    p.client(b"EPSV ALL\r\n")
    for line in (PORT, b"EPRT |1|10.1.0.10|5000|\r\n", b"PASV\r\n", b"LPSV\r\n"):
        assert p.client(line)[:1] == b"5"
    assert p.client(b"EPSV\r\n")[:3] == b"229"
    assert b"ALL" not in p.asked()


def test_3_5_pasv_on_ipv6_is_refused() -> None:
    p = Playbook(client_end=CLIENT6).log_in()
    assert p.client(b"PASV\r\n")[:3] == b"425"
    assert p.client(b"EPSV 2\r\n")[:3] == b"229"


def test_3_16_a_stranger_is_dropped_and_the_owner_still_served() -> None:
    p = fixed().passive()
    p.incoming(Leg.CLIENT, STRANGER)
    assert p.did(events.Take, events.Drop) == [events.Drop(p.number, 1)]
    p.incoming(Leg.CLIENT, CLIENT)
    assert p.did(events.Take, events.Drop) == [events.Take(p.number, 2)]
    p = fixed().active()
    p.incoming(Leg.SERVER, STRANGER)
    p.incoming(Leg.SERVER, SERVER)
    assert p.did(events.Take, events.Drop) == [events.Drop(p.number, 1), events.Take(p.number, 2)]


def elsewhere(end: str, *networks: str, **modes: str) -> Playbook:
    """A session whose data may be elsewhere at one end, and which is logged in."""
    whole = settings(**modes)
    side = dataclasses.replace(getattr(whole, end), data_networks=tuple(map(ipaddress.ip_network, networks)))
    return Playbook(dataclasses.replace(whole, **{end: side})).log_in()


@pytest.mark.parametrize(
    ("named", "dialled"),
    [
        (b"198,51,100,11", "198.51.100.11"),
        (b"198,51,100,77", "198.51.100.10"),  # not listed: only its port counts
        (b"198,51,100,2", "198.51.100.10"),  # the proxy itself
        (b"0,0,0,0", "198.51.100.10"),
        (b"127,0,0,1", "198.51.100.10"),
    ],
)
def test_3_7_the_address_that_227_names_is_dialled_where_it_is_listed(named: bytes, dialled: str) -> None:
    p = elsewhere("server_side", "198.51.100.0/28", "0.0.0.0/30", server_mode="passive")
    p.client(b"PASV\r\n")
    assert p.asked() == b"PASV\r\n", "229 would name no address"
    p.server(b"227 (" + named + b",175,200)\r\n")
    (dial,) = p.did(events.Dial)
    assert isinstance(dial, events.Dial)
    assert dial.to == Endpoint(ipaddress.ip_address(dialled), 45000)


def test_3_7_a_listed_server_that_lacks_pasv_gets_epsv() -> None:
    p = elsewhere("server_side", "198.51.100.0/28", server_mode="passive")
    p.client(b"PASV\r\n")
    p.server(b"502 no PASV\r\n")
    assert p.asked() == b"PASV\r\nEPSV\r\n"
    p.server(b"229 (|||45000|)\r\n")
    (dial,) = p.did(events.Dial)
    assert isinstance(dial, events.Dial)
    assert dial.to == SERVER


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"PORT 10,1,0,99,175,201", b"200"),
        (b"EPRT |1|10.1.0.99|45001|", b"200"),
        (b"PORT 10,1,1,99,175,201", b"504"),
        (b"PORT 10,1,0,99,0,22", b"504"),  # 3.15 holds all the same
        (b"PORT 10,2,0,2,175,201", b"504"),  # the proxy itself
        (b"EPRT |2|2001:db8:1::10|45001|", b"504"),  # of a family that it cannot be dialled from
    ],
)
def test_3_14_a_foreign_address_is_dialled_where_it_is_listed(line: bytes, code: bytes) -> None:
    p = elsewhere("client_side", "10.1.0.0/24", "10.2.0.0/24", "2001:db8:1::/64", server_mode="passive")
    assert p.client(line + b"\r\n")[:3] == code


def test_3_16_data_from_elsewhere_is_taken_where_it_is_listed() -> None:
    other = Endpoint(ipaddress.ip_address("10.1.0.98"), 40003)
    p = elsewhere("client_side", "10.1.0.99/32").passive()
    p.incoming(Leg.CLIENT, other)
    p.incoming(Leg.CLIENT, STRANGER)
    assert p.did(events.Take, events.Drop) == [events.Drop(p.number, 1), events.Take(p.number, 2)]
    second = Endpoint(ipaddress.ip_address("198.51.100.11"), 20)
    p = elsewhere("server_side", "198.51.100.11/32").active()
    p.incoming(Leg.SERVER, STRANGER)
    p.incoming(Leg.SERVER, second)
    assert p.did(events.Take, events.Drop) == [events.Drop(p.number, 1), events.Take(p.number, 2)]


@pytest.mark.parametrize("second", [b"PASV\r\n", b"EPSV\r\n", PORT])
def test_3_18_a_new_set_up_replaces_the_old(second: bytes) -> None:
    p = fixed().passive()
    assert p.client(second)[:1] == b"2"
    assert p.did(events.Reset, events.Release) == [events.Reset(1), events.Release(1)]
    p.feed(events.Incoming(1, Leg.CLIENT, 9, CLIENT))
    assert p.did(events.Drop) == [events.Drop(1, 9)]


def test_3_18_a_late_answer_to_the_old_one_counts_for_nothing() -> None:
    p = fixed()
    p.client(b"PASV\r\nPASV\r\n")
    p.server(b"229 (|||45000|)\r\n")
    p.feed(events.Dialled(1, Leg.SERVER, 53001))
    assert p.asked() == b"EPSV\r\nEPSV\r\n"
    p.client(b"RETR f\r\n")
    assert p.asked() == b"", "the second set-up is not ready"


def test_3_20_a_transfer_without_set_up_is_425() -> None:
    p = fixed()
    assert p.client(b"RETR f\r\n")[:3] == b"425"
    assert p.asked() == b""


def test_13_2_no_free_port_is_425() -> None:
    p = Playbook(listens=False).log_in()
    p.client(b"PASV\r\n")
    p.feed(events.ListenFailed(p.number, Leg.CLIENT, "no free port in 50000-50999"))
    assert p.said() == b"425 N: no free port in 50000-50999.\r\n"
    assert p.client(b"RETR f\r\n")[:3] == b"425"


def test_the_proxys_own_failure_ends_the_session_with_421() -> None:
    p = fixed().begin(b"STOR")
    p._take(p.session.crash())
    assert p.said() == b"421 N: the proxy failed.\r\n"
    assert events.Reset(p.number) in p.did(events.Reset)
    assert p.session.over


def test_10_3_stop_is_421_when_idle_and_after_the_transfer_else() -> None:
    p = fixed()
    p.feed(events.Stop(now=False))
    assert p.said() == b"421 N: the proxy is shutting down.\r\n"
    p = fixed().begin(b"RETR")
    p.feed(events.Stop(now=False))
    assert not p.session.over
    p.feed(events.DataEnd(p.number))
    assert p.server(b"226 ok\r\n") == b"226 ok\r\n421 N: the proxy is shutting down.\r\n"
