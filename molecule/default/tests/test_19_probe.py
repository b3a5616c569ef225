# SPDX-License-Identifier: GPL-3.0-or-later
"""`sluice probe`: every leg of a path that works, under the rules; and the leg that fails, named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import N4, PASSWORD, S4, USER, ok, on


def probe(host: str) -> dict[str, Any]:
    """What it finds over IPv4 on the way to S, logged in."""
    done = on(host, f"sluice --json probe {USER}@{S4}", stdin=f"{PASSWORD}\n", seconds=100)
    walks = [walk for walk in json.loads(done.stdout) if "[" not in walk["to"]]
    assert done.returncode == (0 if all(walk["ok"] for walk in json.loads(done.stdout)) else 1)
    (walk,) = walks
    return dict(walk)


@pytest.mark.parametrize("host", ["f1", "n1"])
def test_every_leg_works(host: str) -> None:
    walk = probe(host)
    assert walk["verdict"] == "Every leg works."
    assert {"data passive", "data active"} <= {step["what"] for step in walk["steps"]}
    assert PASSWORD not in ok(host, "journalctl -u sluice -o json")


def test_a_next_hop_that_is_down_is_named() -> None:
    ok("n1", "systemctl stop sluice")
    try:
        assert probe("f1")["verdict"] == (
            f"F-N control fails: next hop N ({N4}:21) refused the connection (nothing listens there)."
        )
    finally:
        ok("n1", "systemctl start sluice")
    assert probe("f1")["ok"]
