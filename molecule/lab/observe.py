# SPDX-License-Identifier: GPL-3.0-or-later
"""What F and N themselves see: new connections from their conntrack, and what their rules counted."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plan import FORWARDS, LETTERS, LINKS, Lab, LabError
from run import inside

PATH = "CFNS"
NETLINK_NETFILTER = "12"
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
        return f"{left} {arrow} {right}  {what:<28} {ends}"


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
        _await(lambda: all(_queued(watcher) is not None for watcher in watchers.values()), "listening")
        yield found
        _await(lambda: not any(_queued(watcher) for watcher in watchers.values()), "done reading")
        time.sleep(0.05)  # until the last one has been written, too
    finally:
        for host, watcher in watchers.items():
            watcher.terminate()  # a background job's children ignore SIGINT until they have a handler
            output, _ = watcher.communicate()
            found += _connections(output, NAMES[host])


def _queued(watcher: subprocess.Popen[str]) -> int | None:
    """The bytes that wait in the watcher's netlink socket, or None while it has none that listens."""
    process = Path("/proc", str(watcher.pid))
    own = set()
    for descriptor in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # it has closed it meanwhile, as on its way into the namespace
            own.add(str(descriptor.readlink()))
    for line in (process / "net/netlink").read_text().splitlines()[1:]:
        _, protocol, _, groups, queued, *_, inode = line.split()
        if protocol == NETLINK_NETFILTER and int(groups, 16) and f"socket:[{inode}]" in own:
            return int(queued)
    return None


def _await(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"conntrack is still not {what} after {seconds:.0f} s.")
        time.sleep(0.01)


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


def in_order(connections: Iterable[Connection]) -> list[tuple[Connection, list[str]]]:
    """As DESIGN lists a session's connections, each with its witnesses: control from C to S, then data back.

    F and N both see what runs between them: that is one connection.
    """
    unique: dict[tuple[str, str], tuple[Connection, list[str]]] = {}
    for connection in connections:
        ends = (connection.source, connection.destination)
        unique.setdefault(ends, (connection, []))[1].append(connection.witness)

    def rank(seen: tuple[Connection, list[str]]) -> tuple[int, int]:
        connection, _ = seen
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
