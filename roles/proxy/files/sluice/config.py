# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy's settings: read from TOML and validated; every error names its key."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from sluice.ports import PortRange
from sluice.protocol.addresses import Address
from sluice.protocol.lines import LINE_LIMIT
from sluice.protocol.verbs import Mode, Use

_T = TypeVar("_T")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_EVERYBODY: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_MODES = {
    "active": (Mode.ACTIVE,),
    "passive": (Mode.PASSIVE,),
    "both": (Mode.PASSIVE, Mode.ACTIVE),
}
_ORDERS = {"in_order": False, "spread": True}

PRESETS = {
    "read-only": frozenset({Use.SESSION, Use.READ}),
    "upload-only": frozenset({Use.SESSION, Use.UPLOAD}),
}


class ConfigError(Exception):
    """The settings are wrong; `problems` holds one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class Intercept(Enum):
    """How connections to the servers come to the proxy (PROTOCOL 9): which end of them is its own."""

    REDIRECT = "redirect"  # its address, the kernel translates
    TPROXY = "tproxy"  # the server's


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of this host: its sockets use `address`, the neighbour is told `public`."""

    address: Address
    public: Address


@dataclass(frozen=True, slots=True)
class PeerPorts:
    """The ports that a neighbour may name: one range for all, or one for each of its hosts."""

    ranges: tuple[tuple[tuple[Network, ...], PortRange], ...]

    def at(self, address: Address) -> tuple[PortRange, ...]:
        """Return the ranges of the neighbour with that address."""
        return tuple(ports for peers, ports in self.ranges if any(address in each for each in peers))


@dataclass(frozen=True, slots=True)
class CommandRule:
    """What far ends in `networks`, or servers of these `names`, may be asked, or may ask for (PROTOCOL 7.9).

    uses: None for any, unknown verbs too. anonymous: nobody else may log in. allow, deny: verbs, upper case.
    `allow` adds to `uses`; without these it is all that is allowed, beside what every session needs.
    """

    networks: tuple[Network, ...] = _EVERYBODY
    names: tuple[str, ...] = ()
    uses: frozenset[Use] | None = None
    anonymous: bool = False
    allow: frozenset[bytes] = frozenset()
    deny: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class LegSettings:
    """What the proxy needs of one of its two legs.

    listen, source: its own data ports; peer_ports: ports that the neighbour may name; data_networks: where a
    data connection may be at beside the address of its control connection; commands: the first rule that
    holds the far end counts.
    """

    leg: str
    neighbour: str
    modes: tuple[Mode, ...]
    addresses: tuple[LocalAddress, ...]
    listen: PortRange
    source: PortRange
    peer_ports: PeerPorts
    data_networks: tuple[Network, ...]
    commands: tuple[CommandRule, ...]

    def local(self, version: int) -> LocalAddress | None:
        """Return this side's address of IP version 4 or 6, if it has one."""
        return next((a for a in self.addresses if a.address.version == version), None)

    def public(self, address: Address) -> Address:
        """Return what the neighbour sees of `address`."""
        return next((a.public for a in self.addresses if a.address == address), address)

    def foreign(self, address: Address) -> bool:
        """Whether a socket at `address` is at somebody else's, which takes IP_TRANSPARENT (PROTOCOL 9)."""
        return all(a.address != address for a in self.addresses)


