# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The path as records: clients, hops, servers, and the mode of each leg.

Everything here has been checked by `description.py`; the readers (flows, settings, rules) trust it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import takewhile
from typing import Final, Literal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

CLIENTS = "C"
SERVERS = "S"
RESOLVER = "resolver"  # the name servers that a hop asks
MONITOR = "monitor"  # who scrapes metrics
CONTROL_PORT = 21  # RFC 959 section 8: where every hop listens
INTERCEPT_PORT = 2121  # where a hop that intercepts listens instead: nobody addresses it
MARK = 0x51CE  # of packets to an address that is not this host's, and come to its proxy all the same
ROUTING = 21021  # the routing table that delivers them, and the priority of the rule that looks there
METRICS_PORT = 9421  # where a host answers scrapes unless it says another
ACTIVE = "active"
PASSIVE = "passive"
REDIRECT: Final = "redirect"
TPROXY: Final = "tproxy"
Intercept = Literal["", "redirect", "tproxy"]


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """TCP or UDP ports `first` to `last`, both within."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def overlaps(self, other: PortRange) -> bool:
        return self.first <= other.last and other.first <= self.last

    @property
    def size(self) -> int:
        """How many ports it holds."""
        return self.last - self.first + 1


ANY_PORT = PortRange(1, 65535)
UNPRIVILEGED = PortRange(1024, 65535)


@dataclass(frozen=True, slots=True)
class SidePorts:
    """The ports of a proxy on one side: it listens for data on `listen` and opens data from `source`."""

    listen: PortRange
    source: PortRange


@dataclass(frozen=True, slots=True)
class Ports:
    """The four ranges of a host; no two share a port."""

    client_side: SidePorts
    server_side: SidePorts


DEFAULT_PORTS = Ports(
    client_side=SidePorts(listen=PortRange(50000, 50999), source=PortRange(51000, 51999)),
    server_side=SidePorts(listen=PortRange(52000, 52999), source=PortRange(53000, 53999)),
)


@dataclass(frozen=True, slots=True)
class SideAddress:
    """A host's address on one side, and what the neighbour sees of it (the same unless translated)."""

    address: Address
    public: Address


@dataclass(frozen=True, slots=True)
class Side:
    """A host's side: at most one address of a family, IPv4 and IPv6 as they are written."""

    addresses: tuple[SideAddress, ...]

    @property
    def translated(self) -> bool:
        """Something before the neighbour rewrites addresses, and so perhaps source ports too."""
        return any(each.address != each.public for each in self.addresses)

    @property
    def seen(self) -> tuple[Network, ...]:
        """What the neighbour sees of this side, as networks of one address."""
        return tuple(single(each.public) for each in self.addresses)


