# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The path as records: clients, hops, servers, and the mode of each leg.

Everything here has been checked by `description.py`; the readers (flows, settings, rules) trust it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

CLIENTS = "C"
SERVERS = "S"
RESOLVER = "resolver"  # the name servers that a hop asks
MONITOR = "monitor"  # who scrapes metrics
CONTROL_PORT = 21  # RFC 959 section 8: where every hop listens
METRICS_PORT = 9421  # where a host answers scrapes unless it says another
ACTIVE = "active"
PASSIVE = "passive"


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

    `resolvers` stands on the last hop only, where names are resolved. `spread`: the hop before takes its
    hosts in a random order, else as they are written. `identity`: the hop before, which there is, says
    first for which client it comes. `metrics_from` may scrape its hosts.
    """

    name: str
    hosts: tuple[Host, ...]
    resolvers: tuple[Address, ...] = ()
    spread: bool = False
    identity: bool = False
    metrics_from: tuple[Network, ...] = ()


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
    `data_networks` as of the clients.
    """

    networks: tuple[Network, ...]
    control_ports: tuple[int, ...] = (CONTROL_PORT,)
    ports: PortRange = UNPRIVILEGED
    fixed: str | None = None  # host:port or [IPv6]:port
    names: tuple[str, ...] = ()
    data_networks: tuple[Network, ...] = ()


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
