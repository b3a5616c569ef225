# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The words of nft: sets, chains, ports and comments as text, with no knowledge of what they are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TypedDict

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import ByAddress, merged
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Network, PortRange

SYN = "ct state new tcp flags syn / fin,syn,rst,ack"
ESTABLISHED = "ct state established counter accept"
# Of a connection that was let in the other end's packets: never a bare SYN, for conntrack takes one that
# meets an opening without an answer for an answer (F6).
REPLY = "tcp flags != syn / syn,ack ct state established"
DROP = "counter drop comment "
LOW_RATE = "limit rate 6/minute burst 5 packets"  # of each rule: a log is no place for a flood
VERSIONS = ((4, "ip"), (6, "ip6"))


class Set(TypedDict):
    """A named set: `spec` is all but its elements."""

    name: str
    spec: str
    elements: list[str]


class Chain(TypedDict):
    """A chain; `spec` holds the hook of a base chain, else it is empty."""

    name: str
    spec: str
    rules: list[str]


class Ruleset(TypedDict):
    """A whole table; `flows` is the record of those it carries, `former` the lines of those it still does."""

    family: str
    name: str
    sets: list[Set]
    chains: list[Chain]
    flows: str
    former: list[str]


def chain(name: str, rules: Iterable[str]) -> Chain:
    """A chain that others jump to."""
    return {"name": name, "spec": "", "rules": list(rules)}


def base_chain(hook: str, policy: str, rules: Iterable[str]) -> Chain:
    """The chain at a hook, which bears the hook's name; behind other people's, which may drop before it."""
    spec = f"type filter hook {hook} priority filter + 10; policy {policy};"
    return {"name": hook, "spec": spec, "rules": list(rules)}


def address_sets(name: str, networks: Iterable[Network]) -> list[Set]:
    """The sets NAME4 and NAME6, each only where it has elements; overlapping networks are merged (F21)."""
    every = list(networks)
    v4 = collapse_addresses(each for each in every if isinstance(each, IPv4Network))
    v6 = collapse_addresses(each for each in every if isinstance(each, IPv6Network))
    both: list[tuple[str, str, list[str]]] = [
        (f"{name}4", "ipv4_addr", [element(each) for each in v4]),
        (f"{name}6", "ipv6_addr", [element(each) for each in v6]),
    ]
    return [
        {"name": each, "spec": f"type {kind}; flags interval; auto-merge;", "elements": elements}
        for each, kind, elements in both
        if elements
    ]


def endpoint_sets(name: str, endpoints: ByAddress) -> list[Set]:
    """The sets NAME4 and NAME6 of address and port together: for each address just its own ports (F21)."""
    both = [
        (
            f"{name}{version}",
            f"type ipv{version}_addr . inet_service; flags interval;",
            [
                f"{element(address)} . {each}"
                for address, ports in endpoints
                if address.version == version
                for each in ports
            ],
        )
        for version, _ip in VERSIONS
    ]
    return [{"name": each, "spec": spec, "elements": elements} for each, spec, elements in both if elements]


def port_set(name: str, ranges: Iterable[PortRange]) -> Set:
    """A set of ports."""
    elements = [str(each) for each in merged(ranges)]
    return {"name": name, "spec": "type inet_service; flags interval; auto-merge;", "elements": elements}


def element(network: Network) -> str:
    """A network as a set's element; one address without its length."""
    return str(network) if network.num_addresses > 1 else str(network.network_address)


def versions(sets: Sequence[Set], name: str) -> Iterator[tuple[int, str]]:
    """The families in which a set of that name exists, with nft's word for their header."""
    names = {each["name"] for each in sets}
    return ((version, ip) for version, ip in VERSIONS if f"{name}{version}" in names)


def braced(ranges: Sequence[PortRange]) -> str:
    """Ports as a match takes them."""
    if len(ranges) == 1:
        return str(ranges[0])
    return f"{{ {', '.join(str(each) for each in ranges)} }}"


def going_on(direction: str, match: str) -> Iterator[str]:
    """The packets of connections that were let in, `original` or `reply`; `match` has a space before it.

    The second rule is for the moment after somebody else's flush of the whole ruleset (F20): conntrack has
    missed packets then and takes the next ones, of a reader that is slow, for invalid for ever. What opens a
    connection, or belongs to none that is known (which is new, not invalid), is not let in by it (F9).
    """
    state = f"{REPLY} counter accept" if direction == "reply" else ESTABLISHED
    yield f"ct direction {direction}{match} {state}"
    yield f"{match.strip()} tcp flags & syn == 0 ct state invalid counter accept".strip()


def accept(why: str) -> str:
    """The end of a rule that lets pass and counts."""
    return f'counter accept comment "{why}"'


def drop(why: str) -> str:
    """The end of a rule that refuses and counts."""
    return f'{DROP}"{why}"'


def logged(rules: Iterable[str], hop: str) -> Iterator[str]:
    """The rules, each that drops with one before it that logs what it matches (F22)."""
    for rule in rules:
        match, dropped, reason = rule.partition(DROP)
        if dropped:
            why = reason.strip('"')
            yield f'{match}{LOW_RATE} log prefix "sluice {hop}: {why}: "'
        yield rule
