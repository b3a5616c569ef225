# SPDX-License-Identifier: GPL-3.0-or-later
"""How many sessions a client may begin in a minute, by a clock of the test's own (PROTOCOL 2.12)."""

from __future__ import annotations

import ipaddress

from sluice.net.arrivals import Arrivals
from sluice.net.places import Counts, make_counts

SECOND = 10**9
ONE, OTHER = ipaddress.ip_address("10.1.0.10"), ipaddress.ip_address("10.1.0.11")


class Clock:
    """Nanoseconds that pass when the test says so; no clock begins at 0."""

    def __init__(self) -> None:
        self.now = 12345 * SECOND

    def __call__(self) -> int:
        return self.now


def test_2_12_so_many_at_once_and_then_one_by_one() -> None:
    clock = Clock()
    arrivals = Arrivals(6, Counts().arrivals, clock)
    assert [arrivals.take(ONE) for _ in range(8)] == [True] * 6 + [False] * 2
    assert arrivals.take(OTHER), "each client for itself"
    clock.now += 10 * SECOND - 1
    assert not arrivals.take(ONE)
    clock.now += 1
    assert [arrivals.take(ONE) for _ in range(2)] == [True, False], "what was refused does not count"
    clock.now += 60 * SECOND
    assert [arrivals.take(ONE) for _ in range(7)] == [True] * 6 + [False]


def test_2_12_no_limit() -> None:
    arrivals = Arrivals(0, Counts().arrivals, Clock())
    assert all(arrivals.take(ONE) for _ in range(100))


def test_2_12_all_workers_count_together() -> None:
    descriptor, clock = make_counts(), Clock()
    workers = [Arrivals(3, Counts(descriptor, slot).arrivals, clock) for slot in range(2)]
    assert [workers[n % 2].take(ONE) for n in range(4)] == [True] * 3 + [False]


def test_2_12_an_ipv6_client_is_its_network() -> None:
    arrivals = Arrivals(2, Counts().arrivals, Clock())
    addresses = [f"2001:db8:1::{n:x}" for n in range(3)] + ["2001:db8:1:1::1"]
    found = [arrivals.take(ipaddress.ip_address(address)) for address in addresses]
    assert found == [True, True, False, True]


def test_2_12_a_flood_of_addresses_costs_no_memory_and_forgets_nobody_new() -> None:
    counts, clock = Counts(), Clock()
    arrivals = Arrivals(1, counts.arrivals, clock)
    size = len(counts.arrivals)
    for n in range(200_000):
        clock.now += 1
        assert arrivals.take(ipaddress.ip_address(0x0B000000 + n))
    assert len(counts.arrivals) == size
    assert arrivals.take(ONE)
    assert not arrivals.take(ONE)
