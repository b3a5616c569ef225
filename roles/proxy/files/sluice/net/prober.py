# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks the path as a session would, for an operator: the same sockets, addresses, ranges and set-up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from sluice import access, events
from sluice.config import Settings
from sluice.deadlines import Deadlines
from sluice.events import Endpoint, Leg
from sluice.memory import Memory
from sluice.net.control import Connector, ControlSocket, from_text
from sluice.net.data import Channel
from sluice.net.relay import PipePool
from sluice.net.resolve import Resolver
from sluice.probe import Step, as_data, leg_of
from sluice.protocol.addresses import Address
from sluice.protocol.identity import LOCAL
from sluice.protocol.replies import ReplyFault, ReplyReader
from sluice.protocol.verbs import Mode
from sluice.setup import ServerSetUp, State
from sluice.tally import Tally

LONGEST = 300.0  # s that a walk may take
_LONGEST_REPLY = 65536  # bytes; nothing that a probe asks for has a longer answer
_OVERTAKEN = 2.0  # s for a data connection that its own final reply has overtaken
_BEYOND = 10.0  # s that the other end has for its own timeouts to end first (10.2)
_ANONYMOUS = "anonymous"


class ProbeError(Exception):
    """There is no way to walk; the message is a sentence."""


class _StopError(Exception):
    """The walk ends here; its steps say why."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What the operator asked for. user None: no login, and so no data; server "": none was named."""

    server: str = ""
    user: str | None = None
    password: str = ""

    @classmethod
    def read(cls, message: dict[str, Any]) -> Errand:
        """Take it from a message. Raises ProbeError: each part becomes the part of a command line."""
        found = {key: message.get(key) for key in ("server", "user", "password") if message.get(key)}
        for key, value in found.items():
            if not isinstance(value, str) or any(c in value for c in "\r\n\0") or len(value) > 1000:
                raise ProbeError(f"the {key} is no text of one line.")
        return cls(**found)  # type: ignore[arg-type]


async def probe(settings: Settings, resolver: Resolver, errand: Errand) -> list[dict[str, Any]]:
    """Walk to each host of the next hop, or to the server; return what was found. Raises ProbeError."""
    if settings.server_side.client_source:  # the rules let nothing else out
        raise ProbeError("sessions of this hop are at their clients' addresses, it has none to walk from.")
    targets = _next_hosts(settings) if settings.next_hop else await _servers(settings, resolver, errand)
    walks = [Walk(settings, to, errand) for _host, to in targets]
    found = await asyncio.gather(*(walk.run() for walk in walks))
    return [as_data(host, str(to), steps) for (host, to), steps in zip(targets, found, strict=True)]


def _next_hosts(settings: Settings) -> list[tuple[str, Endpoint]]:
    hop = settings.next_hop
    assert hop is not None  # noqa: S101 - the caller looked
    return [
        (host.name, Endpoint(address, hop.control_port))
        for host in hop.hosts
        for address in host.addresses
        if settings.server_side.local(address.version)
    ]


async def _servers(settings: Settings, resolver: Resolver, errand: Errand) -> list[tuple[str, Endpoint]]:
    """The server that a session would go to, after the checks that a session has."""
    servers = settings.servers
    assert servers is not None  # noqa: S101 - a last hop has them
    if servers.fixed and errand.server:
        raise ProbeError("every session of this hop goes to one server, so name none.")
    if servers.fixed:
        host, port = servers.fixed.host, servers.fixed.port
    else:
        place = access.parse_place(errand.server.encode(), 21)
        if place is None:
            raise ProbeError("name a server, as HOST, HOST:PORT or [IPv6]:PORT.")
        host, port = place.host, place.port
        reason = access.destination_refused(settings, host, port)
        if reason:
            raise ProbeError(f"no session may go there: {reason}.")
    addresses: tuple[Address, ...] = () if isinstance(host, str) else (host,)
    if isinstance(host, str):
        found = await resolver.resolve(host)
        if not found.addresses:
            raise ProbeError(f"server {host}: {found.cause}.")
        addresses = tuple(a for a in found.addresses if not access.server_refused(settings, a))
    usable = [a for a in addresses if settings.server_side.local(a.version)]
    if not usable:
        raise ProbeError(f"server {host} has no address that this hop may and can speak to.")
    return [("", Endpoint(address, port)) for address in usable]


