# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole session machine under random events: the law of replies (PROTOCOL 1.11), no exception (10.7).

The server model answers every command that reaches it with exactly one final reply, sooner or later, and
the world model does what the session asks of the net, sooner or later, well or badly.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sluice import events
from sluice.events import Leg

from tests.unit.sluice.playbook import CLIENT, PORT, SERVER, STRANGER, Playbook
from tests.unit.sluice.playbook import settings as make_settings

COMMANDS = [
    b"NOOP", b"SYST", b"PWD", b"STAT", b"ABOR", b"PASV", b"EPSV", PORT.strip(), b"EPRT |1|10.1.0.10|45001|",
    b"PORT 9,9,9,9,9,9", b"RETR f", b"STOR f", b"LIST", b"TYPE I", b"AUTH TLS", b"MODE B", b"XFOO", b"USER u",
    b"FEAT",
]  # fmt: skip
ANSWERS = {
    b"EPSV": [b"229 (|||45000|)", b"229 (|||45000|)", b"500 x", b"425 x", b"229 (|||22|)"],
    b"PASV": [b"227 (1,2,3,4,175,200)", b"500 x"],
    b"EPRT": [b"200 x", b"500 x"],
    b"PORT": [b"200 x", b"500 x"],
    b"USER": [b"230 x", b"331 x"],
    b"ABOR": [b"226 x", b"225 x", b"502 x"],
}
TRANSFERS = (b"RETR", b"STOR", b"LIST")
OWN = (b"EPSV", b"PASV", b"EPRT", b"PORT")


