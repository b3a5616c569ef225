# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe of the path found, in words: its steps, which leg a refusal speaks of, the probable cause."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_OF_HOP = re.compile(r"[1-5][0-9]{2}[ -](\w{1,16}): (?:(server )|next hop (\w{1,16}) |(the client ))")
_CAUSES = (
    ("refused the connection", "nothing listens there"),
    ("did not answer within", "a packet filter on the way drops it, or that host is away"),
    ("did not open its data connection", "a packet filter on the way drops it"),
    ("not permitted", "the rules of this host do not let it out"),
    ("unreachable", "no route leads there"),
    ("no route", "no route leads there"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the way. ok: None where it was not tried; says: why not, or what failed."""

    leg: str
    what: str
    ok: bool | None
    says: str = ""
    milliseconds: int | None = None


def leg_of(reply: str, before: str, otherwise: str) -> str:
    """Return the leg that a hop's own refusal speaks of, as `421 N: server ... ` does of N-S.

    before: the leg on which the reply came in; a hop calls the one before it "the client". otherwise: the
    leg of a reply that no hop wrote.
    """
    found = _OF_HOP.match(reply)
    if not found:
        return otherwise
    if found[4]:
        return before if before.endswith(f"-{found[1]}") else f"before {found[1]}"
    return f"{found[1]}-{'S' if found[2] else found[3]}"


def cause(says: str) -> str:
    """Return what says of a failure probably means, "" where it speaks for itself."""
    text = says.lower()
    return next((meaning for words, meaning in _CAUSES if words in text), "")


def verdict(steps: Sequence[Step]) -> str:
    """Return one sentence: the first leg that fails and why, or that none does."""
    for step in steps:
        if step.ok is False:
            meaning = cause(step.says)
            return f"{step.leg} {step.what} fails: {step.says}{f' ({meaning})' if meaning else ''}."
    left_out = any(step.ok is None for step in steps)
    return "What was tried works." if left_out else "Every leg works."


def as_data(host: str, to: str, steps: Sequence[Step]) -> dict[str, Any]:
    """Return a walk as plain types; `host` is the name of a host of the next hop, or ""."""
    return {
        "host": host,
        "to": to,
        "ok": all(step.ok is not False for step in steps),
        "verdict": verdict(steps),
        "steps": [asdict(step) for step in steps],
    }
