# SPDX-License-Identifier: GPL-3.0-or-later
"""The fuzzer's seeds pass, and lead where they are meant to; what it says of a finding (10.7)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.unit.sluice.world import World

ROOT = Path(__file__).parents[3]
SEEDS = ROOT / "tests/fuzz/corpus"
OUTCOMES = {  # of the session's transfer, None where it has none
    "abort": "aborted",
    "choose": None,
    "download": "complete",
    "nothing": None,
    "other_mode": "refused",
    "reset": "reset-by-client",
    "taken": "complete",
    "told": None,
    "unknown_verb": "complete",
    "upload": "complete",
}
PARSED = ("header", "lines", "places", "replies")


def test_10_7_each_seed_of_the_fuzzer_leads_where_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    worlds: list[World] = []

    class Kept(World):
        def _check(self) -> None:
            super()._check()
            if self not in worlds:
                worlds.append(self)

    monkeypatch.setattr(targets, "World", Kept)
    outcomes: dict[str, str | None] = {}
    for seed in sorted(SEEDS.iterdir()):
        worlds.clear()
        targets.feed(seed.read_bytes())
        for world in worlds:
            records = [record for record in world.logged if record.event == "transfer"]
            outcomes[seed.name] = records[0].fields["SLUICE_OUTCOME"] if records else None
    assert outcomes == OUTCOMES
    assert sorted(seed.name for seed in SEEDS.iterdir()) == sorted([*OUTCOMES, *PARSED])


def test_10_7_a_finding_of_the_fuzzer_is_seen_again(tmp_path: Path) -> None:
    """The command of its sentence, which needs no fuzzer."""
    file = tmp_path / "finding"
    file.write_bytes(b"session both both fixed\n!Connected\n<220 S\n")
    again = [sys.executable, "-m", "tests.fuzz", str(file)]
    assert subprocess.run(again, cwd=ROOT, check=False, capture_output=True).returncode == 0
