# SPDX-License-Identifier: GPL-3.0-or-later
"""What the policy denies: locally, in order, and never at the server (PROTOCOL 7.9)."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from sluice import events
from sluice.events import Leg
from sluice.protocol.verbs import VERBS, Kind, parse_command

from tests.unit.sluice.playbook import CLIENT, PORT, Playbook, settings

HARMLESS = [b"CWD /", b"PWD", b"TYPE I", b"REST 1", b"SYST", b"NOOP", b"HELP", b"OPTS UTF8 ON", b"STAT"]
READING = [b"SIZE f", b"MDTM f", b"MLST f", b"STAT f"]
CHANGING = [
    b"DELE f",
    b"RNFR f",
    b"RNTO g",
    b"MKD d",
    b"RMD d",
    b"XMKD d",
    b"SITE CHMOD 7 f",
    b"MFMT 1 f",
    b"dele f",
]
UNKNOWN = [b"XFOO", b"XFOO f"]
UPLOADING = [b"STOR f", b"STOU", b"APPE f"]
DOWNLOADING = [b"RETR f", b"LIST", b"NLST", b"MLSD"]
WORDS = b"550 N: the policy does not allow %s.\r\n"


def of_client(*rules: dict[str, Any]) -> Playbook:
    side = settings_side("client_side") | {"commands": list(rules)}
    return Playbook(settings(client_side=side)).log_in()


def settings_side(name: str) -> dict[str, Any]:
    """The table of one side, as TOML has it."""
    client = name == "client_side"
    return {
        "leg": "F-N" if client else "N-S",
        "neighbour": "F" if client else "S",
        "mode": "both",
        "addresses": [{"address": "10.2.0.2" if client else "198.51.100.2"}],
        "listen": "50000-50999" if client else "52000-52999",
        "source": "51000-51999" if client else "53000-53999",
        "peer_ports": "1024-65535",
    } | ({"peers": ["10.1.0.0/16"], "control_port": 21} if client else {})


def passes(p: Playbook, line: bytes) -> bool:
    """Whether the line reaches the server; where it does not, the client hears why."""
    said = p.client(line + b"\r\n")
    if p.asked() == line + b"\r\n":
        assert said == b""
        p.server(b"200 x\r\n")
        return True
    assert said == WORDS % line.split()[0].upper()
    return False


def transfers(p: Playbook, line: bytes) -> bool:
    """Whether the transfer verb reaches the server."""
    p.passive()
    p.incoming(Leg.CLIENT, CLIENT)
    said = p.client(line + b"\r\n")
    if p.asked() == line + b"\r\n":
        p.server(b"550 x\r\n")
        return True
    assert said == WORDS % line.split()[0]
    return False


@pytest.mark.parametrize(
    ("preset", "allowed", "denied"),
    [
        ("read-only", HARMLESS + READING, CHANGING + UNKNOWN),
        ("upload-only", HARMLESS, READING + CHANGING + UNKNOWN),
    ],
)
def test_7_9_presets(preset: str, allowed: list[bytes], denied: list[bytes]) -> None:
    p = of_client({"preset": preset})
    assert [line for line in allowed if not passes(p, line)] == []
    assert [line for line in denied if passes(p, line)] == []
    reading = preset == "read-only"
    assert [line for line in DOWNLOADING if transfers(p, line)] == (DOWNLOADING if reading else [])
    assert [line for line in UPLOADING if transfers(p, line)] == ([] if reading else UPLOADING)


@pytest.mark.parametrize(
    ("rule", "allowed", "denied"),
    [
        ({"allow": ["size", "STAT"]}, [b"SIZE f", b"STAT", b"stat f", b"PASS x"], HARMLESS[:-1] + UNKNOWN),
        ({"preset": "upload-only", "allow": ["MKD", "XFOO"]}, [*HARMLESS, b"MKD d", *UNKNOWN], READING),
        ({"allow": ["SITE"], "deny": ["SITE"]}, [b"ACCT x"], [b"SITE x", b"SYST"]),
    ],
)
def test_7_9_a_list_of_what_is_allowed(
    rule: dict[str, Any], allowed: list[bytes], denied: list[bytes]
) -> None:
    """With a preset it adds to that; alone it is all, beside what logs in and out."""
    p = of_client(rule)
    assert [line for line in allowed if not passes(p, line)] == []
    assert [line for line in denied if passes(p, line)] == []
    assert p.client(b"QUIT\r\n") == b""
    assert p.asked() == b"QUIT\r\n"


def test_7_9_a_list_of_what_is_allowed_holds_for_transfers() -> None:
    p = of_client({"allow": ["PASV", "RETR"]})
    assert transfers(p, b"RETR f")
    assert not transfers(p, b"LIST")
    assert p.client(PORT) == WORDS % b"PORT"


def test_7_9_without_a_rule_all_passes() -> None:
    p = of_client({"networks": ["10.1.9.0/24"], "preset": "read-only"})
    assert all(passes(p, line) for line in HARMLESS + READING + CHANGING + UNKNOWN)


def test_7_9_the_first_rule_that_holds_the_client_counts() -> None:
    p = of_client({"networks": ["10.1.0.0/24"], "deny": ["SITE"]}, {"preset": "read-only"})
    assert not passes(p, b"SITE x")
    assert passes(p, b"DELE f")


def test_7_9_a_rule_of_servers_counts_once_there_is_one() -> None:
    side = settings_side("server_side") | {"commands": [{"networks": ["198.51.100.10"], "deny": ["dele"]}]}
    assert not passes(Playbook(settings(server_side=side)).log_in(), b"DELE f")
    side["commands"][0]["networks"] = ["198.51.100.11"]
    assert passes(Playbook(settings(server_side=side)).log_in(), b"DELE f")


@pytest.mark.parametrize(
    ("asked", "denied"), [(b"FTP.example.org.", True), (b"b.example.org", False), (b"198.51.100.10", False)]
)
def test_7_9_a_rule_of_servers_may_name_them(asked: bytes, denied: bool) -> None:
    """The name that the client asked for counts, whatever it resolves to."""
    side = settings_side("server_side") | {"commands": [{"names": ["ftp.example.org"], "deny": ["SITE"]}]}
    servers = {"networks": ["198.51.100.0/24"], "control_ports": [21], "resolvers": ["192.0.2.53"]}
    p = Playbook(settings(servers=servers, server_side=side))
    p.client(b"USER u@" + asked + b"\r\n")
    if p.did(events.Resolve):
        p.feed(events.Resolved(asked.decode(), (ipaddress.ip_address("198.51.100.10"),), ""))
    p.log_in()
    assert passes(p, b"SITE x") is not denied


def test_7_9_a_fixed_server_has_its_name() -> None:
    side = settings_side("server_side") | {"commands": [{"names": ["ftp.example.org"], "deny": ["SITE"]}]}
    servers = {
        "networks": ["198.51.100.0/24"],
        "control_ports": [21],
        "resolvers": ["192.0.2.53"],
        "fixed": "FTP.example.org:21",
    }
    p = Playbook(settings(servers=servers, server_side=side))
    p.feed(events.Resolved("FTP.example.org", (ipaddress.ip_address("198.51.100.10"),), ""))
    assert not passes(p.log_in(), b"SITE x")


def test_7_9_and_1_11_a_denial_waits_for_its_turn_and_is_logged() -> None:
    p = of_client({"deny": ["SITE"]})
    assert p.client(b"SYST\r\nSITE x\r\nPWD\r\n") == b""
    assert p.server(b"215 x\r\n") == b"215 x\r\n" + WORDS % b"SITE"
    assert p.server(b"257 x\r\n") == b"257 x\r\n"
    assert p.asked() == b"SYST\r\nPWD\r\n"
    (record,) = p.logs("refused")
    assert record.fields["SLUICE_REASON"] == "the policy does not allow SITE"


@pytest.mark.parametrize("verb", [b"STAT", b"NOOP", b"ABOR"])
def test_7_9_what_may_overtake_a_transfer_is_denied_in_its_turn(verb: bytes) -> None:
    p = of_client({"deny": [verb.decode()]}).begin(b"RETR")
    assert p.client(verb + b"\r\n") == b""
    assert p.asked() == b""
    p.feed(events.DataEnd(p.number))
    assert p.server(b"226 x\r\n") == b"226 x\r\n" + WORDS % verb


def test_7_9_feat_shows_only_what_will_work() -> None:
    p = of_client({"preset": "read-only", "deny": ["MDTM", "EPRT"]})
    p.client(b"FEAT\r\n")
    features = [b"SIZE", b"MDTM", b"MFMT", b"MLST type*;", b"TVFS", b"UTF8", b"REST STREAM", b"XFOO"]
    shown = p.server(b"211-F\r\n" + b"".join(b" %s\r\n" % each for each in features) + b"211 End\r\n")
    kept = [b"SIZE", b"MLST type*;", b"TVFS", b"UTF8", b"REST STREAM", b"EPSV", b"PASV"]
    assert [line.strip() for line in shown.split(b"\r\n")[1:-2]] == kept


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"preset": "upload-only"}, b"TVFS, UTF8, REST STREAM, EPRT, EPSV, PASV"),
        ({"preset": "upload-only", "allow": ["SIZE"]}, b"SIZE, TVFS, UTF8, REST STREAM, EPRT, EPSV, PASV"),
        ({"allow": ["FEAT", "EPSV", "SIZE", "XFOO"]}, b"SIZE, TVFS, UTF8, XFOO, EPSV"),
    ],
)
def test_7_1_and_7_4_and_7_9_feat_under_a_preset_and_a_list(rule: dict[str, Any], kept: bytes) -> None:
    p = of_client(rule)
    p.client(b"FEAT\r\n")
    features = [b"SIZE", b"MLST type*;", b"TVFS", b"UTF8", b"REST STREAM", b"XFOO", b"AUTH TLS"]
    shown = p.server(b"211-F\r\n" + b"".join(b" %s\r\n" % each for each in features) + b"211 End\r\n")
    assert shown == b"211-F\r\n" + b"".join(b" %s\r\n" % each for each in kept.split(b", ")) + b"211 End\r\n"


@pytest.mark.parametrize(
    ("user", "goes"),
    [(b"anonymous", True), (b"FTP", True), (b"bob", False), (b"", False), (b"anonymous@x@y", False)],
)
def test_7_9_only_anonymous_may_log_in(user: bytes, goes: bool) -> None:
    p = of_client({"anonymous": True})
    said = p.client(b"USER " + user + b"\r\n")
    assert p.asked() == (b"USER " + user + b"\r\n" if goes else b"")
    assert said == (b"" if goes else b"530 N: only anonymous may log in here.\r\n")


@pytest.mark.parametrize("end", ["client_side", "server_side"])
@pytest.mark.parametrize(("user", "goes"), [(b"anonymous", True), (b"bob", False)])
def test_7_9_only_anonymous_with_user_at_host(end: str, user: bytes, goes: bool) -> None:
    """A rule of servers counts once the server is known; then the session has it, but nobody logged in."""
    side: dict[str, Any] = {end: settings_side(end) | {"commands": [{"anonymous": True}]}}
    servers = {"networks": ["198.51.100.0/24"], "control_ports": [21]}
    p = Playbook(settings(servers=servers, **side))
    p.said()
    said = p.client(b"USER " + user + b"@198.51.100.10\r\n")
    if p.did(events.Connect):
        assert goes or end == "server_side"
        p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
        said += p.server(b"220 S\r\n")
    assert said == (b"" if goes else b"530 N: only anonymous may log in here.\r\n")
    assert p.asked() == (b"USER anonymous\r\n" if goes else b"")


def test_7_9_open_is_denied_to_nobody_before_there_is_a_server() -> None:
    side = settings_side("client_side") | {"commands": [{"preset": "read-only"}]}
    servers = {"networks": ["198.51.100.0/24"], "control_ports": [21]}
    p = Playbook(settings(servers=servers, client_side=side))
    p.client(b"SITE 198.51.100.10\r\n")
    assert p.did(events.Connect)


def test_7_9_the_table_knows_what_each_verb_is_good_for() -> None:
    assert all(verb.use for verb in VERBS.values())
    assert parse_command(b"XFOO").use is None
    moving = {verb.name: verb.use for verb in VERBS.values() if verb.kind is Kind.TRANSFER}
    assert {name for name, use in moving.items() if use and use.value == "upload"} == {
        b"STOR",
        b"STOU",
        b"APPE",
    }


def test_7_9_and_13_6_set_up_may_be_denied() -> None:
    p = of_client({"deny": ["PORT"]})
    assert p.client(PORT) == WORDS % b"PORT"
