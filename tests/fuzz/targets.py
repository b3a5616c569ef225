# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fuzzer feeds: the parsers, and the whole session machine at both its ends (PROTOCOL 10.7).

An input is text, so that a seed and a finding can be read. Its first line says what it is for: `parsers`, and
all that follows is what they read; or `session`, the modes of both legs and the way to the server, and each
line that follows is something that happens:

    >text   the client sends the text and CRLF       }text   the text alone
    <text   the server sends the text and CRLF       {text   the text alone
    !Name   the net has an event of that name for the session, the first one; `!Name 2`: the third
    +, -    from here on what ends at once on the net ends well, or badly

Nothing that any peer sends may raise an exception, break a law of the session's World, or take for ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from sluice import access, journal
from sluice.events import Event, Leg
from sluice.protocol import addresses
from sluice.protocol.addresses import BadAddressError
from sluice.protocol.identity import HeaderError, HeaderReader
from sluice.protocol.lines import LINE_LIMIT, CommandReader, LineFault
from sluice.protocol.replies import ReplyFault, ReplyLine, ReplyReader, filter_features
from sluice.protocol.verbs import HIDDEN_FEATURES, Kind, parse_command

from tests.unit.sluice.playbook import CLIENT, intercepting, settings
from tests.unit.sluice.world import World

MODES = ("both", "active", "passive")
SERVERS: Mapping[str, dict[str, Any]] = {
    "fixed": {},
    "choose": {
        "servers": {"networks": ["198.51.100.0/25"], "control_ports": [21], "resolvers": ["192.0.2.53"]}
    },
    "hop": {
        "next_hop": {
            "hosts": [{"name": f"m{i}", "addresses": [f"198.51.100.{i}"]} for i in (11, 12)],
            "control_port": 21,
        }
    },
    "taken": intercepting("tproxy", client_source=True),
    "told": intercepting("redirect", told=True),
}
SETTINGS = settings()


def feed(data: bytes) -> None:
    """Feed one input. Raises whatever is found."""
    head, _end, rest = data.partition(b"\n")
    words = head.decode("latin-1").split()
    if words[:1] == ["session"]:
        session(words[1:], rest)
    else:
        for parser in PARSERS:
            parser(rest)


# --- parsers: a new one is added to PARSERS --------------------------------------------------------


def in_pieces(data: bytes) -> list[bytes]:
    """The same bytes, cut where their own values say (1.3)."""
    pieces, at = [], 0
    while at < len(data):
        size = 1 + data[at] % 13
        pieces.append(data[at : at + size])
        at += size
    return pieces


def commands(data: bytes) -> None:
    """The client's stream and all that is read in a line of it."""
    reader, whole = CommandReader(), CommandReader()
    lines = [line for piece in in_pieces(data) for line in reader.feed(piece)]
    assert lines == whole.feed(data), "1.3"
    assert reader.partial == whole.partial
    for line in lines:
        if isinstance(line, LineFault):
            continue
        assert len(line) <= LINE_LIMIT, "1.4"
        assert not set(line) & set(b"\r\n\0"), "1.2"
        command = parse_command(line)
        assert command.line == line
        if command.verb.kind is Kind.SETUP:
            access.read_setup(command, SETTINGS, CLIENT)
        for read in (access.parse_destination, access.parse_place):
            place = read(command.argument, 21)
            assert place is None or 0 < place.port < 65536
        for rule in ([], list(SETTINGS.client_side.commands)):
            access.command_denied(rule, command)


def replies(data: bytes) -> None:
    """The server's stream and all that is read in a reply."""
    reader, whole = ReplyReader(), ReplyReader()
    found = [line for piece in in_pieces(data) for line in reader.feed(piece)]
    assert found == whole.feed(data), "1.3"
    lines = [line for line in found if isinstance(line, ReplyLine)]
    assert data.startswith(b"".join(line.raw for line in lines)), "1.8"
    assert all(isinstance(each, ReplyLine) for each in found[:-1]), "1.10: after a fault nothing"
    assert all(isinstance(each, ReplyLine | ReplyFault) for each in found)
    raw = b""
    for line in lines:
        raw = line.raw if line.first else raw + line.raw
        assert 100 <= line.code <= 599
        if line.last:
            for read in (addresses.parse_227, addresses.parse_229):
                port = read(raw)
                assert port is None or 0 < port < 65536
            shown = filter_features(raw, lambda word: word in HIDDEN_FEATURES, [b"EPSV"])
            assert shown == filter_features(shown, lambda word: word in HIDDEN_FEATURES, [b"EPSV"]), "7.1"


def places(data: bytes) -> None:
    """Addresses in arguments; what is read is written back so that it reads the same."""
    for line in data.split(b"\n"):
        with contextlib.suppress(BadAddressError):
            address, port = addresses.parse_port(line)
            assert addresses.parse_port(addresses.format_port(address, port)) == (address, port)
        with contextlib.suppress(BadAddressError):
            address, port = addresses.parse_eprt(line)
            assert addresses.parse_eprt(addresses.format_eprt(address, port)) == (address, port)
        for read in (addresses.parse_227, addresses.parse_229):
            read(line)


def records(data: bytes) -> None:
    """What a log shows is one line and nothing a terminal obeys (10.5); a record is framed as it says."""
    text = journal.show(data)
    assert text.isprintable()
    assert len(text) <= 2048
    raw = data.decode("utf-8", "backslashreplace")
    record = journal.encode({"SLUICE_FILE": raw})
    value = raw.encode("utf-8", "backslashreplace")
    if b"\n" in value:
        assert record == b"SLUICE_FILE\n" + len(value).to_bytes(8, "little") + value + b"\n"
    else:
        assert record == b"SLUICE_FILE=" + value + b"\n"


def header(data: bytes) -> None:
    """What one hop tells the next of its client (14.1), however it is cut."""
    whole, cut = HeaderReader(), HeaderReader()
    ended: list[object] = []
    for reader, pieces in ((whole, [data]), (cut, in_pieces(data))):
        try:
            for piece in pieces:
                reader.feed(piece)
            ended.append((reader.identity, reader.rest))
        except HeaderError:
            ended.append("refused")
    assert ended[0] == ended[1], "1.3"


PARSERS: tuple[Callable[[bytes], None], ...] = (commands, replies, places, records, header)

# --- the session ------------------------------------------------------------------------------------


def session(words: list[str], data: bytes) -> None:
    """One session, from its beginning to its end."""
    client, server, way = (*words, "", "", "")[:3]
    well = True
    world = World(
        settings(
            client if client in MODES else "both",
            server if server in MODES else "both",
            **SERVERS.get(way, {}),
        ),
        lambda: well,
    )
    for line in data.split(b"\n"):
        mark, text = line[:1], line[1:]
        match mark:
            case b">":
                world.receive(Leg.CLIENT, text + b"\r\n")
            case b"}":
                world.receive(Leg.CLIENT, text)
            case b"<":
                world.receive(Leg.SERVER, text + b"\r\n")
            case b"{":
                world.receive(Leg.SERVER, text)
            case b"!":
                event = choose(world.possible(), text.decode("latin-1"))
                if event:
                    world.feed(event)
            case b"+" | b"-":
                well = mark == b"+"
        if world.over:
            return
    to_its_end(world)


def choose(possible: list[Event], text: str) -> Event | None:
    """The event that a line means, if the net may have it now."""
    name, _blank, number = text.partition(" ")
    found = [each for each in possible if type(each).__name__ == name]
    index = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else 0
    return found[index % len(found)] if found else None


def to_its_end(world: World) -> None:
    """Both peers are silent: time alone ends every session (2.11)."""
    for _round in range(100):
        for each in world.possible():
            if type(each).__name__ in {"DataIdle", "Expired"} and each in world.possible():
                world.feed(each)
        if world.over:
            return
    raise AssertionError("both ends are silent, and the session does not end")
