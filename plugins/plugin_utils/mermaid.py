# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The path as a Mermaid sequence diagram: a session from its control connections to its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.sluice.ftp.plugins.plugin_utils.connections import (
    Connection,
    connections,
    interception,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    CLIENTS,
    MONITOR,
    RESOLVER,
    SERVERS,
    Path,
)

MOST_LINES = 4  # of a participant; the rest is counted
KINDS = {  # heading and arrow: solid, dotted, open
    "metrics": ("metrics", "->>"),
    "dns": ("names", "->>"),
    "control": ("control", "->>"),
    "active": ("active data", "-->>"),
    "passive": ("passive data", "-)"),
}


def diagram(path: Path) -> str:
    """The diagram's text: control from the clients to the servers, then data the other way."""
    every = connections(path)
    names = [path.name(position) for position in range(-1, path.last + 2)]
    # Letters and a number: a hop may be called `end`, which is a word of Mermaid's.
    ids = {name: f"P{i}" for i, name in enumerate(names)}
    lines = [f"participant {ids[name]} as {_label(path, i - 1)}" for i, name in enumerate(names)]
    scrapers = dict.fromkeys(str(each) for hop in path.hops for each in hop.metrics_from)
    for name, addresses in (
        (RESOLVER, [str(each) for hop in path.hops for each in hop.resolvers]),
        (MONITOR, [*scrapers]),
    ):
        if addresses:
            ids[name] = f"P{len(ids)}"
            lines.append(f"participant {ids[name]} as {'<br/>'.join([name, *_some(addresses)])}")
    for kind in ("metrics", "dns", "control", "active", "passive"):
        found = [each for each in every if each.kind == kind]
        if found:
            heading, arrow = KINDS[kind]
            lines.append(f"Note over {ids[CLIENTS]},{ids[SERVERS]}: {heading}")
            for each in reversed(found) if kind in ("active", "passive") else found:
                lines.append(f"{ids[each.opener]}{arrow}{ids[each.acceptor]}: {_port(each)}")
    return "\n".join(["sequenceDiagram", *(f"    {line}" for line in lines)])


def _label(path: Path, position: int) -> str:
    if position < 0:
        lines = [str(each) for each in path.clients.networks]
    elif position > path.last:
        lines = [str(each) for each in path.servers.networks]
    else:
        lines = [*interception(path.hops[position]), *(host.name for host in path.hops[position].hosts)]
    return "<br/>".join([path.name(position), *_some(lines)])


def _some(lines: Sequence[str]) -> Iterator[str]:
    """The first few lines, and how many there are besides."""
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"and {len(lines) - MOST_LINES} more"


def _port(each: Connection) -> str:
    ports = ", ".join(str(port) for port in each.acceptor_ports)
    if each.kind == "dns":
        return f"to port {ports} ({each.protocol})"
    fixed = each.kind in ("control", "metrics")
    return f"to port {ports}" if fixed else f"to port specified by {each.acceptor}, {ports}"
