# SPDX-License-Identifier: GPL-3.0-or-later
"""The PROXY protocol's header, and what a session does with it (PROTOCOL 14)."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluice import events
from sluice.events import Endpoint, Leg, Timer
from sluice.protocol.identity import LOCAL, HeaderError, HeaderReader, Identity, write_header

from tests.unit.sluice.playbook import CLIENT, Playbook, settings

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
# From the specification's text, byte by byte: version 2, PROXY, TCP over IPv4, 12 + 3 + 4 bytes.
PLAIN = SIGNATURE + bytes.fromhex("2111 0013 0a01000a 0a010001 9c41 0015 05 0004") + b"f00d"
WHO = Identity(ipaddress.ip_address("10.1.0.10"), 40001, ipaddress.ip_address("10.1.0.1"), 21, "f00d")

ports = st.integers(0, 65535)
idents = st.text("0123456789abcdefXYZ._:-", min_size=1, max_size=128)
identities = st.one_of(
    [st.builds(Identity, st.ip_addresses(v=v), ports, st.ip_addresses(v=v), ports, idents) for v in (4, 6)]
)


def read(data: bytes) -> HeaderReader:
    reader = HeaderReader()
    assert reader.feed(data)
    return reader


def test_14_1_the_header_is_the_specifications() -> None:
    assert write_header(WHO) == PLAIN
    assert read(PLAIN).identity == WHO


@given(identities, st.binary(max_size=40), st.lists(st.integers(0, 300), max_size=6))
def test_14_1_what_is_written_is_read_however_it_is_cut(who: Identity, rest: bytes, cuts: list[int]) -> None:
    data = write_header(who) + rest
    head = len(data) - len(rest)
    edges = sorted({0, *(min(cut, head) for cut in cuts), len(data)})
    reader = HeaderReader()
    for start, end in pairwise(edges):
        if reader.feed(data[start:end]):
            assert reader.identity == who
            assert reader.rest == data[head:end]
            return
    raise AssertionError("the header was never whole")


@given(identities)
def test_14_1_half_a_header_is_waited_for(who: Identity) -> None:
    data = write_header(who)
    for end in range(len(data)):
        reader = HeaderReader()
        assert not reader.feed(data[:end])
        assert reader.rest is None


@given(st.binary(max_size=80), st.binary(max_size=300))
def test_14_1_and_10_7_no_bytes_break_the_reader(start: bytes, more: bytes) -> None:
    for data in (start + more, SIGNATURE + start + more, PLAIN[:-9] + more):
        reader = HeaderReader()
        with contextlib.suppress(HeaderError):
            assert reader.feed(data) is (reader.rest is not None)
            assert reader.identity is None or len(reader.identity.session) <= 128


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"U", "no PROXY header of version 2"),
        (b"USER u@198.51.100.10\r\n", "no PROXY header"),
        (b"\r\n\r\nX", "no PROXY header"),
        (b"PROXY TCP4 10.1.0.10 10.1.0.1 40001 21\r\n", "no PROXY header"),
        (SIGNATURE + b"\x11\x11\0\0", "version and command 0x11"),
        (SIGNATURE + b"\x22\x11\0\0", "version and command 0x22"),
        (SIGNATURE + b"\x21\x11\xff\xff", "longer than 1024 bytes"),
        (SIGNATURE + b"\x20\x00\xff\xff", "longer than 1024 bytes"),
        (SIGNATURE + b"\x21\x00\0\0", "the protocol 0x00, not for TCP"),
        (SIGNATURE + b"\x21\x12\0\x0c" + bytes(12), "the protocol 0x12, not for TCP"),
        (SIGNATURE + b"\x21\x31\0\xd8" + bytes(216), "the protocol 0x31, not for TCP"),
        (SIGNATURE + b"\x21\x11\0\x0b" + bytes(11), "shorter than its addresses"),
        (SIGNATURE + b"\x21\x21\0\x0c" + bytes(12), "shorter than its addresses"),
        (SIGNATURE + b"\x21\x11\0\x0e" + bytes(14), "cut off"),
        (SIGNATURE + b"\x21\x11\0\x10" + bytes(12) + b"\x05\0\x02a", "cut off"),
        (SIGNATURE + b"\x21\x11\0\x0f" + bytes(12) + b"\x05\0\0", "session's id"),
        (SIGNATURE + b"\x21\x11\0\x12" + bytes(12) + b"\x05\0\x03a\nb", "session's id"),
    ],
)
def test_14_1_what_is_no_header_is_told_so(data: bytes, why: str) -> None:
    with pytest.raises(HeaderError, match=why):
        HeaderReader().feed(data)


def test_14_1_other_tlvs_are_passed_over_and_local_names_nobody() -> None:
    others = b"\x04\0\x03xyz" + b"\xea\0\0"
    data = SIGNATURE + b"\x21\x11\0\x15" + PLAIN[16:28] + others
    assert read(data + b"\0\0\0").rest == b"\0\0\0"
    found = read(data).identity
    assert found
    assert (found.client, found.session) == (WHO.client, "")
    assert read(LOCAL + b"NOOP").identity is None
    assert read(LOCAL + b"NOOP").rest == b"NOOP"
    # the rest of a LOCAL header is thrown away, whatever it holds (specification 2.2)
    assert read(SIGNATURE + b"\x20\x11\0\x03abcQUIT").rest == b"QUIT"


# --- a session ---


def hop(**changes: Any) -> Playbook:
    """A session of a hop that requires identity; its peer is the hop before."""
    made = settings(**changes)
    return Playbook(replace(made, client_side=replace(made.client_side, identity=True)))


def test_14_1_nothing_is_done_before_the_header_is_whole() -> None:
    p = hop()
    assert p.timers == {Timer.IDENTITY: 10.0}
    for byte in PLAIN[:-1]:
        p.client(bytes((byte,)))
    assert p.did(events.Connect, events.Log, events.Close) == []
    p.client(PLAIN[-1:])
    assert len(p.did(events.Connect)) == 1
    assert Timer.IDENTITY not in p.timers


def test_14_1_and_1_11_commands_in_the_headers_segment_are_served() -> None:
    p = hop()
    p.client(PLAIN + b"NOOP\r\nSYST\r\n")
    p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
    assert p.server(b"220 S\r\n") == b"220 S\r\n"
    assert p.asked() == b"NOOP\r\n"
    p.server(b"200 N\r\n")
    assert p.asked() == b"SYST\r\n"


def test_14_2_logs_name_the_client_and_the_hop_before_and_its_session() -> None:
    p = hop()
    p.client(PLAIN)
    (start,) = p.logs("session-start")
    assert start.fields["SLUICE_CLIENT"] == "10.1.0.10:40001"
    assert start.fields["SLUICE_PEER"] == str(CLIENT)
    assert start.fields["SLUICE_SESSION"] == p.session.ident == "f00d"
    p = hop()
    p.client(LOCAL)
    (start,) = p.logs("session-start")
    assert (start.fields["SLUICE_CLIENT"], start.fields["SLUICE_SESSION"]) == (str(CLIENT), "id")
    assert "SLUICE_PEER" not in start.fields


def test_14_1_and_10_1_data_belongs_to_the_hop_before_not_to_its_client() -> None:
    far = replace(WHO, client=ipaddress.ip_address("192.0.2.99"))
    p = hop()
    p.client(write_header(far))
    p.log_in()
    assert p.client(b"PORT 192,0,2,99,175,201\r\n").startswith(b"504 ")
    p.passive()
    p.incoming(Leg.CLIENT, Endpoint(far.client, 40009))
    p.incoming(Leg.CLIENT, CLIENT)
    assert p.did(events.Drop, events.Take) == [events.Drop(1, 1), events.Take(1, 2)]


@pytest.mark.parametrize("carried", [PLAIN, LOCAL, b""], ids=["carried", "local", "first hop"])
def test_14_1_a_next_hop_is_told_before_all_else(carried: bytes) -> None:
    """A hop between two others passes on what it was told; who was told nothing names its own client."""
    nearby = {"hosts": [{"name": "n1", "addresses": ["198.51.100.10"]}], "control_port": 21, "identity": True}
    p = hop(next_hop=nearby) if carried else Playbook(settings(next_hop=nearby))
    p.client(carried)
    assert p.asked() == b""
    p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
    own = Identity(CLIENT.address, CLIENT.port, ipaddress.ip_address("10.2.0.2"), 21, "id")
    assert read(p.asked()).identity == (WHO if carried == PLAIN else own)


def test_14_1_a_server_is_told_nothing() -> None:
    p = hop()
    p.client(PLAIN)
    p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
    assert p.asked() == b""


@pytest.mark.parametrize("before", [b"", PLAIN[:14]], ids=["nothing", "half"])
@pytest.mark.parametrize(
    "event",
    [
        events.Received(Leg.CLIENT, b"USER u\r\n"),
        events.Ended(Leg.CLIENT, False),
        events.Ended(Leg.CLIENT, True),
        events.Expired(Timer.IDENTITY),
        events.Stop(now=False),
        events.Kill(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_14_1_who_sends_no_header_gets_no_reply_and_one_record(event: events.Event, before: bytes) -> None:
    p = hop()
    p.client(before)
    p.feed(event)
    assert p.session.over
    assert (p.said(), p.timers) == (b"", {})
    (record,) = p.logs("refused")
    assert str(CLIENT) in record.fields["SLUICE_REASON"]
    assert p.did() == [events.Close(Leg.CLIENT)]
    assert p.did(events.Log) == [record]


@given(st.lists(st.binary(max_size=30) | st.sampled_from([SIGNATURE, PLAIN, LOCAL, PLAIN[:30]]), max_size=8))
def test_14_1_and_10_7_whatever_comes_first_a_session_begins_or_hears_nothing(pieces: list[bytes]) -> None:
    p = hop()
    for piece in pieces:
        p.client(piece)
    begun = bool(p.logs("session-start"))
    assert begun or p.session.over or Timer.IDENTITY in p.timers
    assert begun or not p.did(events.Send, events.Connect)
