# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sessions of a process learn of the hosts they go to, for a while (PROTOCOL 3.11, 15.1)."""

from __future__ import annotations

from collections.abc import Callable

from sluice.events import Endpoint

REST = 30.0  # s that a host which did not answer or greet is tried last
LACK = 600.0  # s that a verb is not tried again with a server that lacks it
_MOST = 1024  # facts; the oldest goes for a new one


class Memory:
    """Facts with an end. The clock is the caller's, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._until: dict[tuple[bytes, Endpoint], float] = {}

    def rests(self, host: Endpoint) -> bool:
        """Whether the host failed lately."""
        return self._holds(b"", host)

    def failed(self, host: Endpoint) -> None:
        """It did not answer, or not as an FTP server."""
        self._note(b"", host, REST)

    def answered(self, host: Endpoint) -> None:
        """It greeted."""
        self._until.pop((b"", host), None)

    def lacks(self, server: Endpoint, verb: bytes) -> bool:
        """Whether the server is known to lack the verb."""
        return self._holds(verb, server)

    def refused(self, server: Endpoint, verb: bytes) -> None:
        """The server does not know the verb."""
        self._note(verb, server, LACK)

    def knows(self, server: Endpoint, verb: bytes) -> None:
        """It does, after all."""
        self._until.pop((verb, server), None)

    def _holds(self, fact: bytes, of: Endpoint) -> bool:
        until = self._until.get((fact, of))
        return until is not None and self.clock() < until

    def _note(self, fact: bytes, of: Endpoint, seconds: float) -> None:
        self._until.pop((fact, of), None)
        self._until[fact, of] = self.clock() + seconds
        if len(self._until) > _MOST:
            del self._until[next(iter(self._until))]
