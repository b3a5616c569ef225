# SPDX-License-Identifier: GPL-3.0-or-later
"""When the timers of one session run out: they start and stop with every command, and hardly one rings."""

from __future__ import annotations

from collections.abc import Callable

from sluice.events import Timer

NEVER = float("inf")


class Deadlines:
    """`at`: of each timer that runs, when it is over, by `clock` in seconds."""

    __slots__ = ("_clock", "at", "soonest")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.at: dict[Timer, float] = {}
        self.soonest = NEVER  # nothing is over before; a timer that was stopped may leave it too soon

    def start(self, timer: Timer, seconds: float) -> None:
        """Start a timer, or start it again."""
        when = self.at[timer] = self._clock() + seconds
        if when < self.soonest:  # noqa: PLR1730 - min is a call
            self.soonest = when

    def cancel(self, timer: Timer) -> None:
        """Stop a timer, if it runs."""
        self.at.pop(timer, None)

    def clear(self) -> None:
        """Stop all."""
        self.at.clear()

    def over(self, now: float) -> Timer | None:
        """Stop a timer that is over, and return it; None when none is, and then `soonest` is exact."""
        for timer, when in self.at.items():
            if when <= now:
                del self.at[timer]
                return timer
        self.soonest = min(self.at.values(), default=NEVER)
        return None
