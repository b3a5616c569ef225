# SPDX-License-Identifier: GPL-3.0-or-later
"""While the rules are loaded anew, no packet meets another policy than before and after (F8)."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import WHOLE, drawn
from .paths import HopSpec, PathSpec
from .probe import Probe
from .rules import text
from .scopes import GUARD, HOST, MANAGEMENT, Scope
from .trial import Trial, trial

pytestmark = pytest.mark.usefixtures("packets")

PROBES = 3000 if WHOLE else 600
HOST_NAME = "f1"
LOADS = 5  # that must have happened meanwhile, or the test said nothing


@pytest.fixture(params=[GUARD, Scope("exclusive", MANAGEMENT[1], HOST[2])], ids=lambda scope: scope.name)
def path(request: pytest.FixtureRequest) -> Iterator[Trial]:
    """Two hops, rules on f1 alone."""
    with trial(
        PathSpec((HopSpec(), HopSpec()), ("both", "both", "both"), scope=request.param), [HOST_NAME]
    ) as made:
        yield made


@contextmanager
def loaded_again_and_again(path: Trial, commands: str, folder: Path) -> Iterator[None]:
    """Meanwhile the host runs `commands`, which find the rules in file $1, without a pause."""
    file = folder / "policy.nft"
    file.write_text(text(path.description, HOST_NAME))
    with path.network.namespaces[HOST_NAME].inside():
        loading = subprocess.Popen(
            ["sh", "-ec", f"while :; do {commands}; echo loaded; done", "sh", str(file)],
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        yield
    finally:
        loading.terminate()
        output, _ = loading.communicate()
    assert loading.returncode == -signal.SIGTERM, "the rules could not be loaded"
    assert output.count("loaded") >= LOADS


def astray(path: Trial, probes: Sequence[Probe]) -> list[str]:
    """Probes that fared otherwise than the policy says."""
    return [
        f"{one}: {seen.how}"
        for one, seen in zip(probes, path.prober.run(probes), strict=True)
        if seen.passed != path.reference.judge(one, path.policed).passes
    ]


def test_f8_what_passes_passes_and_what_is_refused_is_refused(path: Trial, tmp_path: Path) -> None:
    probes = path.around(HOST_NAME, drawn(f"gapless {path.spec.scope.name}")).all(PROBES)
    with loaded_again_and_again(path, 'nft -f "$1"', tmp_path):
        found = astray(path, probes)
    assert found == []


def test_rules_that_are_gone_for_a_moment_would_be_noticed(path: Trial, tmp_path: Path) -> None:
    probes = path.around(HOST_NAME, drawn(f"gap {path.spec.scope.name}")).all(PROBES)
    with loaded_again_and_again(path, 'nft delete table inet sluice; nft -f "$1"', tmp_path):
        found = astray(path, probes)
    assert found != []
