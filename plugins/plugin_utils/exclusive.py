# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What scope `exclusive` adds to a host's rules: all that is not a flow and may pass all the same.

These rules stand behind those of the flows and before the end of each base chain, which drops. Facts of the
project's paper on its policy: F10 management is stateless; F11 related means ICMP errors only; F12 without
these a smaller MTU on the path stops every transfer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ansible_collections.sluice.ftp.plugins.plugin_utils.nft_text import (
    ESTABLISHED,
    Set,
    accept,
    address_sets,
    braced,
    drop,
    going_on,
    versions,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import PortRange
from ansible_collections.sluice.ftp.plugins.plugin_utils.reasons import (
    FROM_THE_HOST,
    THROUGH_THE_HOST,
    TO_THE_HOST,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import Protocol, Scope, Service

ERRORS = {
    "icmp": "{ destination-unreachable, time-exceeded, parameter-problem }",
    "icmpv6": "{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
}
NEIGHBOURS_IN = "{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }"
NEIGHBOURS_OUT = "{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }"
# MLD, RFC 3810: without reports a switch that snoops stops the multicast of neighbour discovery.
REPORTS = "{ mld-listener-report, mld-listener-done, mld2-listener-report }"
ECHO_RATE = "limit rate 10/second burst 20 packets"


def scope_sets(scope: Scope) -> list[Set]:
    """The named sets that the rules below use."""
    sets = address_sets("manage", scope.management.networks)
    for i, service in enumerate(scope.services):
        sets += address_sets(f"host{i}_", service.networks)
    for i, forward in enumerate(scope.forwards):
        sets += address_sets(f"from{i}_", forward.sources)
        sets += address_sets(f"to{i}_", forward.destinations)
    return sets


def input_rules(scope: Scope, sets: Sequence[Set]) -> Iterator[str]:
    """The end of chain input."""
    protocols: tuple[Protocol, ...] = ("udp", "tcp")
    yield f'iifname "lo" {accept("loopback")}'
    for version, ip in versions(sets, "manage"):
        ports = braced(scope.management.ports)
        yield f"{ip} saddr @manage{version} tcp dport {ports} {accept('management')}"
    yield f"icmpv6 type {NEIGHBOURS_IN} ip6 hoplimit 255 {accept('neighbour discovery')}"
    yield f"icmpv6 type mld-listener-query ip6 hoplimit 1 {accept('multicast listeners')}"
    yield from _errors()
    yield from _echo()
    for version, ip in versions(sets, "dns"):
        for protocol in protocols:
            yield from _answers(protocol, f" {ip} saddr @dns{version} {protocol} sport 53")
    for i, service in enumerate(scope.services):
        for version, ip in versions(sets, f"host{i}_"):
            peers = f"{ip} saddr @host{i}_{version}"
            if service.direction == "in":
                yield f"{peers} {_ports(service, 'dport')} {accept(_what(service))}"
            else:
                yield from _answers(service.protocol, f" {peers} {_ports(service, 'sport')}")
    yield drop(TO_THE_HOST)


def output_rules(scope: Scope, sets: Sequence[Set]) -> Iterator[str]:
    """The end of chain output, where the proxy's user does not get to."""
    yield f'oifname "lo" {accept("loopback")}'
    for version, ip in versions(sets, "manage"):
        ports = braced(scope.management.ports)
        yield f"{ip} daddr @manage{version} tcp sport {ports} {accept('management')}"
    yield f"icmpv6 type {NEIGHBOURS_OUT} ip6 hoplimit 255 {accept('neighbour discovery')}"
    yield f"icmpv6 type {REPORTS} ip6 hoplimit 1 {accept('multicast listeners')}"
    yield from _errors()
    yield from _echo()
    for i, service in enumerate(scope.services):
        for version, ip in versions(sets, f"host{i}_"):
            peers = f"{ip} daddr @host{i}_{version}"
            if service.direction == "out":
                yield f"{peers} {_ports(service, 'dport')} {accept(_what(service))}"
            else:
                yield from _answers(service.protocol, f" {peers} {_ports(service, 'sport')}")
    yield drop(FROM_THE_HOST)


def forward_rules(scope: Scope, sets: Sequence[Set]) -> Iterator[str]:
    """The end of chain forward."""
    if scope.forwards:
        yield from _errors()
    for i, forward in enumerate(scope.forwards):
        to_port, from_port, what = "", "", "forwarded: everything"
        if forward.protocol:
            ports = braced(forward.ports)
            to_port, from_port = f" {forward.protocol} dport {ports}", f" {forward.protocol} sport {ports}"
            what = f"forwarded: {forward.protocol} {_listed(forward.ports)}"
        there = {version for version, _ip in versions(sets, f"to{i}_")}
        for version, ip in versions(sets, f"from{i}_"):
            if version in there:
                one, other = f"@from{i}_{version}", f"@to{i}_{version}"
                yield f"{ip} saddr {one} {ip} daddr {other}{to_port} {accept(what)}"
                yield from _answers(forward.protocol, f" {ip} saddr {other} {ip} daddr {one}{from_port}")
    yield drop(THROUGH_THE_HOST)


def _errors() -> Iterator[str]:
    for protocol, types in ERRORS.items():
        yield f"{protocol} type {types} ct state related {accept('ICMP errors')}"


def _echo() -> Iterator[str]:
    for protocol in ERRORS:
        yield f"{protocol} type echo-request {ECHO_RATE} {accept('echo')}"
        yield f"{protocol} type echo-reply {ESTABLISHED}"


def _answers(protocol: Protocol | None, match: str) -> Iterator[str]:
    """What comes back on a connection that was let in; `match` has a space before it."""
    if protocol == "udp":
        yield f"ct direction reply{match} {ESTABLISHED}"
        return
    if protocol is None:
        yield f"ct direction reply{match} meta l4proto != tcp {ESTABLISHED}"
    yield from going_on("reply", match)


def _ports(service: Service, key: str) -> str:
    return f"{service.protocol} {key} {braced(service.ports)}"


def _what(service: Service) -> str:
    return f"host's own: {service.protocol} {_listed(service.ports)} {service.direction}"


def _listed(ports: Iterable[PortRange]) -> str:
    """Ports for a comment, which holds 128 characters."""
    text = ", ".join(str(each) for each in ports)
    return text if len(text) <= 60 else f"{text[:57]}..."
