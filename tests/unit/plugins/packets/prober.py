# SPDX-License-Identifier: GPL-3.0-or-later
"""Real connections between network namespaces, each end made as the user it is said to be (POLICY 6).

One root process makes every socket in its namespace (setns) as its user (effective at socket() and accept()).
A probe passes only if a byte goes both ways. It knows nothing of FTP or rules.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SILENCE = 0.7  # seconds without any event end a batch; a SYN that is lost would come again after 1 s
SYSCTLS = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv6.conf.default.accept_dad=0",  # an address is there at once
    "net.ipv4.ip_unprivileged_port_start=0",
    "net.ipv4.ip_local_port_range=30000 39999",  # the kernel's choice is no port that a probe names
)
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Probe:
    """A connection to try, from `source` on `opener` to `target` on `acceptor`, and who holds its ends.

    A source port of 0 is the kernel's choice.
    """

    opener: str
    opener_user: int
    source: tuple[str, int]
    acceptor: str
    acceptor_user: int
    target: tuple[str, int]


@dataclass
class Network:
    """Network namespaces of one test, joined by veth pairs; `close` takes all of them away."""

    prefix: str
    names: list[str] = field(default_factory=list)

    def name(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def add(self, host: str) -> None:
        run("ip", "netns", "add", self.name(host))
        self.names.append(host)
        self.run(host, "ip", "link", "set", "lo", "up")
        for setting in SYSCTLS:
            self.run(host, "sysctl", "-qw", setting)

    def join(self, one: str, other: str, ours: Sequence[str], theirs: Sequence[str]) -> None:
        """A cable between two hosts, with addresses (with their lengths) at either end."""
        there = ["peer", "name", f"to_{one}", "netns", self.name(other)]
        self.run(one, "ip", "link", "add", f"to_{other}", "type", "veth", *there)
        for host, device, addresses in ((one, f"to_{other}", ours), (other, f"to_{one}", theirs)):
            for address in addresses:
                extra = ["nodad"] if ":" in address else []
                self.run(host, "ip", "address", "add", address, "dev", device, *extra)
            self.run(host, "ip", "link", "set", device, "up")
        for host, device, other_end, addresses in (
            (one, f"to_{other}", (other, f"to_{one}"), theirs),
            (other, f"to_{one}", (one, f"to_{other}"), ours),
        ):
            # Neighbours known beforehand: a queue of unresolved packets would lose some.
            mac = self.run(other_end[0], "cat", f"/sys/class/net/{other_end[1]}/address").strip()
            for address in addresses:
                bare = address.partition("/")[0]
                self.run(host, "ip", "neighbour", "replace", bare, "lladdr", mac, "dev", device)

    def run(self, host: str, *command: str, text: str = "") -> str:
        return run("ip", "netns", "exec", self.name(host), *command, text=text)

    def close(self) -> None:
        for host in self.names:
            run("ip", "netns", "delete", self.name(host))


def run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=text)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@contextmanager
def being(namespace: str, user: int) -> Iterator[None]:
    """What is made in here belongs to that namespace and that user."""
    with Path("/proc/self/ns/net").open("rb") as home, Path("/run/netns", namespace).open("rb") as there:
        enter(there.fileno())
        os.seteuid(user)
        try:
            yield
        finally:
            os.seteuid(0)
            enter(home.fileno())


def enter(descriptor: int) -> None:
    if LIBC.setns(descriptor, 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")


def endpoint(family: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in family else socket.AF_INET)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    return made


def passed(network: Network, probes: Sequence[Probe]) -> set[Probe]:
    """The probes that passed. No two may share both ends; one user accepts on an address and port."""
    result: set[Probe] = set()
    opened: dict[socket.socket, Probe] = {}
    keys: dict[tuple[tuple[str, int], tuple[str, int]], Probe] = {}
    with selectors.DefaultSelector() as selector:
        accepting: list[socket.socket] = []
        accepted: list[socket.socket] = []
        try:
            for host, user, target in {(p.acceptor, p.acceptor_user, p.target) for p in probes}:
                with being(network.name(host), user):
                    listener = endpoint(target[0])
                    listener.bind(target)
                    listener.listen(4096)
                accepting.append(listener)
                selector.register(listener, selectors.EVENT_READ, (host, user))
            for probe in probes:
                with being(network.name(probe.opener), probe.opener_user):
                    sock = endpoint(probe.source[0])
                    sock.bind(probe.source)
                    key = (sock.getsockname()[:2], probe.target)
                    assert key not in keys, f"two probes share {key}"
                    keys[key] = probe
                    sock.connect_ex(probe.target)
                opened[sock] = probe
                selector.register(sock, selectors.EVENT_WRITE, "connecting")
            deadline = time.monotonic() + SILENCE
            while (left := deadline - time.monotonic()) > 0:
                for event, __ in selector.select(left):
                    deadline = time.monotonic() + SILENCE
                    sock = event.fileobj  # type: ignore[assignment]
                    if isinstance(event.data, tuple):
                        host, user = event.data
                        with being(network.name(host), user):
                            peer = sock.accept()[0]
                        peer.setblocking(False)
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                        accepted.append(peer)
                        selector.register(peer, selectors.EVENT_READ, "echo")
                    elif event.data == "connecting":
                        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                            selector.unregister(sock)
                        else:
                            sock.send(b"?")
                            selector.modify(sock, selectors.EVENT_READ, "waiting")
                    else:
                        try:
                            heard = sock.recv(1)
                        except OSError:
                            heard = b""
                        if event.data == "echo" and heard:
                            sock.send(b"!")
                        elif event.data == "waiting" and heard == b"!":
                            result.add(opened[sock])
                        selector.unregister(sock)
        finally:
            for each in (*opened, *accepted, *accepting):
                each.close()
    return result
