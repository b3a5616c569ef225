# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What verification found, judged: a line for each thing that was looked at, and by which rule it came so.

Other people's traffic moves counters too: a rule has counted a probe when its counter moved at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import unified_diff
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.former import STILL_OPEN, carries_former
from ansible_collections.sluice.ftp.plugins.plugin_utils.probes import OTHER, PROXY

OK, WRONG, UNPROVEN, NOT_TRIED = "ok", "WRONG", "unproven", "not tried"
WORST = (WRONG, UNPROVEN, OK, NOT_TRIED)
COUNTED = re.compile(r'counter packets (\d+) .*comment "(.*)"')
LOGS = re.compile(r"\blimit rate\b.*\blog\b")  # it goes with the drop that follows it, and says nothing new
UNIT = "sluice.service"
USERS = {PROXY: "as the proxy's user", OTHER: "another user"}
MOST_RULES = 20  # that differ, as the report shows them


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a host's report; `more` goes below it.

    `kind` is rules, routing, listeners, flow or refused.
    """

    kind: str
    line: str
    verdict: str
    says: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What the hosts said, by inventory name; `answers` and `ports` by probe.

    `failed` says why nobody could listen for a probe, `absent` why a host said nothing. `counters` are
    listings of our table, one before the first round and one after each.
    """

    answers: Mapping[str, Mapping[str, Any]]
    ports: Mapping[str, int]
    failed: Mapping[str, str]
    counters: Mapping[str, Sequence[str]]
    absent: Mapping[str, str]


@dataclass
class _Tally:
    """`moved[host][round][comment]`: how counters moved; `wanted`: how many probes they should count."""

    moved: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    wanted: dict[tuple[str, int, str], int] = field(default_factory=dict)
    drops: dict[str, set[str]] = field(default_factory=dict)

    def counts(self, host: str, number: int, comment: str) -> bool:
        rounds = self.moved.get(host, [])
        return number < len(rounds) and rounds[number].get(comment, 0) > 0

    def also(self, hosts: Sequence[str], number: int) -> str:
        """Which rules that drop counted in that round what nothing here explains, as half a sentence."""
        found = []
        for host in dict.fromkeys(hosts):
            rounds = self.moved.get(host, [])
            for comment, count in sorted(rounds[number].items()) if number < len(rounds) else []:
                if comment in self.drops[host] and count > self.wanted.get((host, number, comment), 0):
                    found.append(f"'{comment}' of {host}")
        return f"; meanwhile {' and '.join(found)} counted" if found else ""


def counters(listing: str) -> tuple[dict[str, int], set[str]]:
    """Packets by comment in `nft list table`, and the comments that drop."""
    packets: dict[str, int] = {}
    drops = set()
    for line in listing.splitlines():
        if found := COUNTED.search(line):
            packets[found[2]] = packets.get(found[2], 0) + int(found[1])
            if " drop comment " in line:
                drops.add(found[2])
    return packets, drops


