# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report's page says, from what the hosts said; and its template, which lets no host write HTML."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path as File
from typing import Any

import jinja2
import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.counters import Count, read_counters
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.page import page

from tests.unit.plugins.paths import twenty_lines

TEMPLATES = File(__file__).parents[4] / "roles/report/templates"
CONTROL = "C -> F: -> proxy user: to port 21"
ACTIVE = "C <- F: <- proxy user: to port specified by C (active)"


def rule(chain: str, verdict: str, packets: int | None, comment: str = "", direction: str = "") -> Any:
    """A rule as nft 1.0.6 and 1.1.3 print it, shortened."""
    match = {"match": {"op": "==", "left": {"ct": {"key": "direction"}}, "right": direction}}
    counter = {"counter": {"packets": packets, "bytes": 1}}
    expr = [*([match] if direction else []), *([counter] if packets is not None else []), {verdict: None}]
    return {"rule": {"chain": chain, "expr": expr, **({"comment": comment} if comment else {})}}


def listing(*rules: Any) -> str:
    return json.dumps({"nftables": [{"metainfo": {}}, {"table": {"name": "sluice"}}, *rules]})


def said(table: str = "", **drift: Any) -> dict[str, Any]:
    """What a host says when all is well, with another table or another comparison."""
    answers = {
        "distribution": "Debian GNU/Linux 12 (bookworm)",
        "nft": "nftables v1.0.6 (Lester Gooch #5)",
        "table": table or listing(rule("in_down", "accept", 0, CONTROL)),
        "release": "0.1.0-0123456789ab",
        "proxy": "LoadState=loaded\nActiveState=active\nStateChangeTimestamp=Tue 2026-11-24 18:02:11 UTC",
    }
    results = [{"item": {"name": name}, "rc": 0, "stdout": text} for name, text in answers.items()]
    return {
        "scope": "guard",
        "reach": {"rc": 0, "stdout": "6.1.0-28-amd64"},
        "answers": {"results": results},
        "drift": {"loaded": False, "written": False, "left_out": [], **drift},
    }


def host(found: dict[str, Any], name: str = "f1") -> dict[str, Any]:
    hosts = page(read_path(twenty_lines()), found)["hosts"]
    return next(each for each in hosts if each["name"] == name)


def test_a_flow_counts_what_opens_and_what_follows() -> None:
    """The rules after a flow's own go on with it, up to the replies to another flow."""
    counters = read_counters(
        listing(
            rule("in_down", "accept", 3, CONTROL, "original"),
            rule("in_down", "accept", 40, direction="original"),
            rule("in_down", "accept", 500),  # conntrack missed these: F20
            rule("in_down", "accept", 6000, direction="reply"),
            rule("in_down", "accept", 70000),
            rule("out_down", "accept", 1, ACTIVE, "original"),
            rule("out_down", "accept", 1, ACTIVE, "original"),  # a second family's
            rule("out_down", "accept", 2, direction="original"),
            rule("out_up", "accept", 9, direction="original"),
        )
    )
    assert counters
    assert counters.flows == {CONTROL: Count(3, 543), ACTIVE: Count(2, 4)}


def test_refused_packets_are_told_apart_by_reason() -> None:
    counters = read_counters(
        listing(
            rule("forward", "drop", 2, "FTP only through the proxy"),
            rule("forward", "drop", 3, "FTP only through the proxy"),
            rule("guard_in", "drop", 0, "not a flow: to a proxy port"),
            rule("guard_in", "drop", None, "does not count"),
        )
    )
    assert counters
    assert [(each.reason, each.chain, each.packets) for each in counters.refused] == [
        ("FTP only through the proxy", "forward", 5),
        ("not a flow: to a proxy port", "guard_in", 0),
    ]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"nftables": [{"metainfo": {}}]}', '{"nftables": [1]}']
)
def test_what_is_no_listing_is_no_counters(text: str) -> None:
    assert read_counters(text) is None


def test_a_host_with_its_counters() -> None:
    table = listing(
        rule("in_down", "accept", 1204, CONTROL, "original"),
        rule("guard_in", "drop", 7, "not a flow: to a proxy port"),
    )
    found = host({"f1": said(table)})
    assert (found["rules"]["text"], found["proxy"]["text"]) == ("as described", "active")
    assert (found["opened"], found["refused_total"], found["transfers"]) == ("1,204", "7", "1,000")
    assert found["flows"][0] == {
        "leg": "C-F",
        "kind": "control",
        "text": CONTROL,
        "suffix": "",
        "from": ["any"],
        "to": ["21"],
        "opened": "1,204",
        "packets": "1,204",
    }
    assert found["flows"][1]["opened"] == "-", "its rule is not there"
    assert found["versions"][2] == {"what": "nft", "version": "v1.0.6 (Lester Gooch #5)"}
    assert found["carries"] == (
        "Transfers at once: on C-F 1,000 passive and no limit active; "
        "on F-N 1,000 active and no limit passive."
    )


