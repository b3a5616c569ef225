# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The description (`sluice_topology`, `sluice_mode`, `sluice_ports`) read into a `Path`, or refused.

Every mistake is a `DescriptionError` that names the place, what was found and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from ipaddress import ip_address
from itertools import pairwise, takewhile
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    ACTIVE,
    CLIENTS,
    CONTROL_PORT,
    DEFAULT_PORTS,
    INTERCEPT_PORT,
    METRICS_PORT,
    MONITOR,
    PASSIVE,
    REDIRECT,
    RESOLVER,
    SERVERS,
    TPROXY,
    UNPRIVILEGED,
    Address,
    Clients,
    Hop,
    Host,
    Intercept,
    Limits,
    Network,
    Path,
    PortRange,
    Ports,
    Servers,
    Side,
    SideAddress,
    SidePorts,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import (
    DescriptionError,
    address,
    dns_name,
    flag,
    listed,
    mapping,
    networks,
    number,
    port,
    port_range,
    sequence,
    shown,
    wrong,
)

__all__ = ["DescriptionError", "host_on_path", "read_path"]

TOPOLOGY = "sluice_topology"
SIDES = ("client_side", "server_side")
# Names that stand in flows beside those of the hops.
OTHERS = {
    CLIENTS: "the clients",
    SERVERS: "the servers",
    RESOLVER: "the name servers",
    MONITOR: "who scrapes metrics",
}
MODES = {ACTIVE: frozenset({ACTIVE}), PASSIVE: frozenset({PASSIVE}), "both": frozenset({ACTIVE, PASSIVE})}
ORDERS = ("in_order", "spread")
INTERCEPTS: dict[str, Intercept] = {"none": "", REDIRECT: REDIRECT, TPROXY: TPROXY}
SOURCES = ("own", "client")
HOP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,15}")  # 16: an nft comment holds 128 characters
# Inventory names also stand in TOML and in file names, so nothing that needs escaping.
HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
HOST_PORT = re.compile(r"(?:\[([^]]*)\]|([^][:]*))(?::([^:]*))?")
MOST_CONTROL_PORTS = 8  # more would not fit the comment of their rule
MOST_TRANSFERS = 64512  # ports 1024 to 65535
MOST_SESSIONS = 30000  # each holds two of the 65536 descriptors that the service may have
BANDWIDTH = (1000, 10**12)  # bytes a second
LIMITS = {  # what it counts, the least, the most
    "transfers": ("transfers a host may carry at once", 1, MOST_TRANSFERS),
    "sessions": ("sessions a host may have at once", 1, MOST_SESSIONS),
    "sessions_per_client": ("sessions one client address may have at once", 1, MOST_SESSIONS),
    "sessions_per_client_per_minute": ("sessions one client may begin in a minute", 1, MOST_SESSIONS),
    "bandwidth": ("bytes of data a host may move in a second", *BANDWIDTH),
    "bandwidth_per_session": ("bytes of data a session may move in a second", *BANDWIDTH),
    "command_line": ("bytes a command line may have", 512, 65536),
}
FTP_DATA_PORT = 20  # RFC 959 section 8: the one privileged port that active data may be opened from


def read_path(topology: object, mode: object = "both", ports: object = None, limits: object = None) -> Path:
    """The path that the variables describe (`ports` None: the defaults, `limits` None: none).

    Raises DescriptionError.
    """
    defaults = _ports("sluice_ports", {} if ports is None else ports, DEFAULT_PORTS)
    found = mapping(TOPOLOGY, topology, ["clients", "hops", "servers"])
    clients = _clients(found["clients"])
    hops = _hops(found["hops"], defaults)
    servers = _servers(found["servers"], hops)
    names = [CLIENTS, *(hop.name for hop in hops), SERVERS]
    legs = [f"{near}-{far}" for near, far in pairwise(names)]
    positions = {host.name: i for i, hop in enumerate(hops) for host in hop.hosts}
    path = Path(
        clients,
        hops,
        servers,
        _modes(mode, legs),
        positions,
        _limits({} if limits is None else limits),
    )
    _check_naming(path)
    _check_families(path)
    _check_client_source(path)
    _check_intercepting_ports(path)
    _check_capacity(path)
    return path


