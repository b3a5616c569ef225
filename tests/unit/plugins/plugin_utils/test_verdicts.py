# SPDX-License-Identifier: GPL-3.0-or-later
"""How verification judges what hosts said: plain values in, lines out (issue 4, "Proof")."""

from __future__ import annotations

from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import Scope
from ansible_collections.sluice.ftp.plugins.plugin_utils.verdicts import (
    counters,
    moved,
    reports,
    rules_line,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.verification import plan

from tests.unit.plugins.paths import twenty_lines

PLAN = plan(read_path(twenty_lines(), "passive"), {"f1": Scope(), "n1": Scope()}, {}).as_data()
CONTROL = "N <- F: <- proxy user: to port 21"
PASSIVE = "N <- F: <- proxy user: to port specified by N (passive)"
FTP_UPSTREAM = "other user speaks FTP upstream"


def listing(packets: dict[str, int]) -> str:
    """As nft lists rules, those of flows accepting and the others dropping."""
    verb = {comment: "accept" if ": to port" in comment else "drop" for comment in packets}
    return "\n".join(
        f'\t\tcounter packets {count} bytes 60 {verb[comment]} comment "{comment}"'
        for comment, count in packets.items()
    )


def probes() -> list[tuple[int, dict[str, Any]]]:
    return [(number, probe) for number, each in enumerate(PLAN["rounds"]) for probe in each]


def well() -> dict[str, Any]:
    """What hosts say where everything is as it should be."""
    answers: dict[str, dict[str, Any]] = {"f1": {}, "n1": {}}
    ports: dict[str, dict[str, int]] = {"f1": {}, "n1": {}}
    totals: dict[str, dict[str, int]] = {"f1": {}, "n1": {}}
    for _number, probe in probes():
        for host, comment in probe["rules"]:
            totals[host][comment] = 0
    texts = {host: [listing(counts)] for host, counts in totals.items()}
    for each in PLAN["rounds"]:
        for probe in each:
            said = "220 N: FTP proxy ready" if probe["greets"] else probe["id"]
            answers[probe["opener"]][probe["id"]] = (
                {"outcome": "answered", "said": said}
                if probe["passes"]
                else {"outcome": "silent", "said": "nothing for 0.7 s"}
            )
            if probe["listener"]:
                ports[probe["acceptor"]][probe["id"]] = 50123
            for host, comment in probe["rules"]:
                totals[host][comment] += 1
        for host, counts in totals.items():
            texts[host].append(listing(counts))
    return {
        host: {
            "rules": {
                "loaded": False,
                "written": False,
                "left_out": [],
                "diff": {"before": "x", "after": "x"},
            },
            "routing": {"commands": [], "missing": [], "difference": []},
            "listeners": [listener(address) for address, _port in PLAN["control"][host]],
            "uid": "990",
            "listening": [
                {"item": host, "ports": ports[host], "failed_probes": {}, "pid": 7, "started": "1"}
            ],
            "connecting": [{"item": host, "answers": answers[host]}],
            "counters": texts[host],
        }
        for host in ("f1", "n1")
    }


def listener(address: str, port: int = 21, **other: Any) -> dict[str, Any]:
    known = {
        "address": address,
        "port": port,
        "uid": 990,
        "pid": 7,
        "process": "python3",
        "unit": "sluice.service",
    }
    return {**known, **other}


def line(said: dict[str, Any], host: str, text: str) -> dict[str, Any]:
    """The one line of the host's report that begins so."""
    found = [each for each in reports(PLAN, said)[host]["lines"] if each["line"].startswith(text)]
    assert len(found) == 1
    result: dict[str, Any] = found[0]
    return result


def set_answer(said: dict[str, Any], comment: str, outcome: str, text: str = "") -> dict[str, Any]:
    """Let the first probe that this rule of f1 should count come out otherwise."""
    probe = next(p for _n, p in probes() if ["f1", comment] in p["rules"])
    said[probe["opener"]]["connecting"][0]["answers"][probe["id"]] = {"outcome": outcome, "said": text}
    return probe


def uncounted(said: dict[str, Any], comment: str) -> None:
    said["f1"]["counters"] = [listing({comment: 0}) for _each in said["f1"]["counters"]]


def test_all_is_well() -> None:
    found = reports(PLAN, well())
    assert (found["f1"]["wrong"], found["n1"]["wrong"]) == (0, 0)
    assert found["f1"]["failures"] == []
    assert {each["verdict"] for each in found["f1"]["lines"]} == {"ok", "not tried"}
    assert line(well(), "f1", CONTROL)["says"] == "allowed by this rule: n1 IPv4"
    assert line(well(), "f1", "C -> F: -> proxy user: to port 21")["verdict"] == "not tried"


def test_a_flow_that_nobody_answers_is_wrong_and_what_dropped_it_is_named() -> None:
    said = well()
    set_answer(said, CONTROL, "silent")
    said["n1"]["counters"] = [
        text + "\n" + listing({"not a flow: to nothing": 3 * i})
        for i, text in enumerate(said["n1"]["counters"])
    ]
    found = line(said, "f1", CONTROL)
    assert found["verdict"] == "WRONG"
    assert "found that nothing answered, expected it to pass" in found["more"][0]
    assert "meanwhile 'not a flow: to nothing' of n1 counted" in found["more"][0]
    assert reports(PLAN, said)["f1"]["failures"][0].startswith(
        f"f1: {CONTROL}: as the proxy's user: f1 10.2.0.1"
    )


def test_a_flow_that_passes_by_another_rule_is_wrong() -> None:
    said = well()
    uncounted(said, CONTROL)
    assert "did not count it on f1" in line(said, "f1", CONTROL)["more"][0]
    assert line(said, "n1", "F -> N: -> proxy user: to port 21")["verdict"] == "ok"


def test_an_answer_that_is_no_greeting_is_wrong() -> None:
    said = well()
    set_answer(said, CONTROL, "answered", "421 too many")
    assert "found the answer '421 too many'" in line(said, "f1", CONTROL)["more"][0]


def test_a_proxy_that_does_not_run_is_said_so() -> None:
    said = well()
    set_answer(said, CONTROL, "reset", "Connection refused")
    said["n1"]["listeners"] = []
    assert "10.2.0.2 answered that nobody listens on port 21" in line(said, "f1", CONTROL)["more"][0]
    assert "found nobody on 10.2.0.2:21" in line(said, "n1", "listeners")["more"][0]


def test_what_should_be_refused_and_passes_is_wrong() -> None:
    for outcome in ("answered", "connected", "reset"):
        said = well()
        set_answer(said, FTP_UPSTREAM, outcome)
        assert line(said, "f1", "another user: f1 10.2.0.1 -> n1 10.2.0.2:21")["verdict"] == "WRONG"


def test_what_another_rule_refuses_is_unproven() -> None:
    said = well()
    uncounted(said, FTP_UPSTREAM)
    found = line(said, "f1", "another user: f1 10.2.0.1 -> n1 10.2.0.2:21")
    assert found["verdict"] == "unproven"
    assert found["says"] == f"refused, but not by '{FTP_UPSTREAM}' of f1"
    assert reports(PLAN, said)["f1"]["failures"][0].startswith(
        f"f1: {CONTROL}"
    )  # the flows were not counted either


def test_a_range_without_a_free_port_is_no_failure() -> None:
    said = well()
    probe = next(p for _n, p in probes() if ["f1", PASSIVE] in p["rules"])
    del said["n1"]["listening"][0]["ports"][probe["id"]]
    said["n1"]["listening"][0]["failed_probes"][probe["id"]] = "no free port in 50000-50000"
    found = line(said, "f1", PASSIVE)
    assert (found["verdict"], found["says"]) == ("not tried", "not tried: n1: no free port in 50000-50000")


def test_a_host_that_says_nothing_any_more_is_named() -> None:
    said = well()
    said["f1"]["connecting"] = [{"item": "f1", "unreachable": True}]
    assert "could not be tried: f1: it cannot be reached" in line(said, "f1", CONTROL)["more"][0]
    said["f1"]["connecting"] = [{"item": "f1", "failed": True, "msg": "no Python"}]
    assert (
        "could not be tried: f1: no Python"
        in line(said, "n1", "F -> N: -> proxy user: to port 21")["more"][0]
    )


def test_listeners_are_held_against_the_description() -> None:
    said = well()
    said["f1"]["listeners"] += [
        listener("10.1.0.1", 50007),  # a transfer
        listener("10.2.0.1", 50008),  # the range of the other side
        listener("0.0.0.0", 50009, uid=1000, process="nc", unit=""),
        listener("0.0.0.0", 22, uid=0, process="sshd", unit="ssh.service"),
    ]
    found = line(said, "f1", "listeners")
    assert found["verdict"] == "WRONG"
    assert len(found["more"]) == 2
    assert found["more"][0].startswith("found the proxy's user on 10.2.0.1:50008")
    assert found["more"][1].startswith(
        "found nc (process 7, unit none) on 0.0.0.0:50009, a port of the proxy's"
    )


def test_drift_is_shown_as_rules() -> None:
    before = "table inet sluice {\n\tchain input {\n\t\ttcp dport 1 drop\n\t\ttcp dport 2 drop\n\t}\n}\n"
    after = before.replace("\t\ttcp dport 2 drop\n", "").replace("dport 1 ", "dport 3 ")
    result = {"loaded": True, "written": False, "left_out": [], "diff": {"before": before, "after": after}}
    found = rules_line(result)
    assert found.verdict == "WRONG"
    assert found.more == (
        "- chain input: tcp dport 1 drop",
        "- chain input: tcp dport 2 drop",
        "+ chain input: tcp dport 3 drop",
    )


def test_routing_is_shown_where_there_is_any_or_should_be() -> None:
    said = well()
    assert not any(each["kind"] == "routing" for each in reports(PLAN, said)["f1"]["lines"])
    said["f1"]["routing"]["commands"] = ["-4 rule add"]
    assert line(said, "f1", "routing")["verdict"] == "ok"
    said["f1"]["routing"]["difference"] = ["+ ip -4 rule add"]
    found = reports(PLAN, said)["f1"]
    assert line(said, "f1", "routing")["more"] == ["+ ip -4 rule add"]
    assert found["failures"] == ["f1: routing: found, -, and expected, + of the description."]


def test_rules_that_are_not_there_or_cannot_be_compared() -> None:
    nothing = {"loaded": True, "written": True, "left_out": ["x"], "diff": {"before": "", "after": "x"}}
    assert rules_line(nothing).says == "found no table inet sluice loaded"
    assert rules_line({"msg": "nft failed"}).says == "could not be compared: nft failed"
    boot = {"loaded": False, "written": True, "left_out": [], "diff": {"before": "x", "after": "x"}}
    assert rules_line(boot).verdict == "WRONG"
    unknown = {
        "loaded": True,
        "written": True,
        "left_out": ["No nft."],
        "diff": {"before": "x", "after": "y"},
    }
    assert rules_line(unknown).says == "could not be compared: No nft."


def test_counters_of_a_listing_and_what_they_moved_by() -> None:
    text = listing({CONTROL: 3, "not a flow": 1}) + "\n" + listing({"not a flow": 2})
    assert counters(text) == ({CONTROL: 3, "not a flow": 3}, {"not a flow"})
    assert moved({"a": 5, "b": 5}, {"a": 7, "b": 1, "c": 2}) == {"a": 2, "b": 1, "c": 2}
