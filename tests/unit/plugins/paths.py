# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions that several tests start from."""

from __future__ import annotations

import copy
from typing import Any

# The twenty lines of the README.
TWENTY_LINES: dict[str, Any] = {
    "clients": {"networks": ["10.1.0.0/24"]},
    "hops": [
        {"name": "F", "hosts": {"f1": {"client_side": "10.1.0.1", "server_side": "10.2.0.1"}}},
        {"name": "N", "hosts": {"n1": {"client_side": "10.2.0.2", "server_side": "198.51.100.2"}}},
    ],
    "servers": {"networks": ["0.0.0.0/0"]},
}


def twenty_lines() -> dict[str, Any]:
    """A copy that a test may change."""
    return copy.deepcopy(TWENTY_LINES)


def with_metrics() -> dict[str, Any]:
    """The twenty lines with metrics on F, at an address of f1's that is on neither side."""
    topology = twenty_lines()
    topology["hops"][0]["metrics_from"] = ["10.9.0.0/24", "2001:db8:9::/64"]
    topology["hops"][0]["hosts"]["f1"]["metrics"] = "10.9.0.1"
    return topology


def changed(place: str, value: Any) -> dict[str, Any]:
    """The twenty lines with `value` at `place`, as `hops.0.name`; a value of `...` removes what is there."""
    topology = twenty_lines()
    *steps, last = place.split(".")
    at: Any = topology
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[step]
    key: Any = int(last) if isinstance(at, list) else last
    if value is ...:
        del at[key]
    else:
        at[key] = value
    return topology