@dataclass(frozen=True, slots=True)
class Host:
    """One host that runs the proxy; `name` is its inventory name, `metrics` where it answers scrapes."""

    name: str
    client_side: Side
    server_side: Side
    ports: Ports
    metrics: tuple[Address, int] | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """A position on the path: one host, or several that share the work, each side with the same families.

    `resolvers` stands only where names are resolved (`Path.naming`). `spread`: the hop before takes its
    hosts in a random order, else as they are written. `identity`: the hop before, which there is, says
    first for which client it comes. `metrics_from` may scrape its hosts. `intercept`: who stands before it
    addresses the servers, and this hop takes these connections; empty: it is addressed itself. With
    `client_source` it goes on with the address that it sees of its client, not with its own.
    """

    name: str
    hosts: tuple[Host, ...]
    resolvers: tuple[Address, ...] = ()
    spread: bool = False
    identity: bool = False
    metrics_from: tuple[Network, ...] = ()
    intercept: Intercept = ""
    client_source: bool = False

    @property
    def control_port(self) -> int:
        """Where its hosts listen for control connections at their own addresses."""
        return INTERCEPT_PORT if self.intercept else CONTROL_PORT


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients' networks, and the ports they listen on in active mode.

    `data_networks`, within the networks: where data connections may be, wherever their control connection is.
    """

    networks: tuple[Network, ...]
    ports: PortRange = UNPRIVILEGED
    data_networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers' networks, their control ports, their ports of passive data; `fixed` is the one server.

    Without `fixed`, `names` (lower case) are all that a client may name; none: any name, any address.
    `data_networks` as of the clients. `synch`: they want ABOR behind the Telnet Synch (requirement 5.3).
    """

    networks: tuple[Network, ...]
    control_ports: tuple[int, ...] = (CONTROL_PORT,)
    ports: PortRange = UNPRIVILEGED
    fixed: str | None = None  # host:port or [IPv6]:port
    names: tuple[str, ...] = ()
    data_networks: tuple[Network, ...] = ()
    synch: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a host carries at once; None: no limit but its ranges, and none of all else.

    bandwidth, bandwidth_per_session: bytes of data a second. command_line: bytes.
    """

    transfers: int | None = None
    sessions: int | None = None
    sessions_per_client: int | None = None
    sessions_per_client_per_minute: int | None = None
    bandwidth: int | None = None
    bandwidth_per_session: int | None = None
    command_line: int | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """Clients, one or more hops, servers. `modes[i]` are those of the leg on the client side of hop `i`.

    `limits` are those of each host.
    """

    clients: Clients
    hops: tuple[Hop, ...]
    servers: Servers
    modes: tuple[frozenset[str], ...]
    positions: dict[str, int] = field(repr=False, compare=False)  # inventory name -> index of its hop
    limits: Limits = Limits()

    @property
    def last(self) -> int:
        return len(self.hops) - 1

    def name(self, position: int) -> str:
        """The name at a position: -1 is the clients, `last` + 1 the servers."""
        if position < 0:
            return CLIENTS
        return self.hops[position].name if position <= self.last else SERVERS

    def leg(self, position: int) -> str:
        """The name of the leg on the client side of `position`, as `C-F`."""
        return f"{self.name(position - 1)}-{self.name(position)}"

    @property
    def naming(self) -> int | None:
        """The hop that splits a client's `USER user@host`: the last before one that intercepts, or before
        the servers. None where the first one intercepts, for there no client names its server (9.5)."""
        explicit = sum(1 for _hop in takewhile(lambda hop: not hop.intercept, self.hops))
        return explicit - 1 if explicit else None

    def dials_servers(self, position: int) -> bool:
        """Whether who stands at `position` (-1: the clients) addresses the servers themselves: behind it
        stand these, or a hop that intercepts."""
        return position == self.last or bool(self.hops[position + 1].intercept)

    def near_end(self, position: int) -> tuple[Network, ...]:
        """What is seen at `position` of whom stands before it: the clients, or that hop's server side."""
        if position == 0:
            return self.clients.networks
        seen = (each for host in self.hops[position - 1].hosts for each in host.server_side.seen)
        return self.sources(position - 1, tuple(dict.fromkeys(seen)))

    def sources(self, position: int, own: tuple[Network, ...]) -> tuple[Network, ...]:
        """Where the hop at `position` connects from on its server side, where its own addresses are `own`:
        with `client_source` what it sees of its clients, in the families that both of its sides have."""
        if not self.hops[position].client_source:
            return own
        versions = self.intercepted(position) & {each.version for each in own}
        return tuple(each for each in self.near_end(position) if each.version in versions)

    def intercepted(self, position: int) -> set[int]:
        """The families in which the hop at `position` can intercept: its own on the client side, and the
        servers'."""
        own: set[int] = {each.address.version for each in self.hops[position].hosts[0].client_side.addresses}
        return own & {each.version for each in self.servers.networks}

    def listening(self, host: Host) -> dict[str, PortRange]:
        """The ranges in which the host listens for data, by `client_side` and `server_side`.

        A side is there only where its leg has a mode in which this host is the one that listens: passive on
        the client side, active on the server side. A range carries as many transfers at once as it has ports
        (requirement 13.3); ranges that it opens from are no limit, for one port serves several far ends.
        """
        position = self.positions[host.name]
        sides = (
            ("client_side", host.ports.client_side, PASSIVE, self.modes[position]),
            ("server_side", host.ports.server_side, ACTIVE, self.modes[position + 1]),
        )
        return {side: ports.listen for side, ports, mode, modes in sides if mode in modes}

    def host(self, name: str) -> Host:
        """The host of that inventory name, which stands on the path."""
        return next(host for host in self.hops[self.positions[name]].hosts if host.name == name)


def single(address: Address) -> Network:
    """An address as the network that holds it alone (/32, /128)."""
    whole = int(address), address.max_prefixlen  # numbers: every flow is made of these, and text is slow
    return IPv4Network(whole) if address.version == 4 else IPv6Network(whole)
