# SPDX-License-Identifier: GPL-3.0-or-later
"""What the net tells a session (events) and what a session has the net do (actions).

`transfer` numbers a session's transfers; an event of a transfer that is over is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sluice.config import Settings
from sluice.ports import PortRange
from sluice.protocol.addresses import Address, endpoint


class Leg(Enum):
    """The two legs of a hop."""

    CLIENT = "client"
    SERVER = "server"

    __hash__ = object.__hash__  # Enum's own is a Python function, and these are keys of every step

    @property
    def other(self) -> Leg:
        return Leg.SERVER if self is Leg.CLIENT else Leg.CLIENT


class Timer(Enum):
    """The timers of a session; its deadlines say which run, and an event when one is over."""

    __hash__ = object.__hash__  # as above

    IDENTITY = "identity"  # the header of the hop before (14.1)
    CONNECT = "connect"  # one attempt at the control connection
    GREETING = "greeting"
    LINE = "line"  # a command line that has begun (2.11)
    REPLY = "reply"
    IDLE = "idle"
    LOGIN = "login"
    TOTAL = "total"  # the session's whole life
    CLIENT_DATA = "client data"  # the client's data connection (3.21)
    SERVER_DATA = "server data"
    ABORT = "abort"  # an aborted or broken transfer still wants its end


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IP address and a port."""

    address: Address
    port: int

    def __str__(self) -> str:
        return endpoint(self.address, self.port)


@dataclass(frozen=True, slots=True)
class DataSocket:
    """A socket of a transfer. accepts: it listens, or came from a listener. peer None: nobody's yet."""

    leg: Leg
    accepts: bool
    local: Endpoint
    peer: Endpoint | None


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes on a control connection."""

    leg: Leg
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer of a control connection closed its side, or reset the connection."""

    leg: Leg
    reset: bool


@dataclass(frozen=True, slots=True)
class Connected:
    """The control connection to the server stands; `local` is this end's address."""

    local: Address


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """It does not; `cause` completes a sentence: "refused the connection"."""

    cause: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The addresses of a name; none where `cause` says why."""

    name: str
    addresses: tuple[Address, ...]
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Listening:
    """A data listener is up."""

    transfer: int
    leg: Leg
    port: int


@dataclass(frozen=True, slots=True)
class ListenFailed:
    """No data listener; `cause` is a sentence's rest: "no free port in 50000-50999"."""

    transfer: int
    leg: Leg
    cause: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """Somebody connected to a data listener. The session answers Take or Drop."""

    transfer: int
    leg: Leg
    token: int
    peer: Endpoint


@dataclass(frozen=True, slots=True)
class Dialled:
    """A data connection that the session had opened stands; `port` is the local one."""

    transfer: int
    leg: Leg
    port: int


@dataclass(frozen=True, slots=True)
class DialFailed:
    """It does not; `cause` as in ConnectFailed, or a whole sentence where the fault is `here`."""

    transfer: int
    leg: Leg
    cause: str
    here: bool = False


@dataclass(frozen=True, slots=True)
class DataMoved:
    """The first bytes of a transfer came, from `source`."""

    transfer: int
    source: Leg


@dataclass(frozen=True, slots=True)
class DataEnd:
    """The source ended its stream, and all of it is in the kernel's hands towards the sink."""

    transfer: int


@dataclass(frozen=True, slots=True)
class DataReset:
    """A data connection broke."""

    transfer: int
    leg: Leg


@dataclass(frozen=True, slots=True)
class DataIdle:
    """No byte moved for the time that Relay named."""

    transfer: int


@dataclass(frozen=True, slots=True)
class Expired:
    """A timer ran out."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Stop:
    """The proxy stops: at once, or when the running transfer has ended (10.3)."""

    now: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """An operator ends the session."""


@dataclass(frozen=True, slots=True)
class Enforce:
    """Hold the session to other settings (POLICY F9); `refused` says why its data sockets do not fit them.

    A transfer that does not fit may finish, and is reset when this comes with `now`.
    """

    settings: Settings
    refused: str
    now: bool


Event = (
    Received
    | Ended
    | Connected
    | ConnectFailed
    | Resolved
    | Listening
    | ListenFailed
    | Incoming
    | Dialled
    | DialFailed
    | DataMoved
    | DataEnd
    | DataReset
    | DataIdle
    | Expired
    | Stop
    | Kill
    | Enforce
)


# --- actions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Write to a control connection; urgent: the last byte as TCP urgent data (5.3)."""

    leg: Leg
    data: bytes
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """Close a control connection when everything sent is out, or give up connecting."""

    leg: Leg


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the control connection to the server, from `local`.

    transparent: that is an address of somebody else's (9.2); and not from port `avoid` of it.
    """

    local: Address
    to: Endpoint
    transparent: bool = False
    avoid: int = 0


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask the resolvers for a name's addresses."""

    name: str


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen for a data connection on a free port of the range; transparent: at somebody else's address."""

    transfer: int
    leg: Leg
    address: Address
    ports: PortRange
    transparent: bool = False


@dataclass(frozen=True, slots=True)
class Take:
    """Use this incoming data connection, and close the listener it came from (3.19)."""

    transfer: int
    token: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Reset this incoming data connection; the listener stays (3.16)."""

    transfer: int
    token: int


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a data connection from a free port of the range; transparent: from somebody else's address."""

    transfer: int
    leg: Leg
    address: Address
    ports: PortRange
    to: Endpoint
    transparent: bool = False


@dataclass(frozen=True, slots=True)
class Relay:
    """Move data from leg `source` to the other; both have their connection.

    Without `source` it is the leg that sends first (4.1).
    """

    transfer: int
    source: Leg | None
    idle: float


@dataclass(frozen=True, slots=True)
class Finish:
    """After DataEnd: tell the sink that the stream is complete (FIN)."""

    transfer: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Read from a leg and throw away, until it ends (5.5)."""

    transfer: int
    leg: Leg


@dataclass(frozen=True, slots=True)
class Reset:
    """Close a transfer's sockets on a leg, or on both, with RST; listeners with them (6.4)."""

    transfer: int
    leg: Leg | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """The transfer is over and well: let both ends close in peace (6.8)."""

    transfer: int


@dataclass(frozen=True, slots=True)
class Log:
    """Write a log record; of a transfer the net adds bytes and seconds."""

    event: str
    message: str
    priority: int = 6
    transfer: int | None = None
    fields: dict[str, str] = field(default_factory=dict)


Action = (
    Send
    | Close
    | Connect
    | Resolve
    | Listen
    | Take
    | Drop
    | Dial
    | Relay
    | Finish
    | Discard
    | Reset
    | Release
    | Log
)
