# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of bandwidth: how much of a transfer may move now, and how long the rest of it waits.

A session has a bucket of its own. What the host moves in all is counted in shared memory: each worker adds to
a number of its own and reads everybody's. Nobody locks anything: where workers look at the very same moment
all of them may take, and then all wait until that is paid, so that the limit holds over any longer time.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sluice.net.places import Counts
from sluice.net.relay import Pipe, Relay, was_reset

STEP = 0.05  # s of its rate that a transfer takes at a time
_SMALL = 16384  # bytes; where many share a limit they do not take less than this, but wait longer
_LOOK = 1.0  # s after which a transfer that waits looks whether its source was reset


class Bucket:
    """Bytes that may move: `rate` a second, and two steps of that at once."""

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self.step = max(1, int(rate * STEP))
        self.level: float = 2 * self.step
        self._filled = now

    def fill(self, now: float) -> None:
        """Let time pass."""
        self.level = min(2 * self.step, self.level + (now - self._filled) * self.rate)
        self._filled = now


class Shared:
    """The bucket of all sessions of the host, as this worker sees it."""

    def __init__(self, rate: int, counts: Counts, now: float) -> None:
        self._bucket = Bucket(rate, now)
        self._moved, self._waiting, self._slot = counts.moved, counts.waiting, counts.slot
        self._seen = sum(self._moved)

    def turn(self, now: float) -> int:
        """How many bytes a transfer may move in its turn, 0 where the host has moved too many."""
        bucket = self._bucket
        bucket.fill(now)
        seen = sum(self._moved)
        bucket.level -= seen - self._seen
        self._seen = seen
        return max(bucket.step // self._sharing, min(bucket.step, _SMALL)) if bucket.level > 0 else 0

    def pause(self, took: int) -> float:
        """How long a transfer that took so many bytes waits, so that all others have their turns (s)."""
        return max(took * self._sharing, -self._bucket.level) / self._bucket.rate

    def took(self, count: int) -> None:
        """A transfer moved so many bytes."""
        self._moved[self._slot] += count

    def wait(self, waits: bool) -> None:
        """A transfer begins, or ends, to wait for its turn."""
        self._waiting[self._slot] += 1 if waits else -1

    @property
    def _sharing(self) -> int:
        return 1 + sum(self._waiting)


class Pace:
    """What one session may move. It moves one transfer at a time."""

    def __init__(self, rate: int, shared: Shared | None, now: float) -> None:
        """`rate` is the session's own, 0 for none."""
        self._own = Bucket(rate, now) if rate else None
        self._shared = shared
        self._turn = 0  # bytes left of its turn
        self._took = 0  # bytes moved in it
        self._next = now  # when another turn may begin
        self._waits = False

    def granted(self, now: float) -> int:
        """How many bytes may move now; 0: `pause` says for how long."""
        most = []
        if self._own:
            self._own.fill(now)
            # a step at least, so that what is left of a bucket is not moved in crumbs
            most.append(int(self._own.level) if self._own.level >= self._own.step else 0)
        if self._shared:
            if not self._turn and now >= self._next:
                self._turn, self._took = self._shared.turn(now), 0
            most.append(self._turn)
        return min(most)

    def took(self, count: int, now: float) -> None:
        """So many bytes moved, no more than were granted."""
        if self._own:
            self._own.level -= count
        if self._shared:
            self._shared.took(count)
            self._turn -= count
            self._took += count
            if not self._turn:
                self._next = now + self._shared.pause(self._took)

    def pause(self, now: float) -> float:
        """Begin to wait; return for how long (s)."""
        seconds = 0.0
        if self._own:
            seconds = (self._own.step - self._own.level) / self._own.rate
        if self._shared and not self._turn:  # whom only its own limit holds takes no share from others
            seconds = max(seconds, self._next - now, self._shared.pause(0))
            self._waits = True
            self._shared.wait(True)
        return max(seconds, 0.001)

    def go(self) -> None:
        """Wait no more."""
        if self._waits and self._shared:
            self._waits = False
            self._shared.wait(False)


class PacedRelay(Relay):
    """A relay that moves what its session's pace grants, and reads nothing while it waits for more."""

    def __init__(self, *arguments: Any, pace: Pace, **more: Any) -> None:
        self._pace = pace
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        super().__init__(*arguments, **more)

    @property
    def held_back(self) -> bool:
        """Whether it waits for its own limit: then its silence is nobody's fault."""
        return self._timer is not None

    def stop(self) -> None:
        """Move nothing more; what the pipe holds is lost."""
        self._end_pause()
        super().stop()

    def _read(self, wanted: bool) -> None:
        super()._read(wanted and self._timer is None)

    def _room(self, pipe: Pipe) -> int:
        if self._timer:
            return 0
        now = self._loop.time()
        granted = self._pace.granted(now)
        if not granted:
            self._until = now + self._pace.pause(now)
            self._set_timer(now)
        return min(granted, super()._room(pipe))

    def _fill(self, pipe: Pipe) -> int | None:
        got = super()._fill(pipe)
        if got:
            self._pace.took(got, self._loop.time())
        return got

    def _set_timer(self, now: float) -> None:
        self._timer = self._loop.call_later(min(_LOOK, self._until - now), self._look)

    def _look(self) -> None:
        """Go on, or wait on; a reset need not wait for its turn."""
        now = self._loop.time()
        if not self._half_closed and was_reset(self._source):
            self._fail(self._source)
        elif now < self._until - 0.001:  # the loop's clock rounds
            self._set_timer(now)
        else:
            self._end_pause()
            self._move()

    def _end_pause(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
            self._pace.go()
