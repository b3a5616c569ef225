# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`sluice_commands`: what clients may ask for and servers may be asked, in rules (requirement 7.9)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Servers
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import (
    dns_name,
    listed,
    mapping,
    network,
    networks,
    sequence,
    shown,
    wrong,
)

ANONYMOUS = "anonymous-only"
USES = ("read-only", "upload-only")
PRESETS = (*USES, ANONYMOUS)
VERB = re.compile(r"[A-Za-z0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class CommandRule:
    """One rule: `settings` is what a proxy reads, `ends` the ends of the path that it speaks of."""

    ends: tuple[str, ...]
    settings: dict[str, Any]


def read_commands(value: object, known: Servers) -> tuple[CommandRule, ...]:
    """The rules of `sluice_commands`, of servers that the path knows; raises DescriptionError."""
    place = "sluice_commands"
    if value is None or (isinstance(value, Sequence) and not isinstance(value, str) and not value):
        return ()
    return tuple(
        _rule(f"{place}[{i}]", each, known) for i, each in enumerate(sequence(place, value, "rules"))
    )


def _rule(place: str, value: object, known: Servers) -> CommandRule:
    found = mapping(place, value, [], ["clients", "servers", "preset", "allow", "deny"])
    if "clients" in found and "servers" in found:
        wrong(
            place,
            "clients and servers",
            "one of them, for the first hop knows the one and the last hop the other",
        )
    ends = tuple(end for end in ("clients", "servers") if end in found) or ("clients", "servers")
    settings: dict[str, Any] = {}
    if "clients" in found:
        settings["networks"] = [str(each) for each in networks(f"{place}.clients", found["clients"])]
    if "servers" in found:
        settings |= _servers(f"{place}.servers", found["servers"], known)
    restricts: dict[str, Any] = _presets(f"{place}.preset", found["preset"]) if "preset" in found else {}
    for key in ("allow", "deny"):
        if key in found:
            verbs = sequence(f"{place}.{key}", found[key], "verbs")
            restricts[key] = [_verb(f"{place}.{key}[{i}]", each) for i, each in enumerate(verbs)]
    if not restricts:
        wrong(place, "nothing that it restricts", f"one of {listed(('preset', 'allow', 'deny'))}")
    return CommandRule(ends, settings | restricts)


def _servers(place: str, value: object, known: Servers) -> dict[str, list[str]]:
    """Networks, and names that a session can have; of any other name the rule would never hold a session."""
    fixed = (known.fixed or "").rpartition(":")[0]
    result: dict[str, list[str]] = {}
    for i, each in enumerate(sequence(place, value, "networks and names of servers")):
        name = dns_name(each)
        if name is None:
            result.setdefault("networks", []).append(str(network(f"{place}[{i}]", each)))
        elif name in (*known.names, dns_name(fixed)):
            result.setdefault("names", []).append(name)
        else:
            wrong(
                f"{place}[{i}]",
                f"the name {name}",
                "a network, or a name that sluice_topology.servers has in names or fixed",
            )
    return result


def _presets(place: str, value: object) -> dict[str, Any]:
    """One preset, or a list of them; at most one says what the commands are good for."""
    words = [value] if isinstance(value, str) else sequence(place, value, "presets")
    for each in words:
        if each not in PRESETS:
            wrong(place, shown(each), f"one or more of {listed(PRESETS)}")
    uses = [each for each in USES if each in words]
    if len(uses) > 1:
        wrong(place, " and ".join(uses), "one of them, for together they allow nothing")
    return ({"preset": uses[0]} if uses else {}) | ({"anonymous": True} if ANONYMOUS in words else {})


def _verb(place: str, value: object) -> str:
    if not isinstance(value, str) or not VERB.fullmatch(value):
        wrong(place, shown(value), "a verb, as SITE")
    return str(value).upper()
