# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the client is and what it may ask for now: no state but the login's (PROTOCOL 2.3-2.10, 3.10, 13.6)."""

from __future__ import annotations

from sluice import access
from sluice.config import CommandRule, Settings
from sluice.journal import show
from sluice.protocol.addresses import Address
from sluice.protocol.replies import filter_features
from sluice.protocol.verbs import Command, Kind, Verb, features


class Login:
    """The client's standing. `user` is what it called itself, `destination` where USER user@host led."""

    def __init__(self, settings: Settings, client: Address) -> None:
        self.settings = settings
        self._client = client
        self.user = b""
        self.done = False
        self.type = b"A"  # the representation type: its first letter (RFC 959 3.1.1)
        self.epsv_all = False
        self.destination: access.Destination | None = None
        self.opened = False  # by OPEN or SITE, not by USER

    @property
    def chooses(self) -> bool:
        """Whether the client names its server."""
        servers = self.settings.servers
        return servers is not None and servers.fixed is None and not self.settings.client_side.intercept

    @property
    def _server_name(self) -> str:
        """The name by which the server was asked for, "" where by address."""
        servers = self.settings.servers
        asked = self.destination or (servers and servers.fixed)
        return asked.host if asked and isinstance(asked.host, str) else ""

    def own_answer(self, command: Command, chosen: bool) -> str:
        """Return what the proxy itself answers to a command that goes no further, "" to one that may.

        `chosen`: there is a server, or one is being looked for.
        """
        verb = command.verb
        if not verb.name:
            return "500 the command line is empty."
        if not verb.name.isalnum():  # to a server another blank or a control may end the verb
            return "500 a verb is made of letters and digits."
        if verb.kind is Kind.REFUSE:
            return _local(verb)
        if not chosen and not (verb.opens or verb.kind in (Kind.USER, Kind.QUIT)):
            return _local(verb) or f"530 {self.settings.hop}: log in as user@host first."
        hop = self.settings.next_hop
        if verb.opens and hop and hop.user_at_host and not self.done:  # to that hop it would choose a server
            return f"530 {self.settings.hop}: log in first."
        if verb.after_login and self.done:
            return verb.after_login
        if verb.refused and command.argument.strip(b" ").upper() in verb.refused:
            return f"504 {show(command.line)} is not available through this proxy."
        if verb.kind in (Kind.SETUP, Kind.TRANSFER) and not self.done:
            return f"530 {self.settings.hop}: log in first."
        return self._setup_answer(command) if verb.kind is Kind.SETUP else ""

    def denied(self, command: Command, server: Address | None) -> str:
        """Why the policy does not let the command go to the server, "" when it does (7.9).

        Without a server only what the client may do counts, and a command that chooses one goes nowhere yet.
        """
        if server is None and command.verb.opens:
            return ""
        return access.command_denied(self._rules(server), command)

    def _rules(self, server: Address | None) -> list[CommandRule]:
        return access.command_rules(self.settings, self._client, server, self._server_name)

    def shown_features(self, raw: bytes, server: Address) -> bytes:
        """Rewrite a 211 to FEAT: only what will work (7.3, 7.4, 7.9)."""
        rules = self._rules(server)
        hidden, own = features(self.settings.client_side.modes, self._client.version)
        own = [each for each in own if not access.feature_denied(rules, each)]
        return filter_features(raw, lambda word: word in hidden or access.feature_denied(rules, word), own)

    def _setup_answer(self, command: Command) -> str:
        verb, mode = command.verb, command.verb.mode
        if mode is not None and mode not in self.settings.client_side.modes:  # 13.6
            leg = self.settings.client_side.leg
            return f"502 {self.settings.hop}: leg {leg} does not allow {mode.value} transfers."
        if verb.name == b"EPSV" and command.argument.strip(b" ").upper() == b"ALL":
            self.epsv_all = True  # 3.10
            return "200 EPSV ALL understood."
        if self.epsv_all and verb.name != b"EPSV":
            return f"503 {verb.name.decode()} after EPSV ALL."
        return ""

    def answered(self, kind: Kind, code: int) -> None:
        """Take in the server's final reply to USER, PASS, ACCT or REIN (2.6, 2.9)."""
        if kind is Kind.REIN and code < 300:
            self.done = self.epsv_all = False
            self.type = b"A"
        elif kind in (Kind.USER, Kind.LOGIN):
            if code < 500:
                self.done = self.done and kind is Kind.LOGIN
            if code in (202, 230):  # 202 to PASS: no password was needed
                self.done = True


def _local(verb: Verb) -> str:
    return verb.local.format(verb=verb.name.decode())
