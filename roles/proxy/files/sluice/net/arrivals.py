# SPDX-License-Identifier: GPL-3.0-or-later
"""How many sessions a client may begin in a minute (PROTOCOL 2.12), over all workers, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from sluice.protocol.addresses import Address

_MINUTE = 60 * 10**9  # ns
_ROWS = 16384
_WAYS = (
    4  # clients of a row; where more of them come within a minute, the one that waited longest is forgotten
)
NUMBERS = _ROWS * _WAYS * 2  # for each client its number, and when it has used up nothing any more


class Arrivals:
    """Each client has a bucket of `most` sessions, which fills again within a minute.

    An IPv6 client is its /64, for it may take any address of that. Two sessions that begin at the very same
    moment in two workers may count as one.
    """

    def __init__(self, most: int, numbers: memoryview, clock: Callable[[], int]) -> None:
        """most: 0 for no limit; numbers: `NUMBERS` of all workers; clock: ns, one for all workers."""
        self._most = most
        self._numbers = numbers
        self._clock = clock

    def take(self, client: Address) -> bool:
        """Count a session of the client; False, and nothing is counted, where it had too many lately."""
        if not self._most:
            return True
        key = _number(client)
        at = key % _ROWS * _WAYS * 2
        row = self._numbers[at : at + _WAYS * 2].tolist()
        keys, free = row[0::2], row[1::2]
        way = keys.index(key) if key in keys else free.index(min(free))
        now = self._clock()
        full = max(now, free[way]) if keys[way] == key else now
        full += _MINUTE // self._most
        if full > now + _MINUTE:
            return False
        self._numbers[at + way * 2] = key
        self._numbers[at + way * 2 + 1] = full
        return True


def _number(client: Address) -> int:
    """A client's number, never 0."""
    who = client.packed if client.version == 4 else client.packed[:8]
    return int.from_bytes(blake2b(who, digest_size=8).digest(), "big") or 1
