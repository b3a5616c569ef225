# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Flows that loaded rules carry and new ones would not: running transfers on them would freeze (F9).

The rules' file bears its flows as one line of JSON, so that a later run knows which ones it takes away. Until
the proxy has given those up, both the new flows and they are open.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, Ports, merged
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Network, PortRange

LEG = "former"  # the beginning of the names of chains and sets for former flows
STILL_OPEN = "the former flows are still open, too: the role proxy has not taken the settings of now yet"
# What stands once for all flows of a leg: a path's end may have thousands of networks.
SHARED = ("peer_addresses", "local_addresses")


def record(flows: Iterable[Flow]) -> str:
    """The flows as one line of JSON: those with the same addresses together, these once."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for flow in flows:
        data = flow.as_data()
        shared = {key: data.pop(key) for key in SHARED}
        place = groups.setdefault((flow.peer_addresses, flow.local_addresses), {**shared, "flows": []})
        place["flows"].append(data)
    return json.dumps(list(groups.values()), separators=(",", ":"))


def read_record(text: str) -> tuple[Flow, ...]:
    """The flows of `record`; none where the text is no such line, for then nothing is known of them."""
    try:
        return tuple(
            _flow({**data, **{key: group[key] for key in SHARED}})
            for group in json.loads(text)
            for data in group["flows"]
        )
    except (ValueError, KeyError, TypeError):
        return ()


def carries_former(diff: object) -> bool:
    """Whether the loaded table, in what nft_table says of it, still carries former flows."""
    return isinstance(diff, Mapping) and f"\tchain in_{LEG}" in str(diff.get("before"))


def _flow(data: dict[str, Any]) -> Flow:
    """The flow of `Flow.as_data`."""
    found = dict(data)
    found["peer_addresses"] = tuple(ip_network(each) for each in data["peer_addresses"])
    found["local_addresses"] = tuple(ip_network(each) for each in data["local_addresses"])
    for key in ("opener_ports", "acceptor_ports"):
        found[key] = _ports(data[key])
    found["peer_ports"] = tuple(
        (ip_network(each["address"]), _ports(each["ports"])) for each in data["peer_ports"]
    )
    return Flow(**found)


def _ports(texts: Iterable[str]) -> Ports:
    ranges = (text.partition("-") for text in texts)
    return merged(PortRange(int(first), int(last or first)) for first, _dash, last in ranges)


def taken_away(former: Iterable[Flow], flows: Sequence[Flow]) -> tuple[Flow, ...]:
    """Of the former flows those that a transfer may use and that no new one carries, each once.

    DNS and metrics are none of them: no transfer waits for them.
    """
    return tuple(
        each
        for each in dict.fromkeys(former)
        if each.channel in ("control", "data") and not any(carries(flow, each) for flow in flows)
    )


def carries(flow: Flow, former: Flow) -> bool:
    """Whether each connection that `former` allows is one of `flow`, too."""
    kind = ("side", "channel", "mode", "direction", "protocol", "intercept", "foreign")
    if any(getattr(flow, key) != getattr(former, key) for key in kind):
        return False
    if not _within(former.local_addresses, flow.local_addresses):
        return False
    if not _within(former.peer_addresses, flow.peer_addresses):
        return False
    own = "acceptor_ports" if flow.direction == "in" else "opener_ports"
    if not _hold(getattr(flow, own), getattr(former, own)):
        return False
    peers = former.peer_addresses if flow.peer_ports or former.peer_ports else former.peer_addresses[:1]
    return all(_hold(_peer_ports(flow, each), _peer_ports(former, each)) for each in peers)


def _peer_ports(flow: Flow, peer: Network) -> Ports:
    """The ports at the peer's end."""
    if flow.peer_ports:
        return merged(
            each for address, ports in flow.peer_ports if _within([peer], [address]) for each in ports
        )
    return flow.opener_ports if flow.direction == "in" else flow.acceptor_ports


def _hold(wide: Ports, narrow: Ports) -> bool:
    return all(any(one.first <= each.first and each.last <= one.last for one in wide) for each in narrow)


def _within(parts: Sequence[Network], wholes: Sequence[Network]) -> bool:
    """Whether every address of the one is one of the other; of thousands of networks soon, too."""
    if set(parts) <= set(wholes):
        return True
    for version in (4, 6):
        spans: list[list[int]] = []
        for each in sorted(_span(each) for each in wholes if each.version == version):
            if spans and each[0] <= spans[-1][1] + 1:
                spans[-1][1] = max(spans[-1][1], each[1])
            else:
                spans.append(each)
        firsts = [first for first, _last in spans]
        for first, last in (_span(each) for each in parts if each.version == version):
            at = bisect_right(firsts, first) - 1
            if at < 0 or last > spans[at][1]:
                return False
    return True


def _span(network: Network) -> list[int]:
    return [int(network.network_address), int(network.broadcast_address)]
