# SPDX-License-Identifier: GPL-3.0-or-later
"""How much is tried, with which seed, and what the machine must have.

SLUICE_SEED   the seed of everything drawn at random here; printed, and drawn itself unless set.
SLUICE_TEST_ALL=1   the whole; else a sample.
"""

from __future__ import annotations

import os
import shutil
from random import Random, SystemRandom
from typing import Any

import pytest

from .prober import Prober

SEED = os.environ.setdefault(
    "SLUICE_SEED", str(SystemRandom().randrange(10**6))
)  # xdist's workers take it over
WHOLE = os.environ.get("SLUICE_TEST_ALL", "") not in ("", "0")


_tried_by_workers: list[int] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of xdist's workers hands over how many probes it tried."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["tried"] = Prober.tried


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker tried."""
    _tried_by_workers.append(getattr(node, "workeroutput", {}).get("tried", 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The seed, so that a failure can be had again."""
    whole = " SLUICE_TEST_ALL=1" if WHOLE else ""
    tried = Prober.tried + sum(_tried_by_workers)
    terminalreporter.write_line(f"tests/policy ran with SLUICE_SEED={SEED}{whole}; {tried} probes")


def drawn(name: str) -> Random:
    """Randomness of this run for one purpose: the same for the same seed and name."""
    return Random(f"{SEED}/{name}")


@pytest.fixture(scope="session")
def packets() -> None:
    """Needed by whatever loads rules and sends packets."""
    if os.geteuid() != 0:
        pytest.skip("Probing the rules with packets needs root, for network namespaces.")
    if shutil.which("nft") is None:
        pytest.skip("Probing the rules with packets needs nft (package nftables).")
