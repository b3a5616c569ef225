# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The connections of the whole path: the flows of all hosts, each of a leg taken once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, derive, merged
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import ANY_PORT, Hop, Path, PortRange

Kind = Literal["control", "active", "passive", "dns", "metrics"]


@dataclass(frozen=True, slots=True)
class Connection:
    """One kind of connection on a leg; `kind` is the mode of data, else the channel.

    `opener_ports` are what the opener uses, `acceptor_ports` where the acceptor listens, of all their hosts.
    """

    leg: str
    kind: Kind
    protocol: Literal["tcp", "udp"]
    opener: str
    acceptor: str
    opener_ports: tuple[PortRange, ...]
    acceptor_ports: tuple[PortRange, ...]
    why: str

    @property
    def opens_anywhere(self) -> bool:
        """Whether the opener's port may be any."""
        return self.opener_ports == (ANY_PORT,)


def connections(path: Path) -> tuple[Connection, ...]:
    """In the order of the legs, in a leg control, active, passive; then each hop's DNS and metrics."""
    found: dict[tuple[str, str, str], list[Flow]] = {}
    for hop in path.hops:
        for host in hop.hosts:
            for flow in derive(path, host):
                found.setdefault((flow.leg, kind(flow), flow.protocol), []).append(flow)
    return tuple(_connection(flows) for flows in found.values())


def kind(flow: Flow) -> Kind:
    """How a flow is told from the others of its leg."""
    if flow.channel == "data":
        return flow.mode or "passive"  # data always has a mode
    return flow.channel


def interception(hop: Hop) -> list[str]:
    """How a hop intercepts, and whether it goes on with its client's address, as words."""
    return [*([hop.intercept] if hop.intercept else []), *(["source client"] if hop.client_source else [])]


def _connection(flows: Sequence[Flow]) -> Connection:
    # Either end knows its own ports best: its neighbour may see them translated.
    opening = [flow for flow in flows if flow.direction == "out"] or flows
    accepting = [flow for flow in flows if flow.direction == "in"] or flows
    first = flows[0]
    return Connection(
        leg=first.leg,
        kind=kind(first),
        protocol=first.protocol,
        opener=first.opener,
        acceptor=first.acceptor,
        opener_ports=merged([each for flow in opening for each in flow.opener_ports]),
        acceptor_ports=merged([each for flow in accepting for each in flow.acceptor_ports]),
        why=first.why,
    )
