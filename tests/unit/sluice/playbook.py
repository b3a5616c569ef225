# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a session without a network: events in, what it sends and does out."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from sluice import config, events
from sluice.events import Action, Endpoint, Event, Leg
from sluice.memory import Memory
from sluice.session import Session

CLIENT = Endpoint(ipaddress.ip_address("10.1.0.10"), 40001)
CLIENT6 = Endpoint(ipaddress.ip_address("2001:db8:1::10"), 40001)
STRANGER = Endpoint(ipaddress.ip_address("10.1.0.99"), 40002)
SERVER = Endpoint(ipaddress.ip_address("198.51.100.10"), 45000)
SERVER6 = Endpoint(ipaddress.ip_address("2001:db8:3::10"), 45000)
TARGET = Endpoint(CLIENT.address, 45001)
PORT = b"PORT 10,1,0,10,175,201\r\n"  # TARGET
ORIGINAL = Endpoint(SERVER.address, 21)
"""What a client addressed whose connection is intercepted."""
ORIGINAL6 = Endpoint(SERVER6.address, 21)
OWN = [ipaddress.ip_address(each) for each in ("10.2.0.2", "198.51.100.2", "2001:db8:2::2", "2001:db8:3::2")]
NETWORKS = ["198.51.100.0/25", "2001:db8:3::/120"]


def intercepting(how: str, *, client_source: bool = False, told: bool = False) -> dict[str, Any]:
    """Changes for `settings`: the hop intercepts; `told`: its next hop hears the server by USER user@host."""
    side = {"intercept": how, "control_port": 2121, "destinations": NETWORKS, "destination_ports": [21]}
    changes: dict[str, Any] = {"client_side": side, "servers": {"networks": NETWORKS, "control_ports": [21]}}
    if client_source:
        changes["server_side"] = {"client_source": True}
    if told:
        del changes["servers"]
        hosts = [{"name": f"m{i}", "addresses": [f"198.51.100.{i}"]} for i in (11, 12)]
        changes["next_hop"] = {"hosts": hosts, "control_port": 21, "user_at_host": True}
    return changes


def settings(client_mode: str = "both", server_mode: str = "both", **changes: Any) -> config.Settings:
    """Return N's settings; `changes` replaces whole tables ("next_hop" takes the place of "servers").

    Of the tables of the two sides it replaces keys.
    """
    data: dict[str, Any] = {
        "hop": "N",
        "host": "n1",
        "client_side": {
            "leg": "F-N",
            "neighbour": "F",
            "mode": client_mode,
            "peers": ["10.1.0.0/16", "2001:db8:1::/64"],
            "control_port": 21,
            "addresses": [
                {"address": "10.2.0.2", "public": "203.0.113.7"},
                {"address": "2001:db8:2::2", "public": "2001:db8:2::2"},
            ],
            "listen": "50000-50999",
            "source": "51000-51999",
            "peer_ports": "1024-65535",
        },
        "server_side": {
            "leg": "N-S",
            "neighbour": "S",
            "mode": server_mode,
            "addresses": [
                {"address": "198.51.100.2", "public": "198.51.100.2"},
                {"address": "2001:db8:3::2", "public": "2001:db8:3::2"},
            ],
            "listen": "52000-52999",
            "source": "53000-53999",
            "peer_ports": "1024-65535",
        },
        "servers": {
            "networks": ["198.51.100.0/25", "2001:db8:3::/120"],
            "control_ports": [21],
            "fixed": "198.51.100.10:21",
        },
    }
    if "next_hop" in changes:
        del data["servers"]
    for side in ("client_side", "server_side"):
        data[side] |= changes.pop(side, {})
    return config.parse(data | changes)


def new_session(settings: config.Settings, client: Endpoint, memory: Memory) -> Session:
    """A session as the net begins it: where the client's connection ends, and what the client addressed."""
    v4 = client.address.version == 4
    local = ipaddress.ip_address("10.2.0.2" if v4 else "2001:db8:2::2")
    original = (ORIGINAL if v4 else ORIGINAL6) if settings.client_side.intercept else None
    if original and settings.client_side.intercept is config.Intercept.TPROXY:
        local = original.address
    return Session(settings, "id", client, local, memory, original=original)


