# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host needs beside its settings and its rules: capabilities of the proxy's unit (F4), and, where it
intercepts with TPROXY, the routing that hands marked packets to its own sockets (POLICY 2 and 5, F7)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_interface
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    ACTIVE,
    MARK,
    ROUTING,
    TPROXY,
    Address,
    Host,
    Path,
)

PRIVILEGED = 1024  # ports below are for who has CAP_NET_BIND_SERVICE
VERSIONS = (4, 6)


def capabilities(path: Path, host: Host) -> list[str]:
    """What the proxy of `host` may do beyond any user: bind a low port, bind an address of somebody else."""
    position = path.positions[host.name]
    hop = path.hops[position]
    # No other port of a description may be a low one: port 20 alone, for active data to the clients.
    low = hop.control_port < PRIVILEGED or (
        ACTIVE in path.modes[position] and host.ports.client_side.source.first < PRIVILEGED
    )
    found = ["CAP_NET_BIND_SERVICE"] if low else []
    return found + (["CAP_NET_RAW"] if hop.intercept == TPROXY else [])


def marked_at(path: Path, host: Host) -> tuple[Address, ...]:
    """The addresses on whose interfaces the rules mark packets for the proxy; none without TPROXY."""
    hop = path.hops[path.positions[host.name]]
    if hop.intercept != TPROXY:
        return ()
    sides = (host.client_side, *((host.server_side,) if hop.client_source else ()))
    return tuple(each.address for side in sides for each in side.addresses)


def routing(path: Path, host: Host, found: Iterable[str], *, keep: bool = False) -> dict[str, list[str]]:
    """The routing of `host`, as it should be and as it is.

    `found` are lines `WHAT JSON` as the host printed them: WHAT is `addresses` (ip -json address show),
    `rules4`, `rules6` (ip -json rule show table ROUTING), `routes4` or `routes6` (ip -json route show table
    ROUTING); a line that is missing or empty means that nothing is there. With `keep` what former settings of
    ours put there stays beside the new: transfers that run on them need it (F9). Returns `commands`, the
    arguments of ip that bring it about, none where it is not needed; `missing`, half a sentence for each
    address whose interface is not known; and `difference`, lines `- found` and `+ expected`.
    """
    said = dict(_read(found))
    marked = marked_at(path, host)
    wanted: dict[str, None] = {}
    missing = []
    for version in VERSIONS:
        here = [each for each in marked if each.version == version]
        for each in here:
            interface = _interface(each, said.get("addresses", []))
            if interface:
                wanted[_rule(version, f"{MARK:#x}", interface)] = None
            else:
                missing.append(f"found no interface with {each} or with its network")
        if here:
            wanted[_route(version, "lo")] = None
    there = dict.fromkeys(_there(said))
    if keep:
        wanted.update(dict.fromkeys(each for each in there if _ours(each)))
    return {
        "commands": list(wanted),
        "missing": missing,
        "difference": [
            *(f"- ip {each}" for each in there if each not in wanted),
            *(f"+ ip {each}" for each in wanted if each not in there),
        ],
    }


def _interface(address: Address, links: Sequence[Mapping[str, Any]]) -> str:
    """The one that has the address, else the one with the smallest network that holds it: an address may
    move between hosts (requirement 15.4)."""
    held = [
        (
            interface.network.prefixlen + (interface.ip == address) * interface.max_prefixlen,
            str(link["ifname"]),
        )
        for link in links
        for each in link.get("addr_info", [])
        if address in (interface := ip_interface(f"{each['local']}/{each['prefixlen']}")).network
    ]
    return max(held)[1] if held else ""


def _rule(version: int, mark: str, interface: str) -> str:
    # protocol kernel: systemd-networkd removes others' rules when it starts (networkd.conf(5)).
    selector = f"priority {ROUTING} fwmark {mark} iif {interface}"
    return f"-{version} rule add {selector} protocol kernel lookup {ROUTING}"


def _route(version: int, device: str) -> str:
    return f"-{version} route replace local default dev {device} table {ROUTING}"


def _read(lines: Iterable[str]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    for line in lines:
        what, _space, text = line.partition(" ")
        try:
            yield what, json.loads(text)
        except ValueError:  # a table that does not exist is an error message
            yield what, []


def _ours(each: str) -> bool:
    """Whether what is there is said in the words of `commands`, with our mark."""
    return f" fwmark {MARK:#x} " in each or each in (_route(version, "lo") for version in VERSIONS)


def _there(said: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What is on the host, in the words of `commands`; what is not ours in all its parts, in others."""
    for version in VERSIONS:
        for each in said.get(f"rules{version}", []):
            rule = _rule(version, str(each.get("fwmark", "0")), str(each.get("iif", "*")))
            ours = each.get("priority") == ROUTING and each.get("src") == "all" and "dst" not in each
            yield rule if ours else f"-{version} rule: {json.dumps(each)}"
        for each in said.get(f"routes{version}", []):
            ours = each.get("type") == "local" and each.get("dst") == "default"
            yield _route(version, str(each["dev"])) if ours else f"-{version} route: {json.dumps(each)}"
