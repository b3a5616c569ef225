# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the scenario's lab as testinfra sees them, and files to move."""

from __future__ import annotations

import os
from typing import Any

import pytest
import testinfra
from support import LAB, USER, ok

# Where the whole is not asked for, faults, installation and versions are tried with Debian 12 hosts alone.
collect_ignore = (
    []
    if LAB.name == "default" or os.environ.get("SLUICE_TEST_ALL")
    else ["test_10_faults.py", "test_20_install.py", "test_21_versions.py"]
)


def pytest_report_header() -> str:
    """What is left out, so that nobody takes the sample for the whole."""
    return f"left out in {LAB.name}: {', '.join(collect_ignore) or 'nothing'}"


def _host(name: str) -> Any:
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(LAB.ssh_config))


@pytest.fixture(params=["f1", "n1"])
def hop(request: pytest.FixtureRequest) -> Any:
    """F, then N."""
    return _host(request.param)


@pytest.fixture(scope="session", autouse=True)
def files() -> None:
    """Something to fetch in the home of S's user, and something to store on C."""
    home = f"/home/{USER}"
    ok("s1", f"head -c 3000000 /dev/urandom >{home}/small; head -c 60000000 /dev/urandom >{home}/large")
    ok("s1", f"chown {USER}: {home}/small {home}/large")
    ok("c1", "head -c 3000001 /dev/urandom >/var/tmp/to-store")
