# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What must not pass between two hosts: a bounded sample, each probe with the rule that has to refuse it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    ACTIVE,
    CONTROL_PORT,
    PASSIVE,
    UNPRIVILEGED,
    Address,
    Host,
    PortRange,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.probes import (
    OTHER,
    OWN,
    PROXY,
    Place,
    Probe,
    Rule,
    versions,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reasons import (
    ANYTHING_ELSE,
    FROM_THE_HOST,
    NOT_A_FLOW,
    OTHER_OPENS_DATA,
    OTHER_SERVES,
    OTHER_SPEAKS_FTP,
    PAST_THE_PROXY,
    TO_THE_HOST,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import Service

BLOCK = 200  # ports that another user opens from, outside the ranges of the proxy


def refused(near: Place, far: Place) -> Iterator[Probe]:
    """A sample of what must not pass between two hosts; the families take turns."""
    both = versions(near, far)
    found: list[Probe | None] = []

    def version() -> int:
        return both[len(found) % len(both)]

    if not both:
        return
    for one, other in ((near, far), (far, near)):
        if one.whole is not None:
            if one is near:
                found.append(_as_other("another user", one, other, version(), other.control))
            else:
                found.append(_as_proxy(one, other, version(), "another direction", other.control))
            found.append(_as_proxy(one, other, version(), "another port", _beyond(other.listen)))
            found.append(_opens_data_as_other(one, other, version()))
            found.append(_from_elsewhere(one, other, version()))
        for port in _served(other, elsewhere=True):
            found.append(_as_other("another port", one, other, version(), port))
        if one.whole is None and other.scope.exclusive:
            found.append(_to_the_host(one, other, version()))
        if one is far and other.whole is not None:
            found.append(_as_other("another direction", one, other, version(), CONTROL_PORT))
    for mode, opener, acceptor in ((PASSIVE, near, far), (ACTIVE, far, near)):
        if mode in acceptor.on_leg or mode in opener.on_leg:
            found.append(_served_by_other(opener, acceptor, mode, version()))
    yield from (each for each in found if each is not None)


def _probe(
    about: str,
    opener: Place,
    acceptor: Place,
    version: int,
    *,
    user: str,
    ports: str,
    rules: tuple[Rule, ...],
    source: Address | None = None,
    source_ports: str = "",
    listener: str = "",
) -> Probe:
    """One that must not pass, to a port where nobody need listen: even a reset would show that it passed."""
    return Probe(
        id="",
        passes=False,
        about=about,
        opener=opener.host,
        user=user,
        source=str(source or opener.addresses[version].address),
        source_ports=source_ports,
        acceptor=acceptor.host,
        target=str(acceptor.addresses[version].public),
        ports=ports,
        listener=listener,
        bind=str(acceptor.addresses[version].address) if listener else "",
        greets=False,
        identity=False,
        rules=rules,
    )


def _as_proxy(opener: Place, acceptor: Place, version: int, about: str, port: int) -> Probe | None:
    """The proxy's user opens what is no flow of its."""
    target, source = acceptor.addresses[version].public, opener.addresses[version].address
    for flow in opener.flows:
        if flow.direction == "out" and _within(flow, source, target) and _holds(flow.acceptor_ports, port):
            return None
    rules = ((opener.host, ANYTHING_ELSE),)
    return _probe(about, opener, acceptor, version, user=PROXY, ports=str(port), rules=rules)


def _as_other(
    about: str,
    opener: Place,
    acceptor: Place,
    version: int,
    port: int,
    *,
    source: Address | None = None,
) -> Probe | None:
    """Another user, or an end of the path, opens to a port that the acceptor serves for somebody else."""
    source = source or opener.addresses[version].address
    target = acceptor.addresses[version]
    user, source_ports = (OTHER, _elsewhere(opener.whole)) if opener.whole else (OWN, "")
    rule = _stopped_at_opener(opener, target.public, port) if opener.whole else None
    if rule is None:
        if acceptor.whole is None or _may_come_in(acceptor, source, target.address, port, source_ports):
            return None
        rule = (acceptor.host, NOT_A_FLOW)
    return _probe(
        about,
        opener,
        acceptor,
        version,
        user=user,
        ports=str(port),
        rules=(rule,),
        source=source,
        source_ports=source_ports,
    )


def _to_the_host(opener: Place, acceptor: Place, version: int) -> Probe | None:
    """An end of the path opens to what is no port of the proxy, in scope exclusive."""
    port, source = _beyond(acceptor.listen), opener.addresses[version].address
    if any(
        service.direction == "in" and service.protocol == "tcp" and _reaches(service, source, port)
        for service in acceptor.scope.services
    ):
        return None
    rules = ((acceptor.host, TO_THE_HOST),)
    return _probe("another port", opener, acceptor, version, user=OWN, ports=str(port), rules=rules)


def _opens_data_as_other(opener: Place, acceptor: Place, version: int) -> Probe | None:
    """Another user opens data to a hop from the proxy's own source ports."""
    for mode in (ACTIVE, PASSIVE):
        flow = opener.on_leg.get(mode)
        if flow is not None and flow.direction == "out" and flow.peer_is_hop:
            return _probe(
                "another user",
                opener,
                acceptor,
                version,
                user=OTHER,
                ports=str(acceptor.listen.first),
                rules=((opener.host, OTHER_OPENS_DATA),),
                source_ports=opener.source,
            )
    return None


def _from_elsewhere(opener: Place, acceptor: Place, version: int) -> Probe | None:
    """A peer that is not listed: the opener's address on its other side."""
    if opener.whole is None or acceptor.whole is None:
        return None
    here = {each.address for each in opener.addresses.values()}
    for side in (opener.whole.client_side, opener.whole.server_side):
        for each in side.addresses:
            if each.address not in here and each.address.version == version:
                for port in _served(acceptor, elsewhere=False):
                    return _as_other("another peer", opener, acceptor, version, port, source=each.address)
    return None


def _served_by_other(opener: Place, acceptor: Place, mode: str, version: int) -> Probe | None:
    """A flow whose local end another user holds: the answer to the opening packet does not leave (F3)."""
    if acceptor.whole is None:
        return None
    return _probe(
        "another user",
        opener,
        acceptor,
        version,
        user=opener.user,
        ports=str(acceptor.listen),
        rules=(*opener.counts(mode), *acceptor.counts(mode), (acceptor.host, OTHER_SERVES)),
        source_ports=opener.source,
        listener=OTHER,
    )


def direct(near: Place, far: Place, port: int) -> Iterator[Probe]:
    """A connection to the port of the host's own that intercepted ones are handed to (POLICY 2)."""
    for version in versions(near, far)[:1]:
        probe = _as_other("another port", near, far, version, port)
        if probe is not None:
            yield probe


def past_the_proxy(first: Place, client: Place, target: Place) -> Iterator[Probe]:
    """A client's control connection to a server, or to the second hop, that the first would forward."""
    rules = ((first.host, PAST_THE_PROXY),)
    for version in versions(client, target)[:1]:
        port = str(target.control)
        yield _probe("past the proxy", client, target, version, user=OWN, ports=port, rules=rules)


def _served(place: Place, *, elsewhere: bool) -> list[int]:
    """A data port that the host serves, if any: on its other side, or (not `elsewhere`) on this leg."""
    own = {id(flow) for flow in place.on_leg.values()}
    return [
        flow.acceptor_ports[0].first
        for flow in place.flows
        if flow.direction == "in" and flow.channel == "data" and (id(flow) not in own) == elsewhere
    ][:1]


def _within(flow: Flow, local: Address | None, peer: Address) -> bool:
    """Whether the flow is between these two; None is any address of its own."""
    if local and flow.local_addresses and not any(local in network for network in flow.local_addresses):
        return False
    return any(peer in network for network in flow.peer_addresses if network.version == peer.version)


def _holds(ranges: Collection[PortRange], port: int) -> bool:
    return any(each.first <= port <= each.last for each in ranges)


def _may_come_in(place: Place, peer: Address, local: Address, port: int, source_ports: str) -> bool:
    """Whether a flow lets this in, or might: a range of source ports that touches the flow's is enough."""
    low, _dash, high = (source_ports or "1-65535").partition("-")
    source = PortRange(int(low), int(high or low))
    return any(
        flow.direction == "in"
        and _within(flow, local, peer)
        and _holds(flow.acceptor_ports, port)
        and any(each.overlaps(source) for each in flow.opener_ports)
        for flow in place.flows
    )


def _stopped_at_opener(place: Place, target: Address, port: int) -> Rule | None:
    """The rule of the opener's own host that refuses this to another user; None: it gets out."""
    for flow in place.flows:
        upstream = flow.channel == "control" and flow.direction == "out"
        if upstream and _holds(flow.acceptor_ports, port) and _within(flow, None, target):
            return place.host, OTHER_SPEAKS_FTP
    if place.scope.exclusive and not any(
        service.direction == "out" and service.protocol == "tcp" and _reaches(service, target, port)
        for service in place.scope.services
    ):
        return place.host, FROM_THE_HOST
    return None


def _reaches(service: Service, peer: Address, port: int) -> bool:
    networks = (network for network in service.networks if network.version == peer.version)
    return _holds(service.ports, port) and any(peer in network for network in networks)


def _beyond(ports: PortRange) -> int:
    return ports.last + 1 if ports.last < UNPRIVILEGED.last else ports.first - 1


def _elsewhere(host: Host) -> str:
    """Ports outside the host's four ranges for another user to open from; empty where there are none."""
    ranges = [
        each
        for side in (host.ports.client_side, host.ports.server_side)
        for each in (side.listen, side.source)
    ]
    for first in range(UNPRIVILEGED.last - BLOCK, UNPRIVILEGED.first, -BLOCK):
        block = PortRange(first, first + BLOCK - 1)
        if not any(block.overlaps(each) for each in ranges):
            return str(block)
    return ""
