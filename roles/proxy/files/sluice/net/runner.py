# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one session: feeds it what happens on its sockets, does what it says."""

from __future__ import annotations

import asyncio
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

from sluice import access, events, xferlog
from sluice.config import Settings
from sluice.deadlines import NEVER
from sluice.events import Action, Event, Leg
from sluice.journal import Journal
from sluice.net.control import Connector, ControlSocket
from sluice.net.data import Channel
from sluice.net.pace import Pace
from sluice.net.places import Places
from sluice.net.relay import PipePool
from sluice.net.resolve import Resolver
from sluice.protocol.addresses import Address
from sluice.session import Session

_UNBROKEN = ("complete", "refused", "aborted")
_LINGERING = 16  # transfers that are over and whose client has not closed its end yet, of one session
_PIECE = 4096  # bytes read from a client at once: a line may be one byte, and its answer thirty


class Runner:
    """One client's session and its sockets.

    `finished` is called when the last socket is closed, `broke` when a transfer breaks that was to end (F9).
    """

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        *,
        journal: Journal,
        pipes: PipePool,
        resolver: Resolver,
        places: Places,
        finished: Callable[[Runner], None],
        broke: Callable[[], None] = lambda: None,
        pace: Pace | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._journal = journal
        self._pipes = pipes
        self._resolver = resolver
        self._places = places
        self._finished = finished
        self._broke = broke
        self._pace = pace
        self._session = session
        self._queue: list[Event] = []  # a deque takes 600 bytes, empty as it is
        self._busy = False
        self._client = ControlSocket(
            self._loop,
            sock,
            received=lambda data: self.feed(events.Received(Leg.CLIENT, data)),
            ended=lambda reset: self.feed(events.Ended(Leg.CLIENT, reset)),
            relieved=self._work,
            closed=self._check_finished,
            piece=_PIECE,
        )
        self._server: ControlSocket | None = None
        self._connector: Connector | None = None
        self._lookup: asyncio.Task[None] | None = None
        self._channels: dict[int, Channel] = {}
        self._lingering: dict[Channel, None] = {}  # the oldest first
        self._deadlines = session.deadlines
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = NEVER
        self._stopping = False
        self._done = False
        self._began = self._loop.time()

    def start(self) -> None:
        """Begin."""
        self._busy = True
        try:
            self._perform(self._session.start())
        except Exception:
            self._crash()
        finally:
            self._busy = False
        self._work()

    def feed(self, event: Event) -> None:
        """Give the session an event, and do what it says; also from within its own actions."""
        if isinstance(event, events.DataEnd):
            # A busy loop may hand over the data's end before the loss of control or the ABOR that came
            # first; then it is not the end of a whole file (5.5, 6.2). The kernel of a server that was
            # killed ends both its connections so (6.10).
            self._client.read_ahead()
            if self._server:
                self._server.read_ahead()
        self._queue.append(event)
        self._work()

    @property
    def ident(self) -> str:
        """The session's id."""
        return self._session.ident

    def describe(self) -> dict[str, str]:
        """Return what an operator wants to know of the session, as text."""
        found = {key.removeprefix("SLUICE_").lower(): v for key, v in self._session.log_fields().items()}
        found["seconds"] = f"{self._loop.time() - self._began:.0f}"
        moved = [channel for channel in self._channels.values() if channel.bytes]
        found["bytes"] = str(sum(channel.bytes for channel in moved))
        found["doing"] = self._session.doing
        return found

    def kill(self) -> None:
        """End the session at once, by an operator's word."""
        self.feed(events.Kill())
        self._check_finished()

    def stop(self, now: bool) -> None:
        """End the session: when it is idle, or now."""
        self._stopping = True
        self.feed(events.Stop(now))
        self._check_finished()

    def enforce(self, settings: Settings, *, now: bool) -> int:
        """Hold the session to other settings (F9); how many transfers run that they do not carry.

        `now`: these are reset. One that the client has only to read the rest of is a transfer here, too.
        """
        refused = [each for channel in self._channels.values() if (each := _refused(settings, channel))]
        lingering = [channel for channel in self._lingering if _refused(settings, channel)]
        self.feed(events.Enforce(settings, refused[0] if refused else "", now))
        for channel in lingering if now else ():
            channel.reset(None)
            channel.release()
            self._broke()
        self._check_finished()
        return len(lingering) + self._session.doomed

    def _work(self) -> None:
        """Handle what happened, and write; writing may find an end, which has happened then, too."""
        if self._busy:
            return
        self._busy = True
        queue, session, client = self._queue, self._session, self._client
        try:
            while True:
                while queue:
                    event = queue.pop(0)
                    try:
                        self._perform(session.handle(event))
                    except Exception:
                        self._crash()
                server = self._server
                if client.unsent:
                    client.flush()
                if server and server.unsent:
                    server.flush()
                if not queue:
                    break
            # Neither leg is read while one cannot be written: not the other one (1.9), and not the client
            # that does not read its own answers.
            full = bool(client.unsent) and client.congested
            wanted = session.accepts_input and not full
            if server:
                wanted = wanted and not (server.unsent and server.congested)
                if server.reading is full:
                    server.read(not full)
            if client.reading is not wanted:
                client.read(wanted)
            if self._deadlines.soonest < self._alarm_at:
                self._set_alarm()
        finally:
            self._busy = False

    def _crash(self) -> None:
        text = traceback.format_exc()
        fields = self._session.log_fields()
        self._journal.write("warning", f"internal error, the session ends: {text}", 3, **fields)
        try:
            self._perform(self._session.crash())
        except Exception:
            self.abandon()

    def abandon(self) -> None:
        """Close everything with RST."""
        for number, channel in list(self._channels.items()):
            channel.reset(None)
            self._release(number)
        self._client.reset()
        if self._server:
            self._server.reset()

    # --- actions ---------------------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            HANDS[type(action)](self, action)

    def _send(self, action: events.Send) -> None:
        if action.leg is Leg.CLIENT:
            self._client.send(action.data)
        elif self._server and action.urgent:
            self._server.send_urgent(action.data)
        elif self._server:
            self._server.send(action.data)

    def _listen(self, action: events.Listen) -> None:
        if self._place(action):
            self._channel(action.transfer).listen(action)

    def _dial(self, action: events.Dial) -> None:
        if self._place(action):
            self._channel(action.transfer).dial(action)

    def _drop(self, action: events.Drop) -> None:
        channel = self._channels.get(action.transfer)
        if channel:
            channel.drop(action.token)

    def _reset(self, action: events.Reset) -> None:
        self._client.flush()  # the word before the deed: the peer reads why
        channel = self._channels.get(action.transfer)
        if channel:
            channel.reset(action.leg)

    def _connect(self, action: events.Connect) -> None:
        self._connector = Connector(self._loop, action, self._connected, self._connect_failed)

    def _close(self, action: events.Close) -> None:
        if action.leg is Leg.CLIENT:
            self._client.close()
        else:
            self._close_server()

    def _look_up(self, action: events.Resolve) -> None:
        self._lookup = self._loop.create_task(self._resolve(action.name))

    def _place(self, action: events.Listen | events.Dial) -> bool:
        """Whether the transfer may have its sockets; it is told when there is no place for it (13.7)."""
        if action.transfer in self._channels or self._places.take():
            return True
        cause = f"the limit of {self._places.all} transfers at once is reached"
        if isinstance(action, events.Listen):
            self.feed(events.ListenFailed(action.transfer, action.leg, cause))
        else:
            self.feed(events.DialFailed(action.transfer, action.leg, cause, here=True))
        return False

    def _channel(self, number: int) -> Channel:
        if number not in self._channels:
            self._channels[number] = Channel(
                self._loop,
                self._pipes,
                number,
                self.feed,
                self._channel_gone,
                pace=self._pace,
                tally=self._session.tally,
            )
        return self._channels[number]

    def _release(self, number: int) -> None:
        channel = self._channels.pop(number, None)
        if channel:
            self._places.give_back()
            self._lingering[channel] = None
            channel.release()
            if len(self._lingering) > _LINGERING:
                next(iter(self._lingering)).expire()

    def _channel_gone(self, channel: Channel) -> None:
        self._lingering.pop(channel, None)
        self._check_finished()

    def _log(self, action: events.Log) -> None:
        fields = action.fields
        if action.transfer is not None:
            channel = self._channels.get(action.transfer)
            fields = self._session.log_fields() | fields
            fields["SLUICE_BYTES"] = str(channel.bytes if channel else 0)
            fields["SLUICE_SECONDS"] = f"{channel.seconds if channel else 0:.3f}"
            outcome = fields["SLUICE_OUTCOME"]
            # A server's 4xx or 5xx in the middle of its data is no refusal: the other hop may have reset it.
            broken = outcome not in _UNBROKEN or (outcome == "refused" and fields["SLUICE_BYTES"] != "0")
            if broken and self._session.doomed:
                self._broke()
            self._session.doomed = False
        self._journal.write(action.event, action.message, action.priority, **fields)
        if action.transfer is not None and self._session.settings.xferlog:
            line = xferlog.format_line(fields, time.localtime())
            if line:
                ids = {key: fields[key] for key in ("SLUICE_HOP", "SLUICE_SESSION")}
                self._journal.write("xferlog", line, 6, "sluice-xferlog", **ids)

    # --- the server's control connection ---------------------------------------------------------

    def _connected(self, sock: socket.socket, local: Address) -> None:
        if self._connector:
            self._session.tally.connected(self._loop.time() - self._connector.began)
        self._connector = None
        self._server = ControlSocket(
            self._loop,
            sock,
            received=lambda data: self.feed(events.Received(Leg.SERVER, data)),
            ended=lambda reset: self.feed(events.Ended(Leg.SERVER, reset)),
            relieved=self._work,
            closed=self._check_finished,
        )
        self.feed(events.Connected(local))

    def _connect_failed(self, cause: str) -> None:
        self._connector = None
        self.feed(events.ConnectFailed(cause))

    def _close_server(self) -> None:
        if self._connector:
            self._connector.cancel()
            self._connector = None
        if self._lookup:
            self._lookup.cancel()
        if self._server:
            self._server.close()

    async def _resolve(self, name: str) -> None:
        found = await self._resolver.resolve(name)
        self._lookup = None
        self.feed(found)

    # --- timers: one alarm for all, moved only when it must be -----------------------------------

    def _set_alarm(self) -> None:
        if self._alarm:
            self._alarm.cancel()
        self._alarm_at = self._deadlines.soonest
        self._alarm = self._loop.call_at(self._alarm_at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._alarm_at = 0.0  # until all that is over has been told
        now = self._loop.time() + 0.001  # the loop's clock rounds
        while timer := self._deadlines.over(now):
            self.feed(events.Expired(timer))
        self._alarm_at = NEVER
        if self._deadlines.at:
            self._set_alarm()

    def _check_finished(self) -> None:
        if self._done or not self._session.over or not self._client.gone:
            return
        if self._lingering and not self._stopping:  # at the proxy's end the kernel delivers the rest
            return
        if self._server is None or self._server.gone:
            self._done = True
            if self._alarm:
                self._alarm.cancel()
            self._finished(self)


def _refused(settings: Settings, channel: Channel) -> str:
    """Why the settings do not carry a transfer's sockets; "" when they do."""
    return next((each for sock in channel.sockets() if (each := access.data_refused(settings, sock))), "")


# What is done for each action; a session has some thirty, so they are not tried in turn.
HANDS: Final[dict[type[Any], Callable[[Runner, Any], object]]] = {
    events.Send: Runner._send,
    events.Listen: Runner._listen,
    events.Take: lambda runner, action: runner._channels[action.transfer].take(action.token),
    events.Drop: Runner._drop,
    events.Dial: Runner._dial,
    events.Relay: lambda runner, action: runner._channels[action.transfer].relay(action.source, action.idle),
    events.Finish: lambda runner, action: runner._channels[action.transfer].finish(),
    events.Discard: lambda runner, action: runner._channels[action.transfer].discard(action.leg),
    events.Reset: Runner._reset,
    events.Release: lambda runner, action: runner._release(action.transfer),
    events.Log: Runner._log,
    events.Connect: Runner._connect,
    events.Close: Runner._close,
    events.Resolve: Runner._look_up,
}
