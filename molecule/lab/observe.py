# SPDX-License-Identifier: GPL-3.0-or-later
"""What F and N themselves see: new connections from their conntrack, and what their rules counted."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from plan import FORWARDS, LETTERS, LINKS, Lab
from run import inside

PATH = "CFNS"
NAMES = {host: letter for letter, host in LETTERS.items()}
OWNERS = {
    address.split("/")[0]: NAMES[end.host]
    for link in LINKS
    for end in link
    for address in (*end.addresses, *end.unlisted)
}


@dataclass(frozen=True)
class Connection:
    """One TCP connection as a host's conntrack has it: opener first."""

    opener: str  # C, F, N or S
    acceptor: str
    source: str  # address:port
    destination: str
    port: int  # that it was opened to
    witness: str  # the host whose conntrack it stood in

    def __str__(self) -> str:
        left, right = sorted((self.opener, self.acceptor), key=PATH.index)
        arrow = "->" if self.opener == left else "<-"
        what = f"to port {self.port}" if self.port == 21 else f"to a port specified by {self.acceptor}"
        ends = f"{self.source:>18} -> {self.destination:<19}"
        return f"{left} {arrow} {right}  {what:<28} {ends} on {self.witness}"


@contextmanager
def new_connections(lab: Lab) -> Iterator[list[Connection]]:
    """Collect the TCP connections that F and N see begin inside the block; filled in when it ends."""
    command = ("conntrack", "--event", "--event-mask", "NEW", "--proto", "tcp", "--buffer-size", "1048576")
    watchers = {
        host: subprocess.Popen(
            inside(lab.machine(host), *command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for host in FORWARDS
    }
    found: list[Connection] = []
    try:
        time.sleep(0.3)  # until they listen
        yield found
        time.sleep(0.3)  # until the last event has been written
    finally:
        for host, watcher in watchers.items():
            watcher.send_signal(signal.SIGINT)
            output, _ = watcher.communicate()
            found += _connections(output, NAMES[host])


def _connections(events: str, witness: str) -> Iterator[Connection]:
    for line in events.splitlines():
        fields = re.search(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)", line)
        if fields and fields[1] in OWNERS and fields[2] in OWNERS:
            source, destination, source_port, port = fields.groups()
            yield Connection(
                OWNERS[source],
                OWNERS[destination],
                f"{source}:{source_port}",
                f"{destination}:{port}",
                int(port),
                witness,
            )


def in_order(connections: Iterable[Connection]) -> list[Connection]:
    """The session's connections as DESIGN lists them: control from C to S, then data from S to C.

    F and N both see what runs between them: it is listed once, as F saw it.
    """
    unique: dict[tuple[str, str], Connection] = {}
    for connection in connections:
        unique.setdefault((connection.source, connection.destination), connection)

    def rank(connection: Connection) -> tuple[int, int]:
        leg = min(PATH.index(connection.opener), PATH.index(connection.acceptor))
        return (0, leg) if connection.port == 21 else (1, -leg)

    return sorted(unique.values(), key=rank)


@dataclass(frozen=True)
class Flow:
    """A flow of a host's policy: its line, the connections it opened, the packets that their openers sent."""

    text: str
    opened: int
    packets: int


def flows(listing: str) -> list[Flow]:
    """The flows in `nft --json list table inet sluice`, in the order of the twelve lines.

    A flow's first rule bears its line as comment and counts the connections; the next one counts the rest.
    """
    rules: list[dict[str, Any]] = [item["rule"] for item in json.loads(listing)["nftables"] if "rule" in item]
    found: dict[str, Flow] = {}
    for rule, following in zip(rules, [*rules[1:], {}], strict=True):
        comment = rule.get("comment", "")
        if not re.match(r"[CFNS] (->|<-) [FN]: ", comment):
            continue
        opened = _packets(rule)
        rest = (
            _packets(following)
            if "comment" not in following and following.get("chain") == rule["chain"]
            else 0
        )
        found[comment] = Flow(comment, opened, opened + rest)
    return sorted(found.values(), key=_rank)


def _packets(rule: dict[str, Any]) -> int:
    return sum(
        statement["counter"]["packets"] for statement in rule.get("expr", []) if "counter" in statement
    )


def _rank(flow: Flow) -> tuple[int, int]:
    kind = 0 if flow.text.endswith("port 21") else 1 if flow.text.endswith("(active)") else 2
    return PATH.index(flow.text[0]), kind