def host_on_path(path: Path, name: object) -> Host:
    """The host with that inventory name; raises DescriptionError that names those which stand on the path."""
    if not isinstance(name, str) or name not in path.positions:
        wrong(f"{TOPOLOGY}.hops", f"no host {shown(name)}", f"one of {listed(list(path.positions))}")
    return path.host(str(name))


def _limits(value: object) -> Limits:
    place = "sluice_limits"
    result: dict[str, int] = {}
    for key, each in mapping(place, value, [], list(LIMITS)).items():
        words, least, most = LIMITS[str(key)]
        what = f"how many {words}, {least} to {most}"
        result[str(key)] = number(f"{place}.{key}", each, what)
        if not least <= result[str(key)] <= most:
            wrong(f"{place}.{key}", str(each), what)
    return Limits(**result)


def _check_capacity(path: Path) -> None:
    """Each range that a host listens in carries as many transfers as the limit says."""
    wanted = path.limits.transfers
    if wanted is None:
        return
    for hop in path.hops:
        for host in hop.hosts:
            for side, ports in path.listening(host).items():
                if ports.size < wanted:
                    wrong(
                        "sluice_limits.transfers",
                        str(wanted),
                        f"at most {ports.size}, for {side}.listen of {host.name} ({ports}) carries no more",
                    )


def _clients(value: object) -> Clients:
    place = f"{TOPOLOGY}.clients"
    found = mapping(place, value, ["networks"], ["ports", "data_networks"])
    within = networks(f"{place}.networks", found["networks"])
    return Clients(
        within,
        port_range(f"{place}.ports", found["ports"]) if "ports" in found else UNPRIVILEGED,
        _data_networks(place, found, within),
    )


def _data_networks(place: str, found: Mapping[str, Any], within: Sequence[Network]) -> tuple[Network, ...]:
    """Where data connections may be at beside the address of their control connection.

    They lie within the networks, which the flows name: so a list adds no flow, and the rules carry it all.
    """
    if "data_networks" not in found:
        return ()
    result = networks(f"{place}.data_networks", found["data_networks"])
    for i, each in enumerate(result):
        if not any(each.version == one.version and each.subnet_of(one) for one in within):  # type: ignore[arg-type]
            wrong(f"{place}.data_networks[{i}]", str(each), f"a network within those of {place}.networks")
    return result


def _hops(value: object, defaults: Ports) -> tuple[Hop, ...]:
    place = f"{TOPOLOGY}.hops"
    entries = sequence(place, value, "hops")
    hops: list[Hop] = []
    names = set(OTHERS)
    hosts: dict[str, str] = {}
    addresses: dict[Address, str] = {}
    for i, entry in enumerate(entries):
        at = f"{place}[{i}]"
        keys = ["resolvers", "order", "identity", "metrics_from", "intercept", "source"]
        found = mapping(at, entry, ["name", "hosts"], keys)
        name = _hop_name(f"{at}.name", found["name"], names)
        members = _hosts(f"{at}.hosts", found["hosts"], defaults, hosts, addresses)
        resolvers: tuple[Address, ...] = ()
        if "resolvers" in found:
            each = sequence(f"{at}.resolvers", found["resolvers"], "addresses of name servers")
            resolvers = tuple(_resolver(f"{at}.resolvers[{j}]", one) for j, one in enumerate(each))
        identity = flag(f"{at}.identity", found.get("identity", False))
        if identity and not hops:
            wrong(
                f"{at}.identity",
                f"true on hop {name}",
                "it on a later hop only, for nobody tells the first one more than it sees",
            )
        spread = _spread(f"{at}.order", i, found.get("order", ORDERS[0]))
        scrapers = networks(f"{at}.metrics_from", found["metrics_from"]) if "metrics_from" in found else ()
        intercept = _one_of(f"{at}.intercept", found.get("intercept", "none"), list(INTERCEPTS))
        client_source = _one_of(f"{at}.source", found.get("source", SOURCES[0]), SOURCES) == SOURCES[1]
        hops.append(
            Hop(
                name,
                members,
                resolvers,
                spread,
                identity,
                scrapers,
                intercept=INTERCEPTS[intercept],
                client_source=client_source,
            )
        )
        _check_intercepting(at, hops)
        _check_scraped(at, hops[-1])
    _check_public(hops)
    _check_metrics_addresses(hops)
    return tuple(hops)


