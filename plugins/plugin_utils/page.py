# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the report's page shows, as plain data for a template that only loops: text, numbers and two pictures.

What the hosts said comes as Ansible registered it, and any of it may be missing: a host that was not
reached, a table that is not loaded, a package that is not installed. Then the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import unified_diff
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.capacity import capacity
from ansible_collections.sluice.ftp.plugins.plugin_utils.connections import kind
from ansible_collections.sluice.ftp.plugins.plugin_utils.counters import Counters, read_counters
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.former import STILL_OPEN, carries_former
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment, line, suffix
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import ANY_PORT, Host, Path, PortRange
from ansible_collections.sluice.ftp.plugins.plugin_utils.picture import picture

MOST_DIFFERENCES = 200  # lines of the rules' difference; the rest is counted
GOOD, BAD, UNKNOWN = "good", "bad", "unknown"
NOTHING = "-"
Found = Mapping[str, Any]


def page(path: Path, found: Found) -> dict[str, Any]:
    """The page's data. `found` holds of each host of this run `reach`, `answers` and `drift`, as registered,
    its `routing` (needs.routing) and its `scope`.

    `answers` is the result of a loop over the names `distribution`, `nft`, `table`, `release` and `proxy`;
    `reach` printed the kernel; `drift` is what sluice.ftp.nft_table foresees.
    """
    right, down = picture(path), picture(path, "down")
    hosts = [_host(path, hop.name, host, found.get(host.name)) for hop in path.hops for host in hop.hosts]
    modes = {path.leg(position): _mode(path.modes[position]) for position in range(path.last + 2)}
    return {
        "path": " <-> ".join(path.name(position) for position in range(-1, path.last + 2)),
        "modes": [{"leg": leg, "mode": mode} for leg, mode in modes.items()],
        "right": {"svg": right.svg, "width": right.width},
        "down": {"svg": down.svg, "width": down.width},
        "hosts": hosts,
        "not_reached": [host["name"] for host in hosts if not host["reached"]],
        "differing": [host["name"] for host in hosts if host["rules"]["is"] == BAD],
    }


def _mode(modes: frozenset[str]) -> str:
    return "both" if len(modes) > 1 else next(iter(modes))


def _host(path: Path, hop: str, host: Host, said: Found | None) -> dict[str, Any]:
    reach = said.get("reach", {}) if said is not None else {}
    reached = bool(said is not None and not reach.get("unreachable") and reach.get("rc") == 0)
    answers = _answers(said or {}) if reached else {}
    counters = read_counters(answers.get("table", ""))
    room = capacity(path, host)
    flows = derive(path, host)
    return {
        "name": host.name,
        "hop": hop,
        "reached": reached,
        "away": "" if reached else "not asked" if said is None else "not reached",
        "reason": "" if reached else _reason(said),
        "scope": str((said or {}).get("scope", "not known")),
        "rules": _rules(counters, said or {}) if reached else _state(UNKNOWN, "not known"),
        "proxy": _proxy(answers.get("proxy", "")),
        "flows": [_flow(flow, counters) for flow in flows],
        "opened": _total(counters, flows),
        "refused": _refused(counters),
        "refused_total": NOTHING if counters is None else _number(sum(r.packets for r in counters.refused)),
        "ranges": [_range(each) for each in room["ranges"]],
        "transfers": _carried(room["transfers"]),
        "carries": _carries(room),
        "difference": [*_difference((said or {}).get("drift", {})), *_routing(said or {})] if reached else [],
        "versions": _versions(reach, answers) if reached else [],
    }


def _answers(said: Found) -> dict[str, str]:
    """What each question of the loop printed; nothing where its command failed."""
    results: Sequence[Found] = said.get("answers", {}).get("results", [])
    return {
        str(each["item"]["name"]): str(each.get("stdout", "")) if each.get("rc") == 0 else ""
        for each in results
    }


def _reason(said: Found | None) -> str:
    if said is None:
        return "not part of this run"
    reach = said.get("reach", {})
    text = str(reach.get("msg") or reach.get("stderr") or "no answer")
    return " ".join(text.split())


def _state(how: str, text: str) -> dict[str, str]:
    return {"is": how, "text": text}