@dataclass(frozen=True, slots=True)
class ClientSide(LegSettings):
    """The leg towards the clients: `peers` may connect to `control_port`.

    greeting: the lines of the 220 that a client gets, none for the server's or the proxy's own.
    identity: they are the hop before, and say first for whom (PROTOCOL 14.1).
    intercept: they address the servers; None: they address the proxy. destinations, destination_ports: what
    they may have addressed then (PROTOCOL 9.1).
    """

    peers: tuple[Network, ...]
    control_port: int
    greeting: tuple[str, ...] = ()
    identity: bool = False
    intercept: Intercept | None = None
    destinations: tuple[Network, ...] = ()
    destination_ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerSide(LegSettings):
    """The leg towards the servers.

    client_source: its sockets are at the client's address (PROTOCOL 9.2). further_hops: addresses of the hops
    behind, which are no servers (PROTOCOL 9.1).
    """

    client_source: bool = False
    further_hops: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the next hop, as seen from here."""

    name: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class NextHop:
    """The hop that every session goes to: its hosts in order, or with `spread` in a random one.

    identity: it wants to know for whom (PROTOCOL 14.1). user_at_host: it is told the server that the client
    addressed, as USER user@host:port.
    """

    hosts: tuple[Host, ...]
    control_port: int
    spread: bool = False
    identity: bool = False
    user_at_host: bool = False


@dataclass(frozen=True, slots=True)
class Fixed:
    """The one server that every session goes to: an address, or a name for the resolvers."""

    host: Address | str
    port: int


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that the last hop may speak to.

    names: the only ones that clients may name; none: any. synch: ABOR goes to them behind IAC IP, IAC DM.
    """

    networks: tuple[Network, ...]
    control_ports: tuple[int, ...]
    fixed: Fixed | None
    resolvers: tuple[Address, ...]
    names: tuple[str, ...] = ()
    synch: bool = False


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; what each bounds stands in PROTOCOL 2.2, 2.11, 3.21, 4.11 and 10.4. total None: no limit."""

    connect: float = 10
    greeting: float = 20
    data_connect: float = 30
    data_idle: float = 300
    reply: float = 600
    idle: float = 900
    drain: float = 3600
    login: float = 120
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How many at once; 0: transfers as the ranges hold (PROTOCOL 13.7), all else without a limit (2.12).

    bandwidth, bandwidth_per_session: bytes of data a second. command_line: bytes (1.4).
    """

    transfers: int = 0
    sessions: int = 0
    sessions_per_client: int = 0
    sessions_per_client_per_minute: int = 0
    bandwidth: int = 0
    bandwidth_per_session: int = 0
    command_line: int = LINE_LIMIT


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the proxy answers scrapes, and who may scrape it."""

    address: Address
    port: int
    peers: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """All of sluice.toml; exactly one of next_hop and servers is there."""

    hop: str
    host: str
    client_side: ClientSide
    server_side: ServerSide
    next_hop: NextHop | None
    servers: Servers | None
    timeouts: Timeouts
    limits: Limits = Limits()
    workers: int = 0  # as many as there are processors
    xferlog: bool = False  # a line for each file, as wu-ftpd wrote it
    metrics: Metrics | None = None


def load(path: str, stdin: Callable[[], bytes]) -> Settings:
    """Read and validate the settings in file `path`, or what `stdin` returns for "-". Raises ConfigError."""
    try:
        raw = stdin() if path == "-" else Path(path).read_bytes()
        data = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}."]) from None
    except ValueError as error:  # no UTF-8, no TOML
        raise ConfigError([f"{path}: no TOML: {error}."]) from None
    return parse(data)


def parse(data: dict[str, Any]) -> Settings:
    """Validate what TOML gave. Raises ConfigError with all mistakes, each naming its key."""
    problems: list[str] = []
    top = _Table(problems, "", data)
    hop = top.take("hop", _text, "a name")
    host = top.take("host", _text, "a name")
    client_side = _client_side(top.table("client_side"))
    server_side = _server_side(top.table("server_side"))
    next_hop = _next_hop(top.table("next_hop")) if "next_hop" in top else None
    servers = _servers(top.table("servers")) if "servers" in top else None
    if ("next_hop" in top) == ("servers" in top):
        problems.append("next_hop, servers: exactly one of the two tables is expected.")
    if not problems:  # else it would be of what is not there
        problems += _inconsistent(client_side, server_side, next_hop, servers)
    table = top.table("timeouts") if "timeouts" in top else _Table(problems, "timeouts", {})
    seconds = "a number of seconds above 0"
    timeouts = Timeouts(
        **{
            f.name: table.take(f.name, _seconds, seconds, f.default)
            for f in fields(Timeouts)
            if f.default is not None or f.name in table
        }
    )
    limits = _limits(top.table("limits")) if "limits" in top else Limits()
    metrics = _metrics(top.table("metrics")) if "metrics" in top else None
    workers = top.take("workers", _workers, "1 to 64 processes", 0)
    xferlog = top.take("xferlog", _flag, "true or false", False)
    top.done()
    if problems:
        raise ConfigError(problems)
    return Settings(
        hop, host, client_side, server_side, next_hop, servers, timeouts, limits, workers, xferlog, metrics
    )


class _Table:
    """A table being read; it knows its path, notes problems, and which keys nobody asked for.

    What is wrong comes back as None: nobody sees it, for a problem is noted then.
    """

    def __init__(self, problems: list[str], path: str, data: object) -> None:
        self._problems = problems
        self._path = path
        self._asked: set[str] = set()
        self.tables: list[_Table] = []
        if not isinstance(data, dict):
            problems.append(f"{path}: found {_show(data)}, expected a table.")
        self._data: dict[str, Any] = data if isinstance(data, dict) else {}
        self._void = not isinstance(data, dict)

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def _key(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def holds_list(self, key: str) -> bool:
        """Whether `key` holds a list."""
        return isinstance(self._data.get(key), list)

    def take(self, key: str, convert: Callable[[Any], Any], expected: str, default: Any = None) -> Any:
        """Return the converted value of `key`; noted as missing when there is neither it nor a default."""
        self._asked.add(key)
        if key not in self._data:
            if default is None and not self._void:
                self._problems.append(f"{self._key(key)}: missing, expected {expected}.")
            return default
        try:
            return convert(self._data[key])
        except (ValueError, TypeError, KeyError):
            self._problems.append(f"{self._key(key)}: found {_show(self._data[key])}, expected {expected}.")
            return default

    def table(self, key: str) -> _Table:
        """Return the table under `key`."""
        self._asked.add(key)
        if key not in self._data:
            self._problems.append(f"{self._key(key)}: missing, expected a table.")
            child = _Table([], self._key(key), {})
        else:
            child = _Table(self._problems, self._key(key), self._data[key])
            self.tables.append(child)
        return child

    def list_of_tables(self, key: str) -> list[_Table]:
        """Return the tables in the list under `key`, at least one."""
        self._asked.add(key)
        value = self._data.get(key)
        if not isinstance(value, list) or not value:
            if not self._void:
                self._problems.append(f"{self._key(key)}: found {_show(value)}, expected a list of tables.")
            return []
        children = [_Table(self._problems, f"{self._key(key)}[{n}]", v) for n, v in enumerate(value)]
        self.tables += children
        return children

    def done(self) -> None:
        """Note the keys that nobody asked for, here and below."""
        for table in self.tables:
            table.done()
        for key in sorted(self._data.keys() - self._asked):
            self._problems.append(f"{self._key(key)}: unknown key.")

    def problem(self, key: str, sentence: str) -> None:
        """Note what is wrong about a value that was read well."""
        self._problems.append(f"{self._key(key)}: {sentence}")


def _leg(table: _Table) -> dict[str, Any]:
    ports = "a port range such as 50000-50999"
    return {
        "leg": table.take("leg", _text, "a name"),
        "neighbour": table.take("neighbour", _text, "a name"),
        "modes": table.take("mode", _mode, "active, passive or both"),
        "addresses": _addresses(table),
        "listen": table.take("listen", PortRange.parse, ports),
        "source": table.take("source", PortRange.parse, ports),
        "peer_ports": _peer_ports(table, ports),
        "data_networks": table.take("data_networks", _networks, "a list of networks")
        if "data_networks" in table
        else (),
        "commands": tuple(_command_rule(each) for each in table.list_of_tables("commands"))
        if "commands" in table
        else (),
    }


def _command_rule(table: _Table) -> CommandRule:
    keys: dict[str, tuple[Callable[[Any], Any], str]] = {
        "networks": (_networks, "a list of networks"),
        "preset": (PRESETS.__getitem__, " or ".join(PRESETS)),
        "names": (_list(_name), "a list of names"),
        "anonymous": (_flag, "true or false"),
        "allow": (_list(_verb), "a list of verbs"),
        "deny": (_list(_verb), "a list of verbs"),
    }
    found = {key: table.take(key, *keys[key]) for key in keys if key in table}
    return CommandRule(
        networks=found.get("networks") or (() if "names" in found else _EVERYBODY),
        names=found.get("names") or (),
        uses=found.get("preset"),
        anonymous=bool(found.get("anonymous")),
        allow=frozenset(found.get("allow") or ()),
        deny=frozenset(found.get("deny") or ()),
    )


def _peer_ports(table: _Table, expected: str) -> PeerPorts:
    """One range, or a list of tables that give each host of the neighbour its own."""
    if not table.holds_list("peer_ports"):
        ports = table.take("peer_ports", PortRange.parse, expected)
        return PeerPorts(((_EVERYBODY, ports),))
    return PeerPorts(
        tuple(
            (
                entry.take("peers", _networks, "a list of networks"),
                entry.take("ports", PortRange.parse, expected),
            )
            for entry in table.list_of_tables("peer_ports")
        )
    )


def _limits(table: _Table) -> Limits:
    named = [f.name for f in fields(Limits) if f.name in table]
    kinds = {"command_line": (_line_length, "a length of 512 to 65536 bytes")}
    number = (_count, "a number above 0")
    return Limits(**{name: table.take(name, *kinds.get(name, number)) for name in named})


def _metrics(table: _Table) -> Metrics:
    return Metrics(
        table.take("address", _address, "an IP address"),
        table.take("port", _port, "a port of 1 to 65535"),
        table.take("peers", _networks, "a list of networks"),
    )


def _inconsistent(
    client_side: ClientSide, server_side: ServerSide, next_hop: NextHop | None, servers: Servers | None
) -> list[str]:
    """What the tables say of interception that does not go together, a sentence for each."""
    found = []
    if server_side.client_source and client_side.intercept is not Intercept.TPROXY:
        found.append("server_side.client_source: found true, expected false without tproxy.")
    if client_side.intercept:
        if client_side.identity:
            found.append("client_side.identity: found true, expected false with client_side.intercept.")
        if servers and servers.fixed:
            found.append("servers.fixed: unexpected with client_side.intercept: clients address the server.")
        if servers and servers.names:
            found.append("servers.names: unexpected with client_side.intercept: clients name no server.")
        if next_hop and not next_hop.user_at_host:
            found.append("next_hop.user_at_host: found false, expected true with client_side.intercept.")
    elif next_hop and next_hop.user_at_host:
        found.append("next_hop.user_at_host: found true, expected false without client_side.intercept.")
    return found


def _server_side(table: _Table) -> ServerSide:
    return ServerSide(
        **_leg(table),
        client_source=table.take("client_source", _flag, "true or false", False),
        further_hops=table.take("further_hops", _list(_address), "a list of addresses", ()),
    )


def _client_side(table: _Table) -> ClientSide:
    intercepts = "intercept" in table
    return ClientSide(
        **_leg(table),
        intercept=table.take("intercept", Intercept, "redirect or tproxy") if intercepts else None,
        destinations=table.take("destinations", _networks, "a list of networks") if intercepts else (),
        destination_ports=table.take("destination_ports", _list(_port), "a list of ports of 1 to 65535")
        if intercepts
        else (),
        peers=table.take("peers", _networks, "a list of networks"),
        control_port=table.take("control_port", _port, "a port of 1 to 65535"),
        greeting=table.take("greeting", _greeting, "1 to 20 printable lines of at most 200 characters")
        if "greeting" in table
        else (),
        identity=table.take("identity", _flag, "true or false", False),
    )


def _addresses(table: _Table) -> tuple[LocalAddress, ...]:
    found: list[LocalAddress] = []
    for entry in table.list_of_tables("addresses"):
        address = entry.take("address", _address, "an IP address")
        public = entry.take("public", _address, "an IP address") if "public" in entry else address
        if address is None or public is None:
            continue
        if address.version != public.version:
            entry.problem("public", f"found {public}, expected an IPv{address.version} address.")
        if any(a.address.version == address.version for a in found):
            entry.problem("address", f"found {address}, expected at most one IPv{address.version} address.")
        found.append(LocalAddress(address, public))
    return tuple(found)


def _next_hop(table: _Table) -> NextHop:
    hosts = tuple(
        Host(
            entry.take("name", _text, "a name"),
            entry.take("addresses", _list(_address), "a list of IP addresses"),
        )
        for entry in table.list_of_tables("hosts")
    )
    return NextHop(
        hosts,
        table.take("control_port", _port, "a port of 1 to 65535"),
        bool(table.take("order", _ORDERS.__getitem__, " or ".join(_ORDERS), False)),
        table.take("identity", _flag, "true or false", False),
        table.take("user_at_host", _flag, "true or false", False),
    )


def _servers(table: _Table) -> Servers:
    servers = Servers(
        networks=table.take("networks", _networks, "a list of networks"),
        control_ports=table.take("control_ports", _list(_port), "a list of ports of 1 to 65535"),
        fixed=table.take("fixed", _fixed, "host, host:port or [IPv6 address]:port")
        if "fixed" in table
        else None,
        resolvers=table.take("resolvers", _list(_address), "a list of IP addresses")
        if "resolvers" in table
        else (),
        names=table.take("names", _list(_name), "a list of names") if "names" in table else (),
        synch=table.take("synch", _flag, "true or false", False),
    )
    if servers.fixed and isinstance(servers.fixed.host, str) and not servers.resolvers:
        table.problem(
            "fixed", f"found the name {servers.fixed.host!r}, expected an address without resolvers."
        )
    return servers


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    return value


def _greeting(value: Any) -> tuple[str, ...]:
    lines = _list(str)(value)
    if (
        len(lines) > 20
        or any(len(line) > 200 or not line.isprintable() for line in lines)
        or lines != tuple(value)
    ):
        raise ValueError
    return lines


def _mode(value: Any) -> tuple[Mode, ...]:
    if value not in _MODES:
        raise ValueError
    return _MODES[value]


def _address(value: Any) -> Address:
    address = ipaddress.ip_address(_text(value))
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise ValueError
    return address


def _networks(value: Any) -> tuple[Network, ...]:
    return _list(lambda item: ipaddress.ip_network(_text(item)))(value)


def _list(convert: Callable[[Any], _T]) -> Callable[[Any], tuple[_T, ...]]:
    def convert_all(value: Any) -> tuple[_T, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError
        return tuple(convert(item) for item in value)

    return convert_all


def _port(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _verb(value: Any) -> bytes:
    if not isinstance(value, str) or not value.isascii() or not value.isalnum():
        raise ValueError
    return value.upper().encode()


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**48:
        raise ValueError
    return value


def _line_length(value: Any) -> int:
    number = _count(value)
    if not 512 <= number <= 65536:
        raise ValueError
    return number


def _workers(value: Any) -> int:
    number = _count(value)
    if number > 64:
        raise ValueError
    return number


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise ValueError
    return value


def _fixed(value: Any) -> Fixed:
    host, port = split_host(_text(value), 21)
    return Fixed(host, port)


_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?")


def plain_name(name: str) -> str:
    """Return the one form of a DNS name: lower case, no dot at its end."""
    return name.lower().removesuffix(".")


def _name(value: Any) -> str:
    if not _NAME.fullmatch(_text(value)):
        raise ValueError
    return plain_name(value)


def split_host(text: str, port: int) -> tuple[Address | str, int]:
    """Split "host", "host:port", "[v6]" or "[v6]:port"; `port` where none is said. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([^]]*)\]|([^:]*))(?::([0-9]{1,5}))?", text)
    if not match:
        raise ValueError(text)
    number = int(match[3]) if match[3] else port
    if not 1 <= number <= 65535:
        raise ValueError(text)
    if match[1] is not None:
        address = ipaddress.IPv6Address(match[1])
        if address.scope_id is not None:
            raise ValueError(text)
        return address, number
    try:
        return ipaddress.IPv4Address(match[2]), number
    except ValueError:
        if not _NAME.fullmatch(match[2]):
            raise ValueError(text) from None
        return match[2], number


def _show(value: object) -> str:
    return "nothing" if value is None else repr(value)
