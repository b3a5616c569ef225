# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of bandwidth by a clock of the test's own, and a relay that waits (PROTOCOL 2.12, 4.9, 4.11)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
from sluice import events
from sluice.events import Leg
from sluice.net.data import Channel
from sluice.net.pace import STEP, Pace, PacedRelay, Shared
from sluice.net.places import Counts, make_counts
from sluice.net.relay import PipePool
from sluice.tally import Tally

MEGA = 1_000_000
RST = struct.pack("ii", 1, 0)


class Mover:
    """A transfer that wants to move as much as it may, or `most` bytes a second."""

    def __init__(self, pace: Pace, most: float = 10**15) -> None:
        self.pace = pace
        self.moved = 0
        self.until = 0.0
        self._most = most

    def move(self, now: float) -> None:
        """Move what is granted now, as a relay does."""
        if now < self.until:
            return
        self.pace.go()
        while True:
            granted = self.pace.granted(now)
            if not granted:
                self.until = now + self.pace.pause(now)
                return
            count = min(granted, max(0, int(self._most * (now + 0.001)) - self.moved))
            if not count:
                return
            self.pace.took(count, now)
            self.moved += count


def run(movers: list[Mover], seconds: int) -> list[float]:
    """Let them move for so long; return bytes a second of each."""
    for tick in range(seconds * 1000):
        for mover in movers:
            mover.move(tick / 1000)
    return [mover.moved / seconds for mover in movers]


@pytest.mark.parametrize("rate", [1000, 65_537, 10 * MEGA, 10**12])
def test_a_session_moves_what_its_limit_says(rate: int) -> None:
    (found,) = run([Mover(Pace(rate, None, 0))], 10)
    assert rate * 0.98 <= found <= rate * (1 + 2 * STEP / 10) + 1


@pytest.mark.parametrize("sessions", [1, 2, 7, 100])
def test_sessions_share_the_hosts_limit(sessions: int) -> None:
    shared = Shared(MEGA, Counts(), 0)
    found = run([Mover(Pace(0, shared, 0)) for _ in range(sessions)], 60)
    assert MEGA * 0.95 <= sum(found) <= MEGA * 1.02
    assert min(found) > 0.7 * MEGA / sessions
    assert max(found) < 1.4 * MEGA / sessions


@pytest.fixture
def counts() -> Callable[[int], Counts]:
    descriptor = make_counts()
    return lambda slot: Counts(descriptor, slot)


def test_workers_share_the_hosts_limit_and_so_do_their_sessions(counts: Callable[[int], Counts]) -> None:
    one, other = (Shared(MEGA, counts(slot), 0) for slot in (0, 1))
    found = run([Mover(Pace(0, shared, 0)) for shared in (one, other, other, other)], 60)
    assert MEGA * 0.95 <= sum(found) <= MEGA * 1.02
    assert min(found) > 0.7 * MEGA / 4
    assert max(found) < 1.4 * MEGA / 4


def test_what_one_session_leaves_the_others_have() -> None:
    """A client that is slow, and a session with a limit of its own, take nobody's share."""
    shared = Shared(MEGA, Counts(), 0)
    slow = Mover(Pace(0, shared, 0), most=1000)
    limited = Mover(Pace(20_000, shared, 0))
    fast = Mover(Pace(0, shared, 0))
    found = run([slow, limited, fast], 60)
    assert found[0] > 900
    assert found[1] > 18_000
    assert found[2] > 0.9 * (MEGA - 21_000)
    assert sum(found) <= MEGA * 1.02


def test_a_worker_that_dies_waits_no_more(counts: Callable[[int], Counts]) -> None:
    own = counts(1)
    pace = Pace(0, Shared(MEGA, own, 0), 0)
    pace.took(pace.granted(0), 0)
    pace.took(pace.granted(0.05), 0.05)
    assert not pace.granted(0.051)
    pace.pause(0.051)
    assert list(own.waiting[:3]) == [0, 1, 0]
    counts(0).clear(1)
    assert sum(own.waiting) == 0
    assert own.moved[1] > 0


