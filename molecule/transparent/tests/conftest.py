# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests of interception need: the scenario default's helpers, files to move, a server that logs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "default/tests"))

import pytest
from support import make_files, ok
from variants import CHOSEN, SEED, WHOLE


def pytest_report_header() -> str:
    """What is left out, so that nobody takes the sample for the whole."""
    return "" if WHOLE else f"variants: {', '.join(map(str, CHOSEN))}, a sample, SLUICE_SEED={SEED}"


@pytest.fixture(scope="session", autouse=True)
def files() -> None:
    """Something to fetch and to store; S's server logs whom it sees."""
    make_files()
    ok("s1", "echo xferlog_enable=YES >>/etc/vsftpd.conf; systemctl restart vsftpd")
