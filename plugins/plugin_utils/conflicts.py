# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What on a host speaks against loading its policy: a lockout, or that the policy would not hold.

Pure: what was found on the host comes from the module packet_filter_info.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import INTERCEPT_PORT, PortRange
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import shown, wrong
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import Scope

OURS = ("inet", "sluice")
FAIL = "fail"
WARN = "warn"


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Sentences: what to refuse, and what to warn of."""

    refused: tuple[str, ...]
    warned: tuple[str, ...]


def conflicts(
    found: Mapping[str, Any],
    flows: Sequence[Flow],
    scope: Scope,
    *,
    forward_said: bool,
    other_tables: object = FAIL,
) -> Conflicts:
    """Judge what was found; `forward_said`: sluice_exclusive_forward is defined (POLICY 1, 5, F11)."""
    if other_tables not in (FAIL, WARN):
        wrong("sluice_other_tables", shown(other_tables), "fail or warn")
    refused = [*_session(found, scope), *_jumps(found, scope), *_ports(found, flows, scope)]
    if scope.exclusive and not forward_said:
        refused += _forwarding(found)
    denials = list(_denials(found))
    if other_tables == FAIL:
        refused += denials
    warned = [*([] if other_tables == FAIL else denials), *_helpers(found), *found["left_out"]]
    return Conflicts(tuple(refused), tuple(warned))


def _session(found: Mapping[str, Any], scope: Scope) -> Iterator[str]:
    """In `exclusive` the session that the rules are loaded through has to be let in by them."""
    session = found["ssh_session"]
    if not scope.exclusive or not session:
        return
    client, port = ip_address(session["client"]), session["port"]
    if not any(client in network for network in scope.management.networks):
        expected = f"{client} in sluice_management.networks"
    elif not _holds(scope.management.ports, port):
        expected = f"{port} in sluice_management.ports"
    else:
        return
    yield (
        f"Found this run's own SSH session coming from {client} to port {port}, expected {expected}: "
        "in scope exclusive it would be cut off."
    )


def _jumps(found: Mapping[str, Any], scope: Scope) -> Iterator[str]:
    """In `exclusive` the host opens nothing that is not listed: who is reached through it would be lost."""
    for each in found.get("connections", []) if scope.exclusive else []:
        peer, port = ip_address(each["peer_address"]), each["peer_port"]
        if each["outgoing"] and each["process"].startswith("ssh") and not _let_out(peer, port, scope):
            entry = f"{{direction: out, protocol: tcp, ports: {port}, networks: [{peer}]}}"
            yield (
                f"Found a connection of {each['process']} (process {each['pid']}) to {peer} port {port}, "
                f"expected {entry} in sluice_exclusive_host, or no such connection: in scope exclusive it "
                "would be cut off, and with it who is reached through this host."
            )


def _let_out(peer: IPv4Address | IPv6Address, port: int, scope: Scope) -> bool:
    return peer.is_loopback or any(
        (service.direction, service.protocol) == ("out", "tcp")
        and _holds(service.ports, port)
        and any(peer in network for network in service.networks)
        for service in scope.services
    )


def _ports(found: Mapping[str, Any], flows: Sequence[Flow], scope: Scope) -> Iterator[str]:
    """No port of the proxy's is one that the host is managed through."""
    managed = {
        PortRange(port, port): "this run's SSH session" for port in [found["ssh_session"].get("port")] if port
    }
    if scope.management.networks:
        managed = dict.fromkeys(scope.management.ports, "sluice_management.ports") | managed
    own = [ports for flow in flows if flow.channel != "dns" for ports in _own_ports(flow)]
    for port, who in managed.items():
        for ports in own:
            if port.first <= ports.last and ports.first <= port.last:
                yield (
                    f"Found port {port} of {who} in the proxy's ports {ports}, expected it outside of them: "
                    "the rules refuse them to everybody else; choose other ranges (sluice_ports)."
                )
                break


def _own_ports(flow: Flow) -> tuple[PortRange, ...]:
    """The ports at the host's end of the flow, but the ephemeral ones that control connections come from, and
    the servers' where a hop intercepts."""
    if flow.intercept and flow.channel == "control":
        return (PortRange(INTERCEPT_PORT, INTERCEPT_PORT),) if flow.direction == "in" else ()
    if flow.direction == "in":
        return flow.acceptor_ports
    return flow.opener_ports if flow.channel == "data" else ()


def _forwarding(found: Mapping[str, Any]) -> Iterator[str]:
    why = [f"{name} is 1" for name in found["forwarding"]]
    why += [f"{_place(each)} translates addresses" for each in _others(found["translates"])]
    if why:
        yield (
            f"Found a host that forwards ({'; '.join(why)}), expected sluice_exclusive_forward to say what "
            "of that stays in scope exclusive; an empty list says nothing."
        )


def _denials(found: Mapping[str, Any]) -> Iterator[str]:
    others = [f"{_place(each)} at hook {each['hook']} ({each['by']})" for each in _others(found["denies"])]
    if others:
        yield (
            f"Found other tables that deny by default: {'; '.join(others)}. Expected none, for ours can only "
            "restrict: let the flows of this host (filter sluice.ftp.allowed_flows) in there too, then set "
            "sluice_other_tables to warn."
        )


def _helpers(found: Mapping[str, Any]) -> Iterator[str]:
    others = [_place(each) for each in _others(found["ftp_helpers"])]
    if others:
        yield (
            f"Found the FTP helper assigned by {'; '.join(others)}: it opens ports by reading packets, "
            "and no flow of ours needs it."
        )


def _others(places: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    return [each for each in places if (each["family"], each["table"]) != OURS]


def _place(each: Mapping[str, str]) -> str:
    return f"table {each['family']} {each['table']}, chain {each['chain']}"


def _holds(ranges: Sequence[PortRange], port: int) -> bool:
    return any(each.first <= port <= each.last for each in ranges)
