# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture, the Mermaid text and the capacity of a path: all of its flows, none on top of another."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path as File
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from ansible_collections.sluice.ftp.plugins.plugin_utils.capacity import capacity
from ansible_collections.sluice.ftp.plugins.plugin_utils.connections import connections, kind
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.mermaid import diagram
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Path
from ansible_collections.sluice.ftp.plugins.plugin_utils.picture import DIRECTIONS, Direction, picture
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plugins.paths import changed, twenty_lines
from tests.unit.plugins.strategies import descriptions

ROOT = File(__file__).parents[4]
SVG = "{http://www.w3.org/2000/svg}"
SIZES = {"name": 17}  # pixels; other text has 11
WIDTH = 0.61  # of a character, in its size: the widest of the monospaced fonts that the picture names
directions = st.sampled_from(DIRECTIONS)


def read(description: dict[str, Any]) -> Path:
    return read_path(description["topology"], description["mode"], description["ports"])


def drawn(path: Path, direction: Direction = "right") -> ET.Element:
    return ET.fromstring(picture(path, direction).svg)


@dataclass(frozen=True)
class Area:
    left: float
    top: float
    right: float
    bottom: float
    what: str

    def meets(self, other: Area) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def texts(svg: ET.Element) -> list[Area]:
    """Where each text stands, as wide as the widest font makes it."""
    found = []
    for each in svg.iter(f"{SVG}text"):
        size = SIZES.get(each.get("class", ""), 11)
        words = each.text or ""
        x, y, width = float(each.get("x", 0)), float(each.get("y", 0)), len(words) * size * WIDTH
        x -= {"start": 0.0, "middle": width / 2, "end": width}[each.get("text-anchor", "start")]
        found.append(Area(x, y - 0.8 * size, x + width, y + 0.22 * size, words))
    return found


def lines(svg: ET.Element) -> list[Area]:
    """What arrows cover, without their dots and heads, and the edges of boxes."""
    found = []
    for each in svg.iter(f"{SVG}path"):
        if each.get("class") == "line":
            x1, y1, x2, y2 = (float(n) for n in re.findall(r"-?\d+", each.get("d", "")))
            found.append(Area(min(x1, x2) - 2, min(y1, y2) - 2, max(x1, x2) + 2, max(y1, y2) + 2, "a line"))
    for each in svg.iter(f"{SVG}rect"):
        x, y, width, height = (float(each.get(key, 0)) for key in ("x", "y", "width", "height"))
        found += [Area(at, y, at + 1, y + height, "an edge") for at in (x, x + width)]
        found += [Area(x, at, x + width, at + 1, "an edge") for at in (y, y + height)]
    return found


@given(descriptions(), directions)
def test_every_flow_of_every_host_is_drawn_once(description: dict[str, Any], direction: Direction) -> None:
    path = read(description)
    wanted = {
        (flow.leg, kind(flow), flow.protocol)
        for name in description["hosts"]
        for flow in derive(path, path.host(name))
    }
    svg = drawn(path, direction)
    groups = [(each.get("data-leg"), each.get("class")) for each in svg.iter(f"{SVG}g")]
    assert Counter(groups) == Counter((leg, what) for leg, what, _protocol in wanted)
    for each in svg.iter(f"{SVG}g"):
        assert [child.tag for child in each].count(f"{SVG}circle") == 1


@given(descriptions(), directions)
def test_the_dot_stands_at_the_opener_and_the_head_at_the_acceptor(
    description: dict[str, Any], direction: Direction
) -> None:
    """Rule 1 to 3 of DESIGN: the nearer end opens control and passive data, the further end active data."""
    svg = drawn(read(description), direction)
    for each in svg.iter(f"{SVG}g"):
        dot = next(each.iter(f"{SVG}circle"))
        head = next(mark for mark in each.iter(f"{SVG}path") if mark.get("class") == "mark")
        x, y = (int(n) for n in re.findall(r"-?\d+", head.get("d", ""))[:2])
        onwards = (x > int(dot.get("cx", 0))) or (y > int(dot.get("cy", 0)))
        assert onwards == (each.get("class") != "active")


@given(descriptions(), directions)
def test_nothing_covers_text_and_all_of_it_is_in_the_picture(
    description: dict[str, Any], direction: Direction
) -> None:
    path = read(description)
    svg = drawn(path, direction)
    made = picture(path, direction)
    found = texts(svg)
    for one, other in combinations(found, 2):
        assert not one.meets(other), f"{one.what!r} and {other.what!r}"
    for one in found:
        for line in lines(svg):
            assert not one.meets(line), f"{one.what!r} and {line.what}"
        assert one.left >= 0 and one.top >= 0, one.what  # noqa: PT018
        assert one.right <= made.width and one.bottom <= made.height, one.what  # noqa: PT018


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_long_names_and_addresses_have_room(direction: Direction) -> None:
    topology = twenty_lines()
    whole = "2001:db8:ffff:ffff:ffff:ffff:ffff:{}"
    topology["clients"]["networks"] += ["2001:db8:ffff:ffff:ffff:ffff:ffff:0/112"]
    topology["servers"] |= {"networks": ["0.0.0.0/0", "::/0"], "fixed": "192.0.2.80", "control_ports": []}
    topology["servers"]["control_ports"] = [21, *range(2121, 2135, 2)]
    for i, hop in enumerate(topology["hops"]):
        hop["name"] = f"ABCDEFGHIJKLMNO{i}"
        host = next(iter(hop["hosts"].values()))
        for j, side in enumerate(("client_side", "server_side")):
            host[side] = [host[side], whole.format(f"f{i}{j}0")]
            host.setdefault("public", {})[side] = [f"203.0.113.{2 * i + j}", whole.format(f"e{i}{j}0")]
    topology["hops"][1]["resolvers"] = [whole.format("53"), "192.0.2.53"]
    svg = drawn(read_path(topology), direction)
    for one, other in combinations(texts(svg), 2):
        assert not one.meets(other), f"{one.what!r} and {other.what!r}"
    assert all(one.right <= float(svg.get("width", 0)) for one in texts(svg))


