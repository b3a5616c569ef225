# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges (PROTOCOL 13.2, 3.17) and reserved ports (POLICY F14)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluice import reserved_ports
from sluice.ports import PortRange


@pytest.mark.parametrize("text", ["", "0", "70000", "5-4", "a", "1-", "-1", "1-2-3", " 20", "50000-"])
def test_bad_ranges(text: str) -> None:
    with pytest.raises(ValueError, match="is no port range"):
        PortRange.parse(text)


def test_range_and_single_port() -> None:
    assert PortRange.parse("50000-50999") == PortRange(50000, 50999)
    assert str(PortRange.parse("20")) == "20"
    assert 20 in PortRange(20, 20)
    assert 21 not in PortRange(20, 20)


@given(st.integers(1, 200), st.integers(0, 199))
def test_13_2_each_port_once_from_any_start(size: int, start: int) -> None:
    span = PortRange(1000, 999 + size)
    tried = list(span.candidates(lambda n: start % n))
    assert tried[0] == 1000 + start % size
    assert sorted(tried) == list(range(1000, 1000 + size))


def test_3_17_the_start_is_random() -> None:
    span = PortRange(1, 65535)
    assert len({next(span.candidates()) for _ in range(8)}) > 1


some_ports = st.sets(st.integers(1, 60))


@given(some_ports)
def test_f14_a_list_reads_what_it_writes(ports: set[int]) -> None:
    assert reserved_ports.parse(reserved_ports.render(ports)) == ports


@given(some_ports, some_ports, some_ports)
def test_f14_the_admins_ports_survive_merge_change_and_removal(
    admin: set[int], first: set[int], second: set[int]
) -> None:
    present, ours = reserved_ports.merge(admin, set(), first)
    assert present == admin | first
    present, ours = reserved_ports.merge(present, ours, second)
    assert present == admin | second
    present, ours = reserved_ports.merge(present, ours, set())
    assert (present, ours) == (admin, set())


def test_f14_the_note_says_what_to_take_out(tmp_path: Path) -> None:
    sysctl, state = tmp_path / "list", tmp_path / "note"
    sysctl.write_text("8080,50000\n")
    reserved_ports.apply({50000, 50001}, sysctl, state)
    reserved_ports.apply({50000, 50001}, sysctl, state)
    assert sysctl.read_text() == "8080,50000-50001\n"
    assert state.read_text() == "50001\n"
    sysctl.write_text("7,8080,50000-50001\n")  # the admin adds one meanwhile
    reserved_ports.apply(set(), sysctl, state)
    assert sysctl.read_text() == "7,8080,50000\n"
    assert not state.exists()
