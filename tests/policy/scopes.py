# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user says of the scope, and samples of it to try.

The samples speak of three networks: STATION and OFFICE stand beside the clients, HALL beside the servers;
MONITOR beside the clients scrapes metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .edges import networks

STATION, OFFICE, HALL, MONITOR = 90, 91, 92, 93


@dataclass(frozen=True)
class Scope:
    """`sluice_scope` and what `exclusive` needs besides."""

    name: str = "guard"
    management: Mapping[str, Any] = field(default_factory=dict)
    host: tuple[Mapping[str, Any], ...] = ()
    forward: tuple[Mapping[str, Any], ...] | None = None

    def said(self) -> dict[str, Any]:
        """As the filter's keywords, without what is not said."""
        found: dict[str, Any] = {"scope": self.name} if self.name != "guard" else {}
        if self.management:
            found["management"] = dict(self.management)
        if self.host:
            found["exclusive_host"] = [dict(entry) for entry in self.host]
        if self.forward is not None:
            found["exclusive_forward"] = [dict(entry) for entry in self.forward]
        return found


GUARD: Final = Scope()
ANYWHERE: Final = ["0.0.0.0/0", "::/0"]

MANAGEMENT: Final[tuple[Mapping[str, Any], ...]] = (
    {"networks": networks(STATION)},
    {"networks": networks(STATION), "ports": [22, 2222]},
    {"networks": ANYWHERE, "ports": [830]},
)
HOST: Final[tuple[tuple[Mapping[str, Any], ...], ...]] = (
    (),
    (
        {"direction": "out", "protocol": "udp", "ports": 53, "networks": networks(HALL)},
        {"direction": "in", "protocol": "tcp", "ports": [80, 443]},
    ),
    (
        {"direction": "out", "protocol": "tcp", "ports": "20-25"},
        {"direction": "in", "protocol": "udp", "ports": "123", "networks": networks(OFFICE)},
        {"direction": "out", "protocol": "tcp", "ports": [514, 601], "networks": networks(HALL)},
    ),
)
FORWARD: Final[tuple[tuple[Mapping[str, Any], ...] | None, ...]] = (
    None,
    (),
    ({"from": networks(OFFICE), "to": networks(HALL)},),
    (
        {"from": ANYWHERE, "to": networks(HALL), "protocol": "tcp", "ports": "20-80"},
        {"from": networks(HALL), "to": networks(OFFICE), "protocol": "udp", "ports": [514]},
    ),
)
