# SPDX-License-Identifier: GPL-3.0-or-later
"""How many transfers may run (PROTOCOL 13.7) and how many sessions there may be at once (2.12)."""

from __future__ import annotations

from collections import Counter

from sluice.config import Limits
from sluice.protocol.addresses import Address


class Places:
    """`all` places for transfers, 0 for as many as there are ports; a transfer holds one from its first data
    socket until it is over. A client that only has to read the rest holds none (6.8)."""

    def __init__(self, all_of_them: int) -> None:
        self.all = all_of_them
        self.taken = 0

    def take(self) -> bool:
        """Take a place, if one is free."""
        if self.all and self.taken >= self.all:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        """Give a place back."""
        self.taken -= 1


class Seats:
    """Places for sessions, in all and for each client address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken: Counter[Address] = Counter()

    def refused(self, client: Address) -> str:
        """Why the client may have no session now; "" when it may."""
        limits = self._limits
        if limits.sessions and self._taken.total() >= limits.sessions:
            return f"the limit of {limits.sessions} sessions at once is reached"
        if limits.sessions_per_client and self._taken[client] >= limits.sessions_per_client:
            return f"the limit of {limits.sessions_per_client} sessions of one client at once is reached"
        return ""

    def take(self, client: Address) -> None:
        """A session begins."""
        self._taken[client] += 1

    def give_back(self, client: Address) -> None:
        """A session is over."""
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]
