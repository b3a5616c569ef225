# SPDX-License-Identifier: GPL-3.0-or-later
"""One FTP session: events in, actions out. No socket, no clock.

Commands go to the server one at a time: the next one leaves when the reply to the last is whole
(1.11, 1.12). Only ABOR, STAT and NOOP may overtake a transfer whose data moves (5.1). `_owed` is
the FIFO of commands that the server owes a reply; the proxy's own (EPSV, PORT ...) stand in it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sluice import access, events
from sluice.client import ClientEnd
from sluice.config import Settings
from sluice.deadlines import Deadlines
from sluice.events import Action, Endpoint, Event, Leg, Timer
from sluice.journal import show
from sluice.login import Login
from sluice.memory import Memory
from sluice.owed import Entry, Owed
from sluice.protocol import addresses
from sluice.protocol.addresses import Address
from sluice.protocol.identity import HeaderError, HeaderReader, Identity, write_header
from sluice.protocol.lines import SYNCH, LineFault
from sluice.protocol.replies import ReplyFault, ReplyLine, ReplyReader, multiline, reply
from sluice.protocol.verbs import Command, Kind, Mode, Use, parse_command
from sluice.tally import Tally
from sluice.transfer import Transfer
from sluice.upstream import Dead, Phase, Upstream

_COLLECT = 1 << 20  # bytes of a reply that is read as a whole (FEAT, the end of a transfer)
_PASSIVE = (227, 228, 229)  # name an address; the proxy asks for it, no client's command does
_ASIDE = 8  # commands that may overtake a transfer before the first of them is answered
_HEADER = 10.0  # s for the header of the hop before (14.1)
_LINE = 30.0  # s for the rest of a command line (2.11)
_ABOR_ANSWER = 10.0  # s after a transfer's end in which ABOR must be answered, or never is (5.4)


class Session:
    """The decisions of one session; `handle` takes each event, in order, and returns what to do."""

    def __init__(
        self,
        settings: Settings,
        ident: str,
        peer: Endpoint,
        local: Address,
        memory: Memory,
        *,
        tally: Tally | None = None,
        original: Endpoint | None = None,
    ) -> None:
        """`peer`, `local`: the ends of the client's control connection.

        `memory`, `tally`: what all sessions share. `original`: the server that the client addressed, where
        the connection was intercepted (9.1).
        """
        self.settings = settings
        self.client_peer = peer
        self.client_local = local
        self.original = original
        self.memory = memory
        self.deadlines = Deadlines(memory.clock)
        self.tally = tally or Tally()
        self.over = False  # what is left then is the net's to close
        self._upstream = Upstream(self)
        self._ident = ident
        self._header = HeaderReader() if settings.client_side.identity else None  # None once it is whole
        self._identity: Identity | None = None  # as the hop before said
        self._actions: list[Action] = []
        self._client = ClientEnd(self.do, settings.limits.command_line, self.tally)
        self._login = Login(settings, peer.address)
        self._replies = ReplyReader()
        self._current: Entry | None = None  # the client's command that is being served
        self._owed = Owed()
        self._receiver: Entry | None = None  # of the reply that is coming in
        self._collected: bytearray | None = None
        self._transfer: Transfer | None = None
        self._transfers = 0
        self._final: tuple[int, bytes] | None = None  # held until the data is delivered (4.3)
        self._held = bytearray()  # what came behind it
        self._farewell: bytes | None = None  # the server left while a final reply was held
        self._stopping = False
        self._gone = ""  # why the settings of now have no place for it: it ends with its transfer (F9)
        self.doomed = False  # a transfer runs that they do not carry, or that ends with the proxy

    # --- the outside -----------------------------------------------------------------------------

    @property
    def server_peer(self) -> Endpoint:
        """The server's end of its control connection."""
        return self._upstream.peer

    @property
    def server_local(self) -> Address:
        """This end of it."""
        return self._upstream.local

    @property
    def server_name(self) -> str:
        """The server as sentences name it; "" while there is none."""
        return self._upstream.name

    @property
    def accepts_input(self) -> bool:
        """Whether the client should be read from."""
        return self._client.accepts_input

    def start(self) -> list[Action]:
        """Return what to do first."""
        if self._header:
            self.deadlines.start(Timer.IDENTITY, _HEADER)
            return self._flush()
        self._begin()
        return self._settle(event=None)

    def _begin(self) -> None:
        """It is known whose session this is."""
        way = f" by way of {self.client_peer}" if self._identity else ""
        self._log("session-start", f"session from {self._named_client()}{way}")
        total = self.settings.timeouts.total
        if total is not None:
            self.deadlines.start(Timer.TOTAL, total)
        servers = self.settings.servers
        if self.settings.next_hop:
            self._dead(self._upstream.go_on(self.settings.next_hop))
        elif self.original:
            self._dead(self._upstream.choose(self.original.address, self.original.port))
        elif servers and servers.fixed:
            self._dead(self._upstream.choose(servers.fixed.host, servers.fixed.port))
        else:
            own = f"220 {self.settings.hop}: FTP proxy ready, log in as user@host."
            self._client.send(self._greeting() or reply(own))

    def handle(self, event: Event) -> list[Action]:
        """Take one event; return what to do."""
        if self.over:
            if isinstance(event, events.Incoming):
                self.do(events.Drop(event.transfer, event.token))
            return self._flush()
        if self._header:
            self._introduce(self._header, event)
            if self._header:
                return self._flush()
        else:
            self._take(event)
        self._go_on()
        return self._settle(event)

    def _take(self, event: Event) -> None:
        match event:
            case events.Received(leg=Leg.CLIENT, data=data):
                self._client.feed(data)
            case events.Received(data=data):
                self._from_server(data)
            case events.Ended(leg=Leg.CLIENT, reset=reset):
                self._client_ended(reset)
            case events.Ended():
                self._server_ended()
            case events.Connected(local=local):
                self._upstream.connected(local)
                self._introduce_onward()
            case events.ConnectFailed(cause=cause):
                self._dead(self._upstream.failed(cause))
            case events.Resolved():
                self._dead(self._upstream.resolved(event))
            case events.Expired(timer=timer):
                self._expired(timer)
            case events.Stop(now=now):
                self._stop(now)
            case events.Kill():
                self._end("this session was ended by an operator", "proxy-error")
            case events.Enforce():
                self._enforce(event)
            case _:
                self._data(event)

    def crash(self) -> list[Action]:
        """End the session after an error of the proxy's own (6.4)."""
        self._actions.clear()
        if self.over:
            return []
        self._end("the proxy failed", "proxy-error")
        return self._flush()

    # --- what transfers use ----------------------------------------------------------------------

    def do(self, action: Action) -> None:
        """Have the net do it."""
        self._actions.append(action)

    def ask(self, line: bytes, answered: Callable[[int, bytes], None]) -> None:
        """Send the proxy's own command to the server."""
        self._owed.append(Entry(parse_command(line).verb, None, answered))
        self.do(events.Send(Leg.SERVER, line + b"\r\n"))

    def refused(self, reason: str, cause: str = "other", **fields: str) -> None:
        """Log a refusal, with fields of what it was, and count it by its cause (tally.CAUSES)."""
        self.tally.refused(cause)
        self._log("refused", f"refused: {reason}", 5, SLUICE_REASON=reason, **fields)

    def warn(self, sentence: str) -> None:
        """Log what somebody should look at."""
        self._log("warning", sentence, 4)

    # --- small ones ------------------------------------------------------------------------------

    def _flush(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def _answer(self, code: int, sentence: str) -> None:
        """Answer the client in the proxy's own words, naming the hop."""
        self._client.send(reply(f"{code} {self.settings.hop}: {sentence}."))

    def _log(self, event: str, message: str, priority: int = 6, **fields: str) -> None:
        self.do(events.Log(event, message, priority, None, self.log_fields() | fields))

    def log_fields(self) -> dict[str, str]:
        """Return the fields that every record of this session bears."""
        fields = {
            "SLUICE_HOP": self.settings.hop,
            "SLUICE_SESSION": self._ident,
            "SLUICE_CLIENT": str(self._named_client()),
        }
        if self._identity:
            fields["SLUICE_PEER"] = str(self.client_peer)
        if self._login.user:
            fields["SLUICE_USER"] = show(self._login.user)
        if self.server_name:
            fields["SLUICE_SERVER"] = str(self.server_peer)
        if self.original:
            fields["SLUICE_DESTINATION"] = str(self.original)
        return fields

    # --- carried identity ------------------------------------------------------------------------

    def _introduce(self, header: HeaderReader, event: Event) -> None:
        """Learn from the hop before for whom it comes; what is no header gets no reply (14.1)."""
        cause = ""
        match event:
            case events.Received(data=data):
                try:
                    header.feed(data)
                except HeaderError as error:
                    cause = str(error)
            case events.Ended():
                cause = "the connection ended before its PROXY header was whole"
            case events.Expired():
                cause = f"no whole PROXY header within {_HEADER:g} s"
            case events.Enforce(settings=settings):
                cause = self._place_refused(settings)
                if not cause:
                    self.settings = self._login.settings = settings
            case _:
                cause = "the proxy is shutting down"
        if cause:
            self.refused(f"{self.client_peer}: {cause}")
            self.deadlines.cancel(Timer.IDENTITY)
            self.do(events.Close(Leg.CLIENT))
            self.over = True
        elif header.rest is not None:
            self.deadlines.cancel(Timer.IDENTITY)
            self._header = None
            self._identity = header.identity
            if self._identity and self._identity.session:
                self._ident = self._identity.session
            self._begin()
            self._client.feed(header.rest)

    def _introduce_onward(self) -> None:
        """Tell a next hop that wants to know for whom this session is, before all else (14.1, 14.2)."""
        if self.settings.next_hop and self.settings.next_hop.identity:
            client = self.client_peer
            to = self.original or Endpoint(self.client_local, self.settings.client_side.control_port)
            own = Identity(client.address, client.port, to.address, to.port, "")
            header = write_header(replace(self._identity or own, session=self._ident))
            self.do(events.Send(Leg.SERVER, header))

    def _named_client(self) -> Endpoint:
        """The client as logs name it. What a client may do is asked of `client_peer` always (10.1)."""
        who = self._identity
        return Endpoint(who.client, who.client_port) if who else self.client_peer

    def _shown(self, command: Command) -> dict[str, str]:
        """What a transfer's record says of its command."""
        return {
            "SLUICE_COMMAND": show(command.verb.name),
            "SLUICE_FILE": show(command.argument),
            "SLUICE_TYPE": show(self._login.type),
        }

    # --- from the client -------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Go on with the transfer, and serve the client's commands as far as they may be served now."""
        self._advance()
        if self._gone and not self._transferring:
            self._end(self._gone)
        waiting = self._client.waiting
        while waiting and not self.over and not self._busy():
            self._serve(waiting.pop(0))
            self._advance()
        if self.over:
            return
        if waiting:
            self._overtake()
        if self._client.gone and not waiting and self._current is None:
            self._end("")
        elif self._stopping and not self._busy():
            self._end("the proxy is shutting down")

    @property
    def _transferring(self) -> bool:
        return self._current is not None and self._current.verb.kind is Kind.TRANSFER

    def _busy(self) -> bool:
        if self._current is not None or self._owed or self._client.within_reply:
            return True
        if self._transfer is not None and self._transfer.server.talking:
            return True
        return self._upstream.phase not in (Phase.NONE, Phase.READY)

    def _overtake(self) -> None:
        """Serve what may be served while a transfer runs: ABOR from anywhere, STAT and NOOP in turn (5.1)."""
        transfer, current = self._transfer, self._current
        if transfer is None or current is None or current.verb.kind is not Kind.TRANSFER:
            return
        for command in () if self._owed.abor else self._client.waiting:  # one at a time
            if isinstance(command, Command) and command.verb.kind is Kind.ABOR and not self._denied(command):
                self._client.waiting.remove(command)
                self._abort(command)
                return
        while self._client.waiting and transfer.preliminary and len(self._owed) <= _ASIDE:
            command = self._client.waiting[0]
            if isinstance(command, LineFault) or not command.verb.side or command.argument:
                return  # STAT with a path is a listing: a 5xx to it would be taken for the transfer's
            if self._denied(command):
                return  # it is answered in its turn
            self._client.waiting.pop(0)
            transfer.overtaken = True
            self._forward(command, aside=True)

    def _serve(self, command: Command | LineFault) -> None:
        if isinstance(command, LineFault):
            self._client.send(reply(command.value))
            return
        text = self._login.own_answer(command, self._upstream.phase is not Phase.NONE)
        if text:
            self._client.send(reply(text))
        elif self._denied(command):
            self._deny(command)
        elif command.verb.opens and self._upstream.phase is Phase.NONE:
            self._serve_open(command)
        else:
            hand = _HANDS.get(command.verb.kind, Session._forward)
            hand(self, command)

    def _denied(self, command: Command) -> str:
        ready = self._upstream.phase is Phase.READY
        return self._login.denied(command, self.server_peer.address if ready else None)

    def _deny(self, command: Command) -> None:
        """Answer in place of the server (7.9): 530 to a login, else 550 as servers do."""
        reason = self._denied(command)
        verb = command.verb
        named = (
            verb.use not in (None, Use.SESSION) and not verb.opens
        )  # else it may be anything, a secret, too
        fields = {"SLUICE_FILE": show(command.argument)} if named else {}
        self.refused(reason, "command", SLUICE_COMMAND=show(verb.name), **fields)
        self._answer(530 if command.verb.kind is Kind.USER else 550, reason)

    def _serve_quit(self, command: Command) -> None:
        if self._upstream.phase is Phase.NONE:
            self._client.send(reply("221 Goodbye."))
            self._end("")
        else:
            self._forward(command)

    def _serve_abor(self, command: Command) -> None:
        self._drop_setup()  # 5.6
        self._forward(command)

    def _forward(self, command: Command, aside: bool = False) -> None:
        entry = Entry(command.verb, command)
        if not aside:
            self._current = entry
        self._owed.append(entry)
        servers = self.settings.servers
        if command.verb.kind is Kind.ABOR and (servers is None or servers.synch):
            self.do(events.Send(Leg.SERVER, SYNCH, urgent=True))  # 5.3; a server gets the plain form, mostly
        self.do(events.Send(Leg.SERVER, command.line + b"\r\n"))

    def _serve_user(self, command: Command) -> None:
        plain = self._login.opened and b"@" not in command.argument
        if plain or not self._login.chooses:
            self._login.user = command.argument
            self._forward_user(command)
            return
        destination = access.parse_destination(command.argument, 21)
        if destination is None:
            self._client.send(reply("501 log in as user@host or user@host:port."))
            return
        if self._upstream.phase is Phase.READY:  # 2.8
            known = self._login.destination
            if known and (known.host, known.port) == (destination.host, destination.port):
                self._login.user = destination.user
                self._forward(parse_command(command.line[:5] + destination.user))
            else:
                self._answer(530, "this session has its server; open another one for another server")
            return
        self._go(destination, parse_command(command.line[:5] + destination.user))

    def _forward_user(self, command: Command) -> None:
        """Tell the next hop the server, where it is to be told; an @ of the client is data for S (9.5)."""
        if self._tells_server and not command.argument:
            self._client.send(reply("501 USER wants a name."))
        elif self._tells_server:
            self._forward(parse_command(b"%s@%s" % (command.line, str(self.original).encode())))
        else:
            self._forward(command)

    @property
    def _tells_server(self) -> bool:
        hop = self.settings.next_hop
        return self.original is not None and hop is not None and hop.user_at_host

    def _serve_open(self, command: Command) -> None:
        destination = access.parse_place(command.argument, 21)
        if destination is None:
            self._client.send(reply(f"501 {command.verb.name.decode()} wants host or host:port."))
        else:
            self._go(replace(destination, user=b""), command)

    def _go(self, destination: access.Destination, command: Command) -> None:
        """Connect the session to the server that the client chose by `command`."""
        reason = access.destination_refused(self.settings, destination.host, destination.port)
        if reason:
            host, port = destination.host, destination.port
            server = f"{host}:{port}" if isinstance(host, str) else str(Endpoint(host, port))
            user = {"SLUICE_USER": show(destination.user)} if destination.user else {}
            self.refused(reason, "destination", SLUICE_SERVER=show(server.encode()), **user)
            self._answer(530, reason)
            return
        self._login.user = destination.user
        self._login.destination = destination
        self._current = Entry(command.verb, command)
        self._dead(self._upstream.choose(destination.host, destination.port))

    def _serve_setup(self, command: Command) -> None:
        verb = command.verb
        mode = verb.mode
        assert mode is not None  # noqa: S101 - of every set-up in the table
        target, text = access.read_setup(command, self.settings, self.client_peer)
        if text:
            if verb.mode is Mode.ACTIVE:
                self.refused(text, "port-command", SLUICE_COMMAND=show(verb.name))
            self._client.send(reply(text))
            return
        self._drop_setup()  # 3.18
        self._transfers += 1
        transfer = self._transfer = Transfer(self, self._transfers, mode, target)
        if target:
            self._client.send(reply(f"200 {verb.name.decode()} command successful."))
            transfer.server.begin()
        else:
            self._current = Entry(verb, command)  # until the listener is up
            transfer.listen()

    def _serve_transfer(self, command: Command) -> None:
        if self._transfer is None:
            self._client.send(reply("425 use PORT, EPRT, PASV or EPSV first."))  # 3.20
        elif self._client.gone and not self._client.quits:
            self._end("")
        else:
            self._current = Entry(command.verb, command)
            self._transfer.start(command.verb.upload)

    def _drop_setup(self) -> None:
        if self._transfer:
            self._transfer.close("", {})
            self._transfer = None

    def _abort(self, command: Command) -> None:
        """ABOR while a transfer verb is being served (5.3-5.6)."""
        assert self._transfer is not None  # noqa: S101 - the caller looked
        if not self._transfer.verb_sent:
            self._conclude("aborted", reply(f"426 {self.settings.hop}: aborted before it began."))
            self._forward(command)
            return
        self._transfer.abort()
        self._forward(command, aside=True)
        self._advance()

    def _client_ended(self, reset: bool) -> None:
        self._client.gone = True
        transfers = self._current is not None and self._current.verb.kind is Kind.TRANSFER
        if reset or (transfers and not self._client.quits):  # 1.14, 6.2
            self._end("", "reset-by-client" if reset else "aborted")

    # --- the server ------------------------------------------------------------------------------

    def _dead(self, dead: Dead | None) -> None:
        """Deal with a server that is not to be had, if so it is."""
        if dead is None:
            return
        if dead.name and self._current:  # 530, and the client may log in elsewhere
            self._current = None
            self._login.destination = None
            self._answer(530, dead.cause)
        else:
            self._end(dead.cause)

    # --- from the server -------------------------------------------------------------------------

    def _from_server(self, data: bytes) -> None:
        if self._upstream.phase is Phase.CONNECTING:  # late, from one that was passed over
            return
        whole = False
        replies = self._replies
        for item in replies.feed(data):
            if whole:  # after the last one `handle` goes on
                self._go_on()
            if self.over or replies is not self._replies:  # another server's turn
                return
            if isinstance(item, ReplyFault):
                self._not_ftp(item.reason)
            else:
                self._reply_line(item)
                whole = item.last

    def _not_ftp(self, reason: str) -> None:
        self.warn(f"{self.server_name}: {reason}")
        if self._upstream.phase is Phase.GREETING:
            self._ungreeted(f": {reason}")
        else:
            self._end(f"{self.server_name} does not speak FTP: {reason}")

    def _reply_line(self, line: ReplyLine) -> None:
        """Stream a reply that only passes (1.9); collect one that has to be read."""
        if line.first:
            self._receiver = self._owed.whose(line.code, self._current)
            entry = self._receiver
            if line.code in _PASSIVE and (entry is None or entry.own is None):
                self._not_ftp(f"{line.code} answers nothing that was asked")
                return
            passes = (
                self._upstream.phase is Phase.READY
                and line.code != 421
                and (entry is None or entry.passes)
                and self._final is None
            )
            self._collected = None if passes else bytearray()
        if self._collected is None:
            self._client.relay(line)
        else:
            self._collected += line.raw
            if len(self._collected) > _COLLECT:
                self._not_ftp("a reply is too long")
                return
        if line.last:
            raw = bytes(self._collected) if self._collected is not None else b""
            receiver, self._receiver = self._receiver, None
            self._reply(receiver, line.code, raw)

    def _reply(self, entry: Entry | None, code: int, raw: bytes) -> None:
        """Deal with a whole reply; `raw` is empty when it has been relayed already."""
        if code >= 400:
            self.tally.reply(Leg.SERVER, code)
        if self._upstream.phase is Phase.GREETING:
            self._greeted(code, raw)
        elif code == 421:  # 1.13
            self._server_leaves(raw)
        elif entry is None:
            self._pass_on(raw)
        elif code < 200:
            if entry.own is None:
                self._pass_on(raw)
            if entry is self._current and self._transfer:
                if entry.verb.kind is Kind.FORWARD:  # 4.1: a verb that nobody knew moves data
                    entry.verb = replace(entry.verb, kind=Kind.TRANSFER)
                    if self._client.gone and not self._client.quits:  # 6.2
                        self._end("", "aborted")
                        return
                    self._transfer.start(None)
                    self._transfer.sent()
                self._transfer.answered(code)
        else:
            self._owed.remove(entry)
            if not self._owed and self._transfer is None:
                self.deadlines.cancel(Timer.ABORT)
            elif entry.own and entry.verb.kind is Kind.TRANSFER and self._owed.abor:
                self.deadlines.start(Timer.ABORT, _ABOR_ANSWER)
            self._final_reply(entry, code, raw)

    def _final_reply(self, entry: Entry, code: int, raw: bytes) -> None:
        kind = entry.verb.kind
        if entry.own:
            entry.own(code, raw)
            return
        if entry is self._current and kind is Kind.TRANSFER and self._transfer:
            self._final = (code, raw)
            self._transfer.answered(code)
            return  # _advance says when it is relayed
        if kind is Kind.FEAT and code == 211:
            raw = self._login.shown_features(raw, self.server_peer.address)
        self._pass_on(raw)
        if entry is self._current:
            self._current = None
        self._login.answered(kind, code)
        if entry.command and entry.verb.name == b"TYPE" and code < 300:
            self._login.type = entry.command.argument.strip(b" ")[:1].upper()
        if kind is Kind.REIN and code < 300:  # 2.9
            self._drop_setup()
        elif kind is Kind.QUIT and code < 500:
            self._end("", final=True)
        elif kind is Kind.ABOR and code == 225 and self._current and self._current in self._owed:
            self._owed.remove(self._current)  # the server says that no transfer runs: it has answered both
            self._conclude("aborted", b"")

    def _pass_on(self, raw: bytes) -> None:
        if not raw:
            return
        if self._final:
            self._held += raw
            if len(self._held) > _COLLECT:
                self._not_ftp("too much follows the end of a transfer")
        else:
            self._client.send(raw)

    def _ungreeted(self, cause: str) -> None:
        """Whoever took the connection is no FTP server: the next address, or the end."""
        self._replies = ReplyReader()
        if dead := self._upstream.ungreeted(cause):
            self._end(dead.cause)

    def _greeted(self, code: int, raw: bytes) -> None:
        # By USER user@host the server was chosen: then its greeting is not shown. To OPEN it is the answer.
        chosen = self._current
        shown = chosen is None or chosen.verb.opens
        if code < 200:
            if shown:
                self._client.send(raw)
            return
        if code != 220:
            self._client.send(raw)
            self._end("", final=True)
            return
        self._upstream.greeted()
        if shown:
            self._client.send((not chosen and self._greeting()) or self._ready() or raw)
            self._login.opened = chosen is not None
            self._current = None
        elif chosen and chosen.command and self._denied(chosen.command):
            self._current = None
            self._deny(chosen.command)
        elif chosen and chosen.command:
            self._forward(chosen.command)

    def _greeting(self) -> bytes:
        """The 220 in the admin's words, b"" where there are none (2.1)."""
        return multiline(220, self.settings.client_side.greeting)

    def _ready(self) -> bytes:
        """The 220 of a hop that tells the next one the server: that one's own asks for user@host."""
        return reply(f"220 {self.settings.hop}: FTP proxy ready.") if self._tells_server else b""

    def _server_ended(self) -> None:
        if self._upstream.phase is Phase.CONNECTING:
            return
        if self._upstream.phase is Phase.GREETING:
            self._ungreeted(" and closed the connection")
        elif self._current and self._current.verb.kind is Kind.QUIT:
            self._client.send(reply("221 Goodbye."))  # 5.8
            self._end("")
        else:
            self._server_leaves(reply(f"421 {self.settings.hop}: {self.server_name} closed the connection."))

    def _server_leaves(self, farewell: bytes) -> None:
        """The server said 421 or closed. A transfer that it has ended already is still delivered (5.7)."""
        if self._final and self._transfer and not self._transfer.failure:
            self._farewell = self._farewell or farewell
            self._owed.clear()
        else:
            if farewell and not self._client.within_reply:
                self._client.send(farewell)
            self._end("", "reset-by-server", final=True)

    # --- transfers -------------------------------------------------------------------------------

    def _data(self, event: Event) -> None:
        number: int = getattr(event, "transfer", 0)
        transfer = self._transfer
        if transfer is None or transfer.number != number:
            if isinstance(event, events.Incoming):
                self.do(events.Drop(number, event.token))
            return
        if isinstance(event, events.Listening) and event.leg is Leg.CLIENT:
            self._announce(transfer, event.port)
        elif isinstance(event, events.ListenFailed) and event.leg is Leg.CLIENT:
            self._current = None
            self._drop_setup()
            self.refused(event.cause, "no-port")
            self._answer(425, event.cause)
        else:
            transfer.handle(event)

    def _announce(self, transfer: Transfer, port: int) -> None:
        transfer.listening(port)
        assert self._current is not None  # noqa: S101 - the PASV or EPSV that waits for its listener
        if self._current.verb.extended:
            self._client.send(reply(addresses.format_229(port)))
        else:
            address = self.client_local if self.original is None else self.original.address  # 9.3
            public = self.settings.client_side.public(address)
            self._client.send(reply(addresses.format_227(public, port)))
        self._current = None
        transfer.server.begin()

    def _advance(self) -> None:
        """Look where the transfer stands, and go on with its verb."""
        transfer, current = self._transfer, self._current
        if transfer is None or current is None or current.verb.kind is not Kind.TRANSFER:
            return
        failure = transfer.failure
        if failure and self._client.gone:  # nobody is left to hear how it ended
            self._end("", failure.outcome)
        elif not transfer.verb_sent:
            server = transfer.server
            if failure:
                self._conclude(failure.outcome, transfer.own_reply(failure.code, failure.cause))
            elif server.cause:
                self._conclude(server.outcome, transfer.own_reply(425, server.cause))
            elif transfer.ready and current.command:
                self._forward(current.command)
                transfer.sent()
        elif self._final is not None:
            verdict = transfer.verdict(*self._final)
            if verdict:
                self._conclude(*verdict)
        elif failure and failure.own:
            self._give_up(failure.code, failure.cause, failure.outcome)

    def _conclude(self, outcome: str, raw: bytes) -> None:
        """The transfer is over, and `raw` the final reply to its verb."""
        transfer, current = self._transfer, self._current
        assert transfer is not None  # noqa: S101 - both callers looked
        command = current.command if current else None
        self._transfer = self._current = self._final = None
        if raw:
            self._client.send(raw)
        if self._held:
            self._client.send(bytes(self._held))
            self._held.clear()
        if command:
            transfer.close(outcome, self._shown(command))
        if self._farewell is not None:
            self._client.send(reply("221 Goodbye.") if self._client.quits else self._farewell)  # 5.8
            self._end("", final=True)
        elif self._owed.abor:
            self.deadlines.start(Timer.ABORT, _ABOR_ANSWER)

    def _give_up(self, code: int, cause: str, outcome: str) -> None:
        """Tell the client now; what the server still says about this transfer is swallowed (3.21)."""
        current, transfer = self._current, self._transfer
        assert current is not None and transfer is not None  # noqa: S101, PT018 - the caller looked
        owed = current in self._owed
        silent = transfer.server_unreached
        self._conclude(outcome, transfer.own_reply(code, cause))
        if owed:
            current.own = _swallow
            if silent:  # the server has no data connection whose end could tell it
                self.ask(b"ABOR", _swallow)
            self.deadlines.start(Timer.ABORT, _ABOR_ANSWER)

    # --- time, and the end -----------------------------------------------------------------------

    def _expired(self, timer: Timer) -> None:
        self.deadlines.cancel(timer)
        times = self.settings.timeouts
        if timer is Timer.CONNECT:
            self._dead(self._upstream.expired())
        elif timer is Timer.GREETING:
            self._ungreeted(f" within {times.greeting:g} s")
        elif timer is Timer.LINE:
            self._end(f"no end of the command line within {_LINE:g} s", "timeout")
        elif timer is Timer.REPLY:
            self._end(f"{self.server_name} did not reply within {times.reply:g} s", "timeout")
        elif timer is Timer.IDLE:
            self._end(f"no command within {times.idle:g} s")
        elif timer is Timer.LOGIN:
            self._end(f"no login within {times.login:g} s")
        elif timer is Timer.TOTAL:
            self._end(f"a session may last {times.total:g} s", "timeout")
        elif timer is Timer.ABORT and (self._transfer is None or self._final is not None):
            self._abort_unanswered()
        elif self._transfer:
            self._transfer.handle(events.Expired(timer))

    def _abort_unanswered(self) -> None:
        """A server may answer ABOR and its transfer with one reply, or need ABOR to wake up."""
        if self._receiver and self._receiver.verb.kind is Kind.ABOR:  # it is about to
            self.deadlines.start(Timer.ABORT, _ABOR_ANSWER)
        elif not self._owed.swallowed_transfer:
            self._owed.forget_abor()
        elif not self._owed.abor:
            self.ask(b"ABOR", _swallow)
            self.deadlines.start(Timer.ABORT, _ABOR_ANSWER)
        # else the transfer's own answer comes first, and from then on the time counts

    @property
    def ident(self) -> str:
        """The session's id."""
        return self._ident

    @property
    def doing(self) -> str:
        """The command that is being served, without its argument; "" while the session is idle."""
        command = self._current.command if self._current else None
        return show(command.verb.name) if command else ""

    def _stop(self, now: bool) -> None:
        self._stopping = True
        if now:
            self.doomed = self._transferring
            self._end("the proxy is shutting down", "proxy-error")

    def _enforce(self, event: events.Enforce) -> None:
        """Go on under other settings: what they do not carry ends, a transfer when it must (F9)."""
        gone = self._place_refused(event.settings)
        if gone and (event.now or not self._transferring):
            self.doomed = self._transferring
            self._end(gone)
            return
        self._gone = gone
        if not gone:
            self.settings = self._login.settings = event.settings
        transfer = self._transfer
        refused = gone or event.refused or (transfer.uncarried if transfer else "")
        self.doomed = bool(refused and self._transferring)
        if transfer and refused and not self._transferring:
            self._drop_setup()
        elif transfer and refused and event.now:
            transfer.forbid(refused)

    def _place_refused(self, settings: Settings) -> str:
        """Why those settings have no place for this session; "" when they have."""
        upstream, phase = self._upstream, self._upstream.phase
        gone = access.session_refused(settings, self.client_peer, self.client_local, self.original)
        if _way(settings) != _way(self.settings):
            gone = gone or "the way to the servers is another one"
        elif phase in (Phase.CONNECTING, Phase.GREETING, Phase.READY):
            local = None if phase is Phase.CONNECTING else upstream.local
            gone = gone or access.upstream_refused(settings, upstream.peer, local)
        return f"the settings have changed: {gone}" if gone else ""

    def _end(self, cause: str, outcome: str = "proxy-error", final: bool = False) -> None:
        """End the session: 421 with `cause` if there is one, RST on data, QUIT to the server (1.14, 6.x).

        final: the server is gone already, or has said its last.
        """
        if self.over:
            return
        transfer = self._transfer
        broken = transfer and self._current and self._current.verb.kind is Kind.TRANSFER
        if transfer and self._current and broken:
            command = self._current.command
            assert command is not None  # noqa: S101 - a client's command
            transfer.close(outcome, self._shown(command))
        else:
            self._drop_setup()
        self._transfer = None
        if cause and not self._client.within_reply:
            self._answer(421, cause)
        quits = self._current is not None and self._current.verb.kind is Kind.QUIT
        # after a broken transfer no QUIT: to the next hop it would say that all is well (6.2)
        if self._upstream.phase is Phase.READY and not (final or quits or broken):
            self.do(events.Send(Leg.SERVER, b"QUIT\r\n"))
        self.do(events.Close(Leg.SERVER))
        self.do(events.Close(Leg.CLIENT))
        self.deadlines.clear()
        self._log("session-end", f"session ended: {cause}" if cause else "session ended")
        self.over = True

    def _settle(self, event: Event | None) -> list[Action]:
        """Run the timers that fit where the session stands, after `event`."""
        if self.over:
            return self._flush()
        times, client = self.settings.timeouts, self._client
        start, at = self.deadlines.start, self.deadlines.at
        if not client.line_open:
            at.pop(Timer.LINE, None)
        elif client.heard or Timer.LINE not in at:  # each line has its own time
            start(Timer.LINE, _LINE)
        moving = self._transfer is not None and self._transfer.moving
        if (self._owed or self._final or client.within_reply) and not moving:
            replied = isinstance(event, events.Received) and event.leg is Leg.SERVER
            if replied or Timer.REPLY not in at:
                start(Timer.REPLY, times.reply)
        else:
            at.pop(Timer.REPLY, None)
        if self._busy():
            at.pop(Timer.IDLE, None)
        elif client.heard or Timer.IDLE not in at:  # only a whole command is a sign of life
            start(Timer.IDLE, times.idle)
        client.heard = False
        if self._login.done or not (self._login.chooses or self._upstream.phase is Phase.READY):
            at.pop(Timer.LOGIN, None)
        elif Timer.LOGIN not in at:
            start(Timer.LOGIN, times.login)
        return self._flush()


def _way(settings: Settings) -> tuple[object, ...]:
    """Whether a next hop follows, or who names the server; how it is known, and whose address it sees."""
    return (
        settings.next_hop is None,
        settings.servers is not None and settings.servers.fixed is None,
        settings.client_side.intercept,
        settings.server_side.client_source,
    )


# Of a verb that nobody here takes the server answers alone.
_HANDS: Final[dict[Kind, Callable[[Session, Command], None]]] = {
    Kind.USER: Session._serve_user,
    Kind.SETUP: Session._serve_setup,
    Kind.TRANSFER: Session._serve_transfer,
    Kind.ABOR: Session._serve_abor,
    Kind.QUIT: Session._serve_quit,
}


def _swallow(code: int, raw: bytes) -> None:
    """Take a reply that the client must not see."""
