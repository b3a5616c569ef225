# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests of interception need: the scenario default's helpers, files to move, a server that logs."""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "default/tests"))

import pytest
from support import make_files, ok
from variants import CHOSEN, SEED, WHOLE

AROUND = 1  # tests of a sample of test_31_around.py


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a sample of what is tried around the variants."""
    if WHOLE:
        return
    around = [item for item in items if item.path.name == "test_31_around.py"]
    kept = random.Random(SEED).sample(around, min(AROUND, len(around)))
    left_out = [item for item in around if item not in kept]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_report_header() -> str:
    """What is left out, so that nobody takes the sample for the whole."""
    if WHOLE:
        return ""
    variants = ", ".join(map(str, CHOSEN))
    return f"variants: {variants}, and {AROUND} tests around them, a sample, SLUICE_SEED={SEED}"


@pytest.fixture(scope="session", autouse=True)
def files() -> None:
    """Something to fetch and to store; S's server logs whom it sees."""
    make_files()
    ok("s1", "echo xferlog_enable=YES >>/etc/vsftpd.conf; systemctl restart vsftpd")