@pytest.mark.parametrize(
    ("drift", "how", "text"),
    [
        ({"loaded": True}, "bad", "not as described"),
        ({"written": True}, "bad", "as described until the next boot: the file of the rules differs"),
        ({"left_out": ["No user."], "loaded": True}, "unknown", "not compared: No user."),
    ],
)
def test_drift_is_said(drift: dict[str, Any], how: str, text: str) -> None:
    assert host({"f1": said(**drift)})["rules"] == {"is": how, "text": text}


def test_routing_that_differs_is_said_and_shown() -> None:
    answer = said()
    answer["routing"] = {"commands": [], "missing": [], "difference": ["- ip -4 rule add"]}
    found = host({"f1": answer})
    assert found["rules"] == {
        "is": "bad",
        "text": "as described, but the routing of what is intercepted differs",
    }
    assert found["difference"] == ["- ip -4 rule add"]


def test_a_comparison_that_failed_is_said() -> None:
    answer = said()
    answer["drift"] = {"msg": "nft refuses the rules."}
    assert host({"f1": answer})["rules"]["text"] == "not compared: nft refuses the rules."


def test_the_difference_is_shown_and_cut() -> None:
    diff = {"before": "\ttcp dport 22 drop\n", "after": "".join(f"\trule {i}\n" for i in range(1000))}
    lines = host({"f1": said(loaded=True, diff=diff)})["difference"]
    assert "-    tcp dport 22 drop" in lines
    assert len(lines) == 201
    assert lines[-1].endswith("lines more")


def test_no_rules_loaded() -> None:
    answer = said(loaded=True)
    next(each for each in answer["answers"]["results"] if each["item"]["name"] == "table")["rc"] = 1
    found = host({"f1": answer})
    assert found["rules"] == {"is": "bad", "text": "no rules loaded"}
    assert (found["opened"], found["refused_total"], found["refused"]) == ("-", "-", [])


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "not part of this run"),
        ({"f1": {"reach": {"unreachable": True, "msg": "ssh: no\n  route"}}}, "ssh: no route"),
        ({"f1": {"reach": {"rc": 1, "stderr": "Missing sudo password"}}}, "Missing sudo password"),
        ({"f1": {"reach": {}}}, "no answer"),
    ],
)
def test_a_host_that_was_not_reached(found: dict[str, Any], reason: str) -> None:
    whole = page(read_path(twenty_lines()), found)
    assert whole["not_reached"] == ["f1", "n1"]
    assert whole["hosts"][0]["reason"] == reason
    assert whole["hosts"][0]["away"] == ("not reached" if found else "not asked")
    assert len(whole["hosts"][0]["flows"]) == 6, "what it has to allow is known all the same"


def rendered(found: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters["ternary"] = lambda value, yes, no: yes if value else no
    return environment.get_template("report.html.j2").render(
        __sluice_report_page=page(read_path(twenty_lines()), found),
        __sluice_report_release="0.1.0",
        now=lambda utc, fmt: "2026-11-25 10:00",
    )


class Reader(HTMLParser):
    """The elements of a page, and whether each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [name for name, _value in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [name for name, _value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_no_host_writes_html() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    answer = said(
        listing(rule(evil, "drop", 1, evil)), loaded=True, left_out=[evil], diff={"before": evil, "after": ""}
    )
    for each in answer["answers"]["results"]:
        if each["item"]["name"] in ("distribution", "nft", "release"):
            each["stdout"] = evil
        if each["item"]["name"] == "proxy":
            each["stdout"] = f"ActiveState={evil}\nStateChangeTimestamp={evil}"
    answer["reach"]["stdout"] = evil
    answer["scope"] = evil
    text = rendered({"f1": answer, "n1": {"reach": {"unreachable": True, "msg": evil}}})
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert not {"script", "img", "link", "iframe"} & set(reader.seen)
    assert not [name for name in reader.attributes if name.startswith("on") or name == "src"]
    assert text.count("&lt;script&gt;") >= 10


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = rendered({"f1": said()}).replace("http://www.w3.org/2000/svg", "")
    for word in ("http:", "https:", "url(", "@import", "<script", "src="):
        assert word not in text