class Walk:
    """One walk. To `ServerSetUp` it is what a session is, so that data is set up as sessions do it."""

    def __init__(self, settings: Settings, to: Endpoint, errand: Errand) -> None:
        self.settings = settings
        self.memory = Memory(time.monotonic)  # its own: what sessions have learned is not to hide anything
        self.deadlines = Deadlines(
            time.monotonic
        )  # for ServerSetUp; nobody looks, a walk has limits of its own
        self.tally = Tally()  # its own: a walk is no session
        self.client_peer = self.server_peer = to
        local = settings.server_side.local(to.address.version)
        assert local is not None  # noqa: S101 - other targets were left out
        self.client_local = self.server_local = local.address
        neighbour = settings.server_side.neighbour
        self.server_name = f"next hop {neighbour} ({to})" if settings.next_hop else f"server {to}"
        self._near = settings.server_side.leg
        self._far = f"beyond {neighbour}" if settings.next_hop else self._near
        self._modes = settings.server_side.modes
        self._errand = errand
        self._loop = asyncio.get_running_loop()
        self._replies = ReplyReader()
        self._collected = bytearray()
        self._happened: asyncio.Queue[events.Event | tuple[int, bytes] | str] = asyncio.Queue()
        self._control: ControlSocket | None = None
        self._channel: Channel | None = None
        self._answered: list[Callable[[int, bytes], None]] = []  # to the set-up's own commands, in order
        self._steps: list[Step] = []
        self._began = self._loop.time()

    async def run(self) -> list[Step]:
        """Walk; return the steps."""
        try:
            async with asyncio.timeout(LONGEST):
                await self._connect()
                if await self._log_in():
                    for number, mode in enumerate((Mode.PASSIVE, Mode.ACTIVE), 1):
                        await self._move_data(number, mode)
                self._send(b"QUIT")
        except _StopError:
            pass
        except TimeoutError:
            self._note(self._near, "probe", False, f"it took longer than {LONGEST:g} s")
        finally:
            self._let_go()
            if self._control:
                self._control.close()
        return self._steps

    # --- the control connection ------------------------------------------------------------------

    async def _connect(self) -> None:
        connected: asyncio.Future[Any] = self._loop.create_future()
        connector = Connector(
            self._loop,
            events.Connect(self.server_local, self.server_peer),
            lambda sock, _local: connected.set_result(sock),
            connected.set_result,
        )
        seconds = self.settings.timeouts.connect
        try:
            sock = await asyncio.wait_for(asyncio.shield(connected), seconds)
        except TimeoutError:
            sock = f"did not answer within {seconds:g} s"
        finally:
            connector.cancel()
        if isinstance(sock, str):
            self._fail(self._near, "control", f"{self.server_name} {sock}")
        self.server_local = from_text(sock.getsockname()[0])
        self._control = ControlSocket(
            self._loop,
            sock,
            received=self._received,
            ended=lambda _reset: self._happened.put_nowait("closed the connection"),
            relieved=lambda: None,
            closed=lambda: None,
        )
        self._control.read(True)
        if self.settings.next_hop and self.settings.next_hop.identity:
            self._control.send(LOCAL)  # a session of this hop's own (14.1)
            self._control.flush()
        seconds = self.settings.timeouts.greeting
        code, text = 120, ""
        while code < 200:  # 120: soon (2.1)
            code, text = await self._reply(seconds, "control", "sent no greeting")
        if code != 220:
            leg = leg_of(text, self._near, self._near)
            if leg != self._near:
                self._note(self._near, "control", True)
            self._fail(leg, "control", f"{self.server_name} greeted with: {text}")
        self._note(self._near, "control", True)

    async def _log_in(self) -> bool:
        """Whether data can be tried."""
        errand, user = self._errand, self._errand.user
        if user is None and not (self.settings.next_hop and errand.server):
            if self.settings.next_hop:
                self._note(self._far, "control", None, "no server and no user was named")
            self._note(self._far, "data", None, "without a user there is no login")
            return False
        name = user or _ANONYMOUS
        if self.settings.next_hop and errand.server:
            name += f"@{errand.server}"
        self._begin()
        code, text = await self._command(b"USER " + name.encode(), "control")
        if code >= 400:
            leg = leg_of(text, self._near, self._far)
            self._fail(
                leg, "control" if self.settings.next_hop else "login", f"USER was answered with: {text}"
            )
        if self.settings.next_hop:
            self._note(self._far, "control", True)
        if user is None:
            self._note(self._far, "data", None, "without a user there is no login")
            return False
        self._begin()
        if code == 331:
            code, text = await self._command(b"PASS " + errand.password.encode(), "login")
        if code not in (230, 202):
            self._fail(leg_of(text, self._near, self._far), "login", f"the login was answered with: {text}")
        self._note(self._far, "login", True)
        return True

    # --- a data connection -----------------------------------------------------------------------

    async def _move_data(self, number: int, mode: Mode) -> None:
        """Set up a data connection in that mode, and have a listing come over it; nobody sees the listing."""
        what = f"data {mode.value}"
        if mode not in self._modes:
            self._note(self._near, what, None, "not a mode of this leg")
            return
        self._begin()
        self._channel = Channel(
            self._loop, PipePool(), number, self._happened.put_nowait, lambda _channel: None
        )
        side = replace(self.settings.server_side, modes=(mode,))  # and not the other one instead
        self.settings = replace(self.settings, server_side=side)
        setup = ServerSetUp(self, number, mode)
        await self._set_up(setup, what)
        if setup.state is State.FAILED:
            leg = leg_of(setup.cause.partition(" with: ")[2], self._near, self._near)
            self._note(*self._data_of(leg, what), False, setup.cause)
        else:
            await self._list(setup, what)
        self._let_go()

    async def _set_up(self, setup: ServerSetUp, what: str) -> None:
        seconds = self.settings.timeouts.data_connect
        setup.begin()
        while setup.talking or setup.state is State.WAITING:
            try:
                self._take(await self._next(seconds if not setup.talking else seconds + _BEYOND), setup)
            except TimeoutError:
                if setup.talking:
                    self._fail(self._near, what, f"{self.server_name} did not reply to the set-up")
                setup.dial_failed(f"did not answer within {seconds:g} s")

    async def _list(self, setup: ServerSetUp, what: str) -> None:
        connected = False
        code, text = 0, ""
        self._send(b"LIST")
        while code < 200 or (code < 300 and not connected):
            if not connected and setup.state is State.CONNECTED:
                connected = True
                if self.settings.next_hop:
                    self._note(self._near, what, True)
                assert self._channel is not None  # noqa: S101 - of this transfer
                self._channel.discard(Leg.SERVER)
                continue
            patience = self.settings.timeouts.data_connect + _BEYOND if code < 200 else _OVERTAKEN
            try:
                happened = await self._next(patience)
            except TimeoutError:
                if code < 200 and connected:
                    self._fail(*self._data_of(self._far, what), f"LIST did not end within {patience:g} s")
                if code < 200:
                    missing = f"{self.server_name} did not open its data connection within {patience:g} s"
                    self._fail(self._near, what, missing)
                break
            if isinstance(happened, tuple):
                code, text = happened[0], _text(happened[1])
            else:
                self._take(happened, setup)
        if code >= 300:
            leg = leg_of(text, self._near, self._far)
            self._note(*self._data_of(leg, what), False, f"LIST was answered with: {text}")
        elif connected:
            self._note(*self._data_of(self._far, what), True)
        else:
            self._note(self._near, what, False, f"without a data connection LIST was answered with: {text}")

    def _data_of(self, leg: str, what: str) -> tuple[str, str]:
        """The leg and what is tried there: which mode counts further on this hop does not know."""
        return leg, what if leg == self._near else "data"

    def _take(self, happened: events.Event | tuple[int, bytes] | str, setup: ServerSetUp) -> None:
        """What a session and its transfer do with it."""
        match happened:
            case (int(code), bytes(raw)) if self._answered and code >= 200:
                self._answered.pop(0)(code, raw)
            case str():
                self._fail(self._near, "control", f"{self.server_name} {happened}")
            case events.Listening(port=port):
                setup.listening(port)
            case events.ListenFailed(cause=cause):
                setup.failed(cause, "proxy-error")
            case events.Dialled(port=port):
                setup.dialled(port)
            case events.DialFailed(cause=cause, here=here):
                setup.dial_failed(cause, here)
            case events.Incoming(token=token, peer=peer) if self._channel:
                owner = peer.address == self.server_peer.address
                if owner or access.data_elsewhere(self.settings, self.settings.server_side, peer.address):
                    self._channel.take(token)
                    setup.connected(peer)
                else:
                    self._channel.drop(token)  # 3.16

    def _let_go(self) -> None:
        if self._channel:
            self._channel.reset(None)
            self._channel.release()
            self._channel = None

    # --- what ServerSetUp asks of a session ------------------------------------------------------

    def do(self, action: events.Action) -> None:
        """Have the net do it; the walk has its own time limits."""
        assert self._channel is not None  # noqa: S101 - there is a transfer
        match action:
            case events.Listen():
                self._channel.listen(action)
            case events.Dial():
                self._channel.dial(action)
            case events.Reset(leg=leg):
                self._channel.reset(leg)

    def ask(self, line: bytes, answered: Callable[[int, bytes], None]) -> None:
        """Send a command of the set-up."""
        self._answered.append(answered)
        self._send(line)

    def refused(self, reason: str, cause: str = "other") -> None:
        """The step says it."""

    # --- small ones ------------------------------------------------------------------------------

    def _send(self, line: bytes) -> None:
        assert self._control is not None  # noqa: S101 - it is connected
        self._control.send(line + b"\r\n")
        self._control.flush()

    def _received(self, data: bytes) -> None:
        for item in self._replies.feed(data):
            if isinstance(item, ReplyFault):
                self._happened.put_nowait(f"does not speak FTP: {item.reason}")
                return
            self._collected += item.raw
            if len(self._collected) > _LONGEST_REPLY:
                self._happened.put_nowait("sends a reply that is too long")
                return
            if item.last:
                self._happened.put_nowait((item.code, bytes(self._collected)))
                self._collected.clear()

    async def _next(self, seconds: float) -> events.Event | tuple[int, bytes] | str:
        return await asyncio.wait_for(self._happened.get(), seconds)

    async def _reply(self, seconds: float, what: str, silence: str) -> tuple[int, str]:
        try:
            happened = await self._next(seconds)
        except TimeoutError:
            happened = f"{silence} within {seconds:g} s"
        if not isinstance(happened, tuple):
            self._fail(self._near, what, f"{self.server_name} {happened}")
        return happened[0], _text(happened[1])

    async def _command(self, line: bytes, what: str) -> tuple[int, str]:
        self._send(line)
        times = self.settings.timeouts
        seconds = 2 * times.connect + times.greeting + _BEYOND  # USER may have it look up, connect, and wait
        code, text = 100, ""
        while code < 200:
            code, text = await self._reply(seconds, what, "did not reply")
        return code, text

    def _begin(self) -> None:
        self._began = self._loop.time()

    def _note(self, leg: str, what: str, ok: bool | None, says: str = "") -> None:
        took = round(1000 * (self._loop.time() - self._began)) if ok else None
        self._steps.append(Step(leg, what, ok, says, took))

    def _fail(self, leg: str, what: str, says: str) -> NoReturn:
        self._note(leg, what, False, says)
        raise _StopError


def _text(raw: bytes) -> str:
    """Show a reply's last line, code included, within a sentence."""
    line = raw.rstrip(b"\r\n").split(b"\n")[-1].rstrip(b"\r .")
    return "".join(c if c.isprintable() else "?" for c in line.decode("utf-8", "backslashreplace"))[:300]
