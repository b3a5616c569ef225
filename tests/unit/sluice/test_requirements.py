# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/requirements.md against the names of the tests."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TABLE = ROOT / "docs" / "requirements.md"
ROW = re.compile(r"\| ([0-9]+\.[0-9]+) \| ([^|]+) \| ([^|]*)\| ([^|]+) \|")


def rows() -> list[tuple[str, str, str]]:
    """Number, where it is tested, state."""
    lines = TABLE.read_text().splitlines()
    found = [ROW.fullmatch(line) for line in lines if re.match(r"\| [0-9]", line)]
    assert all(found), "each row has four columns"
    return [(m[1], m[3].strip(), m[4]) for m in found if m]


def named() -> dict[str, str]:
    """For each number what the column should hold: the files whose tests bear it, and how many do."""
    counts: dict[str, Counter[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in re.findall(r"^ *def test((?:_\w+)?)\(", file.read_text(), re.MULTILINE):
            # test_1_2_what, test_1_2_and_3_4_what, test_1_2_3_4_what: pairs of numbers, from the start on
            head = re.match(r"(?:_[0-9]+_[0-9]+(?:_and)?)*", name)
            for first, second in re.findall(r"_([0-9]+)_([0-9]+)", head[0] if head else ""):
                place = str(file.relative_to(ROOT / "tests"))
                counts.setdefault(f"{first}.{second}", Counter())[place] += 1
    return {
        number: ", ".join(f"{place} {count}" for place, count in sorted(files.items()))
        for number, files in counts.items()
    }


TESTS = named()


def test_the_table_holds_each_number_once_and_in_order() -> None:
    numbers = [tuple(map(int, number.split("."))) for number, _where, _state in rows()]
    assert numbers == sorted(set(numbers))
    sections = {section: [n for s, n in numbers if s == section] for section, _n in numbers}
    assert {s: len(n) for s, n in sections.items()} == {
        1: 17, 2: 12, 3: 23, 4: 14, 5: 9, 6: 10, 7: 10, 8: 1, 9: 5, 10: 7, 13: 7, 14: 5, 15: 4,
    }  # fmt: skip
    assert all(n == list(range(1, len(n) + 1)) for n in sections.values()), "without a gap"


@pytest.mark.parametrize(("number", "where", "state"), rows())
def test_a_requirement_is_tested_where_the_table_says(number: str, where: str, state: str) -> None:
    assert where == TESTS.get(number, "")
    assert re.match(r"(held|open)\b", state)
    assert where or state.startswith("open"), "what no test guards is open"


def test_a_number_in_a_tests_name_is_in_the_table() -> None:
    assert set(TESTS) <= {number for number, _where, _state in rows()}
