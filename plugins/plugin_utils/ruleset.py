# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules of one host, scope `guard`, explicit: sets and chains as data, from flows and the proxy's uid.

A rule is a line of nft. Facts of the project's paper on its policy that are obeyed here: F1 positive skuid
only on a SYN; F3 the local end is proved on the way out; F5, F6 no drop depends on conntrack; F11 a related
connection is nobody's flow; F13 peers stand in sets; F21 ranges are merged; F22 what is refused is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TypedDict

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, derive, merged
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    ANY_PORT,
    CONTROL_PORT,
    Hop,
    Host,
    Network,
    Path,
    PortRange,
    single,
)

FAMILY = "inet"
NAME = "sluice"
SYN = "ct state new tcp flags syn / fin,syn,rst,ack"
ESTABLISHED = "ct state established counter accept"
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
    """A whole table."""

    family: str
    name: str
    sets: list[Set]
    chains: list[Chain]


def ruleset(path: Path, host: Host, uid: int | str, *, log_refused: bool = True) -> Ruleset:
    """The table of `host`. `uid` is the proxy user's number (F18: never its name).

    `log_refused`: the kernel's log names the hop and the reason of what is dropped, at a low rate (F22).
    """
    flows = derive(path, host)
    position = path.positions[host.name]
    down = [flow for flow in flows if flow.leg == path.leg(position)]
    up = [flow for flow in flows if flow.leg == path.leg(position + 1)]
    dns = [flow for flow in flows if flow.channel == "dns"]
    sets = [
        *_leg_sets("down", down),
        *_leg_sets("up", up),
        *_address_sets("dns", dns[0].peer_addresses if dns else ()),
        # All of the path on the client side of this host, and what lies beyond it.
        *_address_sets("nearer", [*path.clients.networks, *_hop_addresses(path.hops[:position])]),
        *_address_sets("further_hops", _hop_addresses(path.hops[position + 1 :])),
        *_address_sets("servers", path.servers.networks),
        _port_set(
            "serve", [each for flow in flows if flow.direction == "in" for each in flow.acceptor_ports]
        ),
    ]
    chains = [
        _inbound("in_down", down),
        _inbound("in_up", up),
        _chain(
            "guard_in",
            ["ct direction reply ct state established return", _drop("not a flow: to a proxy port")],
        ),
        _outbound("out_down", down, uid),
        _outbound("out_up", up, uid),
        *([_chain("out_dns", list(_dns_rules(dns, uid)))] if dns else []),
        _chain(
            "guard_out",
            [
                "ct direction original ct state { new, established } return",
                _drop("other user serves on a proxy port"),
            ],
        ),
        _chain("input", list(_input_rules(sets)), hook="input"),
        _chain("output", list(_output_rules(sets, down, up, uid)), hook="output"),
        _chain("forward", list(_forward_rules(sets, path.servers.control_ports)), hook="forward"),
    ]
    if log_refused:
        for chain in chains:
            chain["rules"] = list(_logged(chain["rules"], path.name(position)))
    return {"family": FAMILY, "name": NAME, "sets": sets, "chains": chains}


def _logged(rules: Iterable[str], hop: str) -> Iterator[str]:
    """The rules, each that drops with one before it that logs what it matches."""
    for rule in rules:
        match, drop, reason = rule.partition(DROP)
        if drop:
            why = reason.strip('"')
            yield f'{match}{LOW_RATE} log prefix "sluice {hop}: {why}: "'
        yield rule


def _inbound(name: str, flows: Sequence[Flow]) -> Chain:
    """What may come in on a leg: its inbound flows, and the replies to its outbound ones, in their order."""
    rules: list[str] = []
    for flow in flows:
        if flow.direction == "in":
            ports = f"ct direction original{_ports(flow)}"
            rules.append(f"{ports} {SYN} counter accept {_quoted(comment(flow))}")
            rules.append(f"{ports} {ESTABLISHED}")
        else:
            rules.append(f"ct direction reply{_ports(flow, reply=True)} {ESTABLISHED}")
    return _chain(name, rules)


def _outbound(name: str, flows: Sequence[Flow], uid: int | str) -> Chain:
    """What may go out on a leg. A packet without a socket matches neither skuid nor its negation (F1)."""
    rules: list[str] = []
    for flow in flows:
        if flow.direction == "out" and flow.channel == "data" and flow.peer_is_hop:
            # That hop knows the proxy's connections by their source ports: nobody else may use them there.
            rules.append(
                f"{_ports(flow).strip()} meta skuid != {uid} {_drop('other user opens data as the proxy')}"
            )
    rules.append(f"meta skuid != {uid} return")
    for flow in flows:
        if flow.direction == "out":
            ports = f"ct direction original{_ports(flow)}"
            rules.append(f"{ports} meta skuid {uid} {SYN} counter accept {_quoted(comment(flow))}")
            rules.append(f"{ports} {ESTABLISHED}")
        else:
            rules.append(f"ct direction reply{_ports(flow, reply=True)} {ESTABLISHED}")
    return _chain(name, rules)


def _dns_rules(flows: Sequence[Flow], uid: int | str) -> Iterator[str]:
    for flow in flows:
        if flow.protocol == "udp":
            port = _braced(flow.acceptor_ports)
            yield f"udp dport {port} meta skuid {uid} counter accept {_quoted(comment(flow))}"
        else:
            ports = f"ct direction original{_ports(flow)}"
            yield f"{ports} meta skuid {uid} {SYN} counter accept {_quoted(comment(flow))}"
            yield f"{ports} {ESTABLISHED}"


