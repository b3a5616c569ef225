# SPDX-License-Identifier: GPL-3.0-or-later
"""One transfer, from the client's set-up to the end of its data: when data was delivered, and when not.

Section 6 of PROTOCOL.md is decided here. A transfer is `delivered` once its source ended with a clean
FIN and the kernel has every byte on its way to the sink; it `failed` when anything else ended it. Then
both data connections end with RST, whatever the server says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sluice import access, events
from sluice.events import Endpoint, Leg, Timer
from sluice.protocol.replies import reply
from sluice.protocol.verbs import Mode
from sluice.setup import Control, ServerSetUp, State

_DRAIN = 2.0  # s that an aborted download is read on, so that the server reads its ABOR (5.5)
_PATIENCE = 5.0  # s that a server has to say how a broken transfer ended


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a transfer failed. own: the proxy decided so, and tells the client at once, with `code`."""

    outcome: str
    code: int
    cause: str
    own: bool


class Transfer:
    """The two data connections of one transfer, `number`ed within the session."""

    def __init__(self, control: Control, number: int, mode: Mode, target: Endpoint | None) -> None:
        """`mode`: the client's; `target`: where its PORT or EPRT wants the connection."""
        self._control = control
        self.number = number
        self.mode = mode
        self._target = target
        self.client = State.WAITING
        self._client_port = 0
        self._client_peer_port = target.port if target else 0
        elsewhere = target and target.address != control.client_peer.address
        self._client_elsewhere = target.address if target and elsewhere else None
        self.server = ServerSetUp(control, number, mode)
        self.verb_sent = False
        self.upload: bool | None = False  # None: not known yet
        self._answered = False
        self._preliminary = False
        self.moved = False
        self._relaying = False
        self.delivered = False
        self.aborted = False
        self.overtaken = False  # another command ran beside it
        self.failure: Failure | None = None

    @property
    def moving(self) -> bool:
        """Whether data moves: then no timer but that of the data itself runs."""
        return self._relaying and self.moved and not (self.delivered or self.failure or self.aborted)

    @property
    def preliminary(self) -> bool:
        """Whether the server has sent a 1xx."""
        return self._preliminary

    @property
    def server_unreached(self) -> bool:
        """Whether the server never had its data connection, so that nothing of it can tell the server."""
        return self.server.state is not State.CONNECTED

    @property
    def ready(self) -> bool:
        """Whether the verb may go to the server (3.1, 13.6).

        An active client is connected by then, so that its failure never reaches the server.
        """
        server = self.server.state in (State.LISTENING, State.CONNECTED)
        return server and (self.mode is Mode.PASSIVE or self.client is State.CONNECTED)

    @property
    def uncarried(self) -> str:
        """Why the settings of now would not let it be set up so; "" when they would (F9)."""
        settings = self._control.settings
        for leg, mode in ((settings.client_side, self.mode), (settings.server_side, self.server.mode)):
            if mode not in leg.modes:
                return f"leg {leg.leg} does not allow {mode.value} transfers"
        return access.data_port_refused(settings.client_side, self._target) if self._target else ""

    # --- set-up ---

    def listen(self) -> None:
        """Listen for a passive client, on the very address of its control connection (3.3)."""
        leg, local = self._control.settings.client_side, self._control.client_local
        self._control.do(events.Listen(self.number, Leg.CLIENT, local, leg.listen, leg.foreign(local)))

    def listening(self, port: int) -> None:
        """The listener for the client is up."""
        self._client_port = port
        self.client = State.LISTENING

    def start(self, upload: bool | None) -> None:
        """The verb came: dial an active client (3.1). `upload` None: the first to send decides (4.1)."""
        self.upload = upload
        if self._target and self.client is State.WAITING:
            control = self._control
            control.deadlines.start(Timer.CLIENT_DATA, control.settings.timeouts.data_connect)
            leg, local, to = control.settings.client_side, control.client_local, self._target
            control.do(events.Dial(self.number, Leg.CLIENT, local, leg.source, to, leg.foreign(local)))

    def handle(self, event: events.Event) -> None:
        """Take in what the net says of this transfer; the session looks at the result."""
        match event:
            case events.Listening(leg=Leg.SERVER, port=port):
                self.server.listening(port)
            case events.ListenFailed(leg=Leg.SERVER, cause=cause):
                self.server.failed(cause, "proxy-error")
            case events.Incoming():
                self._incoming(event)
            case events.Dialled(leg=Leg.SERVER, port=port):
                self.server.dialled(port)
            case events.Dialled(port=port):
                self._control.deadlines.cancel(Timer.CLIENT_DATA)
                self._client_port = port
                self.client = State.CONNECTED
            case events.DialFailed(leg=Leg.SERVER, cause=cause, here=here) if self.verb_sent:
                # of a verb that nobody knew to move data; after the verb no other mode is tried (13.6)
                named = cause if here else f"{self._control.server_name} {cause}"
                self._fail(Failure("proxy-error" if here else "refused", 425, named, own=True))
            case events.DialFailed(leg=Leg.SERVER, cause=cause, here=here):
                self.server.dial_failed(cause, here)
            case events.DialFailed(cause=cause, here=True):
                self._fail(Failure("proxy-error", 425, cause, own=True))
            case events.DialFailed(cause=cause):
                self._fail(Failure("refused", 425, f"the client {cause} ({self._target})", own=True))
            case events.DataMoved(source=source):
                self.moved = True
                self.upload = source is Leg.CLIENT
            case events.DataEnd():
                self._end()
            case events.DataReset(leg=leg):
                self._reset(leg)
            case events.DataIdle():
                if self._preliminary or self.moved:
                    seconds = self._control.settings.timeouts.data_idle
                    self._fail(Failure("timeout", 426, f"no data for {seconds:g} s", own=True))
            case events.Expired(timer=timer):
                self._expired(timer)
        self._relay()

    def _incoming(self, event: events.Incoming) -> None:
        control = self._control
        client = event.leg is Leg.CLIENT
        owner = control.client_peer.address if client else control.server_peer.address
        leg = control.settings.client_side if client else control.settings.server_side
        elsewhere = event.peer.address != owner
        if elsewhere and not access.data_elsewhere(control.settings, leg, event.peer.address):  # 3.16
            control.do(events.Drop(self.number, event.token))
            reason = f"data connection from {event.peer}, expected one from {owner}"
            control.refused(reason, "data-connection")
            return
        control.do(events.Take(self.number, event.token))
        if client:
            control.deadlines.cancel(Timer.CLIENT_DATA)
            self._client_peer_port = event.peer.port
            self._client_elsewhere = event.peer.address if elsewhere else None
            self.client = State.CONNECTED
        else:
            self.server.connected(event.peer)

    def _expired(self, timer: Timer) -> None:
        seconds = self._control.settings.timeouts.data_connect
        if timer is Timer.SERVER_DATA and not self.verb_sent:
            self.server.dial_failed(f"did not answer within {seconds:g} s")
        elif timer is Timer.SERVER_DATA:
            cause = f"{self._control.server_name} did not open its data connection within {seconds:g} s"
            self._fail(Failure("timeout", 425, cause, own=True))
        elif timer is Timer.CLIENT_DATA and self._target:
            cause = f"the client ({self._target}) did not answer within {seconds:g} s"
            self._fail(Failure("timeout", 425, cause, own=True))
        elif timer is Timer.CLIENT_DATA:
            cause = f"the client did not open its data connection within {seconds:g} s"
            self._fail(Failure("timeout", 425, cause, own=True))
        elif timer is Timer.ABORT and self.aborted:
            self._control.do(events.Reset(self.number, Leg.SERVER))
        elif timer is Timer.ABORT and self.failure:
            self.failure = Failure(self.failure.outcome, 426, self.failure.cause, own=True)

    # --- the transfer itself ---

    def sent(self) -> None:
        """The verb is on its way to the server: data may move, and the client should connect now (3.21)."""
        self.verb_sent = True
        if self.client is State.LISTENING:
            patience = self._control.settings.timeouts.data_connect
            self._control.deadlines.start(Timer.CLIENT_DATA, patience)
        if self.server.cause:
            self._fail(Failure(self.server.outcome, 425, self.server.cause, own=True))
        self._relay()

    def answered(self, code: int) -> None:
        """The server answered the verb: now it should connect (3.21).

        Not before: a recall from tape may take minutes, and the server connects after it.
        """
        self._preliminary = self._preliminary or code < 200
        if self._answered or self.failure or self.aborted or code >= 300:
            return
        self._answered = True
        start = self._control.settings.timeouts.data_connect
        if self.server.state is not State.CONNECTED:
            self._control.deadlines.start(Timer.SERVER_DATA, start)

    def _relay(self) -> None:
        both = self.client is State.CONNECTED and self.server.state is State.CONNECTED
        if both and self.verb_sent and not (self._relaying or self.failure or self.aborted):
            self._relaying = True
            source = None if self.upload is None else Leg.CLIENT if self.upload else Leg.SERVER
            idle = self._control.settings.timeouts.data_idle
            self._control.do(events.Relay(self.number, source, idle))

    def _end(self) -> None:
        if not (self.failure or self.aborted or self.delivered):
            self.delivered = True
            self._control.do(events.Finish(self.number))

    def _reset(self, leg: Leg) -> None:
        if self.aborted:
            return
        if self.delivered and (self.upload or leg is Leg.SERVER):
            return  # what was to be delivered is; the server's reply is the word on an upload
        who = "the client" if leg is Leg.CLIENT else self._control.server_name
        cause = f"{who} reset its data connection"
        self.delivered = False
        self._fail(Failure(f"reset-by-{leg.value}", 426, cause, own=False))

    def _fail(self, failure: Failure) -> None:
        if self.failure or self.aborted:
            return
        self.failure = failure
        self._control.do(events.Reset(self.number))
        self._cancel_timers()
        if not failure.own:
            self._control.deadlines.start(Timer.ABORT, _PATIENCE)

    def forbid(self, reason: str) -> None:
        """End it, for the settings do not carry it any more (F9)."""
        cause = f"the settings have changed: {reason}"
        self._fail(Failure("proxy-error", 426, cause, own=True))
        if self.failure and not self.failure.own:  # the other hop was a moment earlier: nobody is waited for
            self.failure = replace(self.failure, code=426, own=True)

    def abort(self) -> None:
        """The client sent ABOR (5.5): nothing more goes to it; the server is read on for a while."""
        self.server.abandoned = True
        if self.failure or self.aborted:
            return
        self._cancel_timers()
        self.aborted = True
        if self.delivered:
            return
        if self.server.state is State.CONNECTED and not self.upload:
            self._control.do(events.Reset(self.number, Leg.CLIENT))
            self._control.do(events.Discard(self.number, Leg.SERVER))
            self._control.deadlines.start(Timer.ABORT, _DRAIN)
        else:
            self._control.do(events.Reset(self.number))

    def _cancel_timers(self) -> None:
        self._control.deadlines.cancel(Timer.CLIENT_DATA)
        self._control.deadlines.cancel(Timer.SERVER_DATA)

    def own_reply(self, code: int, cause: str) -> bytes:
        """Write a final reply in the proxy's own words."""
        return reply(f"{code} {self._control.settings.hop}: {cause}.")

    def verdict(self, code: int, raw: bytes) -> tuple[str, bytes] | None:
        """Return the outcome, and the reply that is true, to the server's final `raw` (4.3, 6.9).

        None while the data is still on its way.
        """
        if self.aborted:
            return "aborted", raw
        if code >= 300 and not self._preliminary:
            self.failure = None  # the server's sockets just died before its word came
            return "refused", raw
        if code >= 300:
            return self.failure.outcome if self.failure else "refused", raw
        if self.failure:
            return self.failure.outcome, self.own_reply(self.failure.code, self.failure.cause)
        if not self.delivered:
            return None
        # beside another command's the code alone tells whose a reply is; that of a refusal may be either's
        return "complete" if code in (226, 250) or not self.overtaken else "refused", raw

    def close(self, outcome: str, command: dict[str, str]) -> None:
        """End it: log it when a verb used it, and let go of its sockets. `command`: its fields in the log.

        Delivered data closes in peace, all else with RST. Outcome "" logs nothing.
        """
        self.server.abandoned = True
        self._cancel_timers()
        self._control.deadlines.cancel(Timer.ABORT)
        if outcome:
            control, server = self._control, self.server
            control.tally.transfer(self.upload, outcome)
            client_own = Endpoint(control.client_local, self._client_port)
            client_far = Endpoint(
                self._client_elsewhere or control.client_peer.address, self._client_peer_port
            )
            server_own = Endpoint(control.server_local, server.port)
            server_far = Endpoint(server.elsewhere or control.server_peer.address, server.peer_port)
            fields = command | {
                "SLUICE_CLIENT_MODE": self.mode.value,
                "SLUICE_SERVER_MODE": server.mode.value,
                "SLUICE_CLIENT_DATA": f"{client_own} {client_far}",
                "SLUICE_SERVER_DATA": f"{server_own} {server_far}",
                "SLUICE_OUTCOME": outcome,
            }
            message = " ".join(filter(None, (command["SLUICE_COMMAND"], command["SLUICE_FILE"])))
            message += f": {outcome}"
            cause = self.failure.cause if self.failure else server.cause
            if outcome != "complete" and cause:
                fields["SLUICE_REASON"] = cause
                message += f", {cause}"
            self._control.do(events.Log("transfer", message, 6, self.number, fields))
        if not self.delivered:
            self._control.do(events.Reset(self.number))
        self._control.do(events.Release(self.number))
