# SPDX-License-Identifier: GPL-3.0-or-later
"""The server leg's data connection: asking the server, dialling or listening, the other mode (3.11, 13.6)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from sluice import access, events
from sluice.config import LegSettings, Settings
from sluice.deadlines import Deadlines
from sluice.events import Endpoint, Leg, Timer
from sluice.memory import Memory
from sluice.protocol import addresses
from sluice.protocol.addresses import Address
from sluice.protocol.verbs import Mode
from sluice.tally import Tally

_NOT_KNOWN = (500, 501, 502, 522)  # the server lacks the verb, or the protocol of its argument


class Control(Protocol):
    """What a transfer needs of its session."""

    settings: Settings
    client_peer: Endpoint
    client_local: Address
    deadlines: Deadlines
    tally: Tally
    memory: Memory  # of EPSV and EPRT, what the server is known to lack

    @property
    def server_peer(self) -> Endpoint:
        """The server's end of its control connection."""

    @property
    def server_local(self) -> Address:
        """This end of it."""

    @property
    def server_name(self) -> str:
        """The server as sentences name it."""

    def do(self, action: events.Action) -> None:
        """Have the net do it."""

    def ask(self, line: bytes, answered: Callable[[int, bytes], None]) -> None:
        """Send the proxy's own command to the server; `answered` gets code and whole reply."""

    def refused(self, reason: str, cause: str) -> None:
        """Log what was refused, and why; count it by its cause."""


class State(Enum):
    """How far an end of a transfer is."""

    WAITING = "waiting"
    LISTENING = "listening"  # the peer knows where to connect to
    CONNECTED = "connected"
    FAILED = "failed"


