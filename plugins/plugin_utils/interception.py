# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules by which a hop takes connections to the servers' addresses, before the host routes them.

What they take the filter's rules see and judge like all else. Where no proxy listens, `tproxy` takes nothing,
and the forward chain refuses it; with `redirect` nobody answers. Each kind has chains of its own name, for a
chain's type and hook do not change while it stands (F8). Connections of the host's own never come here, and
those to its own addresses are left alone: so it never takes its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, Ports, merged
from ansible_collections.sluice.ftp.plugins.plugin_utils.nft_text import (
    VERSIONS,
    Chain,
    Set,
    braced,
    drop,
    versions,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    INTERCEPT_PORT,
    MARK,
    REDIRECT,
    TPROXY,
    Host,
    Path,
    PortRange,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reasons import UNDELIVERED

Legs = Sequence[tuple[str, Sequence[Flow]]]  # the name of each, and its flows

# Who talks to whom: a client connects to its data port soon after a packet on its control connection, and
# only after one that it finished opening, so that nobody fills the set with openings alone.
TALK_TIMEOUT = "5m"
TALK_SIZE = 65536
NOT_OPENING = "tcp flags != syn / syn,ack"
LOCAL = "fib daddr type local return"
DELIVERED = f"meta mark set {MARK:#x} accept"
# What any router says of such a connection: without it a smaller MTU on the path stops every transfer (F12).
ERRORS = f"meta l4proto {{ icmp, ipv6-icmp }} socket transparent 1 {DELIVERED}"


def sets(path: Path, host: Host, flows: Sequence[Flow]) -> list[Set]:
    """The sets that the chains below need beside those of the legs: who talks to whom, where data follows.

    `flows` are the path's, and behind them the former ones.
    """
    if path.hops[path.positions[host.name]].intercept != REDIRECT or not _follows(flows):
        return []
    spec = f"size {TALK_SIZE}; flags dynamic,timeout; timeout {TALK_TIMEOUT};"
    found = {each.version for each in flows[0].local_addresses}
    return [
        {
            "name": f"talk{version}",
            "spec": f"type ipv{version}_addr . ipv{version}_addr; {spec}",
            "elements": [],
        }
        for version, _ip in VERSIONS
        if version in found
    ]


def chains(path: Path, host: Host, known: Sequence[Set], legs: Legs) -> Iterator[Chain]:
    """The base chains at prerouting, of hops that intercept alone. `legs` are also those of former flows, the
    packets of which go on as they did; `known` are all sets."""
    flows = [flow for _name, each in legs for flow in each]
    if any(flow.intercept == REDIRECT and flow.direction == "in" for flow in flows):
        talk = list(_talk(path, known))
        if talk:
            yield _chain("talk", "filter", "mangle", talk)
        # Without any chain of this type nothing would translate what is open, either.
        yield _chain("intercept_redirect", "nat", "dstnat", list(_redirect(path, host, known, flows)))
    foreign = [(name, each) for name, each in legs if each[0].foreign]
    if foreign:
        rules = [LOCAL, ERRORS, *_to_sockets(foreign, known), *_tproxy(path, host, known)]
        yield _chain("intercept_tproxy", "filter", "mangle", rules)


def forward_rules(legs: Sequence[Sequence[Flow]]) -> Iterator[str]:
    """Where the routing rule is missing for a moment, what is the proxy's does not reach the server, which
    would reset it; it is sent again."""
    if any(flows[0].foreign for flows in legs):
        yield f"meta mark {MARK:#x} {drop(UNDELIVERED)}"


def _chain(name: str, kind: str, priority: str, rules: list[str]) -> Chain:
    spec = f"type {kind} hook prerouting priority {priority}; policy accept;"
    return {"name": name, "spec": spec, "rules": rules}


def _control(path: Path) -> str:
    return f"tcp dport {braced(merged(PortRange(port, port) for port in path.servers.control_ports))}"


def _listener(host: Host, version: int) -> tuple[str, str]:
    """The host's own address on this side, and the proxy's socket there."""
    own = next(each.address for each in host.client_side.addresses if each.address.version == version)
    return str(own), f"[{own}]:{INTERCEPT_PORT}" if version == 6 else f"{own}:{INTERCEPT_PORT}"


def _talk(path: Path, known: Sequence[Set]) -> Iterator[str]:
    for version, ip in versions(known, "talk"):
        pair = f"update @talk{version} {{ {ip} saddr . {ip} daddr timeout {TALK_TIMEOUT} }}"
        ends = f"{ip} saddr @down{version} {ip} daddr @servers{version}"
        yield f"{ends} {_control(path)} ct direction original ct state established {pair}"


def _follows(flows: Sequence[Flow]) -> Ports:
    """Where the proxy waits for data that is redirected to it, with the former settings, too (F9)."""
    return merged(
        each
        for flow in flows
        if flow.intercept == REDIRECT and flow.direction == "in" and flow.channel == "data"
        for each in flow.acceptor_ports
    )


def _redirect(path: Path, host: Host, known: Sequence[Set], flows: Sequence[Flow]) -> Iterator[str]:
    """To the host's address on this side: a bare `redirect` would take the first of the interface."""
    if path.hops[path.positions[host.name]].intercept != REDIRECT:
        return
    yield LOCAL
    talk = [version for version, _ip in versions(known, "talk")]
    for version, ip in versions(known, "ldown"):
        own, listener = _listener(host, version)
        ends = f"{ip} saddr @down{version} {ip} daddr @servers{version}"
        yield f"{ends} {_control(path)} dnat {ip} to {listener}"
        if version in talk:
            data = f"tcp dport {braced(_follows(flows))}"
            yield f"{ip} saddr . {ip} daddr @talk{version} {data} dnat {ip} to {own}"


def _to_sockets(legs: Legs, known: Sequence[Set]) -> Iterator[str]:
    """Packets of connections that have a socket here, and openings for a listener of data."""
    for name, flows in legs:
        for version, ip in versions(known, f"l{name}"):
            for ports in _ports(flows):
                ends = f"{ip} saddr @{name}{version} {ip} daddr @l{name}{version}"
                yield f"{ends} {ports} socket transparent 1 {DELIVERED}"


def _ports(flows: Sequence[Flow]) -> Iterator[str]:
    """Of packets to the local end of these flows; where that opens them, no bare opening is one."""
    opening = [flow for flow in flows if flow.direction == "out"]
    accepted = merged(each for flow in flows if flow.direction == "in" for each in flow.acceptor_ports)
    data = merged(each for flow in opening if flow.channel == "data" for each in flow.opener_ports)
    control = merged(each for flow in opening if flow.channel == "control" for each in flow.acceptor_ports)
    if accepted:
        yield f"tcp dport {braced(accepted)}"
    if data:
        yield f"tcp dport {braced(data)} {NOT_OPENING}"
    if control:
        yield f"tcp sport {braced(control)} {NOT_OPENING}"


def _tproxy(path: Path, host: Host, known: Sequence[Set]) -> Iterator[str]:
    """New control connections; without a listener that is transparent the rule takes none."""
    if path.hops[path.positions[host.name]].intercept != TPROXY:
        return
    for version, ip in versions(known, "ldown"):
        _own, listener = _listener(host, version)
        ends = f"{ip} saddr @down{version} {ip} daddr @ldown{version}"
        yield f"{ends} {_control(path)} tproxy {ip} to {listener} {DELIVERED}"
