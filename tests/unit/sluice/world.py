# SPDX-License-Identifier: GPL-3.0-or-later
"""The net as a session must see it: what may happen next, and what no session may ask of it.

It keeps the books of every socket and timer that the session has. An action that the net could not do, that
would lose a socket, or that comes after the session's end is an AssertionError.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sluice import events
from sluice.config import Settings
from sluice.events import Action, Event, Leg, Timer
from sluice.memory import Memory
from sluice.protocol.verbs import Mode

from tests.unit.sluice.playbook import CLIENT, ORIGINAL, OWN, SERVER, SERVER6, STRANGER, new_session


@dataclass
class Sockets:
    """Those of one transfer, until it is released."""

    listeners: set[Leg] = field(default_factory=set)
    dials: set[Leg] = field(default_factory=set)
    offered: dict[int, Leg] = field(default_factory=dict)
    ends: set[Leg] = field(default_factory=set)
    relaying: bool = False
    source: Leg | None = None
    moved: bool = False
    at_end: bool = False
    finished: bool = False

    def stop(self) -> None:
        """Nothing moves any more."""
        self.relaying = False


def _narrower(settings: Settings) -> tuple[Settings, Settings]:
    """Settings without passive clients, and without any."""
    side = settings.client_side
    sides = replace(side, modes=(Mode.ACTIVE,)), replace(side, peers=())
    without_passive, without_clients = (replace(settings, client_side=each) for each in sides)
    return without_passive, without_clients


class World:
    """One session and its sockets. What it says: `heard` by the client, `asked` of the server."""

    def __init__(self, settings: Settings, well: Callable[[], bool], memory: Memory | None = None) -> None:
        """`well` decides, whenever something ends at once, whether it ends well."""
        self._well = well
        self._settings = settings
        self._narrower = _narrower(settings)
        self.heard = bytearray()
        self.asked = bytearray()
        self.client = "open"
        self.server = "none"  # then connecting, open, ended, closed
        self.names: list[str] = []
        """Those being looked up."""
        self.transfers: dict[int, Sockets] = {}
        self.logged: list[events.Log] = []
        self._token = 0
        self._queue: list[Event] = []
        self.session = new_session(settings, CLIENT, memory or Memory(lambda: 0.0))
        self._perform(self.session.start())
        self._work()

    @property
    def over(self) -> bool:
        return self.session.over

    @property
    def timers(self) -> set[Timer]:
        """Those that run: the session keeps them itself."""
        return set(self.session.deadlines.at)

    def feed(self, event: Event) -> None:
        """Let something happen, and what it leads to at once."""
        self._queue.append(event)
        self._work()

    def receive(self, leg: Leg, data: bytes) -> None:
        """Bytes come in, if they are read at all; as the net reads them, in pieces."""
        for at in range(0, len(data), 4096):
            if self.hears(leg):
                self.feed(events.Received(leg, data[at : at + 4096]))

    def hears(self, leg: Leg) -> bool:
        """Whether the net reads that control connection."""
        if leg is Leg.CLIENT:
            return not self.over and self.client == "open" and self.session.accepts_input
        return not self.over and self.server == "open"

    def possible(self) -> list[Event]:
        """All that may happen next, but for what the ends of the control connections say."""
        if self.over:
            return []
        found: list[Event] = [events.Stop(False), events.Stop(True), events.Kill()]
        refused = "port 50001 is not in 60000-60001" if self.transfers else ""
        found.append(events.Enforce(self._settings, "", now=False))
        found += [events.Enforce(each, refused, now) for each in self._narrower for now in (False, True)]
        found += [events.Expired(timer) for timer in Timer if timer in self.timers]
        found += [events.Ended(Leg.CLIENT, reset) for reset in (False, True) if self.client == "open"]
        if self.client == "ended":  # a reset may follow its FIN
            found.append(events.Ended(Leg.CLIENT, True))
        if self.server == "open":
            found += [events.Ended(Leg.SERVER, reset) for reset in (False, True)]
        if self.server == "connecting":
            found.append(events.Connected(ipaddress.ip_address("198.51.100.2")))
            found.append(events.ConnectFailed("refused the connection"))
        for name in self.names:
            found.append(events.Resolved(name, (SERVER.address, SERVER6.address)))
            found.append(events.Resolved(name, (STRANGER.address,)))
            found.append(events.Resolved(name, (), "no such name"))
        for number, sockets in self.transfers.items():
            found += self._of(number, sockets)
        return found

    def _of(self, number: int, sockets: Sockets) -> list[Event]:
        found: list[Event] = []
        for leg in Leg:
            if leg in sockets.listeners:
                owner = CLIENT if leg is Leg.CLIENT else SERVER
                found += [events.Incoming(number, leg, 0, peer) for peer in (owner, STRANGER)]
            if leg in sockets.dials:
                found.append(events.Dialled(number, leg, 51001))
                found.append(events.DialFailed(number, leg, "refused the connection"))
                found.append(events.DialFailed(number, leg, "no free port in 51000-51001", here=True))
            if leg in sockets.ends and (sockets.relaying or sockets.finished):
                found.append(events.DataReset(number, leg))
        if sockets.relaying:
            if not sockets.moved:
                found += [events.DataMoved(number, leg) for leg in Leg if sockets.source in (leg, None)]
            if not sockets.at_end and sockets.source:
                found.append(events.DataEnd(number))
            found.append(events.DataIdle(number))
        return found

    # --- what the session does ---

    def _work(self) -> None:
        while self._queue:
            event = self._queue.pop(0)
            self._happens(event)
            if isinstance(event, events.Incoming):
                self._token += 1
                self.transfers[event.transfer].offered[self._token] = event.leg
                event = events.Incoming(event.transfer, event.leg, self._token, event.peer)
            was_over = self.over
            actions = self.session.handle(event)
            assert not was_over or all(isinstance(each, events.Drop) for each in actions), actions
            self._perform(actions)
        self._check()

    def _happens(self, event: Event) -> None:
        sockets = self.transfers.get(getattr(event, "transfer", 0), Sockets())
        match event:
            case events.Expired(timer=timer):
                self.session.deadlines.cancel(timer)
            case events.Ended(leg=Leg.CLIENT):
                self.client = "ended"
            case events.Ended():
                self.server = "ended"
            case events.Connected():
                self.server = "open"
            case events.ConnectFailed():
                self.server = "none"
            case events.Resolved(name=name):
                self.names.remove(name)
            case events.Dialled(leg=leg):
                sockets.dials.remove(leg)
                sockets.ends.add(leg)
            case events.DialFailed(leg=leg):
                sockets.dials.discard(leg)
            case events.DataMoved(source=source):
                sockets.source, sockets.moved = source, True
            case events.DataEnd():
                sockets.at_end = True
            case events.DataReset(leg=leg):
                sockets.stop()

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, events.Listen | events.Dial) and action.transfer not in self.transfers:
                assert not self.transfers, "one transfer after the other: the one before keeps its sockets"
                self.transfers[action.transfer] = Sockets()
            self._act(action)

    def _act(self, action: Action) -> None:
        number = getattr(action, "transfer", None) or 0
        sockets = self.transfers.get(number)
        match action:
            case events.Send(leg=Leg.CLIENT, data=data):
                assert self.client != "closed"
                self.heard += data
            case events.Send(data=data):
                assert self.server in {"open", "ended"}, "no server is there to be told"
                self.asked += data
            case events.Close(leg=Leg.CLIENT):
                self.client = "closed"
            case events.Close():
                self.server = "none" if self.server in {"none", "connecting"} else "closed"
                self.names.clear()
            case events.Connect():
                assert self.server in {"none", "closed"}, (
                    self.server
                )  # closed: it did not greet, the next one
                self.server = "connecting"
            case events.Resolve(name=name):
                self.names.append(name)
            case events.Log():
                self.logged.append(action)
            case events.Reset(leg=leg) if sockets:
                self._reset(sockets, leg)
            case events.Release() if sockets:
                del self.transfers[number]
            case events.Reset() | events.Release() | events.Drop() if not sockets:
                pass  # it never had any
            case _:
                assert sockets is not None, f"{action} of a transfer without sockets"
                self._data(action, number, sockets)

    @staticmethod
    def _reset(sockets: Sockets, leg: Leg | None) -> None:
        for each in (leg,) if leg else tuple(Leg):
            if each in sockets.ends:
                sockets.stop()
                sockets.finished = False
            for there in (sockets.ends, sockets.listeners, sockets.dials):
                there.discard(each)
            sockets.offered = {t: owner for t, owner in sockets.offered.items() if owner is not each}

    def _data(self, action: Action, number: int, sockets: Sockets) -> None:
        if isinstance(action, events.Listen | events.Dial):
            others = ORIGINAL.address if action.leg is Leg.CLIENT else CLIENT.address
            assert action.address == others if action.transparent else action.address in OWN, action
        match action:
            case events.Listen(leg=leg):
                assert leg not in sockets.listeners | sockets.dials | sockets.ends, "a socket would be lost"
                if self._well():
                    sockets.listeners.add(leg)
                    self._queue.append(events.Listening(number, leg, 50001))
                else:
                    self._queue.append(events.ListenFailed(number, leg, "no free port in 50000-50001"))
            case events.Dial(leg=leg):
                assert leg not in sockets.listeners | sockets.dials | sockets.ends, "a socket would be lost"
                sockets.dials.add(leg)
            case events.Take(token=token):
                leg = sockets.offered.pop(token)
                assert leg not in sockets.ends, "a socket would be lost"
                sockets.listeners.discard(leg)
                sockets.ends.add(leg)
            case events.Drop(token=token):
                del sockets.offered[token]
            case events.Relay(source=source):
                assert sockets.ends == set(Leg), "it takes two to move data"
                assert not sockets.relaying
                assert not sockets.finished
                sockets.relaying, sockets.source = True, source
            case events.Finish():
                assert sockets.ends == set(Leg), "no end of it may be gone"
                assert sockets.at_end, "FIN, and its source has not ended well"
                sockets.stop()
                sockets.finished = True
            case events.Discard():
                sockets.stop()
            case _:
                raise AssertionError(action)

    # --- what must hold at any time ---

    def _check(self) -> None:
        ends = [record for record in self.logged if record.event == "session-end"]
        assert len(ends) == self.over
        logged = [record.transfer for record in self.logged if record.event == "transfer"]
        assert len(logged) == len(set(logged)), "one record for each transfer"
        assert all(not sockets.offered for sockets in self.transfers.values()), "an offer without an answer"
        if self.over:
            assert not self.transfers, "a data port is kept after the end"
            assert not self.timers, "a timer runs on"
            assert not self.names
            assert (self.client, self.server) in {("closed", "closed"), ("closed", "none")}
