# SPDX-License-Identifier: GPL-3.0-or-later
"""How many transfers may run at once, over all workers (PROTOCOL 13.7)."""

from __future__ import annotations

import mmap
import os

MOST_WORKERS = 256  # each has its own count, so that one that dies takes only its own with it


def make_counts() -> int:
    """Make the memory in which all workers count; its descriptor."""
    descriptor = os.memfd_create("sluice-places")
    os.ftruncate(descriptor, 8 * MOST_WORKERS)
    return descriptor


class Places:
    """`all` places for transfers, 0 for as many as there are ports; a transfer holds one from its first data
    socket until it is over. A client that only has to read the rest holds none (6.8).

    The workers count in shared memory, each in its own slot: two that take the last place at the very same
    moment may both have it.
    """

    def __init__(self, all_of_them: int, counts: int | None = None, slot: int = 0) -> None:
        self.all = all_of_them
        memory = mmap.mmap(-1 if counts is None else counts, 8 * MOST_WORKERS)
        self._counts = memoryview(memory).cast("q")
        self._slot = slot

    @property
    def taken(self) -> int:
        """How many are taken, by all workers."""
        return sum(self._counts)

    @property
    def own(self) -> int:
        """How many this worker holds."""
        return self._counts[self._slot]

    def take(self) -> bool:
        """Take a place, if one is free."""
        if self.all and self.taken >= self.all:
            return False
        self._counts[self._slot] += 1
        return True

    def give_back(self) -> None:
        """Give a place back."""
        self._counts[self._slot] -= 1

    def clear(self, slot: int) -> None:
        """Give back all that a worker held which is gone."""
        self._counts[slot] = 0
