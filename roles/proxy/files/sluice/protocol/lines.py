# SPDX-License-Identifier: GPL-3.0-or-later
"""Framing of the command stream: Telnet sequences, line ends, length (PROTOCOL 1.1-1.7)."""

from __future__ import annotations

from enum import Enum

LINE_LIMIT = 8192  # bytes of a command line without its end (1.4: at least PATH_MAX, and a cap)

IAC, SB, SE = 0xFF, 0xFA, 0xF0
SYNCH = bytes((IAC, 0xF4, IAC, 0xF2))  # IAC IP, IAC DM: what stands before an urgent ABOR
_OPTION_VERBS = range(0xFB, 0xFF)  # WILL, WONT, DO, DONT: one option byte follows
_COMMANDS = range(SE, 0xFF)  # RFC 854: SE ... DONT


class LineFault(Enum):
    """Why a line is not handed on; the session answers it and stays in step."""

    TOO_LONG = "500 the command line is too long."
    BARE_CONTROL = "501 a command line must not hold a bare CR or a NUL."


class _Telnet(Enum):
    TEXT = 0
    IAC = 1  # an IAC came last
    OPTION = 2  # IAC WILL/WONT/DO/DONT came last
    SUB = 3  # inside IAC SB ...
    SUB_IAC = 4  # an IAC came last, inside IAC SB ...


class TelnetFilter:
    """Takes Telnet sequences out of a stream, however it is cut (1.6).

    `IAC IAC` stays as the two bytes that came, so a 0xFF in a file name leaves as it arrived;
    an IAC before a byte that is no Telnet command (a client that does not double) stays too.
    """

    def __init__(self) -> None:
        self._state = _Telnet.TEXT

    @property
    def partial(self) -> bool:
        """Whether a sequence has begun and not ended."""
        return self._state is not _Telnet.TEXT

    def feed(self, data: bytes) -> bytes:
        """Return what of `data` is text."""
        if self._state is _Telnet.TEXT and IAC not in data:
            return data
        out = bytearray()
        state = self._state
        for byte in data:
            if state is _Telnet.TEXT:
                if byte == IAC:
                    state = _Telnet.IAC
                else:
                    out.append(byte)
            elif state is _Telnet.IAC:
                state = _Telnet.TEXT
                if byte == SB:
                    state = _Telnet.SUB
                elif byte in _OPTION_VERBS:
                    state = _Telnet.OPTION
                elif byte not in _COMMANDS:  # IAC IAC, or a lone 0xFF
                    out += bytes((IAC, byte))
            elif state is _Telnet.OPTION:
                state = _Telnet.TEXT
            elif state is _Telnet.SUB:
                if byte == IAC:
                    state = _Telnet.SUB_IAC
            else:
                state = _Telnet.TEXT if byte == SE else _Telnet.SUB
        self._state = state
        return bytes(out)


class CommandReader:
    """Cuts the client's stream into lines; any split of the stream gives the same lines (1.3)."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._telnet = TelnetFilter()
        self._buffer = bytearray()
        self._discarding = False
        self.partial = False  # whether a line has begun and not ended (2.11: it has a time limit)

    def feed(self, data: bytes) -> list[bytes | LineFault]:
        """Return the lines that `data` ends, without their ends; a fault stands in a bad line's place.

        A line ends at LF, with or without CR before it (1.1). At most `limit` bytes are ever held.
        """
        if not self.partial and 0 <= data.find(b"\n") == len(data) - 1 and IAC not in data:
            return [self._whole(data[:-1])]  # one whole line, as nearly always
        lines: list[bytes | LineFault] = []
        pieces = self._telnet.feed(data).split(b"\n")
        for piece in pieces[:-1]:
            line = self._add(piece, lines)
            if line is not None:
                lines.append(line)
            self._buffer.clear()
            self._discarding = False
        self._keep(pieces[-1], lines)
        self.partial = bool(self._buffer) or self._discarding or self._telnet.partial
        return lines

    def _add(self, piece: bytes, lines: list[bytes | LineFault]) -> bytes | LineFault | None:
        self._keep(piece, lines)
        return None if self._discarding else self._whole(bytes(self._buffer))

    def _whole(self, line: bytes) -> bytes | LineFault:
        line = line.removesuffix(b"\r")
        if len(line) > self._limit:
            return LineFault.TOO_LONG
        if b"\r" in line or b"\0" in line:  # 1.2
            return LineFault.BARE_CONTROL
        return line

    def _keep(self, piece: bytes, lines: list[bytes | LineFault]) -> None:
        if self._discarding:
            return
        room = self._limit + 2 - len(self._buffer)
        self._buffer += piece[:room]
        if len(self._buffer) > self._limit + 1:  # more than a full line and its CR
            lines.append(LineFault.TOO_LONG)
            self._discarding = True
            self._buffer.clear()
