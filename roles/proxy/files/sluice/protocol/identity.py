# SPDX-License-Identifier: GPL-3.0-or-later
"""The PROXY protocol, version 2: what one hop tells the next of its client (PROTOCOL 14).

As HAProxy's proxy-protocol.txt (section 2.2) has it. The header goes before all else; the session's id stands
in it as PP2_TYPE_UNIQUE_ID.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sluice.protocol.addresses import Address

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_START = len(_SIGNATURE) + 4  # then: version and command, family and transport, a length of two bytes
_MOST = 1024  # bytes that may follow the start: addresses and TLVs; ours are below 180
_LOCAL, _PROXY = 0x20, 0x21  # version 2 in the upper half
_TCP = {0x11: 4, 0x21: 16}  # family and transport -> bytes of an address
_UNIQUE_ID = 0x05
_IDENT = re.compile(rb"[0-9A-Za-z._:-]{1,128}")  # it goes into logs as it stands; the protocol's own limit

LOCAL = _SIGNATURE + bytes((_LOCAL, 0, 0, 0))
"""What a hop sends that speaks for itself and for no client: the receiver takes it as the client."""


class HeaderError(ValueError):
    """What came is no header that one hop sends another; the message says why, without an end."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose session it is: both ends of the client's connection to the first hop, and the session's id.

    Both addresses are of one family. session: "" where the sender named none.
    """

    client: Address
    client_port: int
    destination: Address
    destination_port: int
    session: str


def write_header(identity: Identity) -> bytes:
    """Write the header that carries `identity`, whose session has an id."""
    kind = 0x11 if identity.client.version == 4 else 0x21
    ident = identity.session.encode("ascii")
    body = identity.client.packed + identity.destination.packed
    body += struct.pack("!HH", identity.client_port, identity.destination_port)
    body += struct.pack("!BH", _UNIQUE_ID, len(ident)) + ident
    return _SIGNATURE + struct.pack("!BBH", _PROXY, kind, len(body)) + body


class HeaderReader:
    """Reads one header from the beginning of a stream, however it is cut."""

    def __init__(self) -> None:
        self._read = bytearray()
        self.identity: Identity | None = None  # stays None after LOCAL
        self.rest: bytes | None = None
        """What came behind the header; None while that is not whole."""

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; return whether the header is whole. Raises HeaderError."""
        self._read += data
        if not _SIGNATURE.startswith(self._read[: len(_SIGNATURE)]):
            raise HeaderError("what came is no PROXY header of version 2")
        if len(self._read) < _START:
            return False
        command, kind, length = struct.unpack_from("!BBH", self._read, len(_SIGNATURE))
        if command not in (_LOCAL, _PROXY):
            raise HeaderError(f"the PROXY header has the version and command {command:#04x}")
        if length > _MOST:
            raise HeaderError(f"the PROXY header is longer than {_MOST} bytes")
        end = _START + length
        if len(self._read) < end:
            return False
        if command == _PROXY:
            self.identity = _parse_body(kind, bytes(self._read[_START:end]))
        self.rest = bytes(self._read[end:])
        return True


def _parse_body(kind: int, body: bytes) -> Identity:
    size = _TCP.get(kind)
    if size is None:
        raise HeaderError(f"the PROXY header is for the protocol {kind:#04x}, not for TCP")
    ends = 2 * size + 4
    if len(body) < ends:
        raise HeaderError("the PROXY header is shorter than its addresses")
    client, destination = (ipaddress.ip_address(body[at : at + size]) for at in (0, size))
    client_port, destination_port = struct.unpack_from("!HH", body, 2 * size)
    session = ""
    for what, value in _parse_tlvs(body[ends:]):
        if what == _UNIQUE_ID:
            if not _IDENT.fullmatch(value):
                raise HeaderError("the session's id in the PROXY header is not 1 to 128 letters and digits")
            session = value.decode("ascii")
    return Identity(client, client_port, destination, destination_port, session)


def _parse_tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and the value of each TLV; those that nobody here knows are for the caller to pass over."""
    while data:
        if len(data) < 3:
            raise HeaderError("a TLV of the PROXY header is cut off")
        what, length = struct.unpack_from("!BH", data)
        if len(data) < 3 + length:
            raise HeaderError("a TLV of the PROXY header is cut off")
        yield what, data[3 : 3 + length]
        data = data[3 + length :]