def _input_rules(sets: Sequence[Set]) -> Iterator[str]:
    """A neighbour never comes over loopback, though the host's own address may lie in its networks."""
    for side in ("down", "up"):
        for version, ip in _versions(sets, f"l{side}"):
            peers = f"{ip} saddr @{side}{version} {ip} daddr @l{side}{version}"
            yield f'iifname != "lo" meta l4proto tcp {peers} jump in_{side}'
    yield "tcp dport @serve jump guard_in"


def _output_rules(
    sets: Sequence[Set], down: Sequence[Flow], up: Sequence[Flow], uid: int | str
) -> Iterator[str]:
    for side in ("down", "up"):
        for version, ip in _versions(sets, f"l{side}"):
            peers = f"{ip} daddr @{side}{version} {ip} saddr @l{side}{version}"
            yield f'oifname != "lo" meta l4proto tcp {peers} jump out_{side}'
    for version, ip in _versions(sets, "dns"):
        yield f"{ip} daddr @dns{version} jump out_dns"
    yield f"meta skuid {uid} {_drop('proxy user: anything else')}"
    yield f"tcp sport @serve meta skuid != {uid} jump guard_out"
    control = [each for flow in up if flow.channel == "control" for each in flow.acceptor_ports]
    for version, ip in _versions(sets, "up"):
        drop = _drop("other user speaks FTP upstream")
        users = f'oifname != "lo" meta skuid != {uid}'
        yield f"tcp dport {_braced(control)} {ip} daddr @up{version} {users} {drop}"
    for each in _privileged_sources(down):
        # No conntrack here: such a SYN may belong to an old entry as reply or invalid (F6).
        yield f"tcp sport {each} meta skuid != {uid} {_drop(f'other user uses port {each}')}"


def _forward_rules(sets: Sequence[Set], control_ports: Iterable[int]) -> Iterator[str]:
    """FTP control goes only through the proxy: to the ports that the description names, and no others."""
    yield f'ct helper "ftp" {_drop("no FTP helper past the proxy")}'
    servers = merged([PortRange(port, port) for port in control_ports])
    for name, ports in (("further_hops", [PortRange(CONTROL_PORT, CONTROL_PORT)]), ("servers", servers)):
        for version, ip in _versions(sets, name):
            if any(each["name"] == f"nearer{version}" for each in sets):
                addresses = f"{ip} saddr @nearer{version} {ip} daddr @{name}{version}"
                yield f"{addresses} tcp dport {_braced(ports)} {_drop('FTP only through the proxy')}"


def _hop_addresses(hops: Iterable[Hop]) -> Iterator[Network]:
    for hop in hops:
        for host in hop.hosts:
            for each in (*host.client_side.addresses, *host.server_side.addresses):
                yield single(each.address)
                yield single(each.public)


def _privileged_sources(flows: Sequence[Flow]) -> Iterator[PortRange]:
    for flow in flows:
        if flow.direction == "out" and flow.channel == "data":
            yield from (each for each in flow.opener_ports if each.last < 1024)


def _leg_sets(side: str, flows: Sequence[Flow]) -> list[Set]:
    """A leg's peers, and this host's own addresses on that side (all flows of a leg have the same)."""
    own = [single(each) for each in flows[0].local_addresses]
    return [*_address_sets(side, flows[0].peer_addresses), *_address_sets(f"l{side}", own)]


def _address_sets(name: str, networks: Iterable[Network]) -> list[Set]:
    """The sets NAME4 and NAME6, each only where it has elements; overlapping networks are merged (F21)."""
    every = list(networks)
    v4 = collapse_addresses(each for each in every if isinstance(each, IPv4Network))
    v6 = collapse_addresses(each for each in every if isinstance(each, IPv6Network))
    both: list[tuple[str, str, list[str]]] = [
        (f"{name}4", "ipv4_addr", [_element(each) for each in v4]),
        (f"{name}6", "ipv6_addr", [_element(each) for each in v6]),
    ]
    return [
        {"name": each, "spec": f"type {kind}; flags interval; auto-merge;", "elements": elements}
        for each, kind, elements in both
        if elements
    ]


def _element(network: Network) -> str:
    return str(network) if network.num_addresses > 1 else str(network.network_address)


def _port_set(name: str, ranges: Iterable[PortRange]) -> Set:
    elements = [str(each) for each in merged(list(ranges))]
    return {"name": name, "spec": "type inet_service; flags interval; auto-merge;", "elements": elements}


def _versions(sets: Sequence[Set], name: str) -> Iterator[tuple[int, str]]:
    """The families in which a set of that name exists, with nft's word for their header."""
    names = {each["name"] for each in sets}
    return ((version, ip) for version, ip in VERSIONS if f"{name}{version}" in names)


def _ports(flow: Flow, *, reply: bool = False) -> str:
    """The match of a flow's ports, with a space before each; nothing for an end that is free."""
    opener, acceptor = ("dport", "sport") if reply else ("sport", "dport")
    found = {opener: flow.opener_ports, acceptor: flow.acceptor_ports}
    return "".join(
        f" tcp {key} {_braced(found[key])}" for key in ("sport", "dport") if found[key] != (ANY_PORT,)
    )


def _braced(ranges: Sequence[PortRange]) -> str:
    if len(ranges) == 1:
        return str(ranges[0])
    return f"{{ {', '.join(str(each) for each in ranges)} }}"


def _drop(why: str) -> str:
    return f'{DROP}"{why}"'


def _quoted(text: str) -> str:
    return f'comment "{text}"'


def _chain(name: str, rules: list[str], *, hook: str = "") -> Chain:
    spec = f"type filter hook {hook} priority filter + 10; policy accept;" if hook else ""
    return {"name": name, "spec": spec, "rules": rules}