class Bench:
    """A paced relay between two pairs of sockets: `near` sends, `far` receives."""

    def __init__(self, pace: Pace) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended, self.broken = asyncio.Event(), asyncio.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            pairs = []
            for _ in range(2):
                peer = socket.create_connection(listener.getsockname())
                pairs.append((peer, listener.accept()[0]))
        (self.near, source), (self.far, sink) = pairs
        self.sockets = [self.near, source, self.far, sink]
        for sock in self.sockets:
            sock.setblocking(False)
        self.relay = PacedRelay(
            self.loop,
            PipePool(),
            source,
            sink,
            began=lambda: None,
            ended=self.ended.set,
            broken=lambda _sock: self.broken.set(),
            tally=Tally(),
            index=0,
            pace=pace,
        )

    async def held_back(self) -> None:
        """Return when the relay waits for its limit."""
        for _ in range(500):
            if self.relay.held_back:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it does not wait")


def play(
    pace: Callable[[asyncio.AbstractEventLoop], Pace], scene: Callable[[Bench], Awaitable[None]]
) -> None:
    async def main() -> None:
        bench = Bench(pace(asyncio.get_running_loop()))
        try:
            await asyncio.wait_for(scene(bench), 20)
        finally:
            bench.relay.stop()
            for sock in bench.sockets:
                sock.close()

    asyncio.run(main())


def exhausted(loop: asyncio.AbstractEventLoop) -> Pace:
    """A pace that has moved so much that it grants nothing for a long time."""
    pace = Pace(MEGA, None, loop.time())
    pace.took(100 * MEGA, loop.time())
    return pace


def test_4_8_a_limited_transfer_is_whole() -> None:
    content = bytes(range(256)) * 2000

    async def scene(bench: Bench) -> None:
        sending = asyncio.ensure_future(bench.loop.sock_sendall(bench.near, content))
        found = bytearray()
        while len(found) < len(content):
            found += await bench.loop.sock_recv(bench.far, 65536)
        await sending
        assert found == content
        assert bench.relay.moved == len(content)
        bench.near.shutdown(socket.SHUT_WR)
        await bench.ended.wait()

    play(lambda loop: Pace(4 * MEGA, None, loop.time()), scene)


def test_6_3_a_reset_shows_while_it_waits_for_its_limit() -> None:
    async def scene(bench: Bench) -> None:
        bench.near.send(b"x")
        await bench.held_back()
        bench.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        bench.near.close()
        await bench.broken.wait()
        assert bench.relay.moved == 0
        assert not bench.relay.held_back

    play(exhausted, scene)


@pytest.mark.parametrize("held_back", [True, False])
def test_4_11_a_wait_for_its_limit_is_no_silence(held_back: bool) -> None:
    async def scene(bench: Bench) -> None:
        bench.relay.stop()
        told: list[events.Event] = []
        _near, source, _far, sink = bench.sockets
        pace = exhausted(bench.loop) if held_back else Pace(MEGA, None, bench.loop.time())
        channel = Channel(bench.loop, PipePool(), 1, told.append, lambda _: None, pace=pace)
        channel._ends = {Leg.SERVER: source, Leg.CLIENT: sink}
        channel._ports = dict.fromkeys(Leg, 0)
        channel.relay(Leg.SERVER, 0.02)
        bench.near.send(b"x")
        await asyncio.sleep(0.3)
        channel._stop_relay()
        assert (events.DataIdle(1) in told) is not held_back

    play(lambda loop: Pace(MEGA, None, loop.time()), scene)


def test_a_relay_that_is_stopped_waits_no_more() -> None:
    counts = Counts()

    def pace(loop: asyncio.AbstractEventLoop) -> Pace:
        shared = Shared(1000, counts, loop.time())
        shared.took(100_000)
        return Pace(0, shared, loop.time())

    async def scene(bench: Bench) -> None:
        bench.near.send(b"x")
        await bench.held_back()
        assert sum(counts.waiting) == 1
        bench.relay.stop()
        assert sum(counts.waiting) == 0
        assert not bench.relay.held_back

    play(pace, scene)
