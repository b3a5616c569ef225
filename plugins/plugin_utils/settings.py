# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proxy's settings on one host, as the data that its TOML file is written from."""

from __future__ import annotations

from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    CONTROL_PORT,
    Host,
    Path,
    Side,
    SidePorts,
    single,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import mapping, shown, wrong

DEFAULT_TIMEOUTS = {
    "connect": 10,
    "greeting": 20,
    "data_connect": 30,
    "data_idle": 300,
    "reply": 600,
    "idle": 900,
}
LONGEST_TIMEOUT = 86400  # a day
NESTED = ("greeting", "data_connect", "reply")
NESTING_STEP = (
    5  # seconds: the hop that knows the cause speaks before those in front of it give up (requirement 10.2)
)


def read_timeouts(value: object) -> dict[str, int | float]:
    """`sluice_timeouts` over the defaults, in seconds; raises DescriptionError."""
    place = "sluice_timeouts"
    found = mapping(place, {} if value is None else value, [], list(DEFAULT_TIMEOUTS))
    result: dict[str, int | float] = dict(DEFAULT_TIMEOUTS)
    for key, each in found.items():
        if isinstance(each, bool) or not isinstance(each, (int, float)) or not 0 < each <= LONGEST_TIMEOUT:
            wrong(f"{place}.{key}", shown(each), f"seconds, more than 0 and at most {LONGEST_TIMEOUT}")
        result[str(key)] = each
    return result


def settings(path: Path, host: Host, timeouts: dict[str, int | float]) -> dict[str, Any]:
    """The settings of `host`'s proxy: plain types, keys in the order in which the file shows them."""
    position = path.positions[host.name]
    hop = path.hops[position]
    clients = position == 0
    nearer = None if clients else path.hops[position - 1].hosts[0]
    further = None if position == path.last else path.hops[position + 1].hosts[0]
    result: dict[str, Any] = {
        "hop": hop.name,
        "host": host.name,
        "client_side": {
            "leg": path.leg(position),
            "neighbour": path.name(position - 1),
            "mode": _mode(path.modes[position]),
            "peers": [str(n) for n in path.clients.networks]
            if nearer is None
            else _public_networks(nearer.server_side),
            "control_port": CONTROL_PORT,
            **_side(host.client_side, host.ports.client_side),
            "peer_ports": str(path.clients.ports if nearer is None else nearer.ports.server_side.listen),
        },
        "server_side": {
            "leg": path.leg(position + 1),
            "neighbour": path.name(position + 1),
            "mode": _mode(path.modes[position + 1]),
            **_side(host.server_side, host.ports.server_side),
            "peer_ports": str(path.servers.ports if further is None else further.ports.client_side.listen),
        },
    }
    if further is not None:
        addresses = [str(each.public) for each in further.client_side.addresses]
        result["next_hop"] = {
            "hosts": [{"name": further.name, "addresses": addresses}],
            "control_port": CONTROL_PORT,
        }
    else:
        result["servers"] = {
            "networks": [str(each) for each in path.servers.networks],
            "control_ports": list(path.servers.control_ports),
        }
        if path.servers.fixed is not None:
            result["servers"]["fixed"] = path.servers.fixed
        if hop.resolvers:
            result["servers"]["resolvers"] = [str(each) for each in hop.resolvers]
    wait = NESTING_STEP * (path.last - position)
    result["timeouts"] = {key: each + wait if key in NESTED else each for key, each in timeouts.items()}
    return result


def _side(side: Side, ports: SidePorts) -> dict[str, Any]:
    return {
        "addresses": [{"address": str(each.address), "public": str(each.public)} for each in side.addresses],
        "listen": str(ports.listen),
        "source": str(ports.source),
    }


def _public_networks(side: Side) -> list[str]:
    return [str(single(each.public)) for each in side.addresses]


def _mode(modes: frozenset[str]) -> str:
    return "both" if len(modes) > 1 else next(iter(modes))
