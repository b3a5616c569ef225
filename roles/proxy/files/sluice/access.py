# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: destinations of sessions, targets of data connections (PROTOCOL 2.3, 3.13-3.16)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address

from sluice.config import CommandRule, Intercept, LegSettings, Network, Settings, plain_name, split_host
from sluice.events import DataSocket, Endpoint, Leg
from sluice.protocol import addresses
from sluice.protocol.addresses import Address, BadAddressError
from sluice.protocol.verbs import VERBS, Command, Kind, Mode, Verb

_ANONYMOUS = frozenset((b"anonymous", b"ftp"))
_NO_VERBS = (b"TVFS", b"UTF8")  # features that name no command
_ALWAYS = frozenset((b"USER", b"PASS", b"ACCT", b"QUIT"))  # that no list of allowed verbs need hold

FIRST_UNPRIVILEGED = 1024  # RFC 2577 section 3: never a data port below


@dataclass(frozen=True, slots=True)
class Destination:
    """Where `USER user@host[:port]` wants to go."""

    user: bytes
    host: Address | str
    port: int


def parse_destination(argument: bytes, port: int) -> Destination | None:
    """Split at the last @ (2.3); `port` where none is said. None when there is no usable host."""
    user, at, place = argument.rpartition(b"@")
    if not at or not user:
        return None
    try:
        host, port = split_host(place.decode("ascii"), port)
    except ValueError:
        return None
    return Destination(user, host, port)


def parse_place(argument: bytes, port: int) -> Destination | None:
    """Read the argument of OPEN or SITE: host, host:port or, as ncftp has it, "host port" (2.4)."""
    host, _blank, said = argument.strip(b" ").partition(b" ")
    return parse_destination(b"?@" + host + (b":" + said if said else b""), port)


def inside(address: Address, networks: Iterable[Network]) -> bool:
    """Whether one of the networks holds the address."""
    return any(address in network for network in networks)


def destination_refused(settings: Settings, host: Address | str, port: int) -> str:
    """Why no session may go there, before any DNS query or SYN; "" when it may."""
    servers = settings.servers
    assert servers is not None  # noqa: S101 - only a last hop has destinations
    if port not in servers.control_ports:
        return f"port {port} is not one of the allowed control ports"
    if servers.names and not (isinstance(host, str) and plain_name(host) in servers.names):
        return f"server {host} is not one of the allowed names"
    if isinstance(host, str):
        return "" if servers.resolvers else f"{host} is a name, and this hop resolves no names"
    return server_refused(settings, host)


def server_refused(settings: Settings, address: Address) -> str:
    """Why no session may go to that address; "" when it may.

    Never to the proxy itself or to a hop behind it, through whatever network: a session could run in a circle
    until every descriptor is gone. Loopback must be meant: a network that holds more than loopback does not
    allow it.
    """
    if _own(settings, address):
        return f"server {address} is this proxy itself"
    if address in settings.server_side.further_hops:
        return f"server {address} is a hop of the path"
    if not settings.servers or not _held(address, settings.servers.networks):
        return f"server {address} is not in the allowed networks"
    return ""


def data_elsewhere(settings: Settings, leg: LegSettings, address: Address) -> bool:
    """Whether the leg's data may be at an address that is not its control connection's (3.7, 3.14, 3.16).

    It may where the admin lists it; never at the proxy itself, as in `server_refused`.
    """
    return bool(leg.data_networks) and _held(address, leg.data_networks) and not _own(settings, address)


def _own(settings: Settings, address: Address) -> bool:
    sides = (settings.client_side, settings.server_side)
    return any(address in (own.address, own.public) for side in sides for own in side.addresses)


def _held(address: Address, networks: Iterable[Network]) -> bool:
    """Whether networks that an admin listed hold an address that one can speak to, and mean it."""
    if address.is_loopback:
        networks = [network for network in networks if network.is_loopback]
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped  # IPv4, past the IPv4 networks
    return not (mapped or address.is_unspecified or address.is_multicast) and inside(address, networks)


