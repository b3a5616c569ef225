# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a table's rules have counted: for each flow, which is named in a comment, and for each refusal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Count:
    """Of one flow: the connections that were opened, and all packets that their openers sent."""

    opened: int
    packets: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that drops: its chain, its comment, its packets."""

    chain: str
    reason: str
    packets: int


@dataclass(frozen=True, slots=True)
class Counters:
    """Since the rules were loaded: `flows` by comment, `refused` in the order of the rules."""

    flows: dict[str, Count]
    refused: tuple[Refusal, ...]


def read_counters(listing: str) -> Counters | None:
    """The counters of `nft --json list table`; None where the text is no listing that holds a table."""
    try:
        entries = json.loads(listing)["nftables"]
        rules = [entry["rule"] for entry in entries if "rule" in entry]
        return _counters(rules) if any("table" in entry for entry in entries) else None
    except (ValueError, KeyError, TypeError):
        return None


def _counters(rules: list[dict[str, Any]]) -> Counters:
    flows: dict[str, Count] = {}
    refused: dict[tuple[str, str], int] = {}
    place: tuple[str, str] | None = None  # the chain and the flow whose rules these are
    for rule in rules:
        reason, does = rule.get("comment", ""), {key for each in rule["expr"] for key in each}
        if "accept" in does and reason:
            # This rule counts what opens. Those after it that bear no comment count what follows on it ...
            place = rule["chain"], reason
            count = flows.get(reason, Count(0, 0))
            flows[reason] = Count(count.opened + _packets(rule), count.packets + _packets(rule))
        elif place and "accept" in does and rule["chain"] == place[0] and not _is_reply(rule):
            count = flows[place[1]]
            flows[place[1]] = Count(count.opened, count.packets + _packets(rule))
        else:
            place = None  # ... up to the next one's, or the replies to another flow.
            if {"drop", "counter"} <= does:
                why = rule["chain"], reason or "no reason given"
                refused[why] = refused.get(why, 0) + _packets(rule)
    return Counters(flows, tuple(Refusal(*why, packets) for why, packets in refused.items()))


def _is_reply(rule: dict[str, Any]) -> bool:
    matches = [each["match"] for each in rule["expr"] if "match" in each]
    return any(each["left"] == {"ct": {"key": "direction"}} and each["right"] == "reply" for each in matches)


def _packets(rule: dict[str, Any]) -> int:
    return sum(each["counter"]["packets"] for each in rule["expr"] if "counter" in each)
