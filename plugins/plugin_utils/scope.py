# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How much of a host's traffic its table decides, read from the variables of role policy.

`guard` restricts what has to do with the proxy and leaves all else alone. `exclusive` allows the flows and,
beside them, only what is said here: management, the host's own needs, what it forwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import merged
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Network, PortRange
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import (
    any_ports,
    mapping,
    networks,
    shown,
    wrong,
)

GUARD = "guard"
EXCLUSIVE = "exclusive"
ANYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
SSH = PortRange(22, 22)

Protocol = Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True)
class Management:
    """Who may manage the host: from `networks` to its TCP `ports`."""

    networks: tuple[Network, ...] = ()
    ports: tuple[PortRange, ...] = (SSH,)


@dataclass(frozen=True, slots=True)
class Service:
    """A need of the host's own: it opens (`out`) to others' ports, or others open (`in`) to its own."""

    direction: Literal["in", "out"]
    protocol: Protocol
    ports: tuple[PortRange, ...]
    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Forward:
    """What the host still forwards: `protocol` None is everything between the two."""

    sources: tuple[Network, ...]
    destinations: tuple[Network, ...]
    protocol: Protocol | None
    ports: tuple[PortRange, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """The scope of a host; the rest counts in `exclusive` only."""

    exclusive: bool = False
    management: Management = Management()
    services: tuple[Service, ...] = ()
    forwards: tuple[Forward, ...] = ()


def read_scope(
    scope: object = GUARD, management: object = None, host: object = None, forward: object = None
) -> Scope:
    """The scope that `sluice_scope`, `sluice_management`, `sluice_exclusive_host` and
    `sluice_exclusive_forward` say (None: not said); raises DescriptionError.
    """
    if scope not in (GUARD, EXCLUSIVE):
        wrong("sluice_scope", shown(scope), "guard or exclusive")
    manage = _management({} if management is None else management)
    if scope == EXCLUSIVE and not manage.networks:
        wrong(
            "sluice_management",
            "no networks",
            "the networks that manage this host: in scope exclusive nobody else reaches it",
        )
    return Scope(
        scope == EXCLUSIVE,
        manage,
        tuple(_service(at, each) for at, each in _entries("sluice_exclusive_host", host)),
        tuple(_forward(at, each) for at, each in _entries("sluice_exclusive_forward", forward)),
    )


def _entries(place: str, value: object) -> list[tuple[str, object]]:
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Sequence):
        wrong(place, shown(value), "a list, which may be empty")
    return [(f"{place}[{i}]", each) for i, each in enumerate(value)]


def _management(value: object) -> Management:
    place = "sluice_management"
    found = mapping(place, value, [], ["networks", "ports"])
    return Management(
        networks(f"{place}.networks", found["networks"]) if "networks" in found else (),
        merged(any_ports(f"{place}.ports", found["ports"])) if "ports" in found else (SSH,),
    )


def _service(place: str, value: object) -> Service:
    found = mapping(place, value, ["direction", "protocol", "ports"], ["networks"])
    direction = found["direction"]
    if direction not in ("in", "out"):
        wrong(f"{place}.direction", shown(direction), "in or out, seen from the host")
    return Service(
        "in" if direction == "in" else "out",
        _protocol(f"{place}.protocol", found["protocol"]),
        merged(any_ports(f"{place}.ports", found["ports"])),
        networks(f"{place}.networks", found["networks"]) if "networks" in found else ANYWHERE,
    )


def _forward(place: str, value: object) -> Forward:
    found: Mapping[str, object] = mapping(place, value, ["from", "to"], ["protocol", "ports"])
    if ("protocol" in found) != ("ports" in found):
        one = "ports" if "protocol" in found else "protocol"
        wrong(place, f"no {one}", "protocol and ports, or neither: then everything between the two")
    sources = networks(f"{place}.from", found["from"])
    destinations = networks(f"{place}.to", found["to"])
    if not {each.version for each in sources} & {each.version for each in destinations}:
        wrong(place, "no family that both from and to have", "IPv4 networks on both sides, or IPv6")
    if "protocol" not in found:
        return Forward(sources, destinations, None, ())
    return Forward(
        sources,
        destinations,
        _protocol(f"{place}.protocol", found["protocol"]),
        merged(any_ports(f"{place}.ports", found["ports"])),
    )


def _protocol(place: str, value: object) -> Protocol:
    if value not in ("tcp", "udp"):
        wrong(place, shown(value), "tcp or udp")
    return "tcp" if value == "tcp" else "udp"