class Machine(RuleBasedStateMachine):
    """One session between a client and a server that play by the rules, on a net that fails now and then."""

    @initialize(
        client=st.sampled_from(["active", "passive", "both"]),
        server=st.sampled_from(["active", "passive", "both"]),
    )
    def begin(self, client: str, server: str) -> None:
        self.p = Playbook(make_settings(client, server)).log_in()
        self.sent: list[bytes] = []  # the client's commands
        self.heard = b""
        self.pending: list[bytes] = []  # commands at the server
        self.line = b""

    def step(self, event: events.Event) -> None:
        self.p.feed(event)
        self.heard += self.p.said()
        for line in self.p.asked().split(b"\r\n")[:-1]:
            self.pending.append(line)

    @property
    def alive(self) -> bool:
        return not self.p.session.over

    @precondition(lambda self: self.alive)
    @rule(lines=st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=3))
    def commands(self, lines: list[bytes]) -> None:
        self.sent += lines
        self.step(events.Received(Leg.CLIENT, b"".join(line + b"\r\n" for line in lines)))

    @precondition(lambda self: self.alive and self.pending)
    @rule(data=st.data())
    def preliminary(self, data: st.DataObject) -> None:
        verb = self.pending[0][:4]
        if verb in TRANSFERS or verb == b"XFOO":
            self.step(events.Received(Leg.SERVER, b"150 x\r\n"))

    @precondition(lambda self: self.alive and self.pending)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """A server that serves one command after the other."""
        verb = self.pending.pop(0)[:4]
        codes = ANSWERS.get(verb, [b"226 x", b"226-x\r\n200 x\r\n226 x", b"426 x", b"550 x"])
        if verb not in TRANSFERS and verb not in ANSWERS:
            codes = [b"200 x", b"211-x\r\n y\r\n211 x", b"502 x"]
        self.step(events.Received(Leg.SERVER, data.draw(st.sampled_from(codes)) + b"\r\n"))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), well=st.booleans())
    def net(self, data: st.DataObject, well: bool) -> None:
        """Something that the session started on the net succeeds or fails."""
        number = self.p.number
        dials = [a for a in self.p.actions if isinstance(a, events.Dial)]
        if dials:
            dial = data.draw(st.sampled_from(dials))
            self.p.actions.remove(dial)
            if well:
                self.step(events.Dialled(dial.transfer, dial.leg, 51001))
            else:
                self.step(events.DialFailed(dial.transfer, dial.leg, "refused the connection"))
        else:
            leg = data.draw(st.sampled_from(list(Leg)))
            owner = CLIENT if leg is Leg.CLIENT else SERVER
            if any(
                isinstance(a, events.Listen) and (a.transfer, a.leg) == (number, leg) for a in self.p.actions
            ):
                self.p.tokens += 1
                peer = owner if well else STRANGER
                self.step(events.Incoming(number, leg, self.p.tokens, peer))

    @precondition(lambda self: self.alive and any(isinstance(a, events.Relay) for a in self.p.actions))
    @rule(how=st.sampled_from(["moved", "end", "client", "server", "idle"]))
    def data(self, how: str) -> None:
        relay = [a for a in self.p.actions if isinstance(a, events.Relay)][-1]
        number = relay.transfer
        happened: dict[str, events.Event] = {
            "moved": events.DataMoved(number, relay.source or Leg.SERVER),
            "end": events.DataEnd(number),
            "client": events.DataReset(number, Leg.CLIENT),
            "server": events.DataReset(number, Leg.SERVER),
            "idle": events.DataIdle(number),
        }
        self.step(happened[how])

    @precondition(lambda self: self.alive and self.p.timers)
    @rule(data=st.data())
    def time(self, data: st.DataObject) -> None:
        names = sorted(t.name for t in self.p.timers if t.name in {"CLIENT_DATA", "SERVER_DATA"})
        if names:
            timer = events.Timer[data.draw(st.sampled_from(names))]
            del self.p.timers[timer]
            self.step(events.Expired(timer))

    def finals(self) -> list[bytes]:
        """The codes of the whole final replies that the client has heard."""
        raw = re.sub(rb"(\d{3})-.*?\r\n\1 [^\r]*\r\n", lambda m: m[1] + b" x\r\n", self.heard, flags=re.S)
        return [line[:3] for line in raw.split(b"\r\n")[:-1] if line[:1] != b"1"]

    @invariant()
    def never_more_replies_than_commands(self) -> None:
        if hasattr(self, "p"):
            assert len(self.finals()) <= len(self.sent) + (not self.alive), (self.sent, self.heard)

    @invariant()
    def nothing_is_waited_for_without_end(self) -> None:
        """2.11: a timer runs, or data moves, whose silence the net reports."""
        if hasattr(self, "p") and self.alive:
            transfer = self.p.session._transfer
            moving = transfer is not None and transfer.moving
            of_others = {events.Timer.LINE, events.Timer.LOGIN, events.Timer.TOTAL}
            assert moving or set(self.p.timers) - of_others, (self.sent, self.heard, self.pending)

    def teardown(self) -> None:
        """Let everything come to its end: then each command has its one final reply."""
        if not hasattr(self, "p"):
            return
        for _ in range(len(self.sent) * 12 + 20):
            if not self.alive:
                break
            self.settle_once()
        if self.alive:
            assert len(self.finals()) == len(self.sent), (self.sent, self.heard, self.pending)

    def settle_once(self) -> None:
        dials = [a for a in self.p.actions if isinstance(a, events.Dial)]
        for dial in dials:
            self.p.actions.remove(dial)
            self.step(events.DialFailed(dial.transfer, dial.leg, "refused the connection"))
        if self.pending:
            line = self.pending.pop(0)
            answer: Any = {b"EPSV": b"229 (|||45000|)", b"PASV": b"227 (1,2,3,4,175,200)"}
            code = answer.get(line[:4], b"426 x" if line[:4] in TRANSFERS else b"200 x")
            self.step(events.Received(Leg.SERVER, code + b"\r\n"))
        elif events.Timer.ABORT in self.p.timers:
            del self.p.timers[events.Timer.ABORT]
            self.step(events.Expired(events.Timer.ABORT))
        for timer in (events.Timer.CLIENT_DATA, events.Timer.SERVER_DATA):
            if timer in self.p.timers:
                del self.p.timers[timer]
                self.step(events.Expired(timer))
        relays = [a for a in self.p.actions if isinstance(a, events.Relay)]
        if relays:
            self.step(events.DataReset(relays[-1].transfer, Leg.SERVER))


Machine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMachine = Machine.TestCase
