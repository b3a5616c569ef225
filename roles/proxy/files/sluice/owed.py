# SPDX-License-Identifier: GPL-3.0-or-later
"""The replies that the server owes, in the order in which its commands went out (PROTOCOL 1.11, 5.1, 5.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sluice.protocol.verbs import Command, Kind, Verb

# Beside a running transfer these answer a command that overtook it, all else the transfer.
_ASIDE = frozenset((200, 202, 211, 212, 213, 214, 215, 225, 500, 501, 502, 503, 504, 530))


@dataclass(slots=True, eq=False)
class Entry:
    """A command that the server owes a reply. `own` takes the reply to one of the proxy's own."""

    verb: Verb
    command: Command | None
    own: Callable[[int, bytes], None] | None = None

    @property
    def passes(self) -> bool:
        """Whether its reply is relayed as it comes, unread."""
        return self.own is None and self.verb.kind is Kind.FORWARD


class Owed(list[Entry]):
    """A FIFO of entries, appended when the command goes out and removed when its final reply is there.

    Whose reply comes in is told by order and, beside a transfer, by code.
    """

    __slots__ = ()

    def whose(self, code: int, current: Entry | None) -> Entry | None:
        """Return whose reply begins with `code`; None: nobody's (1.13). `current` is the client's command."""
        if not self:
            return None
        head = self[0]
        if len(self) > 1 and head is current and head.verb.kind is Kind.TRANSFER and code in _ASIDE:
            if code == 225:  # only ABOR is answered so
                return next((e for e in self if e.verb.kind is Kind.ABOR), head)
            return self[1]
        return head

    @property
    def abor(self) -> bool:
        """Whether an ABOR is among them."""
        return any(e.verb.kind is Kind.ABOR for e in self)

    @property
    def swallowed_transfer(self) -> bool:
        """Whether the end of a transfer is among them that the client has heard about already."""
        return any(e.own and e.verb.kind is Kind.TRANSFER for e in self)

    def forget_abor(self) -> None:
        """Some servers answer ABOR and its transfer with one reply."""
        self[:] = [e for e in self if e.verb.kind is not Kind.ABOR]