def _one_of(place: str, value: object, words: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in words:
        wrong(place, shown(value), f"{', '.join(words[:-1])} or {words[-1]}")
    return str(value)


def _check_intercepting(at: str, hops: Sequence[Hop]) -> None:
    """What the last of these hops may not be at once, for nobody addresses it, or for whom it stands."""
    hop = hops[-1]
    if hop.client_source and hop.intercept != TPROXY:
        wrong(f"{at}.source", f"client on hop {hop.name}", f"it with intercept: {TPROXY} only")
    if hop.identity and hop.intercept:
        wrong(
            f"{at}.identity",
            f"true on hop {hop.name}, which intercepts",
            "it on a hop only that the one before addresses: a header to an intercepted server would be lost",
        )
    if hop.identity and hops[-2].client_source:
        wrong(
            f"{at}.identity",
            f"true on hop {hop.name}, and source: client on hop {hops[-2].name}",
            "one of them, for a header is believed of a hop's own address, not of a client's",
        )
    if hop.spread and hop.intercept:
        wrong(
            f"{at}.order",
            f"{ORDERS[1]} on hop {hop.name}, which intercepts",
            "it on a hop only that the one before addresses: here routing picks the host",
        )


def _check_naming(path: Path) -> None:
    """Resolvers stand only where a client's server is named."""
    for i, hop in enumerate(path.hops):
        if not hop.resolvers or i == path.naming:
            continue
        where = "them on no hop, for the first one intercepts and no client names its server"
        if path.naming is not None:
            position = "the last hop" if path.naming == path.last else f"hop {path.name(path.naming)}"
            where = f"them on {position} only, where names are resolved"
        wrong(f"{TOPOLOGY}.hops[{i}].resolvers", f"resolvers on hop {hop.name}", where)


def _check_intercepting_ports(path: Path) -> None:
    """A hop that intercepts has its control port in none of its ranges, and takes servers' control ports for
    control wherever they lie."""
    own = PortRange(INTERCEPT_PORT, INTERCEPT_PORT)
    for i, hop in enumerate(path.hops):
        for host in hop.hosts if hop.intercept else ():
            at = f"{TOPOLOGY}.hops[{i}].hosts.{host.name}"
            for side, ports in (
                ("client_side", host.ports.client_side),
                ("server_side", host.ports.server_side),
            ):
                for leaf, used in (("listen", ports.listen), ("source", ports.source)):
                    if used.overlaps(own):
                        wrong(
                            at,
                            f"port {own} in {side}.{leaf} {used}",
                            f"a range without it, for hop {hop.name} intercepts and listens there",
                        )
            for control in path.servers.control_ports:
                listen = host.ports.client_side.listen
                if listen.overlaps(PortRange(control, control)):
                    wrong(
                        at,
                        f"port {control} of {TOPOLOGY}.servers.control_ports in client_side.listen {listen}",
                        f"a range without it, for hop {hop.name} intercepts both at the servers' addresses",
                    )
            if host.metrics and host.metrics[1] == INTERCEPT_PORT:
                wrong(f"{at}.metrics", f"port {own}", f"another one, for hop {hop.name} listens there")


def _resolver(place: str, value: object) -> Address:
    # A stub resolver on loopback is fine (F23).
    result = address(place, value)
    if result.is_multicast or result.is_unspecified:
        wrong(place, shown(value), "the address of a name server")
    return result


def _spread(place: str, position: int, value: object) -> bool:
    if not isinstance(value, str) or value not in ORDERS:
        wrong(place, shown(value), " or ".join(ORDERS))
    spread = value == ORDERS[1]
    if spread and position == 0:
        wrong(
            place, f"{shown(value)} on the first hop", "it on a later one: clients pick their host themselves"
        )
    return spread


def _hop_name(place: str, value: object, taken: set[str]) -> str:
    what = "1 to 16 letters, digits and _, beginning with a letter"
    if not isinstance(value, str) or not HOP_NAME.fullmatch(value):
        wrong(place, shown(value), what)
    if value in taken:
        whose = f"the name of {OTHERS[value]}" if value in OTHERS else "which another hop has"
        wrong(place, f"{shown(value)}, {whose}", "a name of its own")
    taken.add(str(value))
    return str(value)


def _hosts(
    place: str, value: object, defaults: Ports, hosts: dict[str, str], addresses: dict[Address, str]
) -> tuple[Host, ...]:
    if not isinstance(value, Mapping) or not value:
        wrong(place, shown(value) if value else "no host", "a mapping of inventory names to their addresses")
    result = []
    for name, entry in value.items():
        if not isinstance(name, str) or not HOST_NAME.fullmatch(name):
            wrong(place, f"the host {shown(name)}", "an inventory name of letters, digits, _, . and -")
        at = f"{place}.{name}"
        if name in hosts:
            wrong(at, f"the host {name} again, which stands at {hosts[name]}", "a host in one place only")
        hosts[str(name)] = at
        found = mapping(at, entry, SIDES, ["public", "ports", "metrics"])
        public = mapping(f"{at}.public", found["public"], [], SIDES) if "public" in found else {}
        sides = [_side(at, side, found[side], public.get(side), addresses) for side in SIDES]
        ports = _ports(f"{at}.ports", found["ports"], defaults) if "ports" in found else defaults
        metrics = _metrics(f"{at}.metrics", found["metrics"], ports) if "metrics" in found else None
        result.append(Host(str(name), sides[0], sides[1], ports, metrics))
        _check_alike(at, result[0], result[-1])
    return tuple(result)


def _metrics(place: str, value: object, ports: Ports) -> tuple[Address, int]:
    """Where a host answers scrapes: `ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`, outside of its four ranges."""
    host, said = _host_and_port(value) if isinstance(value, str) else ("", None)
    try:
        found = ip_address(host)
    except ValueError:
        wrong(place, shown(value), "ADDRESS, IPV4:PORT or [IPV6]:PORT")
    if "%" in host or found.is_multicast or found.is_unspecified or found.is_loopback or found.is_link_local:
        wrong(place, shown(value), "an address that those who scrape it can reach")
    chosen = METRICS_PORT if said is None else port(place, said)
    if chosen < UNPRIVILEGED.first:
        wrong(place, f"port {chosen}", f"a port from {UNPRIVILEGED.first} to {UNPRIVILEGED.last}")
    for side, each in (("client_side", ports.client_side), ("server_side", ports.server_side)):
        for leaf, used in (("listen", each.listen), ("source", each.source)):
            if used.overlaps(PortRange(chosen, chosen)):
                wrong(
                    place,
                    f"port {chosen} of {side}.{leaf} {used}",
                    "a port outside of the host's four ranges",
                )
    return found, chosen


def _check_scraped(at: str, hop: Hop) -> None:
    """Who scrapes and where stand together, on each host of the hop, in a family that both have."""
    for host in hop.hosts:
        place = f"{at}.hosts.{host.name}"
        if host.metrics and not hop.metrics_from:
            wrong(
                f"{place}.metrics", f"{host.metrics[0]}", f"metrics_from on hop {hop.name}: who may scrape it"
            )
        if hop.metrics_from and not host.metrics:
            wrong(place, "no metrics", f"the address that answers metrics_from of hop {hop.name}")
        if host.metrics and host.metrics[0].version not in {each.version for each in hop.metrics_from}:
            version = host.metrics[0].version
            wrong(
                f"{place}.metrics",
                f"{host.metrics[0]}",
                f"an IPv{version} network in metrics_from, or another family",
            )


def _check_metrics_addresses(hops: list[Hop]) -> None:
    """The address that a host answers scrapes on is no other host's."""
    owners: dict[Address, str] = {}
    every = [
        (f"{TOPOLOGY}.hops[{i}].hosts.{host.name}", host) for i, hop in enumerate(hops) for host in hop.hosts
    ]
    for at, host in every:
        owners |= {
            each.address: at for side in (host.client_side, host.server_side) for each in side.addresses
        }
    for at, host in every:
        if host.metrics and owners.setdefault(host.metrics[0], at) != at:
            wrong(
                f"{at}.metrics",
                f"{host.metrics[0]}, which stands at {owners[host.metrics[0]]} too",
                "an address of its own",
            )


def _check_alike(at: str, first: Host, host: Host) -> None:
    """The hosts of a hop share its work, so each side of them has the same families."""
    for side in SIDES:
        one, other = ({each.address.version for each in getattr(h, side).addresses} for h in (first, host))
        if one != other:
            wrong(f"{at}.{side}", _families(other), f"{_families(one)}, as {first.name} of the same hop has")


def _side(at: str, side: str, value: object, public: object, seen: dict[Address, str]) -> Side:
    """One side's addresses, each with what its neighbour sees; `seen` are the addresses so far, by place."""
    place = f"{at}.{side}"
    real = _side_addresses(place, value)
    for each in real:
        if each in seen:
            wrong(place, f"{each}, which stands at {seen[each]} too", "an address of its own")
        seen[each] = place
    translated = (
        {} if public is None else {p.version: p for p in _side_addresses(f"{at}.public.{side}", public)}
    )
    versions = {each.version for each in real}
    for version, each in translated.items():
        if version not in versions:
            wrong(f"{at}.public.{side}", f"{each}", f"no IPv{version} address, as {side} has none")
    return Side(tuple(SideAddress(each, translated.get(each.version, each)) for each in real))


def _side_addresses(place: str, value: object) -> list[Address]:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not entries:
        wrong(place, shown(value), "an address, or a list of one IPv4 and one IPv6 address")
    result: list[Address] = []
    for entry in entries:
        found = address(place, entry)
        if found.is_multicast or found.is_unspecified or found.is_loopback or found.is_link_local:
            wrong(place, shown(entry), "an address that its neighbours can reach")
        if any(found.version == each.version for each in result):
            wrong(place, f"two IPv{found.version} addresses", "at most one address of a family on a side")
        result.append(found)
    return result


def _check_public(hops: list[Hop]) -> None:
    """The two ends of a leg must look different to each other."""
    for i, (near, far) in enumerate(pairwise(hops)):
        seen = {each.public: host for host in near.hosts for each in host.server_side.addresses}
        for host in far.hosts:
            for each in host.client_side.addresses:
                if each.public in seen:
                    wrong(
                        f"{TOPOLOGY}.hops[{i + 1}].hosts.{host.name}.client_side",
                        f"{each.public}, which is also what {host.name} sees of {seen[each.public].name}",
                        f"another address at either end of the leg {near.name}-{far.name}",
                    )


def _ports(place: str, value: object, defaults: Ports) -> Ports:
    """The ranges of `value` over those of `defaults`; no two of the four may share a port."""
    found = mapping(place, value, [], SIDES)
    client = _side_ports(
        f"{place}.client_side", found.get("client_side", {}), defaults.client_side, FTP_DATA_PORT
    )
    server = _side_ports(f"{place}.server_side", found.get("server_side", {}), defaults.server_side, None)
    ranges = {
        "client_side.listen": client.listen,
        "client_side.source": client.source,
        "server_side.listen": server.listen,
        "server_side.source": server.source,
    }
    names = list(ranges)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if ranges[one].overlaps(ranges[other]):
                wrong(
                    place,
                    f"{one} {ranges[one]} and {other} {ranges[other]}, which overlap",
                    "four ranges that share no port",
                )
    return Ports(client, server)


def _side_ports(place: str, value: object, defaults: SidePorts, also: int | None) -> SidePorts:
    found = mapping(place, value, [], ["listen", "source"])
    return SidePorts(
        port_range(f"{place}.listen", found["listen"]) if "listen" in found else defaults.listen,
        port_range(f"{place}.source", found["source"], also=also) if "source" in found else defaults.source,
    )


def _servers(value: object, hops: Sequence[Hop]) -> Servers:
    place = f"{TOPOLOGY}.servers"
    keys = ["control_ports", "ports", "fixed", "names", "data_networks", "synch"]
    found = mapping(place, value, ["networks"], keys)
    within = networks(f"{place}.networks", found["networks"])
    control = (
        _control_ports(f"{place}.control_ports", found["control_ports"])
        if "control_ports" in found
        else (CONTROL_PORT,)
    )
    intercepting = [hop.name for hop in hops if hop.intercept]
    if "fixed" in found and intercepting:
        wrong(
            f"{place}.fixed",
            f"fixed, and that hop {intercepting[0]} intercepts",
            "one of them, for who is intercepted has named the server by its address",
        )
    return Servers(
        within,
        control,
        port_range(f"{place}.ports", found["ports"]) if "ports" in found else UNPRIVILEGED,
        _fixed(f"{place}.fixed", found["fixed"], within, control, hops[-1]) if "fixed" in found else None,
        _names(place, found, hops) if "names" in found else (),
        _data_networks(place, found, within),
        flag(f"{place}.synch", found.get("synch", False)),
    )


def _names(servers: str, found: Mapping[str, Any], hops: Sequence[Hop]) -> tuple[str, ...]:
    """The names that a client may ask for, without case and the dot at the end."""
    if "fixed" in found:
        wrong(servers, "fixed and names", "one of them, for with fixed no client names its server")
    place = f"{servers}.names"
    result: list[str] = []
    for i, entry in enumerate(sequence(place, found["names"], "names of servers")):
        name = dns_name(entry)
        if name is None:
            wrong(f"{place}[{i}]", shown(entry), "the name of a server, as ftp.example.org")
        if name in result:
            wrong(f"{place}[{i}]", f"{name} again", "each name once")
        result.append(name)
    if hops[0].intercept:
        wrong(
            place,
            f"names, and that hop {hops[0].name} intercepts",
            "one of them, for no client names its server there",
        )
    naming = list(takewhile(lambda hop: not hop.intercept, hops))[-1]
    if not naming.resolvers:
        where = "the last hop" if naming is hops[-1] else "hop"
        wrong(place, "names", f"them only with resolvers on {where} {naming.name}")
    return tuple(result)


def _control_ports(place: str, value: object) -> tuple[int, ...]:
    entries = sequence(place, value, "ports")
    if len(entries) > MOST_CONTROL_PORTS:
        wrong(place, f"{len(entries)} ports", f"at most {MOST_CONTROL_PORTS}")
    result: list[int] = []
    for i, entry in enumerate(entries):
        found = port(f"{place}[{i}]", entry)
        if found in result:
            wrong(f"{place}[{i}]", f"{found} again", "each port once")
        result.append(found)
    return tuple(result)


def _fixed(
    place: str, value: object, within: tuple[Network, ...], control: tuple[int, ...], last: Hop
) -> str:
    """`HOST:PORT` or `[IPV6]:PORT` of the one server; the first control port where none is said."""
    what = "HOST, HOST:PORT or [IPV6]:PORT"
    if not isinstance(value, str) or not value:
        wrong(place, shown(value), what)
    host, said = _host_and_port(str(value))
    chosen = control[0] if said is None else port(place, said)
    if chosen not in control:
        wrong(
            place,
            f"port {chosen}",
            f"one of sluice_topology.servers.control_ports ({listed([str(p) for p in control])})",
        )
    try:
        found = ip_address(host)
    except ValueError:
        if dns_name(host) is None:
            wrong(place, shown(value), what)
        if not last.resolvers:
            wrong(place, f"the name {host}", f"an address, or resolvers on the last hop {last.name}")
        return f"{host}:{chosen}"
    if not any(found in each for each in within):
        wrong(place, f"{found}", "an address in sluice_topology.servers.networks")
    versions = {each.address.version for one in last.hosts for each in one.server_side.addresses}
    if found.version not in versions:
        wrong(place, f"{found}", f"an address of a family that server_side of hop {last.name} has")
    return f"[{found}]:{chosen}" if found.version == 6 else f"{found}:{chosen}"


def _host_and_port(value: str) -> tuple[str, str | None]:
    found = HOST_PORT.fullmatch(value)
    return (
        (found[1] or found[2], found[3]) if found else (value, None)
    )  # the rest: IPv6 alone, or no host at all


def _modes(value: object, legs: list[str]) -> tuple[frozenset[str], ...]:
    place = "sluice_mode"
    if not isinstance(value, Mapping):
        return tuple([_mode(place, value, f", or one of them for each leg ({listed(legs)})")] * len(legs))
    for leg in value:
        if leg not in legs:
            wrong(place, f"the leg {shown(leg)}", f"only the legs {listed(legs)}")
    for leg in legs:
        if leg not in value:
            wrong(place, f"no mode for the leg {leg}", f"a mode for each leg: {listed(legs)}")
    return tuple(_mode(f"{place}.{leg}", value[leg]) for leg in legs)


def _mode(place: str, value: Any, also: str = "") -> frozenset[str]:
    if not isinstance(value, str) or value not in MODES:
        wrong(place, shown(value), f"active, passive or both{also}")
    return MODES[value]


def _check_families(path: Path) -> None:
    """Each leg needs a family that both of its ends have; where one intercepts, the servers, too."""
    servers = {each.version for each in path.servers.networks}
    ends = [{each.public.version for each in hop.hosts[0].client_side.addresses} for hop in path.hops]
    for position, far in enumerate([*ends, servers]):
        near = {each.version for each in path.near_end(position)}
        names = path.name(position - 1), path.name(position)
        intercepts = position <= path.last and path.hops[position].intercept
        if intercepts and not near & path.intercepted(position):
            wrong(
                f"{TOPOLOGY}, leg {path.leg(position)}",
                f"{_families(near)} at {names[0]}, {_families(far)} at {names[1]}, which intercepts, and "
                f"{_families(servers)} at {SERVERS}",
                "a family that all three have",
            )
        if not near & far:
            wrong(
                f"{TOPOLOGY}, leg {path.leg(position)}",
                f"{_families(near)} at {names[0]} and {_families(far)} at {names[1]}",
                "a family that both ends have",
            )


def _check_client_source(path: Path) -> None:
    """A hop that goes on with its client's address addresses the next one in the client's family."""
    for i, hop in enumerate(path.hops):
        if not hop.client_source or path.dials_servers(i):
            continue
        needed = path.intercepted(i) & {each.version for each in path.near_end(i)}
        behind = path.hops[i + 1]
        for name, side, where in (
            (hop.name, hop.hosts[0].server_side, "server_side"),
            (behind.name, behind.hosts[0].client_side, "client_side"),
        ):
            missing = needed - {each.address.version for each in side.addresses}
            if missing:
                wrong(
                    f"{TOPOLOGY}.hops[{i}].source",
                    f"client on hop {hop.name}, and no {_families(missing)} on {where} of hop {name}",
                    "every family there that its clients use",
                )


def _families(versions: AbstractSet[int]) -> str:
    return " and ".join(f"IPv{version}" for version in sorted(versions))