@dataclass
class Playbook:
    """One session. What it sent is in `to_client` and `to_server` until `said` and `asked` take it.

    Listeners come up by themselves, on ports from 50000 and 52000 on; all else is the test's.
    """

    settings: config.Settings = field(default_factory=settings)
    client_end: Endpoint = CLIENT
    listens: bool = True
    memory: Memory = field(default_factory=lambda: Memory(lambda: 0.0))

    def __post_init__(self) -> None:
        """Start the session."""
        self.session = new_session(self.settings, self.client_end, self.memory)
        self.to_client = b""
        self.to_server = b""
        self.actions: list[Action] = []
        self.tokens = 0
        self.timers = self.session.deadlines.at  # by a clock that stands at 0: how long each has
        self._take(self.session.start())

    def _take(self, actions: list[Action]) -> None:
        queue = list(actions)
        while queue:
            action = queue.pop(0)
            match action:
                case events.Send(leg=Leg.CLIENT, data=data):
                    self.to_client += data
                case events.Send(data=data):
                    self.to_server += data
                case events.Listen(transfer=number, leg=leg) if self.listens:
                    self.actions.append(action)
                    port = 50000 if leg is Leg.CLIENT else 52000
                    queue += self.session.handle(events.Listening(number, leg, port + number))
                case _:
                    self.actions.append(action)

    def feed(self, event: Event) -> None:
        """Let something happen."""
        self._take(self.session.handle(event))

    def client(self, data: bytes) -> bytes:
        """Let the client send; return what it hears."""
        self.feed(events.Received(Leg.CLIENT, data))
        return self.said()

    def server(self, data: bytes) -> bytes:
        """Let the server send; return what the client hears."""
        self.feed(events.Received(Leg.SERVER, data))
        return self.said()

    def said(self) -> bytes:
        """Return what the client has heard since the last time."""
        data, self.to_client = self.to_client, b""
        return data

    def asked(self) -> bytes:
        """Return what the server has heard since the last time."""
        data, self.to_server = self.to_server, b""
        return data

    def did(self, *kinds: type) -> list[Action]:
        """Return, and forget, the actions of these kinds; all but Log without an argument."""
        wanted = [a for a in self.actions if isinstance(a, kinds or object)]
        if not kinds:
            wanted = [a for a in wanted if not isinstance(a, events.Log)]
        self.actions = [a for a in self.actions if a not in wanted]
        return wanted

    def logs(self, event: str) -> list[events.Log]:
        """Return the records of one kind."""
        return [a for a in self.actions if isinstance(a, events.Log) and a.event == event]

    @property
    def number(self) -> int:
        """The last transfer's number."""
        return self.session._transfers

    # --- stages of a session ---

    def log_in(self) -> Playbook:
        """Connect, greet, log in; forget all that was said and done."""
        address = self.session.server_peer.address
        local = "198.51.100.2" if address.version == 4 else "2001:db8:3::2"
        self.feed(events.Connected(ipaddress.ip_address(local)))
        self.server(b"220 S\r\n")
        self.client(b"USER u\r\n")
        self.server(b"230 In.\r\n")
        self.said(), self.asked(), self.did()
        return self

    def passive(self) -> Playbook:
        """PASV on both legs, the server's connection standing."""
        assert self.client(b"PASV\r\n").startswith(b"227 ")
        self.server(b"229 (|||45000|)\r\n")
        self.feed(events.Dialled(self.number, Leg.SERVER, 53001))
        self.said(), self.asked(), self.did()
        return self

    def active(self) -> Playbook:
        """PORT on both legs, the server's command being answered."""
        assert self.client(PORT).startswith(b"200 ")
        self.server(b"200 EPRT\r\n")
        self.said(), self.asked(), self.did()
        return self

    def incoming(self, leg: Leg, peer: Endpoint) -> None:
        """Let somebody connect to a listener."""
        self.tokens += 1
        self.feed(events.Incoming(self.number, leg, self.tokens, peer))

    def begin(self, verb: bytes, code: bytes = b"150 Opening.\r\n") -> Playbook:
        """Start a passive transfer, to where data moves."""
        self.passive()
        self.incoming(Leg.CLIENT, self.client_end)
        self.client(verb + b" f\r\n")
        assert self.asked() == verb + b" f\r\n"
        assert self.server(code) == code
        self.feed(events.DataMoved(self.number, Leg.CLIENT if verb == b"STOR" else Leg.SERVER))
        self.did()
        return self
