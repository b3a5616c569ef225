# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode on the virgin hosts told the truth (POLICY F24)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import snapshot
from support import LAB, ROOT, converge

LOG = Path(os.environ.get("ANSIBLE_LOG_PATH", ROOT / f".cache/molecule-{LAB.name}.log"))


@pytest.fixture(scope="module")
def said() -> str:
    """What the run in check mode said: the log's first play on the hops, up to its recap."""
    text = re.sub(r"^\d{4}-[^|]*\| ", "", LOG.read_text(), flags=re.MULTILINE)
    runs = [run for run in text.split("PLAY RECAP") if "sluice.ftp.policy" in run]
    assert runs
    return runs[0]


@pytest.mark.parametrize("host", ["f1", "n1"])
def test_check_mode_changed_nothing(host: str) -> None:
    before, after = (snapshot.load(LAB, name, host) for name in ("virgin", "checked"))
    assert snapshot.difference(before, after) == {}
    assert {n for n in before if n.startswith("package ")} == {n for n in after if n.startswith("package ")}


@pytest.mark.parametrize(
    "words",
    [
        "Would install with apt: nftables, python3-apt",  # which apt's module brings
        "Would enable and start sluice.service",
        "<uid of sluice>",  # in the rules' diff: the user does not exist yet
        'comment "C -> F: -> proxy user: to port 21"',
        'comment "S <- N: <- proxy user: to port 21"',
        "/etc/sluice/sluice.toml",
        "The proxy did not check its settings",  # which checks were left out
    ],
)
def test_check_mode_announced(said: str, words: str) -> None:
    assert words in said


def test_check_mode_says_that_nft_did_not_check(said: str) -> None:
    assert re.search(r"nft\b.*(not|left out)", said), "which check was left out because nft is not there yet"


def test_check_mode_of_a_converged_host_finds_nothing_to_do() -> None:
    play = converge("--check", "--diff")
    for host in ("f1", "n1"):
        assert play.recap(host)["changed"] == 0, play.output
