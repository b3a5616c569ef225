# SPDX-License-Identifier: GPL-3.0-or-later
"""PORT, EPRT, 227 and 229: every known shape in, one canonical shape out (PROTOCOL 3.5-3.9, 3.13)."""

from __future__ import annotations

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORT = re.compile(rb"[0-9]{1,3}(?:,[0-9]{1,3}){5}")
_SIX = re.compile(
    rb"(?<![0-9,.])([0-9]{1,3})" + rb"[ \t]*,[ \t]*([0-9]{1,3})" * 5 + rb"(?![0-9]|[ \t]*,[ \t]*[0-9])"
)
_NUMBER = re.compile(rb"[0-9]{1,5}")


class BadAddressError(ValueError):
    """An argument that is no address; `reply` is the whole reply to the one who sent it."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


def parse_port(argument: bytes) -> tuple[Address, int]:
    """Read PORT's argument: exactly six numbers of 0-255 (3.13). Raises BadAddressError (501)."""
    argument = argument.strip(b" ")
    numbers = [int(n) for n in argument.split(b",")] if _PORT.fullmatch(argument) else []
    if not numbers or max(numbers) > 255:
        raise BadAddressError("501 PORT wants six numbers of 0 to 255: h1,h2,h3,h4,p1,p2.")
    port = numbers[4] * 256 + numbers[5]
    if not port:
        raise BadAddressError("501 PORT names port 0.")
    return ipaddress.IPv4Address(bytes(numbers[:4])), port


def parse_eprt(argument: bytes) -> tuple[Address, int]:
    """Read EPRT's argument (RFC 2428 section 2). Raises BadAddressError (501, 522)."""
    argument = argument.strip(b" ")
    delimiter = argument[:1]
    fields = argument.split(delimiter) if delimiter and 33 <= delimiter[0] <= 126 else []
    if len(fields) != 5 or fields[0] or fields[4]:
        raise BadAddressError("501 EPRT wants |protocol|address|port|.")
    protocol, host, port = fields[1:4]
    if protocol not in (b"1", b"2"):
        raise BadAddressError("522 Network protocol not supported, use (1,2)")
    kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]
    kind = ipaddress.IPv4Address if protocol == b"1" else ipaddress.IPv6Address
    try:
        address = kind(host.decode("ascii"))
    except ValueError:
        raise BadAddressError(f"501 EPRT names no IPv{kind(0).version} address.") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise BadAddressError("501 EPRT must not name a scope.")
    if not re.fullmatch(rb"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise BadAddressError("501 EPRT wants a port of 1 to 65535.")
    return address, int(port)


def format_port(address: Address, port: int) -> bytes:
    """Write PORT's argument."""
    return b",".join(b"%d" % n for n in (*address.packed, port >> 8, port & 255))


def format_eprt(address: Address, port: int) -> bytes:
    """Write EPRT's argument."""
    return b"|%d|%s|%d|" % (1 if address.version == 4 else 2, str(address).encode(), port)


def parse_227(raw: bytes) -> int | None:
    """Return the port that a whole 227 reply names, None when it names none (3.6).

    The six numbers may stand anywhere after the code (RFC 1123 4.1.2.6); the last six count.
    """
    numbers = _six(raw)
    return numbers[4] * 256 + numbers[5] or None if numbers else None


def address_in_227(raw: bytes) -> Address | None:
    """Return the address that it names, which counts only where the admin lists it (3.7)."""
    numbers = _six(raw)
    return ipaddress.IPv4Address(bytes(numbers[:4])) if numbers else None


def _six(raw: bytes) -> list[int]:
    found = _SIX.findall(raw[4:])
    numbers = [int(n) for n in found[-1]] if found else [256]
    return numbers if max(numbers) <= 255 else []


def parse_229(raw: bytes) -> int | None:
    """Return the port that a whole 229 reply names, None when it names none; the last group counts (3.8).

    Each byte is looked at a few times at most: a reply may be long.
    """
    end = len(raw)
    while (end := raw.rfind(b")", 4, end)) >= 0:
        begin = raw.rfind(b"(", max(4, raw.rfind(b")", 4, end)), end)
        group = raw[begin + 1 : end] if begin >= 0 else b""
        fields = group.split(group[:1]) if group and 33 <= group[0] <= 126 else []
        if len(fields) >= 5 and not fields[-1] and _NUMBER.fullmatch(fields[-2]):
            port = int(fields[-2])
            return port if 1 <= port <= 65535 else None
    return None


def format_227(address: Address, port: int) -> str:
    """Write the one 227 that every client reads (3.5)."""
    return f"227 Entering Passive Mode ({format_port(address, port).decode()})."


def format_229(port: int) -> str:
    """Write the 229 of RFC 2428."""
    return f"229 Entering Extended Passive Mode (|||{port}|)"


def endpoint(address: Address, port: int) -> str:
    """Write address and port as people read them: 192.0.2.1:21, [2001:db8::1]:21."""
    return f"[{address!s}]:{port}" if address.version == 6 else f"{address!s}:{port}"
