# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted: every place is one thing's alone, and what the dead counted stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import product

import pytest
from sluice import tally
from sluice.events import Leg
from sluice.net.ledger import Ledger, make_ledger
from sluice.tally import BOUNDS, CAUSES, FAILURES, LENGTH, OUTCOMES, PORTS, Tally


def steps() -> Iterator[Callable[[Tally], None]]:
    """One step for each number that only goes up."""
    yield Tally.session
    for cause in CAUSES:
        yield lambda t, cause=cause: t.refused(cause)  # type: ignore[misc]
    for upload, outcome in product((False, True, None), OUTCOMES):
        yield lambda t, upload=upload, outcome=outcome: t.transfer(upload, outcome)  # type: ignore[misc]
    for leg, code in product(Leg, range(400, 600)):
        yield lambda t, leg=leg, code=code: t.reply(leg, code)  # type: ignore[misc]
    for leg, use in product(Leg, ("listen", "source")):
        yield lambda t, leg=leg, use=use: t.no_port(leg, use)  # type: ignore[misc]
    for failure in FAILURES:
        yield lambda t, failure=failure: t.failed(failure)  # type: ignore[misc]


def test_every_number_is_one_things_alone() -> None:
    counts = Tally()
    for step in steps():
        step(counts)
    for bound in (*BOUNDS, 1e9):
        counts.connected(bound)
    numbers = [counts.numbers[i] for i in range(LENGTH)]
    for flags in product((False, True), repeat=3):
        index = tally.bytes_index(upload=flags[0], client_active=flags[1], server_active=flags[2])
        assert numbers[index] == 0
        numbers[index] = 1
    numbers[tally.CONNECT_TIME] = numbers[tally.DEATHS] = 1
    assert numbers[:PORTS] == [1] * PORTS
    assert numbers[PORTS:] == [0] * 4


@pytest.mark.parametrize("code", [100, 226, 399, 600, 999])
def test_other_replies_count_nowhere(code: int) -> None:
    counts = Tally()
    counts.reply(Leg.SERVER, code)
    assert counts.numbers == [0] * LENGTH


def test_a_time_counts_at_its_bound() -> None:
    counts = Tally()
    for seconds in (0.0, 0.001, 0.0011, 10.0, 10.1):
        counts.connected(seconds)
    numbers = [counts.numbers[tally.CONNECTED + i] for i in range(len(BOUNDS) + 1)]
    assert numbers == [2, 1, *[0] * 10, 1, 1]
    assert counts.numbers[tally.CONNECT_TIME] == 20102100


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    descriptor = make_ledger()
    yield Ledger(descriptor)
    os.close(descriptor)


def test_workers_are_summed_and_the_dead_stay(ledger: Ledger) -> None:
    one, other = ledger.tally(0), Ledger(ledger.descriptor).tally(1)
    ledger.tally(1)
    one.session()
    one.numbers[PORTS] += 2
    other.session()
    other.numbers[PORTS] += 1
    assert (ledger.sums()[tally.SESSIONS], ledger.sums()[PORTS]) == (2, 3)
    for _again in range(2):
        ledger.bury(0)
        assert (ledger.sums()[tally.SESSIONS], ledger.sums()[PORTS]) == (2, 1)
    ledger.tally(0).session()
    assert ledger.sums()[tally.SESSIONS] == 3


def test_another_process_goes_on_with_the_numbers(ledger: Ledger) -> None:
    """As after a reload: what the dead counted is in the memory, too."""
    ledger.tally(3).session()
    ledger.bury(3)
    assert Ledger(ledger.descriptor).sums()[tally.SESSIONS] == 1
