# SPDX-License-Identifier: GPL-3.0-or-later
"""Replies: framing of the server's stream, writing our own, filtering FEAT (PROTOCOL 1.4, 1.8-1.10, 7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LINE_LIMIT = 65536  # bytes of one reply line with its end (1.4)

_FIRST = re.compile(rb"([1-5][0-9][0-9])([ -]|\r?\n\Z)")


@dataclass(frozen=True, slots=True)
class ReplyLine:
    """One line of a reply, as it came; a reply is every line from `first` to `last` (1.8)."""

    raw: bytes
    code: int
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class ReplyFault:
    """The stream is no FTP; nothing after it can be trusted (1.10). `reason` completes a sentence."""

    reason: str


class ReplyReader:
    """Cuts the server's stream into reply lines; any split of the stream gives the same lines."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._buffer = b""
        self._open: bytes | None = None  # the code of a multi-line reply that is not closed
        self._fault: ReplyFault | None = None

    def feed(self, data: bytes) -> list[ReplyLine | ReplyFault]:
        """Return the lines that `data` completes; after a fault nothing more."""
        if self._fault:
            return []
        out: list[ReplyLine | ReplyFault] = []
        pieces = (self._buffer + data).split(b"\n")
        self._buffer = pieces.pop()
        for piece in pieces:
            out.append(self._line(piece + b"\n"))
            if self._fault:
                return out
        if len(self._buffer) >= self._limit:
            out.append(self._fail("a reply line is too long"))
        return out

    def _line(self, raw: bytes) -> ReplyLine | ReplyFault:
        if len(raw) > self._limit:
            return self._fail("a reply line is too long")
        match = _FIRST.match(raw)
        if self._open is None:
            if not match:
                return self._fail("a reply does not begin with a code")
            if match[2] == b"-":
                self._open = match[1]
                return ReplyLine(raw, int(match[1]), first=True, last=False)
            return ReplyLine(raw, int(match[1]), first=True, last=True)
        code = int(self._open)
        last = match is not None and match[1] == self._open and match[2] == b" "
        if last:
            self._open = None
        return ReplyLine(raw, code, first=False, last=last)

    def _fail(self, reason: str) -> ReplyFault:
        self._fault = ReplyFault(reason)
        self._buffer = b""
        return self._fault


def reply(text: str) -> bytes:
    """Write a reply of one line from `text`, which begins with its code."""
    return text.encode("utf-8", "backslashreplace") + b"\r\n"


def multiline(code: int, lines: Sequence[str]) -> bytes:
    """Write a reply of one line or more, each with the code: no line is taken for the last (1.8)."""
    return b"".join(reply(f"{code}{'-' if i < len(lines) else ' '}{line}") for i, line in enumerate(lines, 1))


def filter_features(raw: bytes, remove: Callable[[bytes], bool], add: Sequence[bytes]) -> bytes:
    """Rewrite a whole 211 reply to FEAT (7.1-7.4).

    remove: of a feature's first word (upper case), whether it goes; add: features put in when absent.
    Facts and parameters stay as the server sent them.
    """
    lines = [line.removesuffix(b"\r") for line in raw.split(b"\n")][:-1]
    heading = lines[0][4:] if len(lines) > 1 else b""
    features = [line.strip(b" ") for line in lines[1:-1]]
    kept = [f for f in features if f and not remove(f.split(b" ")[0].upper())]
    present = {feature.split(b" ")[0].upper() for feature in kept}
    kept += [feature for feature in add if feature not in present]
    if not kept:
        return b"211 no features\r\n"
    body = b"".join(b" " + feature + b"\r\n" for feature in kept)
    return b"211-" + (heading or b"Features:") + b"\r\n" + body + b"211 End\r\n"
