# SPDX-License-Identifier: GPL-3.0-or-later
"""A path of network namespaces: one for each place, in a row, veth links between neighbours, IPv4 and IPv6.

Where several nodes share a position, each is linked with every node of the next one; what lies further is
reached over the first of them, there and back, and they reach each other over what stands on their left.

The namespaces have no name and no file: they live by the descriptors of this process, so the kernel removes
them with everything inside however the process ends, a kill included.

Nothing is resolved on the links (permanent neighbours), so that no probe waits for ARP or neighbour
discovery."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count, pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Self

CLONE_NEWNET: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)
# A table of connections for each namespace, not the machine's large one, which takes long to look through.
# What is made from inside a namespace takes its size from there (Linux 6.1 or newer).
_SMALL_TABLE: Final = Path("/proc/sys/net/ipv4/tcp_child_ehash_entries")
_SETTINGS: Final = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/addr_gen_mode": "1",  # no link-local address of the kernel's own
    "net/ipv4/ping_group_range": "0 0",  # sockets for echo requests
    "net/ipv4/tcp_max_syn_backlog": "4096",
    "net/ipv4/tcp_synack_retries": "0",  # a half-open request is gone after a second
}


def _checked(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Namespace:
    """A network namespace that lives as long as this object is open."""

    def __init__(self, name: str):
        self.name = name
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.unshare(CLONE_NEWNET))
            try:
                self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                enter(home)
        finally:
            os.close(home)
        with self.inside():
            for key, value in _SETTINGS.items():
                (Path("/proc/sys") / key).write_text(value)
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER

    @property
    def path(self) -> str:
        """As ip(8) takes it."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This process stands inside; processes that it starts do, too."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(self.fd)
            try:
                yield
            finally:
                enter(home)
        finally:
            os.close(home)

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command inside and return what it prints; a failure is RuntimeError with what it said."""
        with self.inside():
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} in {self.name}: {done.stderr.strip()}\n{stdin}")
        return done.stdout

    def forget_connections(self) -> None:
        """Empty conntrack (nfnetlink IPCTNL_MSG_CT_DELETE without a tuple)."""
        header = struct.pack("=IHHII", 20, (1 << 8) | 2, 1 | 4, 1, 0)  # NLM_F_REQUEST | NLM_F_ACK
        self._netlink.send(header + struct.pack("=BBH", 0, 0, 0))
        answer = self._netlink.recv(4096)
        error = struct.unpack_from("=i", answer, 16)[0]
        if error:
            raise OSError(-error, f"conntrack of {self.name} not emptied: {os.strerror(-error)}")

    def close(self) -> None:
        """Let go of it; with its last socket the kernel removes it."""
        self._netlink.close()
        os.close(self.fd)


def enter(fd: int) -> None:
    """Move this thread into the namespace behind `fd`."""
    _checked(_libc.setns(fd, CLONE_NEWNET))


@dataclass(frozen=True)
class Translation:
    """Something on a leg that translates: towards `side` (left or right) stands the host with `real`."""

    side: str
    real: str
    public: str


@dataclass(frozen=True)
class Node:
    """A place, or what translates between two: its name, its addresses, its translations."""

    name: str
    addresses: tuple[str, ...]
    translations: tuple[Translation, ...] = field(default=())

    @property
    def reached(self) -> tuple[str, ...]:
        """What the others send here."""
        return self.addresses + tuple(one.public for one in self.translations)


@dataclass(frozen=True)
class _Link:
    """A veth pair between the node `left` and the node `right`."""

    number: int
    left: Node
    right: Node
    left_device: str
    right_device: str


class Network:
    """The nodes in a row, several at one position where they come as a sequence.

    Every address is reached over the row, whichever network it lies in."""

    def __init__(self, row: Sequence[Node | Sequence[Node]]):
        self.row = tuple((one,) if isinstance(one, Node) else tuple(one) for one in row)
        self.nodes = tuple(node for several in self.row for node in several)
        self.links = tuple(_links(self.row))
        self.namespaces: dict[str, Namespace] = {}
        with ExitStack() as stack:
            nursery = stack.enter_context(_closing(Namespace("nursery")))
            with nursery.inside():
                if _SMALL_TABLE.exists():
                    _SMALL_TABLE.write_text("4096")
                for node in self.nodes:
                    self.namespaces[node.name] = stack.enter_context(_closing(Namespace(node.name)))
            self._link()
            for at, several in enumerate(self.row):
                for node in several:
                    self._configure(at, node)
            self._wait_for_links()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def seen_as(self, address: str) -> set[str]:
        """The addresses that a connection from `address` may bear at its other end."""
        translations = [one for node in self.nodes for one in node.translations]
        return {address, *(one.public for one in translations if one.real == address)}

    def forget_connections(self) -> None:
        """Empty conntrack everywhere."""
        for namespace in self.namespaces.values():
            namespace.forget_connections()

    def _link(self) -> None:
        for link in self.links:
            self.namespaces[link.left.name].run(
                "ip", "link", "add", link.left_device, "address", _mac(link.number, 1), "type", "veth",
                "peer", "name", link.right_device, "address", _mac(link.number, 2),
                "netns", self.namespaces[link.right.name].path,
            )  # fmt: skip

    def _wait_for_links(self) -> None:
        """Until a datagram comes over each link both ways: for a moment a new link drops everything."""
        for link in self.links:
            with ExitStack() as stack:
                ends = [
                    stack.enter_context(self._at(link.left.name, link.left_device, "fe80::1")),
                    stack.enter_context(self._at(link.right.name, link.right_device, "fe80::2")),
                ]
                until = time.monotonic() + 5
                for sender, receiver in (ends, ends[::-1]):
                    while True:
                        sender.sendto(b"up", (receiver.getsockname()[0].partition("%")[0], 9))
                        with suppress(TimeoutError):
                            receiver.recv(2)
                            break
                        if time.monotonic() > until:
                            raise TimeoutError(
                                f"The link between {link.left.name} and {link.right.name} stays down."
                            )

    def _at(self, place: str, device: str, address: str) -> socket.socket:
        with self.namespaces[place].inside():
            one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            one.settimeout(0.02)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            one.bind((address, 9, 0, socket.if_nametoindex(device)))
        return one

    def _configure(self, at: int, node: Node) -> None:
        lines = ["link set lo up"]
        lines += [f"addr add {address} dev lo" + _nodad(address) for address in node.addresses]
        # a link has two ends: 1 is its left one, 2 its right one
        for link in self.links:
            if node is link.right:
                device, neighbour, far, near, beyond = link.right_device, link.left, 1, 2, self.row[: at - 1]
            elif node is link.left:
                device, neighbour, far, near, beyond = link.left_device, link.right, 2, 1, self.row[at + 2 :]
            else:
                continue
            lines += [
                f"link set {device} up",
                f"addr add fe80::{near}/64 dev {device} nodad",
                f"neigh replace fe80::{far} lladdr {_mac(link.number, far)} dev {device} nud permanent",
            ]
            reached = [neighbour]
            if device.endswith("0"):  # the first of its position
                reached += [other for several in beyond for other in several]
            if device == "left0":
                reached += [other for other in self.row[at] if other is not node]
            for address in [address for other in reached for address in other.reached]:
                gateway = f"via inet6 fe80::{far}" if ip_address(address).version == 4 else f"via fe80::{far}"
                lines.append(f"route replace {address} {gateway} dev {device}")
        namespace = self.namespaces[node.name]
        namespace.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
        if node.translations:
            namespace.run("nft", "-f", "-", stdin=_translating(node.translations))


def _links(row: Sequence[Sequence[Node]]) -> Iterator[_Link]:
    """A device is named after the side on which its far end stands, and that end's number there."""
    numbers = count()
    for lefts, rights in pairwise(row):
        for i, left in enumerate(lefts):
            for j, right in enumerate(rights):
                yield _Link(next(numbers), left, right, f"right{j}", f"left{i}")


def _mac(link: int, end: int) -> str:
    return f"02:00:00:00:{link:02x}:{end:02x}"


def _nodad(address: str) -> str:
    return " nodad" if ":" in address else ""


def _translating(translations: Sequence[Translation]) -> str:
    into, out_of = [], []
    for one in translations:
        family = "ip6" if ":" in one.real else "ip"
        far = "left" if one.side == "right" else "right"
        into.append(f'iifname "{far}*" {family} daddr {one.public} dnat {family} to {one.real}')
        out_of.append(f'oifname "{far}*" {family} saddr {one.real} snat {family} to {one.public}')
    return "\n".join(
        [
            "table inet translation {",
            "chain into { type nat hook prerouting priority dstnat;",
            *into,
            "}",
            "chain out_of { type nat hook postrouting priority srcnat;",
            *out_of,
            "}",
            "}",
            "",
        ]
    )


@contextmanager
def _closing(namespace: Namespace) -> Iterator[Namespace]:
    try:
        yield namespace
    finally:
        namespace.close()