def test_a_long_list_is_cut_and_counted() -> None:
    topology = changed("clients.networks", [f"10.{i}.0.0/16" for i in range(200)])
    topology["hops"][0]["hosts"] = {
        f"f{i}": {"client_side": f"10.201.0.{i}", "server_side": f"10.202.0.{i}"} for i in range(1, 40)
    }
    words = [each.text for each in drawn(read_path(topology)).iter(f"{SVG}text")]
    assert "and 194 more" in words
    assert "and 33 more" in words
    assert "FTP proxy on 39 hosts" in words


def test_text_is_escaped() -> None:
    """The description lets no such name in; the picture does not rely on it."""
    path = read_path(twenty_lines())
    hop = path.hops[0]
    evil = replace(hop.hosts[0], name='</text><script>alert("1")</script>&')
    path = replace(
        path, hops=(replace(hop, hosts=(evil,)), *path.hops[1:]), positions={evil.name: 0, "n1": 1}
    )
    svg = picture(path).svg
    assert "<script" not in svg
    assert any(each.text == evil.name for each in ET.fromstring(svg).iter(f"{SVG}text"))


def test_the_picture_refers_to_nothing_and_runs_nothing() -> None:
    svg = picture(read_path(twenty_lines())).svg.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"script|href|url\(|@import|https?:|\bon\w+=", svg)


@given(descriptions())
def test_the_diagram_shows_every_connection_once(description: dict[str, Any]) -> None:
    path = read(description)
    text = diagram(path).splitlines()
    names = {
        found[1]: found[2]
        for each in text
        if (found := re.fullmatch(r"    participant (P\d+) as ([^<]+)(?:<br/>.*)?", each))
    }
    arrows = [re.fullmatch(r"    (P\d+)(->>|-->>|-\))(P\d+): to port (.*)", each) for each in text]
    got = [(names[found[1]], names[found[3]], found[2]) for found in arrows if found]
    strokes = {"control": "->>", "dns": "->>", "metrics": "->>", "active": "-->>", "passive": "-)"}
    wanted = [(each.opener, each.acceptor, strokes[each.kind]) for each in connections(path)]
    assert Counter(got) == Counter(wanted)
    assert len(text) == 1 + len(names) + len(got) + len({each.kind for each in connections(path)})


def test_a_range_that_is_listened_in_carries_its_ports() -> None:
    """Requirement 13.3."""
    mode = {"C-F": "both", "F-N": "passive", "N-S": "active"}
    path = read_path(twenty_lines(), mode, {"client_side": {"listen": "40000-40199"}})
    f1 = capacity(path, path.host("f1"))
    assert f1["legs"] == {"C-F": {"passive": 200, "active": None}, "F-N": {"passive": None}}
    assert (f1["transfers"], f1["limit"]) == (200, None)
    assert [each["used"] for each in f1["ranges"]] == [True, True, False, True]
    assert capacity(path, path.host("n1"))["legs"] == {"F-N": {"passive": 200}, "N-S": {"active": 1000}}


def test_a_limit_is_the_least_of_them() -> None:
    path = read_path(twenty_lines(), "both", None, {"transfers": 300})
    assert capacity(path, path.host("f1"))["transfers"] == 300


def test_nothing_limits_a_host_that_listens_nowhere() -> None:
    path = read_path(twenty_lines(), {"C-F": "active", "F-N": "passive", "N-S": "both"})
    assert capacity(path, path.host("f1"))["transfers"] is None


def lab() -> Path:
    found = yaml.safe_load((ROOT / "molecule/lab/description.yml").read_text())
    return read_path(found["sluice_topology"], found["sluice_mode"], found["sluice_ports"])


def test_the_picture_in_the_documentation_is_the_labs(tmp_path: File) -> None:
    now = picture(lab()).svg + "\n"
    (tmp_path / "path.svg").write_text(now)
    assert (ROOT / "docs/path.svg").read_text() == now, f"cp {tmp_path}/path.svg docs/path.svg"


def test_the_diagram_in_the_documentation_is_the_labs() -> None:
    assert f"```mermaid\n{diagram(lab())}\n```" in (ROOT / "docs/report.md").read_text()
