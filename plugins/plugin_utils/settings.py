# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proxy's settings on one host, as the data that its TOML file is written from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.commands import CommandRule
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    CONTROL_PORT,
    REDIRECT,
    Address,
    Hop,
    Host,
    Network,
    Path,
    PortRange,
    Side,
    SidePorts,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import mapping, shown, wrong

DEFAULT_TIMEOUTS = {
    "connect": 10,
    "greeting": 20,
    "data_connect": 30,
    "data_idle": 300,
    "reply": 600,
    "idle": 900,
    "drain": 3600,
    "login": 120,
}
WITHOUT_DEFAULT = ("total",)  # a session may last as long as it likes
# The hop before is another one's only client; and what a session may move is counted once.
FIRST_HOP = ("sessions_per_client", "sessions_per_client_per_minute", "bandwidth_per_session")
LONGEST_TIMEOUT = 86400  # a day
NESTING_STEP = 5  # seconds
MOST_LINES = 20  # of a greeting
LONGEST_LINE = 200  # characters


def read_timeouts(value: object) -> dict[str, int | float]:
    """`sluice_timeouts` over the defaults, in seconds; raises DescriptionError."""
    place = "sluice_timeouts"
    found = mapping(place, {} if value is None else value, [], [*DEFAULT_TIMEOUTS, *WITHOUT_DEFAULT])
    result: dict[str, int | float] = dict(DEFAULT_TIMEOUTS)
    for key, each in found.items():
        if isinstance(each, bool) or not isinstance(each, (int, float)) or not 0 < each <= LONGEST_TIMEOUT:
            wrong(f"{place}.{key}", shown(each), f"seconds, more than 0 and at most {LONGEST_TIMEOUT}")
        result[str(key)] = each
    return result


def read_greeting(value: object) -> list[str]:
    """The lines of `sluice_greeting`, none where it is empty; raises DescriptionError."""
    place = "sluice_greeting"
    if value is None or value == "":
        return []
    if not isinstance(value, str):
        wrong(place, shown(value), "text")
    lines = str(value).rstrip("\n").split("\n")
    if len(lines) > MOST_LINES:
        wrong(place, f"{len(lines)} lines", f"at most {MOST_LINES}")
    for i, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            wrong(place, f"{len(line)} characters in line {i}", f"at most {LONGEST_LINE}")
        if not line.isprintable():
            found = next(each for each in line if not each.isprintable())
            wrong(place, f"the character {found!a} in line {i}", "printable characters")
    return lines


