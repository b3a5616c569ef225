# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole session machine under random events: the law of replies (1.11), nothing left behind (10.7).

The net does what the session asks of it, sooner or later, well or badly, and keeps the books (World). The
server answers every command that reaches it with exactly one final reply, until it says what it likes; from
then on only what no peer can break holds: no exception, no socket lost or kept, an end in bounded time.
"""

from __future__ import annotations

import ipaddress
import os
import re

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sluice import events
from sluice.events import Event, Leg, Timer

from tests.unit.sluice.playbook import CLIENT, PORT, intercepting
from tests.unit.sluice.playbook import settings as make_settings
from tests.unit.sluice.world import World

COMMANDS = [
    b"NOOP", b"SYST", b"PWD", b"STAT", b"STAT /", b"ABOR", b"PASV", b"EPSV", b"EPSV ALL", PORT.strip(),
    b"EPRT |1|10.1.0.10|45001|", b"PORT 9,9,9,9,9,9", b"RETR f", b"STOR f", b"LIST", b"TYPE I", b"AUTH TLS",
    b"MODE B", b"XFOO", b"USER u", b"PASS x", b"REIN", b"FEAT", b"HOST h", b"",
]  # fmt: skip
CHOOSING = [b"USER u@198.51.100.10", b"USER u@ftp.example.org", b"OPEN 198.51.100.11:21", b"SITE 192.0.2.1"]
SETUPS = [b"PASV", b"EPSV", PORT.strip()]
TRANSFERS = (b"RETR", b"STOR", b"LIST")
ANSWERS = {
    b"EPSV": [b"229 (|||45000|)", b"229 (|||45000|)", b"500 x", b"425 x", b"229 (|||22|)"],
    b"PASV": [b"227 (1,2,3,4,175,200)", b"500 x"],
    b"EPRT": [b"200 x", b"500 x"],
    b"PORT": [b"200 x", b"500 x"],
    b"USER": [b"230 x", b"331 x"],
    b"PASS": [b"230 x", b"530 x"],
    b"REIN": [b"220 x", b"502 x"],
    b"QUIT": [b"221 x"],
    b"ABOR": [b"226 x", b"225 x", b"502 x"],
}
ANYTHING = [
    b"120 x", b"150 x", b"200 x", b"211-F\r\n EPRT\r\n211 E", b"220 x", b"225 x", b"226 x",
    b"227 (1,2,3,4,175,200)", b"229 (|||45000|)", b"229 x", b"230 x", b"331 x", b"421 x", b"425 x", b"426 x",
    b"500 x", b"550-x", b"999 x",
]  # fmt: skip
KINDS = {
    "fixed": {},
    "user@host": {
        "servers": {
            "networks": ["198.51.100.0/25", "2001:db8:3::/120"],
            "control_ports": [21],
            "resolvers": ["192.0.2.53"],
        }
    },
    "next hop": {
        "next_hop": {
            "hosts": [{"name": f"m{i}", "addresses": [f"198.51.100.{i}"]} for i in (11, 12)],
            "control_port": 21,
        }
    },
    "redirect": intercepting("redirect"),
    "tproxy": intercepting("tproxy", client_source=True),
    "told": intercepting("tproxy", told=True),
}
TOO_LATE: list[Event] = [
    events.Received(Leg.CLIENT, b"NOOP\r\n"), events.Received(Leg.SERVER, b"200 x\r\n"),
    events.Ended(Leg.CLIENT, reset=True), events.Ended(Leg.SERVER, reset=False), events.Expired(Timer.IDLE),
    events.Incoming(1, Leg.CLIENT, 1, CLIENT), events.DataEnd(1), events.DialFailed(1, Leg.SERVER, "x"),
    events.Connected(CLIENT.address), events.Stop(True), events.Kill(),
]  # fmt: skip
modes = st.sampled_from(["active", "passive", "both"])
line = st.sampled_from(COMMANDS)


class Machine(RuleBasedStateMachine):
    """One session on a net that fails now and then; `rough`: peers that leave, time, the proxy's own end."""

    @initialize(client=modes, server=modes, kind=st.sampled_from(sorted(KINDS)), data=st.data())
    def begin(self, client: str, server: str, kind: str, data: st.DataObject) -> None:
        self.well = True
        self.world = World(make_settings(client, server, **KINDS[kind]), lambda: self.well)
        self.kind = kind
        self.rough = data.draw(st.booleans())
        self.honest = True
        self.sent = 0  # the client's commands, or what it must hear one final reply to
        self.pending: list[bytes] = []  # commands at the server
        self.read = 0  # of what the server heard
        if kind == "user@host":
            self.sent = 1  # the proxy's own greeting
        if data.draw(st.booleans()):
            self.log_in()

    def log_in(self) -> None:
        if self.kind == "user@host":
            self.say(b"USER u@198.51.100.10")
        self.step(events.Connected(ipaddress.ip_address("198.51.100.2")))
        self.greet()
        if self.kind != "user@host":
            self.say(b"USER u")
        self.pending.clear()
        self.hear(b"230 x")

    def greet(self) -> None:
        """The greeting is a final reply that no command asked for, unless USER user@host led there."""
        self.sent += self.kind != "user@host"
        self.hear(b"220 x")

    # --- both ends ---

    def step(self, event: Event) -> None:
        if event == events.Expired(Timer.ABORT):
            self.give_up_abor()
        self.world.feed(event)
        self.take()

    def give_up_abor(self) -> None:
        """Whoever lets that time pass after the transfer's reply has answered both with that one (5.4)."""
        session = self.world.session
        if (session._transfer is None or session._final) and not session._owed.swallowed_transfer:
            given_up = [entry for entry in session._owed if entry.verb.name == b"ABOR"]
            self.sent -= len([entry for entry in given_up if not entry.own])
            self.pending = [each for each in self.pending if each.upper() != b"ABOR"]

    def take(self) -> None:
        """The server reads whole lines."""
        new = bytes(self.world.asked[self.read :])
        lines = new.replace(b"\xff\xf4\xff\xf2", b"").split(b"\r\n")[:-1]
        self.read += new.rfind(b"\n") + 1
        self.pending += lines

    def say(self, *lines: bytes) -> None:
        if self.world.hears(Leg.CLIENT):
            self.sent += len(lines)
            self.world.receive(Leg.CLIENT, b"".join(each + b"\r\n" for each in lines))
            self.take()

    def hear(self, reply: bytes) -> None:
        self.world.receive(Leg.SERVER, reply + b"\r\n")
        self.take()

    @property
    def alive(self) -> bool:
        return not self.world.over

    @property
    def greeted(self) -> bool:
        return self.world.session._upstream.phase.value == "ready"

    @precondition(lambda self: self.alive)
    @rule(lines=st.lists(line, min_size=1, max_size=3), well=st.booleans())
    def commands(self, lines: list[bytes], well: bool) -> None:
        self.well = well
        self.say(*lines)

    @precondition(lambda self: self.alive)
    @rule(setup=st.sampled_from(SETUPS), verb=st.sampled_from(TRANSFERS))
    def a_transfer(self, setup: bytes, verb: bytes) -> None:
        self.well = True
        self.say(setup, verb + b" f")

    @precondition(lambda self: self.alive and self.kind == "user@host")
    @rule(choice=st.sampled_from(CHOOSING))
    def choose(self, choice: bytes) -> None:
        self.say(choice)

    @precondition(lambda self: self.alive and self.world.server == "open" and not self.greeted)
    @rule()
    def greeting(self) -> None:
        opened = self.world.session._current
        if opened and opened.verb.opens:  # the greeting answers OPEN
            self.sent -= 1
        self.greet() if self.kind != "user@host" else self.hear(b"220 x")
        if opened and opened.verb.opens:
            self.sent += 1

    @precondition(lambda self: self.alive and self.pending)
    @rule()
    def preliminary(self) -> None:
        if self.pending[0][:4] in (*TRANSFERS, b"XFOO"):
            self.hear(b"150 x")

    @precondition(lambda self: self.alive and self.pending)
    @rule(data=st.data(), well=st.booleans())
    def answer(self, data: st.DataObject, well: bool) -> None:
        """A server that serves one command after the other."""
        self.well = well
        verb = self.pending.pop(0)[:4]
        codes = ANSWERS.get(verb, [b"226 x", b"226-x\r\n200 x\r\n226 x", b"426 x", b"550 x"])
        if verb not in TRANSFERS and verb not in ANSWERS:
            codes = [b"200 x", b"211-x\r\n y\r\n211 x", b"502 x"]
        self.hear(data.draw(st.sampled_from(codes)))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), well=st.booleans())
    def net(self, data: st.DataObject, well: bool) -> None:
        """What the session waits for comes, well or badly; where peers are rough, anything comes."""
        self.well = well
        fate = (events.Stop, events.Kill, events.Ended, events.Expired, events.ConnectFailed)
        found = [each for each in self.world.possible() if self.rough or not isinstance(each, fate)]
        if found:
            self.step(data.draw(st.sampled_from(found)))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def time(self, data: st.DataObject) -> None:
        names = sorted(t.name for t in self.world.timers if t.name in {"CLIENT_DATA", "SERVER_DATA", "ABORT"})
        if names:
            self.step(events.Expired(Timer[data.draw(st.sampled_from(names))]))

    @precondition(lambda self: self.alive and self.rough)
    @rule(leg=st.sampled_from(list(Leg)), lines=st.lists(st.sampled_from(ANYTHING), min_size=1, max_size=2))
    def lies(self, leg: Leg, lines: list[bytes]) -> None:
        self.honest = False
        self.world.receive(leg, b"".join(each + b"\r\n" for each in lines))
        self.take()

    @precondition(lambda self: self.alive and self.rough)
    @rule(leg=st.sampled_from(list(Leg)), noise=st.binary(max_size=40))
    def noise(self, leg: Leg, noise: bytes) -> None:
        self.honest = False
        self.world.receive(leg, noise)
        self.take()

    @precondition(lambda self: self.alive and self.rough)
    @rule()
    def quits(self) -> None:
        self.say(b"QUIT")

    @precondition(lambda self: not self.alive)
    @rule(event=st.sampled_from(TOO_LATE))
    def too_late(self, event: Event) -> None:
        """What was on its way while the session ended."""
        incoming = isinstance(event, events.Incoming)
        assert self.world.session.handle(event) == ([events.Drop(1, 1)] if incoming else [])

    # --- the laws ---

    def finals(self) -> list[bytes]:
        """The codes of the whole final replies that the client has heard."""
        heard = bytes(self.world.heard)
        raw = re.sub(rb"(\d{3})-.*?\r\n\1 [^\r]*\r\n", lambda m: m[1] + b" x\r\n", heard, flags=re.S)
        return [each[:3] for each in raw.split(b"\r\n")[:-1] if each[:1] != b"1"]

    @invariant()
    def never_more_replies_than_commands(self) -> None:
        if hasattr(self, "world") and self.honest:
            assert len(self.finals()) <= self.sent + (not self.alive), bytes(self.world.heard)

    @invariant()
    def nothing_is_waited_for_without_end(self) -> None:
        """2.11: a timer runs, or data moves, whose silence the net reports."""
        if hasattr(self, "world") and self.alive:
            transfer = self.world.session._transfer
            moving = transfer is not None and transfer.moving
            of_others = {Timer.LINE, Timer.LOGIN, Timer.TOTAL}
            chooses = self.kind == "user@host"
            assert moving or self.world.timers - (of_others - ({Timer.LOGIN} if chooses else set()))

    def teardown(self) -> None:
        """Let everything come to its end: each command has its one final reply. Then nobody does anything."""
        if not hasattr(self, "world"):
            return
        self.well = True
        if self.honest and self.greeted and self.world.client == "open":
            for _ in range(self.sent * 12 + 20):
                if self.alive:
                    self.settle_once()
            if self.alive:
                assert len(self.finals()) == self.sent, (bytes(self.world.heard), self.pending)
        for _ in range(100):
            if self.alive:
                self.silence()
        assert not self.alive, "both ends are silent, and the session does not end"

    def settle_once(self) -> None:
        for each in self.world.possible():
            if isinstance(each, events.DialFailed) and not each.here:
                self.step(each)
                return
        if self.pending:
            verb = self.pending.pop(0)[:4]
            answer = {b"EPSV": b"229 (|||45000|)", b"PASV": b"227 (1,2,3,4,175,200)"}
            self.hear(answer.get(verb, b"426 x" if verb in TRANSFERS else b"200 x"))
            return
        for timer in (Timer.ABORT, Timer.CLIENT_DATA, Timer.SERVER_DATA):
            if timer in self.world.timers:
                self.step(events.Expired(timer))
                return
        for each in self.world.possible():
            if isinstance(each, events.DataReset) and each.leg is Leg.SERVER:
                self.step(each)
                return

    def silence(self) -> None:
        """Time passes."""
        idle = [each for each in self.world.possible() if isinstance(each, events.DataIdle | events.Expired)]
        assert idle, "nothing is left that could happen"
        for each in idle:
            if each in self.world.possible():
                self.step(each)


Machine.TestCase.settings = settings(
    max_examples=3000 if os.environ.get("SLUICE_TEST_ALL") else 150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestMachine = Machine.TestCase
