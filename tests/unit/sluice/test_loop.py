# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's loop calls who waits for a socket straight from epoll (PERFORMANCE)."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from sluice.net.loop import Loop

Pair = tuple[socket.socket, socket.socket]


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(main, 10))


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def turns(wanted: list[Any], at_least: int = 1) -> None:
    """Let the loop turn until so many things have happened, and once more."""
    while len(wanted) < at_least:  # noqa: ASYNC110 - what is waited for is no task
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.001)


def test_who_reads_and_who_writes_is_called_until_it_wants_no_more(pair: Pair) -> None:
    ours, theirs = pair
    seen: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def written(word: str) -> None:
            seen.append(word)
            assert loop.remove_writer(ours.fileno())
            assert not loop.remove_writer(ours.fileno())
            theirs.send(b"x")

        loop.add_reader(ours.fileno(), lambda: seen.append(ours.recv(10)))
        loop.add_writer(ours.fileno(), written, "w")
        await turns(seen, 2)
        theirs.send(b"y")
        await turns(seen, 3)
        assert loop.remove_reader(ours.fileno())
        theirs.send(b"z")
        await asyncio.sleep(0.01)
        assert not loop.remove_reader(ours.fileno())

    run(main())
    assert seen == ["w", b"x", b"y"]


def test_an_event_of_a_closed_socket_is_not_another_ones(pair: Pair) -> None:
    """A descriptor may be closed by the one before it in the same turn, and its number be a new socket's."""
    told: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = (socket.socketpair() for _ in range(2))
        fresh: list[Pair] = []

        def close_other(mine: socket.socket, other: socket.socket) -> None:
            told.append("first")
            loop.remove_reader(mine.fileno())
            number = other.fileno()
            loop.remove_reader(number)
            other.close()
            fresh.append(socket.socketpair())
            assert fresh[0][0].fileno() == number
            loop.add_reader(number, told.append, "an event that is not its own")

        for mine, other in ((first[0], second[0]), (second[0], first[0])):
            loop.add_reader(mine.fileno(), close_other, mine, other)
        for end in (first[1], second[1]):
            end.send(b"x")
        await turns(told)
        loop.remove_reader(fresh[0][0].fileno())
        for end in (*first, *second, *fresh[0]):
            end.close()

    run(main())
    assert told == ["first"]


def test_what_a_call_raises_is_told_and_harms_no_other(pair: Pair) -> None:
    ours, theirs = pair
    told: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: told.append(context))

        def fails() -> None:
            ours.recv(10)
            raise ValueError("x")

        loop.add_reader(ours.fileno(), fails)
        theirs.send(b"x")
        await turns(told)
        theirs.send(b"x")
        await turns(told, 2)

    run(main())
    assert [type(context["exception"]) for context in told] == [ValueError, ValueError]


def test_what_asyncio_itself_waits_for_goes_on(pair: Pair) -> None:
    """Its resolver, other threads, signals."""
    ours, theirs = pair
    seen: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
        signal.raise_signal(signal.SIGUSR1)
        await turns(seen)
        seen.append(await asyncio.to_thread(lambda: "thread"))
        loop.call_later(0.001, theirs.send, b"sent")
        seen.append(await loop.sock_recv(ours, 10))

    run(main())
    assert seen == ["signal", "thread", b"sent"]