def data_port_refused(leg: LegSettings, to: Endpoint) -> str:
    """Why no data connection may go to that port of the leg's neighbour; "" when it may (3.15)."""
    if to.port < FIRST_UNPRIVILEGED:
        return f"data port {to.port} is below {FIRST_UNPRIVILEGED}"
    allowed = leg.peer_ports.at(to.address)
    if not any(to.port in ports for ports in allowed):
        return f"data port {to.port} is not in {', '.join(map(str, allowed)) or 'any range of its host'}"
    return ""


def original_refused(settings: Settings, client: Address, to: Endpoint | None) -> str:
    """Why an intercepted connection from `client` to `to` begins no session; "" when it does (9.1).

    `to`: what the client addressed, None where the kernel knows of nothing but this proxy. Neither end may be
    the proxy itself, nor `to` the next hop: the session would run in a circle.
    """
    side, hop = settings.client_side, settings.next_hop
    if _own(settings, client):
        return f"the connection comes from {client}, this proxy itself"
    if to is None or _own(settings, to.address):
        return "the connection is to this proxy itself and was not intercepted"
    if hop and any(to.address in host.addresses for host in hop.hosts):
        return f"the connection is to {to.address}, of hop {settings.server_side.neighbour}"
    if to.address in settings.server_side.further_hops:
        return f"the connection is to {to.address}, of another hop"
    if to.port not in side.destination_ports:
        return f"port {to.port} is not one of the allowed control ports"
    if not _held(to.address, side.destinations):
        return f"server {to.address} is not in the allowed networks"
    return "" if hop else _far_end_refused(settings, to.address, to.port)


def session_refused(
    settings: Settings, client: Endpoint, local: Address, original: Endpoint | None = None
) -> str:
    """Why no session of that client may be at that address, intercepted on its way to `original`."""
    refused = _client_refused(settings, client.address)
    if not refused and settings.client_side.intercept:
        refused = original_refused(settings, client.address, original)
    return refused or _not_here(settings, settings.client_side, local)


def _client_refused(settings: Settings, client: Address) -> str:
    listed = inside(client, settings.client_side.peers)
    return "" if listed else f"{client} is not in the allowed networks"


def upstream_refused(settings: Settings, server: Endpoint, local: Address | None) -> str:
    """Why no session may be connected to that server, or next hop, from that address; "" when it may."""
    refused = _far_end_refused(settings, server.address, server.port)
    return refused or (_not_here(settings, settings.server_side, local) if local else "")


def data_refused(settings: Settings, sock: DataSocket) -> str:
    """Why a transfer may have no such socket; "" when it may."""
    client = sock.leg is Leg.CLIENT
    leg: LegSettings = settings.client_side if client else settings.server_side
    mode = Mode.PASSIVE if sock.accepts is client else Mode.ACTIVE
    ports = leg.listen if sock.accepts else leg.source
    if mode not in leg.modes:
        return f"leg {leg.leg} does not allow {mode.value} transfers"
    if sock.local.port not in ports:
        return f"port {sock.local.port} is not in {ports}"
    if sock.peer is None:
        return _not_here(settings, leg, sock.local.address)
    if client:
        refused = _client_refused(settings, sock.peer.address)
    elif data_elsewhere(settings, leg, sock.peer.address):
        refused = ""
    else:
        refused = _far_end_refused(settings, sock.peer.address)
    refused = refused or _not_here(settings, leg, sock.local.address)
    return refused or ("" if sock.accepts else data_port_refused(leg, sock.peer))


def _far_end_refused(settings: Settings, address: Address, control_port: int | None = None) -> str:
    """Why the server leg may not lead there; without a port only the address counts."""
    hop = settings.next_hop
    if hop is None:
        if control_port is None or control_port in (
            settings.servers.control_ports if settings.servers else ()
        ):
            return server_refused(settings, address)
        return f"port {control_port} is not one of the allowed control ports"
    known = any(address in host.addresses for host in hop.hosts)
    if known and control_port in (None, hop.control_port):
        return ""
    return f"{address} is not of hop {settings.server_side.neighbour}"


