# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The whole path as SVG, drawn from the flows: a box for each position, an arrow for each connection.

An arrow starts with a dot at the end that opens and has its head at the end that accepts. Each kind has a
colour and a stroke of its own and bears its name, so nothing is lost in black and white. The text is
monospaced, so that its width is known here. The picture needs no script, no font and no file beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Literal

from ansible_collections.sluice.ftp.plugins.plugin_utils.connections import (
    Connection,
    connections,
    interception,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import CLIENTS, SERVERS, Path, PortRange, Side

Direction = Literal["right", "down"]
DIRECTIONS: tuple[Direction, ...] = ("right", "down")
KINDS = ("control", "active", "passive")

CHAR = 7  # a character's width: 11 px monospaced need 6.6
NAME_CHAR = 11  # of a position's name
LINE = 15  # from one line of text to the next
PAD = 12  # from a box's edge to its text
HEAD = 46  # a box's name and caption
EDGE = 8  # around the picture
LANE = 44  # from one horizontal arrow to the next
LEG_HEIGHT = 164  # of three of them, with the name of their leg
LEG_WIDTH = 150  # at least
COLUMN = 130  # from one vertical arrow to the next
DROP = 88  # the length of a leg that runs down
MOST_LINES = 6  # networks, or hosts; the rest is counted
LONGEST_LABEL = 14  # 50000-50999 +9

STYLE = """\
.sluice{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace}
.sluice text{fill:#1f2328;font-variant-ligatures:none;white-space:pre}
.sluice .name{font-size:17px;font-weight:700}
.sluice .host,.sluice .port{font-weight:700}
.sluice .soft{fill:#59636e}
.sluice rect{fill:#fff;stroke:#8c959f}
.sluice .hop{fill:#f6f8fa;stroke:#1f2328;stroke-width:1.5}
.sluice .line{fill:none;stroke-width:1.5}
.sluice .active .line{stroke-width:2;stroke-dasharray:7 4}
.sluice .passive .line{stroke-width:3.5}
.sluice .control .line,.sluice .dns .line,.sluice .metrics .line{stroke:#1f2328}
.sluice .control .mark,.sluice .dns .mark,.sluice .metrics .mark{fill:#1f2328}
.sluice .active .line{stroke:#b54200}
.sluice .active .mark,.sluice .active .kind{fill:#b54200}
.sluice .passive .line{stroke:#0a5cb8}
.sluice .passive .mark,.sluice .passive .kind{fill:#0a5cb8}
@media screen and (prefers-color-scheme:dark){
.sluice text{fill:#e6edf3}
.sluice .soft{fill:#9aa4af}
.sluice rect{fill:#0d1117;stroke:#6e7681}
.sluice .hop{fill:#1c232c;stroke:#c9d1d9}
.sluice .control .line,.sluice .dns .line,.sluice .metrics .line{stroke:#e6edf3}
.sluice .control .mark,.sluice .dns .mark,.sluice .metrics .mark{fill:#e6edf3}
.sluice .active .line{stroke:#ff9d57}
.sluice .active .mark,.sluice .active .kind{fill:#ff9d57}
.sluice .passive .line{stroke:#6cb6ff}
.sluice .passive .mark,.sluice .passive .kind{fill:#6cb6ff}
}
"""
LEGEND = (
    "The dot opens the connection, the arrowhead accepts it. Bold: the port that is opened to. "
    "Grey: the ports that are opened from, where they are bound."
)


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG document and its natural size in pixels."""

    svg: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Host:
    """What a box says of a host: its addresses towards the clients and towards the servers."""

    name: str
    near: tuple[str, ...]
    far: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Box:
    """A position of the path: networks where it is an end, hosts where it is a hop."""

    name: str
    caption: str
    networks: tuple[str, ...] = ()
    hosts: tuple[_Host, ...] = ()
    more: tuple[str, ...] = ()


_Drawn = tuple[list[str], int, int]  # the parts, and the width and height that they fill
_Line = tuple[Literal["host", "near", "far"], str]


def picture(path: Path, direction: Direction = "right") -> Picture:
    """The path from the clients to the servers: to the right for a wide page, down for a narrow one."""
    every = connections(path)
    legs = [path.leg(position) for position in range(path.last + 2)]
    boxes = [_box(path, position) for position in range(-1, path.last + 2)]
    draw = _drawn_right if direction == "right" else _drawn_down
    parts, width, height = draw(boxes, [[each for each in every if each.leg == leg] for leg in legs])
    for leg in dict.fromkeys(each.leg for each in every if each.leg not in legs):
        more, height = _beside([each for each in every if each.leg == leg], path, width, height)
        parts += more
    legend, height = _legend(width, height)
    name = escape(" - ".join(box.name for box in boxes))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sluice" role="img" aria-label="FTP path {name}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    )
    svg = "\n".join([head, f"<style>\n{STYLE}</style>", *parts, *legend, "</svg>"])
    return Picture(svg, width, height)


def _box(path: Path, position: int) -> _Box:
    name = path.name(position)
    if name == CLIENTS:
        return _Box(name, "clients", networks=_some([str(each) for each in path.clients.networks]))
    if name == SERVERS:
        fixed = (f"always {path.servers.fixed}",) if path.servers.fixed else ()
        return _Box(
            name, "servers", networks=_some([str(each) for each in path.servers.networks]), more=fixed
        )
    hosts = path.hops[position].hosts
    shown = tuple(
        _Host(host.name, _addresses(host.client_side), _addresses(host.server_side))
        for host in hosts[:MOST_LINES]
    )
    more = (f"and {len(hosts) - MOST_LINES} more",) if len(hosts) > MOST_LINES else ()
    caption = "FTP proxy" if len(hosts) == 1 else f"FTP proxy on {len(hosts)} hosts"
    caption = ", ".join([caption, *interception(path.hops[position])])
    return _Box(name, caption, hosts=shown, more=more)


def _addresses(side: Side) -> tuple[str, ...]:
    return tuple(
        str(each.address) if each.address == each.public else f"{each.address} as {each.public}"
        for each in side.addresses
    )


def _some(lines: Sequence[str]) -> tuple[str, ...]:
    """The first few lines, and how many there are besides."""
    if len(lines) <= MOST_LINES:
        return tuple(lines)
    return (*lines[:MOST_LINES], f"and {len(lines) - MOST_LINES:,} more")


def _drawn_right(boxes: Sequence[_Box], legs: Sequence[Sequence[Connection]]) -> _Drawn:
    texts = [_right_lines(box) for box in boxes]
    height = max(LEG_HEIGHT, *(_box_height(lines) for lines in texts))
    top = EDGE + (height - LEG_HEIGHT) // 2
    parts: list[str] = []
    x = EDGE
    for i, (box, lines) in enumerate(zip(boxes, texts, strict=True)):
        width = _box_width(box, lines)
        parts += _drawn_box(box, lines, (x, EDGE), (width, height))
        x += width
        if i < len(legs):
            room = max(LEG_WIDTH, *(CHAR * len(_source(each) + _port(each)) + 54 for each in legs[i]))
            near, far = box.name, boxes[i + 1].name
            parts.append(_text(x + room // 2, top + 14, f"{near}-{far}", "soft", "middle"))
            for j, kind in enumerate(KINDS):
                y = top + 46 + LANE * j
                each = _of(kind, legs[i])
                parts += (
                    _lane(each, (x, x + room), y, near) if each else [_absent(kind, x + room // 2, y + 4)]
                )
            x += room
    return parts, x + EDGE, height + 2 * EDGE


def _right_lines(box: _Box) -> list[_Line]:
    """Addresses stand on the side of the box that they belong to."""
    lines: list[_Line] = [("near", each) for each in box.networks]
    for host in box.hosts:
        lines.append(("host", host.name))
        lines += [("near", each) for each in host.near]
        lines += [("far", each) for each in host.far]
    return [*lines, *(("near", each) for each in box.more)]


def _drawn_down(boxes: Sequence[_Box], legs: Sequence[Sequence[Connection]]) -> _Drawn:
    names = ["", *(box.name for box in boxes), ""]
    texts = [_down_lines(box, names[i], names[i + 2]) for i, box in enumerate(boxes)]
    width = max(COLUMN * len(KINDS), *(_box_width(*each) for each in zip(boxes, texts, strict=True)))
    parts: list[str] = []
    y = EDGE
    for i, (box, lines) in enumerate(zip(boxes, texts, strict=True)):
        height = _box_height(lines)
        parts += _drawn_box(box, lines, (EDGE, y), (width, height))
        y += height
        if i < len(legs):
            for j, kind in enumerate(KINDS):
                x = EDGE + 14 + width * j // len(KINDS)
                each = _of(kind, legs[i])
                parts += (
                    _column(each, x, (y, y + DROP), box.name)
                    if each
                    else [_absent(kind, x, y + DROP // 2 + 4, "start")]
                )
            y += DROP
    return parts, width + 2 * EDGE, y + EDGE


def _down_lines(box: _Box, nearer: str, further: str) -> list[_Line]:
    """A host's addresses of a side stand in one line behind the neighbour's name, if they fit."""
    lines: list[_Line] = [("near", each) for each in box.networks]
    label = max(len(nearer), len(further))
    for host in box.hosts:
        lines.append(("host", host.name))
        for name, addresses in ((nearer, host.near), (further, host.far)):
            rows = [", ".join(addresses)]
            if len(rows[0]) + label + 5 > COLUMN * len(KINDS) // CHAR - 4:
                rows = list(addresses)
            lines += [("near", f"to {name:{label}}  {row}") for row in rows]
    return [*lines, *(("near", each) for each in box.more)]


def _box_width(box: _Box, lines: Sequence[_Line]) -> int:
    longest = max([len(box.caption), *(len(text) for _style, text in lines)])
    return 2 * PAD + max(NAME_CHAR * len(box.name), CHAR * longest)


def _box_height(lines: Sequence[_Line]) -> int:
    return HEAD + LINE * len(lines) + PAD


def _drawn_box(
    box: _Box, lines: Sequence[_Line], at: tuple[int, int], size: tuple[int, int]
) -> Iterator[str]:
    (x, y), width = at, size[0]
    yield _rect(at, size, "hop" if box.hosts else "end")
    yield _text(x + PAD, y + 24, box.name, "name")
    yield _text(x + PAD, y + 39, box.caption, "soft")
    for i, (style, text) in enumerate(lines):
        baseline = y + HEAD + LINE * i + 14
        if style == "far":
            yield _text(x + width - PAD, baseline, text, "", "end")
        else:
            yield _text(x + PAD, baseline, text, style if style == "host" else "")


def _lane(each: Connection, between: tuple[int, int], y: int, left: str) -> Iterator[str]:
    """A connection to the right or to the left, with its kind above and its ports below, at their ends."""
    x1, x2 = between
    ends = ((x1 + 8, y), (x2 - 8, y))
    forward = each.opener == left
    yield _group(each)
    yield from _arrow(*(ends if forward else ends[::-1]))
    yield _text((x1 + x2) // 2, y - 7, _kind(each), "kind", "middle")
    labels = (_source(each), _port(each))
    for x, text, style, anchor in zip(
        (x1 + 8, x2 - 8),
        labels if forward else labels[::-1],
        ("soft", "port") if forward else ("port", "soft"),
        ("start", "end"),
        strict=True,
    ):
        if text:
            yield _text(x, y + 16, text, style, anchor)
    yield "</g>"


def _column(each: Connection, x: int, between: tuple[int, int], upper: str) -> Iterator[str]:
    """A connection down or up, with its kind and its ports beside it, at their ends."""
    y1, y2 = between
    ends = ((x, y1 + 8), (x, y2 - 8))
    forward = each.opener == upper
    yield _group(each)
    yield from _arrow(*(ends if forward else ends[::-1]))
    yield _text(x + 12, (y1 + y2) // 2 + 4, _kind(each), "kind")
    source, port = (y1 + 18, y2 - 10) if forward else (y2 - 10, y1 + 18)
    if _source(each):
        yield _text(x + 12, source, _source(each), "soft")
    yield _text(x + 12, port, _port(each), "port")
    yield "</g>"


def _beside(found: Sequence[Connection], path: Path, width: int, height: int) -> tuple[list[str], int]:
    """The connections between a hop and somebody who is not on the path: below it, the opener left."""
    name, far = found[0].opener, found[0].acceptor
    hop = next(each for each in path.hops if each.name in (name, far))
    other, addresses = (far, hop.resolvers) if name == hop.name else (name, hop.metrics_from)
    boxes = (2 * PAD + NAME_CHAR * len(name), 2 * PAD + NAME_CHAR * len(far))
    tall = LANE * len(found)
    y = height + LINE
    x = EDGE + boxes[0]
    room = min(LEG_WIDTH, width - EDGE - x - boxes[1])
    parts: list[str] = []
    for at, box, text in ((EDGE, boxes[0], name), (x + room, boxes[1], far)):
        style = "hop" if text == hop.name else "end"
        parts += [_rect((at, y), (box, tall), style), _text(at + PAD, y + tall // 2 + 6, text, "name")]
    for i, each in enumerate(found):
        parts += _lane(each, (x, x + room), y + 20 + LANE * i, name)
    y += tall
    for line in _wrapped(f"{other}: {', '.join(str(each) for each in addresses)}", width):
        y += LINE
        parts.append(_text(EDGE, y + 3, line, "soft"))
    return parts, y + EDGE + 3


def _legend(width: int, height: int) -> tuple[list[str], int]:
    y = height + LINE
    parts: list[str] = []
    for line in _wrapped(LEGEND, width):
        y += LINE
        parts.append(_text(EDGE, y - 12, line, "soft"))
    return parts, y


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, (width - 2 * EDGE) // CHAR, break_long_words=False)


def _of(kind: str, found: Sequence[Connection]) -> Connection | None:
    return next((each for each in found if each.kind == kind), None)


def _kind(each: Connection) -> str:
    return f"DNS, {each.protocol.upper()}" if each.kind == "dns" else each.kind


def _source(each: Connection) -> str:
    return "" if each.opens_anywhere else _short(each.opener_ports)


def _port(each: Connection) -> str:
    return _short(each.acceptor_ports)


def _short(ports: Sequence[PortRange]) -> str:
    """All of them if they are few, else the first and how many there are besides."""
    every = ", ".join(str(each) for each in ports)
    return every if len(every) <= LONGEST_LABEL else f"{ports[0]} +{len(ports) - 1}"


def _absent(kind: str, x: int, y: int, anchor: str = "middle") -> str:
    return _text(x, y, f"no {kind}", "soft", anchor)


def _group(each: Connection) -> str:
    """The beginning of a connection's group; its title is shown where a pointer rests on it."""
    ports = ", ".join(str(port) for port in each.acceptor_ports)
    title = escape(f"{each.why} (to {each.protocol.upper()} {ports})")
    return f'<g class="{each.kind}" data-leg="{escape(each.leg)}"><title>{title}</title>'


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> Iterator[str]:
    """A dot at the start, a line that runs along one axis, a head at the end."""
    (x1, y1), (x2, y2) = start, end
    dx, dy = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
    bx, by = x2 - 10 * dx, y2 - 10 * dy
    yield f'<path class="line" d="M{x1} {y1}L{bx} {by}"/>'
    yield f'<circle class="mark" cx="{x1}" cy="{y1}" r="4"/>'
    yield f'<path class="mark" d="M{x2} {y2}L{bx + 6 * dy} {by + 6 * dx}L{bx - 6 * dy} {by - 6 * dx}Z"/>'


def _rect(at: tuple[int, int], size: tuple[int, int], style: str) -> str:
    return f'<rect class="{style}" x="{at[0]}" y="{at[1]}" width="{size[0]}" height="{size[1]}" rx="6"/>'


def _text(x: int, y: int, text: str, style: str = "", anchor: str = "start") -> str:
    styled = f' class="{style}"' if style else ""
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text{styled} x="{x}" y="{y}"{anchored}>{escape(text)}</text>'
