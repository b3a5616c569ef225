# SPDX-License-Identifier: GPL-3.0-or-later
"""What all workers have counted, each in a part of shared memory; what a dead one counted stays."""

from __future__ import annotations

import mmap
import os

from sluice.net.places import MOST_WORKERS
from sluice.tally import LENGTH, PORTS, Tally

_SIZE = 8 * LENGTH * (MOST_WORKERS + 1)  # the last part is of those that are gone, and of the supervisor


def make_ledger() -> int:
    """Make the memory; its descriptor. Only what is written takes room."""
    descriptor = os.memfd_create("sluice-tally")
    os.ftruncate(descriptor, _SIZE)
    return descriptor


class Ledger:
    """The memory behind a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._all = memoryview(mmap.mmap(descriptor, _SIZE)).cast("q")
        self._used: set[int] = set()
        self.own = self.tally(MOST_WORKERS)

    def tally(self, slot: int) -> Tally:
        """Where the worker in `slot` counts."""
        self._used.add(slot)
        return Tally(self._part(slot))

    def _part(self, slot: int) -> memoryview:
        return self._all[slot * LENGTH : (slot + 1) * LENGTH]

    def bury(self, slot: int) -> None:
        """Keep what the worker in `slot` counted, which is gone; what it held is free."""
        part, kept = self._part(slot), self._part(MOST_WORKERS)
        for index, number in enumerate(part[:PORTS].tolist()):
            if number:
                kept[index] += number
        part[:] = memoryview(bytes(8 * LENGTH)).cast("q")

    def sums(self) -> list[int]:
        """Each number over all workers."""
        parts = (self._part(slot).tolist() for slot in self._used)
        return [sum(numbers) for numbers in zip(*parts, strict=True)]
