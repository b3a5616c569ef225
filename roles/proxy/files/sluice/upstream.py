# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a session's server: its name, its addresses in order, one connection (PROTOCOL 2.1-2.3, 15)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from secrets import SystemRandom
from typing import Protocol

from sluice import access, events
from sluice.config import NextHop, Settings
from sluice.deadlines import Deadlines
from sluice.events import Endpoint, Leg, Timer
from sluice.memory import Memory
from sluice.protocol.addresses import Address
from sluice.tally import Tally

# What failed, by the first word of its cause: "refused the connection", "did not answer within 10 s".
_KINDS = {"refused": "refused", "did": "timeout"}

_RANDOM = SystemRandom()


class Phase(Enum):
    """How far a session is on its way to its server."""

    NONE = "none"  # not chosen yet: USER user@host chooses
    RESOLVING = "resolving"
    CONNECTING = "connecting"
    GREETING = "greeting"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Dead:
    """The way leads nowhere. name: it is a name that led nowhere, another one may be tried."""

    cause: str
    name: bool = False


class Control(Protocol):
    """What it needs of its session."""

    settings: Settings
    client_peer: Endpoint
    client_local: Address
    deadlines: Deadlines
    memory: Memory
    tally: Tally

    def do(self, action: events.Action) -> None:
        """Have the net do it."""

    def refused(self, reason: str, cause: str) -> None:
        """Log what was refused, and why; count it by its cause."""

    def warn(self, sentence: str) -> None:
        """Log what somebody should look at."""


class Upstream:
    """The server of one session. `peer` and `local` hold once there is a `name`."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.phase = Phase.NONE
        self.name = ""
        self.peer = control.client_peer
        self.local = control.client_local
        self._port = 0
        self._host = ""  # the name that is being resolved
        self._targets: list[Endpoint] = []
        self._patience = 0.0

    def go_on(self, hop: NextHop) -> Dead | None:
        """Go to the next hop: its hosts in order, or in a random one, which spreads sessions (15.1)."""
        hosts = _RANDOM.sample(hop.hosts, len(hop.hosts)) if hop.spread else hop.hosts
        return self.connect(tuple(address for host in hosts for address in host.addresses), hop.control_port)

    def choose(self, host: Address | str, port: int) -> Dead | None:
        """Go to an address, or to a name's addresses."""
        if not isinstance(host, str):
            return self.connect((host,), port)
        self.phase = Phase.RESOLVING
        self.name = f"server {host}"
        self._port = port
        self._host = host
        self._control.deadlines.start(Timer.CONNECT, self._control.settings.timeouts.connect)
        self._control.do(events.Resolve(host))
        return None

    def resolved(self, event: events.Resolved) -> Dead | None:
        """Go on with those of a name's addresses that are allowed."""
        if self.phase is not Phase.RESOLVING or event.name != self._host:
            return None
        self._control.deadlines.cancel(Timer.CONNECT)
        settings = self._control.settings
        allowed = tuple(a for a in event.addresses if not access.server_refused(settings, a))
        if allowed:
            return self.connect(allowed, self._port)
        if not event.addresses:
            return self._nowhere(f"{self.name}: {event.cause}")
        cause = f"{self.name} has no address in the allowed networks"
        self._control.refused(cause, "destination")
        return self._nowhere(cause)

    def _nowhere(self, cause: str) -> Dead:
        self.phase = Phase.NONE
        self.name = ""
        return Dead(cause, name=True)

    def connect(self, hosts: tuple[Address, ...], port: int) -> Dead | None:
        """Connect to the first address that answers.

        The client's family first, then the other; but one that failed lately comes last (15.1).
        """
        family = self._control.client_peer.address.version
        memory = self._control.memory
        ordered = sorted(hosts, key=lambda a: (memory.rests(Endpoint(a, port)), a.version != family))
        side = self._control.settings.server_side
        self._targets = [Endpoint(a, port) for a in ordered if side.local(a.version)]
        if not self._targets:
            self._aim(Endpoint(ordered[0], port))
            return Dead(f"this host has no IPv{ordered[0].version} address towards {self.name}")
        self._patience = self._control.settings.timeouts.connect / len(self._targets)
        self._next()
        return None

    def _aim(self, peer: Endpoint) -> None:
        self.peer = peer
        settings = self._control.settings
        if settings.next_hop:
            self.name = f"next hop {settings.server_side.neighbour} ({peer})"
        else:
            self.name = f"server {peer}"

    def _next(self) -> None:
        self._aim(self._targets.pop(0))
        side, client = self._control.settings.server_side, self._control.client_peer
        local = side.local(self.peer.address.version)
        assert local is not None  # noqa: S101 - connect kept only such
        self.phase = Phase.CONNECTING
        self._control.deadlines.start(Timer.CONNECT, self._patience)
        if side.client_source and client.address.version == self.peer.address.version:
            # its own port may be free here, but the kernel's table of connections has it (F16)
            where = events.Connect(client.address, self.peer, side.foreign(client.address), client.port)
        else:
            where = events.Connect(local.address, self.peer)
        self._control.do(where)

    def failed(self, cause: str) -> Dead | None:
        """This address did not answer; `cause` as in ConnectFailed."""
        if self.phase is not Phase.CONNECTING:
            return None
        self._control.deadlines.cancel(Timer.CONNECT)
        self._control.tally.failed(_KINDS.get(cause.partition(" ")[0], "unreachable"))
        return self._pass_over(cause)

    def ungreeted(self, cause: str) -> Dead | None:
        """It took the connection, but does not greet as FTP servers do: no better than no answer (15.1)."""
        self._control.deadlines.cancel(Timer.GREETING)
        if self._targets:
            self._control.do(events.Close(Leg.SERVER))
        return self._pass_over(f"sent no FTP greeting{cause}")

    def _pass_over(self, cause: str) -> Dead | None:
        self._control.memory.failed(self.peer)
        if self._targets:
            self._control.warn(f"{self.name} {cause}, the next address is tried")
            self._next()
            return None
        return Dead(f"{self.name} {cause}")

    def expired(self) -> Dead | None:
        """The time for a name, or for this address, is over."""
        self._control.do(events.Close(Leg.SERVER))
        if self.phase is Phase.RESOLVING:
            seconds = self._control.settings.timeouts.connect
            return self._nowhere(f"{self.name} could not be resolved within {seconds:g} s")
        return self.failed(f"did not answer within {self._patience:g} s")

    def connected(self, local: Address) -> None:
        """The connection stands; now the server must greet."""
        self.local = local
        self.phase = Phase.GREETING
        self._control.deadlines.cancel(Timer.CONNECT)
        self._control.deadlines.start(Timer.GREETING, self._control.settings.timeouts.greeting)

    def greeted(self) -> None:
        """The server's 220 came."""
        self._control.memory.answered(self.peer)
        self.phase = Phase.READY
        self._control.deadlines.cancel(Timer.GREETING)
