# SPDX-License-Identifier: GPL-3.0-or-later
"""What the proxy counts, as a row of numbers: a list, or a worker's part of memory that all share.

Counting is a step of every session, so it is an addition at a known place; metrics.py gives the names. The
numbers from `PORTS` on go up and down with what a worker holds, those before it only up.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, Protocol

from sluice.events import Leg

# The words of the log (SLUICE_OUTCOME, 10.5).
OUTCOMES: Final = (
    "complete",
    "reset-by-client",
    "reset-by-server",
    "aborted",
    "timeout",
    "refused",
    "proxy-error",
)
# Why the proxy refuses: the client's network; a limit of sessions; the server's address, name or port; a
# command by policy; what PORT or EPRT names; a data connection from elsewhere; the port that a server
# announced; no port or place for a transfer.
CAUSES: Final = (
    "client",
    "limit",
    "destination",
    "command",
    "port-command",
    "data-connection",
    "data-port",
    "no-port",
    "other",
)
FAILURES: Final = ("refused", "timeout", "unreachable")
DIRECTIONS: Final[tuple[str, ...]] = ("download", "upload", "unknown")
LEGS: Final = (Leg.CLIENT, Leg.SERVER)
USES: Final = ("listen", "source")
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # s
FIRST_CODE, CODES = 400, 200  # of replies: 400 to 599

SESSIONS: Final = 0
REFUSALS: Final = SESSIONS + 1  # by cause
TRANSFERS: Final = REFUSALS + len(CAUSES)  # by direction and outcome
BYTES: Final = TRANSFERS + len(DIRECTIONS) * len(OUTCOMES)  # by direction and the modes of both legs
REPLIES: Final = BYTES + 8  # 4xx and 5xx by leg and code
NO_PORT: Final = REPLIES + len(LEGS) * CODES  # by leg and use
FAILED: Final = NO_PORT + len(LEGS) * len(USES)  # connections to the next hop or server, by cause
CONNECTED: Final = FAILED + len(FAILURES)  # those that stand, by bound of the time, and one beyond the last
CONNECT_TIME: Final = CONNECTED + len(BOUNDS) + 1  # microseconds in all
DEATHS: Final = CONNECT_TIME + 1  # of workers
PORTS: Final = DEATHS + 1  # in use, by leg and use
LENGTH: Final = PORTS + len(LEGS) * len(USES)

# Code that counts otherwise cannot go on with these numbers.
LAYOUT: Final = repr((OUTCOMES, CAUSES, FAILURES, DIRECTIONS, BOUNDS, LENGTH))

_DIRECTION: Final = {False: 0, True: 1, None: 2}


class Numbers(Protocol):
    """A row of integers that can be changed."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class Tally:
    """Counts in `numbers`, a row of LENGTH; in one of its own unless it is given another's."""

    def __init__(self, numbers: Numbers | None = None) -> None:
        self.numbers: Numbers = [0] * LENGTH if numbers is None else numbers

    def session(self) -> None:
        """A session began."""
        self.numbers[SESSIONS] += 1

    def refused(self, cause: str) -> None:
        """The proxy refused something; `cause` is one of CAUSES."""
        self.numbers[REFUSALS + CAUSES.index(cause)] += 1

    def transfer(self, upload: bool | None, outcome: str) -> None:
        """A transfer is over; `outcome` is one of OUTCOMES, `upload` None where nothing showed it."""
        self.numbers[TRANSFERS + len(OUTCOMES) * _DIRECTION[upload] + OUTCOMES.index(outcome)] += 1

    def reply(self, leg: Leg, code: int) -> None:
        """A reply of 400 or more passed on a leg: to the client, or from the server."""
        if FIRST_CODE <= code < FIRST_CODE + CODES:
            self.numbers[REPLIES + CODES * (leg is Leg.SERVER) + code - FIRST_CODE] += 1

    def connected(self, seconds: float) -> None:
        """A connection to the next hop or server stands after so long."""
        self.numbers[CONNECTED + bisect_left(BOUNDS, seconds)] += 1
        self.numbers[CONNECT_TIME] += int(seconds * 1e6)

    def failed(self, cause: str) -> None:
        """One does not; `cause` is one of FAILURES."""
        self.numbers[FAILED + FAILURES.index(cause)] += 1

    def no_port(self, leg: Leg, use: str) -> None:
        """A range had no free port."""
        self.numbers[NO_PORT + port_index(leg, use)] += 1


def port_index(leg: Leg, use: str) -> int:
    """The place of a range among the four; `use` is one of USES."""
    return 2 * (leg is Leg.SERVER) + (use == "source")


def bytes_index(*, upload: bool, client_active: bool, server_active: bool) -> int:
    """Where the bytes of a transfer are counted."""
    return BYTES + 4 * upload + 2 * client_active + server_active