def moved(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """By how much each counter grew; one that is smaller now began anew with rules loaded meanwhile."""
    return {
        comment: count - before.get(comment, 0) if count >= before.get(comment, 0) else count
        for comment, count in after.items()
    }


def _tally(rounds: Sequence[Sequence[Mapping[str, Any]]], found: Found) -> _Tally:
    tally = _Tally()
    for host, listings in found.counters.items():
        read = [counters(each) for each in listings]
        tally.moved[host] = [moved(one[0], other[0]) for one, other in pairwise(read)]
        tally.drops[host] = set().union(*(each[1] for each in read))
    for number, probes in enumerate(rounds):
        for probe in probes:
            for host, comment in probe["rules"]:
                tally.wanted[host, number, comment] = tally.wanted.get((host, number, comment), 0) + 1
    return tally


def probe_lines(plan: Mapping[str, Any], found: Found) -> dict[str, list[Line]]:
    """Of each host on the path its flows in their order, then what must be refused by a rule of its own."""
    tally = _tally(plan["rounds"], found)
    judged: dict[tuple[str, str], list[tuple[Mapping[str, Any], str, str]]] = {}
    refused: dict[str, list[Line]] = {}
    for number, probes in enumerate(plan["rounds"]):
        for probe in probes:
            verdict, says = _judge(probe, number, found, tally)
            host, comment = probe["rules"][-1]
            if not probe["passes"]:
                refused.setdefault(host, []).append(Line("refused", _attempt(probe, found), verdict, says))
                continue
            for host, comment in probe["rules"]:
                own, own_says = verdict, says
                if verdict == OK and not tally.counts(host, number, comment):
                    own, own_says = WRONG, f"passes, but the rule of this line did not count it on {host}"
                judged.setdefault((host, comment), []).append((probe, own, own_says))
    return {
        host: [
            *(
                _flow_line(host, line, judged.get((host, line), []), plan["untried"][host], found)
                for line in lines
            ),
            *sorted(refused.get(host, []), key=lambda each: each.line),
        ]
        for host, lines in plan["lines"].items()
    }


def read_found(said: Mapping[str, Mapping[str, Any]]) -> Found:
    """What the hosts of the run registered, by inventory name: `listening` and `connecting` are results of
    path_probe for the host named in their `item`, `counters` the listings of its own table."""
    answers: dict[str, Mapping[str, Any]] = {}
    ports: dict[str, int] = {}
    failed: dict[str, str] = {}
    absent: dict[str, str] = {}
    for each in said.values():
        for result in (*each["listening"], *each["connecting"]):
            if result.get("unreachable"):
                absent[str(result["item"])] = "it cannot be reached"
            elif "answers" in result:
                answers.update(result["answers"])
            elif "ports" in result:
                ports.update(result["ports"])
                failed.update(result["failed_probes"])
            elif not result.get("skipped"):
                absent[str(result["item"])] = str(result.get("msg", "it said nothing"))
    return Found(answers, ports, failed, {host: each["counters"] for host, each in said.items()}, absent)


def _judge(probe: Mapping[str, Any], number: int, found: Found, tally: _Tally) -> tuple[str, str]:
    """The verdict of one probe and half a sentence."""
    ends = [probe["opener"], probe["acceptor"]]
    name, answer = probe["id"], found.answers.get(probe["id"])
    if name in found.failed:
        verdict = NOT_TRIED if found.failed[name].startswith("no free port") else WRONG
        return verdict, f"not tried: {probe['acceptor']}: {found.failed[name]}"
    if answer is None:
        silent = ends[1] if probe["listener"] and name not in found.ports else ends[0]
        return WRONG, f"could not be tried: {silent}: {found.absent.get(silent, 'it said nothing')}"
    outcome, said = str(answer["outcome"]), str(answer["said"])
    if outcome == "failed":
        return WRONG, f"could not be tried: {probe['opener']}: {said}"
    also = tally.also(ends, number)
    if not probe["passes"]:
        return _judge_refusal(probe, number, tally, outcome=outcome, said=said, also=also)
    what = "nothing answered" if outcome == "silent" else said
    if outcome == "answered" and (not probe["greets"] or said.startswith("220")):
        return OK, ""
    if outcome == "answered":
        return WRONG, f"passes, but found the answer '{said}', expected an FTP server's greeting (220)"
    if outcome == "reset" and probe["greets"]:
        what = f"{probe['target']} answered that nobody listens on port {probe['ports']}"
    if outcome == "connected":
        what = "it connected, and then no answer came"
    return WRONG, f"found that {what}, expected it to pass{also}"


def _judge_refusal(
    probe: Mapping[str, Any], number: int, tally: _Tally, *, outcome: str, said: str, also: str
) -> tuple[str, str]:
    host, comment = probe["rules"][-1]
    if outcome in ("answered", "connected", "reset"):
        return WRONG, f"passes, expected '{comment}' to refuse it"
    if tally.counts(host, number, comment):
        return OK, f"refused by '{comment}'"
    how = f" ({said})" if outcome == "unreachable" else ""
    return UNPROVEN, f"refused{how}, but not by '{comment}' of {host}{also}"


def _flow_line(
    host: str,
    line: str,
    tries: Sequence[tuple[Mapping[str, Any], str, str]],
    untried: Mapping[str, str],
    found: Found,
) -> Line:
    if not tries:
        return Line("flow", line, NOT_TRIED, untried.get(line, ""))
    verdict = next(each for each in WORST if any(each == one[1] for one in tries))
    good = [probe for probe, each, _says in tries if each == OK]
    peers: dict[str, list[str]] = {}
    for probe in good:
        peer = probe["acceptor"] if probe["opener"] == host else probe["opener"]
        peers.setdefault(peer, []).append(_family(probe))
    held = "; ".join(f"{peer} {' and '.join(families)}" for peer, families in peers.items())
    says = f"allowed by this rule: {held}" if held else verdict
    if verdict in (OK, NOT_TRIED):
        more = tuple(each for _probe, one, each in tries if one == NOT_TRIED)
        return Line("flow", line, verdict, says if held else more[0], more if held else ())
    if len(good) < len(tries) and held:
        says = f"{says}; not all"
    wrong = tuple(
        f"{_attempt(probe, found)}: {each}" for probe, one, each in tries if one not in (OK, NOT_TRIED)
    )
    return Line("flow", line, verdict, says if held else "", wrong)


def _attempt(probe: Mapping[str, Any], found: Found) -> str:
    """A probe as the report names it."""
    words = [probe["about"], USERS.get(probe["user"], "")]
    if probe["listener"] == OTHER:
        words = ["another user listens"]
    what = ", ".join(dict.fromkeys(word for word in words if word))
    target = _socket(probe["target"], found.ports.get(probe["id"], probe["ports"]))
    ends = f"{probe['opener']} {probe['source']} -> {probe['acceptor']} {target}"
    return f"{what}: {ends}" if what else ends


def _family(probe: Mapping[str, Any]) -> str:
    return f"IPv{ip_address(probe['target']).version}"


def rules_line(result: Mapping[str, Any]) -> Line:
    """The line on drift, of the result of nft_table in check mode."""
    if "loaded" not in result:
        return Line("rules", "rules", WRONG, f"could not be compared: {result.get('msg', 'no reason given')}")
    before, after = result["diff"]["before"], result["diff"]["after"]
    if not before:
        return Line("rules", "rules", WRONG, "found no table inet sluice loaded")
    if result["left_out"]:
        return Line("rules", "rules", WRONG, f"could not be compared: {' '.join(result['left_out'])}")
    if result["loaded"]:
        more = tuple(_difference(before, after))
        says = "found loaded rules that differ, - loaded, + expected of the description"
        if carries_former(result.get("diff")):
            says = f"{STILL_OPEN}; - loaded, + expected of the description"
        return Line("rules", "rules", WRONG, says, more)
    if result["written"]:
        return Line("rules", "rules", WRONG, "loaded as described, but the file for the next boot differs")
    return Line("rules", "rules", OK, "loaded as described, and for the next boot too")


def routing_lines(found: Mapping[str, Sequence[str]]) -> Iterator[Line]:
    """The line on the routing of what a host intercepts (`needs.routing`), if there is any or should be."""
    more = (*found["missing"], *found["difference"])
    if more:
        yield Line("routing", "routing", WRONG, "found, -, and expected, + of the description", more)
    elif found["commands"]:
        yield Line("routing", "routing", OK, "as described")


def _difference(before: str, after: str) -> Iterator[str]:
    """Rules alone, each after its chain's or set's name."""
    found: list[str] = []
    block = ""
    for each in unified_diff(before.splitlines(), after.splitlines(), n=10_000, lineterm=""):
        if each.startswith(("---", "+++", "@@")):
            continue
        sign, text = each[0], each[1:]
        if re.match(r"\t(chain|set|map) ", text):
            block = text.strip(" \t{")
        if sign != " " and text.strip("\t }") and not LOGS.search(text):
            found.append(f"{sign} {block}: {text.strip()}")
    yield from found[:MOST_RULES]
    if len(found) > MOST_RULES:
        yield f"and {len(found) - MOST_RULES} more; a run of sluice.ftp.site with --check --diff shows all"


def listener_lines(plan: Mapping[str, Any], host: str, listeners: object, uid: object) -> Iterator[Line]:
    """Where the proxy listens against the description, and who else does where only the proxy may."""
    if not isinstance(listeners, Sequence):
        yield Line("listeners", "listeners", WRONG, "could not be listed")
        return
    control = [(address, int(port)) for address, port in plan["control"][host]]
    ours = [each for each in listeners if each["unit"] == UNIT or str(each["uid"]) == str(uid)]
    others = [each for each in listeners if each not in ours]
    wrong = [
        f"found nobody on {_socket(address, port)}, expected the proxy ({UNIT})"
        for address, port in control
        if not any((each["address"], each["port"]) == (address, port) for each in ours)
    ]
    data = 0
    for each in ours:
        if (each["address"], each["port"]) in control:
            continue
        if any(
            ip_address(each["address"]) in ip_network(address) and _in(each["port"], ports)
            for address, ports in plan["data"][host]
        ):
            data += 1
            continue
        wrong.append(
            f"found the proxy's user on {_socket(each['address'], each['port'])} ({_holder(each)}),"
            " expected it on its control port and in its listening ranges alone"
        )
    served = [str(port) for _address, port in control] + [ports for _address, ports in plan["data"][host]]
    wrong += [
        f"found {_holder(each)} on {_socket(each['address'], each['port'])}, a port of the proxy's,"
        " expected the proxy or nobody"
        for each in others
        if any(_in(each["port"], ports) for ports in served)
    ]
    sockets = ", ".join(_socket(address, port) for address, port in control)
    transfers = f", and for {data} transfers" if data else ""
    if wrong:
        yield Line("listeners", "listeners", WRONG, "", tuple(wrong))
    else:
        yield Line(
            "listeners", "listeners", OK, f"the proxy on {sockets}{transfers}, nobody else on its ports"
        )


def _in(port: int, ports: str) -> bool:
    low, _dash, high = ports.partition("-")
    return int(low) <= port <= int(high or low)


def _socket(address: str, port: int | str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _holder(each: Mapping[str, Any]) -> str:
    return f"{each['process'] or 'a process'} (process {each['pid']}, unit {each['unit'] or 'none'})"


def report(host: str, hop: str, lines: Sequence[Line]) -> dict[str, Any]:
    """A host's report as plain data: its lines, how many have which verdict, the text, and the sentences of
    what is wrong."""
    count = {verdict: sum(line.verdict == verdict for line in lines) for verdict in WORST}
    widths = {
        kind: max(len(line.line) for line in lines if line.kind == kind)
        for kind in (line.kind for line in lines)
    }
    most = widths.get("flow", 0)  # as wide stand the lines before the flows
    tally = ", ".join(f"{number} {verdict}" for verdict, number in count.items() if number)
    text = [f"{hop} on {host}: {tally}"]
    for line in lines:
        width = widths[line.kind] if line.kind == "refused" else most
        wide = f"{line.line:{width}}  " if line.says else line.line
        text.append(f"{line.verdict:9}  {wide}{line.says}".rstrip())
        text += [f"{'':11}    {each}" for each in line.more]
    wrong = [
        f"{host}: {line.line}: {each}."
        for line in lines
        if line.verdict == WRONG
        for each in (line.more if line.kind not in ("rules", "routing") and line.more else (line.says,))
    ]
    return {
        "host": host,
        "hop": hop,
        "wrong": count[WRONG],
        "lines": [{**asdict(line), "more": list(line.more)} for line in lines],
        "text": text,
        "failures": wrong,
    }


def reports(plan: Mapping[str, Any], said: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each host of the plan that said something its report (`report`)."""
    flows = probe_lines(plan, read_found(said))
    return {
        host: report(
            host,
            plan["hops"][host],
            [
                rules_line(each["rules"]),
                *routing_lines(each["routing"]),
                *listener_lines(plan, host, each["listeners"], each["uid"]),
                *flows[host],
            ],
        )
        for host, each in said.items()
        if host in plan["hops"]
    }
