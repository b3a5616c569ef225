# SPDX-License-Identifier: GPL-3.0-or-later
"""How many transfers may run at once (PROTOCOL 13.7)."""

from __future__ import annotations


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