def settings(
    path: Path,
    host: Host,
    timeouts: dict[str, int | float],
    commands: tuple[CommandRule, ...] = (),
    greeting: Sequence[str] = (),
) -> dict[str, Any]:
    """The settings of `host`'s proxy: plain types, keys in the order in which the file shows them."""
    position = path.positions[host.name]
    hop = path.hops[position]
    clients = position == 0
    nearer = () if clients else path.hops[position - 1].hosts
    further = () if position == path.last else path.hops[position + 1].hosts
    dials_servers = path.dials_servers(position)
    result: dict[str, Any] = {
        "hop": hop.name,
        "host": host.name,
        "client_side": {
            "leg": path.leg(position),
            "neighbour": path.name(position - 1),
            "mode": _mode(path.modes[position]),
            "peers": [str(each) for each in path.near_end(position)],
            "control_port": hop.control_port,
            **_intercepted(path, position),
            **_side(host.client_side, host.ports.client_side),
            "peer_ports": str(path.clients.ports)
            if clients
            else _peer_ports(
                (
                    path.near_end(position)
                    if path.hops[position - 1].client_source
                    else host.server_side.seen,
                    host.ports.server_side.listen,
                )
                for host in nearer
            ),
        },
        "server_side": {
            "leg": path.leg(position + 1),
            "neighbour": path.name(position + 1),
            "mode": _mode(path.modes[position + 1]),
            **({"client_source": True} if hop.client_source else {}),
            **_side(host.server_side, host.ports.server_side),
            "peer_ports": _peer_ports(
                (
                    path.servers.networks if dials_servers else host.client_side.seen,
                    host.ports.client_side.listen,
                )
                for host in further
            )
            if further
            else str(path.servers.ports),
        },
    }
    # Who splits USER user@host knows the server's name, too; where nobody does, the last hop its address.
    knows_servers = position == (path.last if path.naming is None else path.naming)
    for side, end, known in (("client_side", "clients", clients), ("server_side", "servers", knows_servers)):
        rules = [rule.settings for rule in commands if end in rule.ends]
        if known and rules:
            result[side]["commands"] = rules
    if clients and greeting:
        result["client_side"]["greeting"] = list(greeting)
    if clients and path.clients.data_networks:
        result["client_side"]["data_networks"] = [str(each) for each in path.clients.data_networks]
    if not further and path.servers.data_networks:
        result["server_side"]["data_networks"] = [str(each) for each in path.servers.data_networks]
    if further and (hop.intercept or dials_servers):
        # Nobody's server, wherever these may be: a session would end there, or run in a circle (9.1).
        behind = dict.fromkeys(_addresses(path.hops[position + 1 :]))
        result["server_side"]["further_hops"] = [str(each) for each in behind]
    if further and path.hops[position + 1].intercept == REDIRECT:
        # It has not the privilege to open active data from the server's address (9.3).
        seen = (str(each) for host in further for each in host.client_side.seen)
        result["server_side"]["data_networks"] = list(dict.fromkeys(seen))
    if hop.identity:
        result["client_side"]["identity"] = True
    if not dials_servers:
        result["next_hop"] = {
            "hosts": [
                {
                    "name": host.name,
                    "addresses": [str(each.public) for each in host.client_side.addresses],
                }
                for host in further
            ],
            "control_port": CONTROL_PORT,
        }
        if path.hops[position + 1].spread:
            result["next_hop"]["order"] = "spread"
        if path.hops[position + 1].identity:
            result["next_hop"]["identity"] = True
        if hop.intercept:
            result["next_hop"]["user_at_host"] = True
    else:
        result["servers"] = {
            "networks": [str(each) for each in path.servers.networks],
            "control_ports": list(path.servers.control_ports),
        }
        if path.servers.names and position == path.naming:
            result["servers"]["names"] = list(path.servers.names)
        if path.servers.synch or further:  # between our own hops always (requirement 5.3)
            result["servers"]["synch"] = True
        if path.servers.fixed is not None:
            result["servers"]["fixed"] = path.servers.fixed
        if hop.resolvers:
            result["servers"]["resolvers"] = [str(each) for each in hop.resolvers]
    if host.metrics:
        address, port = host.metrics
        scrapers = [str(each) for each in hop.metrics_from if each.version == address.version]
        result["metrics"] = {"address": str(address), "port": port, "peers": scrapers}
    result["timeouts"] = _nested(timeouts, path, position)
    limits = asdict(path.limits)
    if not clients:
        limits.update(dict.fromkeys(FIRST_HOP))
    if any(limits.values()):
        result["limits"] = {key: each for key, each in limits.items() if each is not None}
    return result


def _nested(timeouts: dict[str, int | float], path: Path, position: int) -> dict[str, int | float]:
    """The hop that knows the cause speaks before those in front of it give up (requirement 10.2).

    Before a hop greets or answers USER, it may have looked up a name, connected, and waited for a greeting.
    """
    hops_behind = path.last - position
    connect, greeting = timeouts["connect"], timeouts["greeting"]
    before = {"greeting": connect, "reply": 2 * connect + greeting}
    result = {key: each + hops_behind * (NESTING_STEP + before.get(key, 0)) for key, each in timeouts.items()}
    result["connect"] = connect  # to the neighbour, whatever stands behind it
    result["drain"] = timeouts["drain"]  # nobody in front waits for it
    if any(hop.resolvers for hop in path.hops[position + 1 :]):
        result["greeting"] += connect
    return result


def _side(side: Side, ports: SidePorts) -> dict[str, Any]:
    return {
        "addresses": [{"address": str(each.address), "public": str(each.public)} for each in side.addresses],
        "listen": str(ports.listen),
        "source": str(ports.source),
    }


def _intercepted(path: Path, position: int) -> dict[str, Any]:
    """How a hop intercepts, and where a session that it took may have been going; empty where it does not."""
    hop = path.hops[position]
    if not hop.intercept:
        return {}
    return {
        "intercept": hop.intercept,
        "destinations": [str(each) for each in path.servers.networks],
        "destination_ports": list(path.servers.control_ports),
    }


def _addresses(hops: Iterable[Hop]) -> Iterator[Address]:
    for host in (host for hop in hops for host in hop.hosts):
        for each in (*host.client_side.addresses, *host.server_side.addresses):
            yield each.address
            yield each.public


def _peer_ports(members: Iterable[tuple[Sequence[Network], PortRange]]) -> str | list[dict[str, Any]]:
    """The ports that a neighbouring hop may name: one range, or where its hosts differ one for each."""
    found = list(dict.fromkeys((tuple(networks), ports) for networks, ports in members))
    if len({ports for _networks, ports in found}) == 1:
        return str(found[0][1])
    return [{"peers": [str(each) for each in networks], "ports": str(ports)} for networks, ports in found]


def _mode(modes: frozenset[str]) -> str:
    return "both" if len(modes) > 1 else next(iter(modes))
