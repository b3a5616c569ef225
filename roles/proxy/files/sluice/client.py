# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's control connection within a session: command lines in, replies out (PROTOCOL 1, 2.11)."""

from __future__ import annotations

from collections.abc import Callable

from sluice import events
from sluice.events import Action, Leg
from sluice.protocol.lines import CommandReader, LineFault
from sluice.protocol.replies import ReplyLine
from sluice.protocol.verbs import Command, Kind, parse_command
from sluice.tally import Tally

_QUEUE = 64  # command lines that may wait; more stay in the kernel


class ClientEnd:
    """Holds the commands that wait for their turn, and keeps a relayed reply in one piece."""

    def __init__(self, do: Callable[[Action], None], longest: int, tally: Tally) -> None:
        """`do` takes what is to be sent; `longest` bytes are a command line at most (1.4)."""
        self._do = do
        self._tally = tally
        self._reader = CommandReader(longest)
        self.waiting: list[Command | LineFault] = []  # few: a deque takes 600 bytes, empty as it is
        self.gone = False  # it sends no more
        self.heard = False  # a whole command has come since somebody looked
        self.within_reply = False  # it has seen the beginning of a reply
        self._behind: list[bytes] = []  # what waits for its end

    @property
    def accepts_input(self) -> bool:
        """Whether it should be read from."""
        return len(self.waiting) < _QUEUE

    @property
    def line_open(self) -> bool:
        """Whether a line has begun whose rest is its own to send; it may wait until we read it."""
        return self._reader.partial and self.accepts_input

    @property
    def quits(self) -> bool:
        """Whether a QUIT waits."""
        return any(isinstance(c, Command) and c.verb.kind is Kind.QUIT for c in self.waiting)

    def feed(self, data: bytes) -> None:
        """Take what it sent."""
        for line in self._reader.feed(data):
            self.heard = True
            self.waiting.append(line if isinstance(line, LineFault) else parse_command(line))

    def send(self, raw: bytes) -> None:
        """Send whole replies; nothing gets into the middle of one that is being relayed."""
        if self.within_reply:
            self._behind.append(raw)
        else:
            if raw >= b"4":
                self._tally.reply(Leg.CLIENT, int(raw[:3]))
            self._do(events.Send(Leg.CLIENT, raw))

    def relay(self, line: ReplyLine) -> None:
        """Send a line of a reply as it comes (1.9)."""
        self._do(events.Send(Leg.CLIENT, line.raw))
        self.within_reply = not line.last
        if line.last and line.code >= 400:
            self._tally.reply(Leg.CLIENT, line.code)
        while line.last and self._behind:
            self.send(self._behind.pop(0))