class ServerSetUp:
    """Gets the data connection of the server leg ready.

    With mode passive it is CONNECTED then, with active LISTENING until the server connects. Where the
    leg allows both modes, the client's comes first, and the other once when the server answers 5xx or
    the port it announced cannot be connected. `cause` says why it FAILED, `outcome` the log's word for it.
    """

    def __init__(self, control: Control, number: int, first: Mode) -> None:
        self._control = control
        self._number = number
        allowed = self._leg.modes
        self._modes = [m for m in (first, first.other) if m in allowed]
        self.mode = self._modes[0]
        self.state = State.WAITING
        self.cause = ""
        self.outcome = "refused"
        self.port = 0  # the local port
        self.peer_port = 0
        self.elsewhere: Address | None = (
            None  # the far end's address where it is not its control connection's
        )
        self.talking = False  # commands of the client would get between it and the server
        self._asked: set[bytes] = set()
        self.abandoned = False  # a newer set-up or an abort made it void: late replies count for nothing

    @property
    def _leg(self) -> LegSettings:
        return self._control.settings.server_side

    def begin(self) -> None:
        """Try the first mode that is left."""
        self.mode = self._modes.pop(0)
        self.talking = True
        if self.mode is Mode.PASSIVE:
            self._ask_passive()
        else:
            leg, local = self._leg, self._control.server_local
            self._control.do(events.Listen(self._number, Leg.SERVER, local, leg.listen, leg.foreign(local)))

    # A server that lacks the extended verb gets the plain one, for IPv4 only, and the other way round where
    # memory was wrong. It counts as lacking once the plain one served instead: else it refuses the mode.

    def _ask(self, verb: bytes, argument: bytes, answered: Callable[[int, bytes], None]) -> None:
        self._asked.add(verb)
        self._control.ask(verb + argument, answered)

    def _lacks(self, verb: bytes) -> bool:
        return self._control.memory.lacks(self._control.server_peer, verb)

    def _lacking(self, code: int, other: bytes) -> bool:
        """Whether the server lacks the verb that it answered so, and the `other` one may be tried."""
        return (
            code in _NOT_KNOWN and self._control.server_peer.address.version == 4 and other not in self._asked
        )

    def _served_instead(self, extended: bytes) -> None:
        if extended in self._asked:
            self._control.memory.refused(self._control.server_peer, extended)

    # --- passive ---

    def _ask_passive(self) -> None:
        # where the address counts that the server names (3.7), it must name one: 229 does not
        named = self._leg.data_networks and self._control.server_peer.address.version == 4
        if self._lacks(b"EPSV") or named:
            self._ask(b"PASV", b"", self._pasv_answered)
        else:
            self._ask(b"EPSV", b"", self._epsv_answered)

    def _epsv_answered(self, code: int, raw: bytes) -> None:
        if self.abandoned:
            return
        if code == 229:
            self._control.memory.knows(self._control.server_peer, b"EPSV")
            self._announced(addresses.parse_229(raw), raw)
        elif self._lacking(code, b"PASV"):
            self._ask(b"PASV", b"", self._pasv_answered)
        else:
            self._refused("EPSV", code, raw)

    def _pasv_answered(self, code: int, raw: bytes) -> None:
        if self.abandoned:
            return
        if code == 227:
            self._served_instead(b"EPSV")
            self._announced(addresses.parse_227(raw), raw, addresses.address_in_227(raw))
        elif self._lacking(code, b"EPSV"):
            self._ask(b"EPSV", b"", self._epsv_answered)
        else:
            self._refused("PASV", code, raw)

    def _announced(self, port: int | None, raw: bytes, named: Address | None = None) -> None:
        if port is None:
            self._fail(f"{self._control.server_name} announced no port: {_text(raw)}")
            return
        control = self._control
        peer = control.server_peer.address
        if named and access.data_elsewhere(
            control.settings, self._leg, named
        ):  # 3.7: else it counts for nothing
            peer = named
        to = Endpoint(peer, port)
        reason = access.data_port_refused(self._leg, to)
        if reason:  # 3.15: nothing is dialled, and nothing else is tried
            reason = f"{self._control.server_name} announced a port that is not allowed: {reason}"
            self._control.refused(reason, "data-port")
            self._fail(reason)
            return
        self.peer_port = port
        self.elsewhere = None if peer == control.server_peer.address else peer
        self.talking = False
        control.deadlines.start(Timer.SERVER_DATA, control.settings.timeouts.data_connect)
        leg, local = self._leg, control.server_local
        control.do(events.Dial(self._number, Leg.SERVER, local, leg.source, to, leg.foreign(local)))

    def dialled(self, port: int) -> None:
        """The connection to the server stands, from this local port."""
        self._control.deadlines.cancel(Timer.SERVER_DATA)
        self.port = port
        self.state = State.CONNECTED

    def dial_failed(self, cause: str, here: bool = False) -> None:
        """It does not; the mode that is left is tried, unless the fault is `here`."""
        self._control.deadlines.cancel(Timer.SERVER_DATA)
        if here:
            self._fail(cause, "proxy-error")
            return
        self._next(f"{self._control.server_name} {cause} (data port {self.peer_port})")

    # --- active ---

    def listening(self, port: int) -> None:
        """The listener for the server is up: announce it."""
        self.port = port
        if self._lacks(b"EPRT"):
            self._announce_by_port()
        else:
            self._announce_by_eprt()

    def _announce_by_eprt(self) -> None:
        self._ask(b"EPRT", b" " + addresses.format_eprt(self._public(), self.port), self._eprt_answered)

    def _announce_by_port(self) -> None:
        self._ask(b"PORT", b" " + addresses.format_port(self._public(), self.port), self._port_answered)

    def _public(self) -> Address:
        return self._leg.public(self._control.server_local)

    def _eprt_answered(self, code: int, raw: bytes) -> None:
        if self.abandoned:
            return
        if code < 300:
            self._control.memory.knows(self._control.server_peer, b"EPRT")
            self._listens()
        elif self._lacking(code, b"PORT"):
            self._announce_by_port()
        else:
            self._refused("EPRT", code, raw)

    def _port_answered(self, code: int, raw: bytes) -> None:
        if self.abandoned:
            return
        if code < 300:
            self._served_instead(b"EPRT")
            self._listens()
        elif self._lacking(code, b"EPRT"):
            self._announce_by_eprt()
        else:
            self._refused("PORT", code, raw)

    def _listens(self) -> None:
        self.talking = False
        if self.state is State.WAITING:  # pyftpdlib connects before it answers
            self.state = State.LISTENING

    def connected(self, peer: Endpoint) -> None:
        """The server has connected to the listener."""
        self._control.deadlines.cancel(Timer.SERVER_DATA)
        self.peer_port = peer.port
        self.elsewhere = None if peer.address == self._control.server_peer.address else peer.address
        self.state = State.CONNECTED

    # --- both ---

    def _refused(self, verb: str, code: int, raw: bytes) -> None:
        cause = f"{self._control.server_name} answered {verb} with: {_text(raw)}"
        if code >= 500:
            self._next(cause)
        else:
            self._fail(cause)

    def _next(self, cause: str) -> None:
        self._control.do(events.Reset(self._number, Leg.SERVER))
        self._modes = [mode for mode in self._modes if mode in self._leg.modes]  # of now (F9)
        if self._modes:
            self.state = State.WAITING
            self.begin()
        else:
            self._fail(cause)

    def failed(self, cause: str, outcome: str) -> None:
        """The net could not do it."""
        self._fail(cause, outcome)

    def _fail(self, cause: str, outcome: str = "refused") -> None:
        self._control.deadlines.cancel(Timer.SERVER_DATA)
        self.talking = False
        self.state = State.FAILED
        self.cause = cause
        self.outcome = outcome


def _text(raw: bytes) -> str:
    """Show the first line of a reply within a sentence."""
    line = raw.split(b"\n")[0].rstrip(b"\r .")
    return "".join(c if c.isprintable() else "?" for c in line.decode("utf-8", "backslashreplace"))[:200]
