# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of wu-ftpd's xferlog(5)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluice.journal import show
from sluice.xferlog import format_line

NOW = time.struct_time((2026, 3, 5, 9, 7, 1, 3, 64, 0))
RECORD = {
    "SLUICE_CLIENT": "10.1.0.10:40001",
    "SLUICE_USER": "u",
    "SLUICE_COMMAND": "STOR",
    "SLUICE_FILE": "/in/f",
    "SLUICE_TYPE": "I",
    "SLUICE_BYTES": "3000000",
    "SLUICE_SECONDS": "2.500",
    "SLUICE_OUTCOME": "complete",
}


def line(**changes: str) -> str:
    return format_line(RECORD | {f"SLUICE_{key}": value for key, value in changes.items()}, NOW)


def test_10_5_a_line_of_xferlog() -> None:
    assert line() == "Thu Mar  5 09:07:01 2026 2 10.1.0.10 3000000 /in/f b _ i r u ftp 0 * c"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"CLIENT": "[2001:db8:1::10]:40001"}, {6: "2001:db8:1::10"}),
        ({"SECONDS": "0.004"}, {5: "1"}),
        ({"FILE": " a b "}, {8: "_a_b_"}),
        ({"FILE": ""}, {8: "_"}),
        ({"TYPE": "A"}, {9: "a"}),
        ({"COMMAND": "RETR"}, {11: "o"}),
        ({"COMMAND": "APPE", "OUTCOME": "aborted"}, {11: "i", 17: "i"}),
        ({"USER": "anonymous"}, {12: "a", 13: "anonymous"}),
        ({"USER": "FTP@198.51.100.10"}, {12: "a", 13: "FTP@198.51.100.10"}),
        ({"USER": "ftpadmin"}, {12: "r"}),
        ({"BYTES": "0"}, {7: "0", 17: "c"}),
    ],
)
def test_10_5_words_of_a_line(changes: dict[str, str], words: dict[int, str]) -> None:
    found = line(**changes).split()
    assert len(found) == 18
    assert {at: found[at] for at in words} == words


@pytest.mark.parametrize(
    "changes", [{"COMMAND": "LIST"}, {"COMMAND": "XFOO"}, {"OUTCOME": "refused", "BYTES": "0"}]
)
def test_10_5_no_line_without_a_file(changes: dict[str, str]) -> None:
    assert line(**changes) == ""


@given(st.binary(), st.binary())
def test_10_5_names_cannot_forge_a_line(file: bytes, user: bytes) -> None:
    assert len(line(FILE=show(file), USER=show(user)).split(" ")) == 19
