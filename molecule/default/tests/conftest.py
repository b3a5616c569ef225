# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the scenario's lab as testinfra sees them, and files to move."""

from __future__ import annotations

import os
import random
from importlib.metadata import version
from typing import Any

import pytest
import testinfra
from support import LAB, make_files

# The long ones are tried on Debian 12 with the newest ansible-core alone, but for ALWAYS.
LONG = LAB.name == "default" and not version("ansible-core").startswith("2.16.")
WHOLE = bool(os.environ.get("SLUICE_TEST_ALL"))
# When all is tried, the whole of these is tried on Debian 13 with ansible-core 2.16, and there alone: side by
# side both are through in the time of one.
THERE = {"test_09_rollback.py", "test_10_faults.py", "test_11_alone.py"} if WHOLE else set[str]()
LEFT_OUT: set[str] = (
    set()
    if LONG
    else {
        "test_10_faults.py",
        "test_11_alone.py",
        "test_12_names.py",
        "test_15_other_firewalls.py",
        "test_18_metrics.py",
        "test_20_install.py",
        "test_21_versions.py",
        "test_22_taken_away.py",
    }
)
# Of the long files one is drawn, and of each at most so many tests are tried.
SAMPLED = {
    "test_08_drift.py": 1,
    "test_09_rollback.py": 2,
    "test_10_faults.py": 2,
    "test_11_alone.py": 1,
    "test_12_names.py": 4,
    "test_13_verify.py": 2,
    "test_15_other_firewalls.py": 4,
    "test_16_exclusive.py": 9,
    "test_18_metrics.py": 4,
    "test_20_install.py": 1,
    "test_21_versions.py": 1,
    "test_22_taken_away.py": 1,
}
FILES = 1  # of these
# Whatever is drawn: that it goes without a trace, changes its version, and installs from its tarball. Each
# takes a minute or more, so a sample has it in one of the scenarios.
ALWAYS = {
    "test_taken_off_wholly": "debian13",
    "test_upgrade_and_downgrade_are_one_run_each": "default",
    "test_site_runs_by_its_name_from_the_tarball": "debian13",
}
SEED = int(os.environ.get("SLUICE_SEED") or random.SystemRandom().randrange(1_000_000))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a sample of the longest files. (collect_ignore is not asked: Molecule names each file.)"""
    left_out = [item for item in items if item.path.name in (THERE if LONG else LEFT_OUT - THERE)]
    if not (LONG and WHOLE):
        files = random.Random(SEED).sample(_sampled(), FILES)
        for name in SAMPLED.keys() - THERE:
            tests = [item for item in items if item.path.name == name]
            kept = random.Random(SEED).sample(tests, min(SAMPLED[name], len(tests))) if name in files else []
            left_out += [item for item in tests if item not in kept]
        always = {name for name, scenario in ALWAYS.items() if WHOLE or scenario == LAB.name}
        left_out = [item for item in left_out if item.name not in always]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def _sampled() -> list[str]:
    """The files of which some are drawn here."""
    return sorted(SAMPLED.keys() - LEFT_OUT - THERE)


def pytest_report_header() -> str:
    """What is left out, so that nobody takes the sample for the whole."""
    left_out = ", ".join(sorted(THERE if LONG else LEFT_OUT - THERE)) or "nothing"
    sample = "" if LONG and WHOLE else f"; of {', '.join(_sampled())} {FILES} file, SLUICE_SEED={SEED}"
    return f"left out in {LAB.name}: {left_out}{sample}"


def _host(name: str) -> Any:
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(LAB.ssh_config))


@pytest.fixture(params=["f1", "n1"])
def hop(request: pytest.FixtureRequest) -> Any:
    """F, then N."""
    return _host(request.param)


@pytest.fixture(scope="session", autouse=True)
def files() -> None:
    """Something to fetch in the home of S's user, and something to store on C."""
    make_files()