def _rules(counters: Counters | None, said: Found) -> dict[str, str]:
    """Whether the loaded rules are those of the description."""
    drift = said.get("drift", {})
    if counters is None:
        return _state(BAD, "no rules loaded")
    if drift.get("left_out"):
        return _state(UNKNOWN, f"not compared: {drift['left_out'][0]}")
    if "loaded" not in drift:
        return _state(UNKNOWN, f"not compared: {drift.get('msg') or 'no answer'}")
    if drift["loaded"]:
        return _state(BAD, STILL_OPEN if carries_former(drift.get("diff")) else "not as described")
    if _routing(said):
        return _state(BAD, "as described, but the routing of what is intercepted differs")
    if drift.get("written"):
        return _state(BAD, "as described until the next boot: the file of the rules differs")
    return _state(GOOD, "as described")


def _routing(said: Found) -> list[str]:
    """How the host's routing differs from what it needs (needs.routing)."""
    found = said.get("routing", {})
    return [*found.get("missing", []), *found.get("difference", [])]


def _proxy(text: str) -> dict[str, str]:
    """The state of sluice.service, from `systemctl show`."""
    values = dict(each.split("=", 1) for each in text.splitlines() if "=" in each)
    state, since = values.get("ActiveState", "not known"), values.get("StateChangeTimestamp", "")
    if values.get("LoadState") == "not-found":
        state = "not installed"
    how = GOOD if state == "active" else BAD if values else UNKNOWN
    return {**_state(how, state), "since": f"since {since}" if since else ""}


def _flow(flow: Flow, counters: Counters | None) -> dict[str, Any]:
    count = counters.flows.get(comment(flow)) if counters else None
    return {
        "leg": flow.leg,
        "kind": kind(flow),
        "text": line(flow),
        "suffix": suffix(flow),
        "from": _ports(flow.opener_ports),
        "to": _ports(flow.acceptor_ports),
        "opened": NOTHING if count is None else _number(count.opened),
        "packets": NOTHING if count is None else _number(count.packets),
    }


def _ports(ports: Sequence[PortRange]) -> list[str]:
    return ["any"] if ports == (ANY_PORT,) else [str(each) for each in ports]


def _total(counters: Counters | None, flows: Sequence[Flow]) -> str:
    if counters is None:
        return NOTHING
    counts = (counters.flows.get(comment(flow)) for flow in flows)
    return _number(sum(count.opened for count in counts if count))


def _refused(counters: Counters | None) -> list[dict[str, Any]]:
    return [
        {
            "reason": each.reason,
            "chain": each.chain,
            "packets": _number(each.packets),
            "class": "some" if each.packets else "zero",
        }
        for each in (counters.refused if counters else ())
    ]


def _range(each: dict[str, Any]) -> dict[str, Any]:
    use = each["name"].split(".")[1]
    what = "listens for" if use == "listen" else "opens"
    carries = "not used"
    if each["used"]:
        carries = _carried(each["transfers"])
    return {
        "name": each["name"],
        "what": f"{what} {each['mode']} data on leg {each['leg']}",
        "ports": each["ports"],
        "carries": carries,
        "class": "" if each["used"] else "zero",
    }


def _carries(room: dict[str, Any]) -> str:
    """What the ranges mean for the legs, as sentences."""
    legs = [
        f"on {leg} " + " and ".join(f"{_carried(transfers)} {mode}" for mode, transfers in modes.items())
        for leg, modes in room["legs"].items()
    ]
    limit = "" if room["limit"] is None else f" The description limits this host to {_number(room['limit'])}."
    return f"Transfers at once: {'; '.join(legs)}.{limit}"


def _carried(transfers: int | None) -> str:
    return "no limit" if transfers is None else _number(transfers)


def _difference(drift: Found) -> list[str]:
    """What a run would take from (-) and bring to (+) the loaded rules."""
    found = drift.get("diff", {})
    if not drift.get("loaded") or not isinstance(found, Mapping):
        return []
    before, after = (str(found.get(key, "")).expandtabs(4).splitlines() for key in ("before", "after"))
    lines = list(unified_diff(before, after, "loaded", "described", lineterm="", n=1))
    if len(lines) > MOST_DIFFERENCES:
        return [*lines[:MOST_DIFFERENCES], f"... and {len(lines) - MOST_DIFFERENCES:,} lines more"]
    return lines


def _versions(reach: Found, answers: Mapping[str, str]) -> list[dict[str, str]]:
    """What runs on the host."""
    found = {
        "distribution": answers.get("distribution", ""),
        "kernel": str(reach.get("stdout", "")),
        "nft": answers.get("nft", "").removeprefix("nftables "),
        "proxy": answers.get("release", ""),
    }
    return [{"what": what, "version": version or "not found"} for what, version in found.items()]


def _number(number: int) -> str:
    return f"{number:,}"
