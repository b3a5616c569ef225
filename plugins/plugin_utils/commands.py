# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`sluice_commands`: what clients may ask for and servers may be asked, in rules (requirement 7.9)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import (
    flag,
    listed,
    mapping,
    networks,
    sequence,
    shown,
    wrong,
)

PRESETS = ("read-only", "upload-only")
VERB = re.compile(r"[A-Za-z0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class CommandRule:
    """One rule: `settings` is what a proxy reads, `ends` the ends of the path that it speaks of."""

    ends: tuple[str, ...]
    settings: dict[str, Any]


def read_commands(value: object) -> tuple[CommandRule, ...]:
    """The rules of `sluice_commands`; raises DescriptionError."""
    place = "sluice_commands"
    if value is None or (isinstance(value, Sequence) and not isinstance(value, str) and not value):
        return ()
    return tuple(_rule(f"{place}[{i}]", each) for i, each in enumerate(sequence(place, value, "rules")))


def _rule(place: str, value: object) -> CommandRule:
    found = mapping(place, value, [], ["clients", "servers", "preset", "anonymous", "deny"])
    if "clients" in found and "servers" in found:
        wrong(
            place,
            "clients and servers",
            "one of them, for the first hop knows the one and the last hop the other",
        )
    ends = tuple(end for end in ("clients", "servers") if end in found) or ("clients", "servers")
    settings: dict[str, Any] = {}
    for end in ("clients", "servers"):
        if end in found:
            settings["networks"] = [str(each) for each in networks(f"{place}.{end}", found[end])]
    if "preset" in found:
        if found["preset"] not in PRESETS:
            wrong(f"{place}.preset", shown(found["preset"]), " or ".join(PRESETS))
        settings["preset"] = str(found["preset"])
    if "anonymous" in found:
        settings["anonymous"] = flag(f"{place}.anonymous", found["anonymous"])
    if "deny" in found:
        verbs = sequence(f"{place}.deny", found["deny"], "verbs")
        settings["deny"] = [_verb(f"{place}.deny[{i}]", each) for i, each in enumerate(verbs)]
    if not settings.keys() - {"networks"}:
        wrong(place, "nothing that it restricts", f"one of {listed(('preset', 'anonymous', 'deny'))}")
    return CommandRule(ends, settings)


def _verb(place: str, value: object) -> str:
    if not isinstance(value, str) or not VERB.fullmatch(value):
        wrong(place, shown(value), "a verb, as SITE")
    return str(value).upper()
