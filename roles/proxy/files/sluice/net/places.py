# SPDX-License-Identifier: GPL-3.0-or-later
"""How many transfers may run (PROTOCOL 13.7) and how many sessions there may be (2.12), over all workers.

The workers count in shared memory, each in a part of its own, so that one that dies takes only its own with
it. Nobody locks anything: two that take the last place at the very same moment may both have it.
"""

from __future__ import annotations

import mmap
import os
import time
from hashlib import blake2b

from sluice.config import Limits
from sluice.net import arrivals
from sluice.net.arrivals import Arrivals
from sluice.protocol.addresses import Address

MOST_WORKERS = 256
MOST_SESSIONS = 8190  # of one worker that are told apart by client; what is beyond counts in all only
_PART = 2 + MOST_SESSIONS  # numbers: transfers, sessions, then a client's number for each session
_PARTS = MOST_WORKERS * _PART
# Behind the parts, of every worker: bytes of data moved, transfers that wait for bandwidth; then arrivals.
_NUMBERS = _PARTS + 2 * MOST_WORKERS + arrivals.NUMBERS


def make_counts() -> int:
    """Make the memory in which all workers count; its descriptor. Only what is written takes room."""
    descriptor = os.memfd_create("sluice-counts")
    os.ftruncate(descriptor, 8 * _NUMBERS)
    return descriptor


class Counts:
    """The counts of all workers; this one's are in `slot`."""

    def __init__(self, descriptor: int | None = None, slot: int = 0) -> None:
        if descriptor is None:
            descriptor = make_counts()
            memory = mmap.mmap(descriptor, 8 * _NUMBERS)
            os.close(descriptor)
        else:
            if os.fstat(descriptor).st_size < 8 * _NUMBERS:  # made by former code, before a reload
                os.ftruncate(descriptor, 8 * _NUMBERS)
            memory = mmap.mmap(descriptor, 8 * _NUMBERS)
        numbers = memoryview(memory).cast("Q")
        self.slot = slot
        self._all = numbers[:_PARTS]
        self.own = self._all[slot * _PART : (slot + 1) * _PART]
        self.moved = numbers[_PARTS : _PARTS + MOST_WORKERS]
        self.waiting = numbers[_PARTS + MOST_WORKERS : _PARTS + 2 * MOST_WORKERS]
        self.arrivals = numbers[_PARTS + 2 * MOST_WORKERS :]

    def of(self, what: int) -> int:
        """The sum of number `what` (0: transfers, 1: sessions) over all workers."""
        return sum(self._all[what::_PART])

    def sessions_of(self, client: int) -> int:
        """How many sessions the client with that number has."""
        found = 0
        for slot, sessions in enumerate(self._all[1::_PART].tolist()):
            if sessions:
                found += self._all[slot * _PART + 2 : (slot + 1) * _PART].tolist().count(client)
        return found

    def clear(self, slot: int) -> None:
        """Forget all that a worker held which is gone."""
        self.waiting[slot] = 0
        part = self._all[slot * _PART : (slot + 1) * _PART]
        if any(part[:2]):
            part[:] = memoryview(bytes(8 * _PART)).cast("Q")


class Places:
    """`all` places for transfers, 0 for as many as there are ports; a transfer holds one from its first data
    socket until it is over. A client that only has to read the rest holds none (6.8).
    """

    def __init__(self, all_of_them: int, counts: Counts | None = None) -> None:
        self.all = all_of_them
        self._counts = counts or Counts()

    @property
    def own(self) -> int:
        """How many this worker holds."""
        return self._counts.own[0]

    def take(self) -> bool:
        """Take a place, if one is free."""
        if self.all and self._counts.of(0) >= self.all:
            return False
        self._counts.own[0] += 1
        return True

    def give_back(self) -> None:
        """Give a place back."""
        self._counts.own[0] -= 1


class Seats:
    """Places for sessions, in all and for each client, at once and in a minute."""

    def __init__(self, limits: Limits, counts: Counts | None = None) -> None:
        self._limits = limits
        self._counts = counts or Counts()
        self._arrivals = Arrivals(
            limits.sessions_per_client_per_minute, self._counts.arrivals, time.monotonic_ns
        )
        self._free = list(range(2 + MOST_SESSIONS - 1, 1, -1))
        self._taken: dict[Address, list[int]] = {}

    def refused(self, client: Address) -> str:
        """Why the client may have no session now; "" when it may, which counts for its minute."""
        limits = self._limits
        if limits.sessions and self._counts.of(1) >= limits.sessions:
            return f"the limit of {limits.sessions} sessions at once is reached"
        most = limits.sessions_per_client
        if most and self._counts.sessions_of(_number(client)) >= most:
            return f"the limit of {most} sessions of one client at once is reached"
        if not self._arrivals.take(client):
            most = limits.sessions_per_client_per_minute
            return f"the limit of {most} sessions of one client in a minute is reached"
        return ""

    def take(self, client: Address) -> None:
        """A session begins."""
        self._counts.own[1] += 1
        if self._limits.sessions_per_client and self._free:
            index = self._free.pop()
            self._counts.own[index] = _number(client)
            self._taken.setdefault(client, []).append(index)

    def give_back(self, client: Address) -> None:
        """A session is over."""
        self._counts.own[1] -= 1
        if indexes := self._taken.get(client):
            index = indexes.pop()
            self._counts.own[index] = 0
            self._free.append(index)
            if not indexes:
                del self._taken[client]


def _number(client: Address) -> int:
    """A client's number in the counts, never 0."""
    return int.from_bytes(blake2b(client.packed, digest_size=8).digest(), "big") or 1