def _not_here(settings: Settings, leg: LegSettings, local: Address) -> str:
    """Why this end of a connection may not be there; "" when it may. A transparent leg's is elsewhere."""
    near, far = settings.client_side, settings.server_side
    if leg is near and near.intercept is Intercept.TPROXY:
        there = _held(local, near.destinations) and not _own(settings, local)
    else:
        there = not leg.foreign(local) or (leg is far and far.client_source and inside(local, near.peers))
    return "" if there else f"{local} is not this hop's address"


def command_rules(
    settings: Settings, client: Address, server: Address | None, name: str = ""
) -> list[CommandRule]:
    """Return the rules that count for a client and, once there is one, its server: at most one for each.

    `name` is the server's, where it has been asked for by name.
    """
    found = []
    for leg, end, asked in ((settings.client_side, client, ""), (settings.server_side, server, name)):
        if leg.commands and end:
            plain = plain_name(asked)
            found += [r for r in leg.commands if inside(end, r.networks) or plain in r.names][:1]
    return found


def command_denied(rules: list[CommandRule], command: Command) -> str:
    """Why the rules do not let the command pass (7.9); "" when they do."""
    name = command.verb.name
    for rule in rules:
        if name in rule.deny or not _allowed(rule, command):
            return f"the policy does not allow {name.decode()}"
        # with user@host it may be a hop behind this one that splits
        users = {command.argument.lower(), command.argument.lower().rpartition(b"@")[0]}
        if rule.anonymous and command.verb.kind is Kind.USER and not users & _ANONYMOUS:
            return "only anonymous may log in here"
    return ""


def _allowed(rule: CommandRule, command: Command) -> bool:
    name = command.verb.name
    if name in rule.allow or (rule.uses is None and not rule.allow):
        return True
    return name in _ALWAYS if rule.uses is None else command.use in rule.uses


def feature_denied(rules: list[CommandRule], word: bytes) -> bool:
    """Whether a feature's first word names what the rules do not let pass."""
    if word in _NO_VERBS:
        return False
    return bool(command_denied(rules, Command(VERBS.get(word) or Verb(word, use=None), word, b"")))


def read_setup(command: Command, settings: Settings, peer: Endpoint) -> tuple[Endpoint | None, str]:
    """Read PORT, EPRT, PASV or EPSV of the client `peer`.

    Returns where an active client wants its connection, and the reply that refuses ("" when it may be).
    """
    leg, verb = settings.client_side, command.verb
    mode = verb.mode or Mode.PASSIVE
    if mode is Mode.PASSIVE:
        return None, _passive_refused(command, peer.address.version)
    try:
        read = addresses.parse_eprt if verb.extended else addresses.parse_port
        address, port = read(command.argument)
    except BadAddressError as error:
        return None, error.reply
    family = address.version == peer.address.version  # it is dialled from the control connection's
    if address != peer.address and not (family and data_elsewhere(settings, leg, address)):  # 3.14
        reason = f"{address} is not the address of your control connection"
    else:
        reason = data_port_refused(leg, Endpoint(address, port))
    if reason:
        return None, f"504 {settings.hop}: {reason}."
    return Endpoint(address, port), ""


def _passive_refused(command: Command, version: int) -> str:
    """The reply to a PASV or EPSV that cannot be had, "" for one that can (3.5, 3.9)."""
    argument = command.argument.strip(b" ")
    own = b"%d" % (1 if version == 4 else 2)
    if not command.verb.extended:
        if version == 6:
            return "425 PASV is for IPv4, use EPSV."
        return "501 PASV takes no argument." if argument else ""
    if argument in (b"", own):
        return ""
    if argument.isdigit():
        return f"522 Network protocol not supported, use ({own.decode()})"
    return "501 EPSV takes 1, 2, ALL or nothing."
