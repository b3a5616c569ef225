# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries connections between the places of a network, each socket in its namespace and made by its user.

One process, root, one epoll loop. A socket belongs to whoever was the effective user at socket() or accept()
(F2), so those two calls alone are made as that user; binding to a low port is root's.

A probe passes only if bytes go both ways and the answer names the place and the user of the acceptor. It is
refused when it stays silent: a connection over veth is complete before connect() returns, so a fraction of
a second is long, and it is below the second after which the kernel would send the SYN again. Everything
closes with a reset, no 4-tuple is used twice before conntrack is emptied, and a slow machine cannot turn
"passes" into "refused": the deadline counts only once no event waits any more."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import ClassVar, Final

from .network import Network, enter
from .probe import Probe, User
from .reference import INTERCEPT
from .values import Addresses

UIDS: Final[dict[User, int]] = {"proxy": 64901, "other": 64902, "root": 0}
SILENCE: Final = 0.2  # s
RETRANSMISSION: Final = 0.95  # s; a SYN that is older may have been sent twice
HALF_OPEN: Final = 1.5  # s; a request whose listener closed holds its 4-tuple until its first timer
AT_ONCE: Final = 300
_RESET: Final = struct.pack("ii", 1, 0)
TRANSPARENT: Final = {4: (socket.SOL_IP, 19), 6: (socket.IPPROTO_IPV6, 75)}
_TOKEN: Final = struct.Struct("!I")


_Request = tuple[str, int, str, int]  # address and port of the acceptor, and of the opener as seen there
# what is dialled at one of these addresses may end at that one, at the same port
Redirects = Sequence[tuple[Addresses, str]]


@dataclass(frozen=True)
class Seen:
    """What became of a probe: `how` says in words what the opener met."""

    passed: bool
    how: str
    arrived: bool | None  # the opening packet reached the acceptor's socket; None: cannot be told


@contextmanager
def as_user(user: User) -> Iterator[None]:
    """A socket made or accepted meanwhile belongs to that user (F2)."""
    uid = UIDS[user]
    if uid == 0:
        yield
        return
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@dataclass
class _Listener:
    sock: socket.socket
    user: User
    answer: bytes


@dataclass
class _Accepted:
    sock: socket.socket
    answer: bytes


@dataclass
class _Opener:
    index: int
    sock: socket.socket
    began: float
    expects: bytes
    told: bool = False  # its byte is out


@dataclass
class _Round:
    """Probes that may be in flight together, and what they hold."""

    indexes: list[int] = field(default_factory=list)
    listeners: dict[tuple[str, str, int, str], User] = field(default_factory=dict)
    openers: set[tuple[str, str, int, str]] = field(default_factory=set)
    dialled: dict[tuple[str, int, str], tuple[str, bool]] = field(default_factory=dict)
    tuples: set[tuple[str, frozenset[tuple[str, int]]]] = field(default_factory=set)

    def takes(self, index: int, probe: Probe, redirects: Redirects) -> bool:
        accepts = probe.listener
        opens = (probe.opener.place, probe.opener.address, probe.opener.port, probe.protocol)
        ends = [(probe.acceptor.address, probe.acceptor.port), *_ends(probe, redirects)]
        pair = {
            (
                probe.protocol,
                frozenset({(probe.opener.address, probe.opener.port), to}),
            )
            for to in ends
        }
        # A listener at somebody else's address takes what is for that one, too.
        dials = (probe.dialled, probe.port, probe.protocol)
        taker = (probe.acceptor.place, probe.acceptor.foreign and probe.listens is None)
        other = self.dialled.get(dials, taker)
        if (
            self.listeners.get(accepts, probe.acceptor.user) != probe.acceptor.user
            or accepts in self.openers
            or opens in self.listeners
            or (probe.protocol == "udp" and (accepts in self.listeners or opens in self.openers))
            or pair & self.tuples
            or (other[0] != taker[0] and (other[1] or taker[1]))
        ):
            return False
        self.indexes.append(index)
        self.listeners[accepts] = probe.acceptor.user
        self.openers.add(opens)
        self.tuples |= pair
        self.dialled[dials] = other if other[1] else taker
        return True


def _ends(probe: Probe, redirects: Redirects) -> list[tuple[str, int]]:
    """What it dials, and where a hop may redirect it to."""
    landings = [landing for servers, landing in redirects if probe.dialled in servers]
    return [(probe.dialled, probe.port), *product(landings, (probe.port, INTERCEPT))]


def rounds(probes: Sequence[Probe], redirects: Redirects = ()) -> list[list[int]]:
    """Numbers of the probes that may be in flight together, as few rounds as come of taking them in order."""
    found: list[_Round] = []
    for index, probe in enumerate(probes):
        if not any(one.takes(index, probe, redirects) for one in found):
            found.append(_Round())
            if not found[-1].takes(index, probe, redirects):
                raise ValueError(f"{probe} opens from the very port that it opens to")
    return [one.indexes for one in found]


def half_open() -> set[_Request]:
    """The requests in this namespace whose handshake is not complete (state SYN_RECV)."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if state == "03":
                found.add((*_end(family, local), *_end(family, remote)))
    return found


def _end(family: int, said: str) -> tuple[str, int]:
    """Address and port from /proc, where an address is hexadecimal words in the machine's order."""
    address, port = said.split(":")
    words = struct.unpack(f">{len(address) // 8}I", bytes.fromhex(address))
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words)), int(port, 16)


class Prober:
    """Tries probes over one network; `tried` counts those of all probers."""

    tried: ClassVar[int] = 0

    def __init__(
        self, network: Network, always: Sequence[tuple[str, str, int]] = (), redirects: Redirects = ()
    ):
        self.network = network
        self.redirects = redirects
        self.always = always  # listeners that are always there, the proxy's unless a probe says another user
        self.half_open: dict[_Request, float] = {}  # requests that were never answered, and when they came
        self.late = False  # in the last run a SYN may have been sent twice: packet counts say nothing
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 8192:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))

    def run(self, probes: Sequence[Probe], *, forget: bool = True) -> list[Seen]:
        """Try them all; what was seen, in their order. Without `forget`, conntrack keeps what it knows."""
        self.late = False
        seen: dict[int, Seen] = {}
        waiting = deque(rounds(probes, self.redirects))
        while waiting:
            if forget:
                self.network.forget_connections()
            loop = _Loop(self, probes, waiting.popleft())
            seen.update(loop.run())
            if loop.taken:
                if not waiting:
                    time.sleep(HALF_OPEN)
                waiting.append(loop.taken)
        Prober.tried += len(probes)
        return [seen[index] for index in range(len(probes))]


class _Loop:
    def __init__(self, prober: Prober, probes: Sequence[Probe], indexes: Sequence[int]):
        self.prober = prober
        self.probes = probes
        self.waiting = deque(indexes)
        self.flying: dict[int, _Opener] = {}  # by index, oldest first
        self.seen: dict[int, Seen] = {}
        self.epoll = select.epoll()
        self.by_fd: dict[int, _Listener | _Accepted | _Opener] = {}
        self.listeners: dict[tuple[str, str, int, str], _Listener] = {}
        self.here: str | None = None
        self.taken: list[int] = []  # probes whose 4-tuple an earlier round still holds

    def run(self) -> dict[int, Seen]:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            users = {self.probes[index].listener: self.probes[index].acceptor.user for index in self.waiting}
            for end in self.prober.always:
                self._listen((*end, "tcp"), users.get((*end, "tcp"), "proxy"), foreign=True)
            while self.waiting or self.flying:
                while self.waiting and len(self.flying) < AT_ONCE:
                    self._open(self.waiting.popleft())
                    self._events(0)
                if not self._events(0.02):
                    self._silent()
        finally:
            enter(home)
            os.close(home)
            self.epoll.close()
            for one in list(self.by_fd.values()):
                one.sock.close()
        return self.seen

    def _listen(self, key: tuple[str, str, int, str], user: User, *, foreign: bool) -> None:
        place, *_, protocol = key
        sock = self._socket(key, user, foreign)
        if protocol == "tcp":
            sock.listen(512)
        self.listeners[key] = _Listener(sock, user, f"{place} {user}".encode())
        self._watch(self.listeners[key], select.EPOLLIN)

    def _socket(self, end: tuple[str, str, int, str], user: User, foreign: bool) -> socket.socket:
        place, address, port, protocol = end
        if self.here != place:
            enter(self.prober.network.namespaces[place].fd)
            self.here = place
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with as_user(user):
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if foreign:
            sock.setsockopt(*TRANSPARENT[6 if family == socket.AF_INET6 else 4], 1)
        try:
            sock.bind((address, port))
        except OSError as error:
            sock.close()
            raise OSError(error.errno, f"{error.strerror}: {address} port {port} at {place}") from None
        return sock

    def _watch(self, what: _Listener | _Accepted | _Opener, events: int) -> None:
        self.by_fd[what.sock.fileno()] = what
        self.epoll.register(what.sock.fileno(), events)

    def _drop(self, what: _Listener | _Accepted | _Opener) -> None:
        del self.by_fd[what.sock.fileno()]
        what.sock.close()

    def _open(self, index: int) -> None:
        probe = self.probes[index]
        to, opener = probe.acceptor, probe.opener
        if probe.listener not in self.listeners:
            self._listen(probe.listener, to.user, foreign=to.foreign)
        end = (opener.place, opener.address, opener.port, probe.protocol)
        sock = self._socket(end, opener.user, opener.foreign)
        expects = _TOKEN.pack(index) + f"{to.place} {to.user}".encode()
        began = time.monotonic()
        flying = _Opener(index, sock, began, expects)
        self.flying[index] = flying
        self._watch(flying, select.EPOLLOUT if probe.protocol == "tcp" else select.EPOLLIN)
        error = sock.connect_ex((probe.dialled, probe.port))
        if probe.protocol == "udp":
            try:
                sock.send(_TOKEN.pack(index))
            except PermissionError:
                self._done(flying, Seen(False, "the datagram was refused here", None))
        elif error == errno.EADDRNOTAVAIL:
            self.taken.append(index)
            del self.flying[index]
            self._drop(flying)
        elif error not in (0, errno.EINPROGRESS):
            self._done(flying, Seen(False, os.strerror(error), None))

    def _events(self, timeout: float) -> bool:
        """Serve what waits; whether there was any."""
        events = self.epoll.poll(timeout)
        for fd, _ in events:
            what = self.by_fd.get(fd)
            if isinstance(what, _Listener):
                self._accept(what)
            elif isinstance(what, _Accepted):
                self._answer(what)
            elif isinstance(what, _Opener):
                self._go_on(what)
        return bool(events)

    def _accept(self, listener: _Listener) -> None:
        if listener.sock.type == socket.SOCK_DGRAM:
            with contextlib.suppress(OSError):
                token, peer = listener.sock.recvfrom(64)
                listener.sock.sendto(token + listener.answer, peer)
            return
        with as_user(listener.user):
            try:
                sock, _ = listener.sock.accept()
            except OSError:
                return
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch(_Accepted(sock, listener.answer), select.EPOLLIN)

    def _answer(self, accepted: _Accepted) -> None:
        try:
            token = accepted.sock.recv(64)
            if token:
                accepted.sock.send(token + accepted.answer)
                return
        except OSError:
            pass
        self._drop(accepted)

    def _go_on(self, opener: _Opener) -> None:
        index = opener.index
        try:
            if self.probes[index].protocol == "tcp" and not opener.told:
                error = opener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    self._done(opener, Seen(False, os.strerror(error), None))
                    return
                opener.sock.send(_TOKEN.pack(index))
                opener.told = True
                self.epoll.modify(opener.sock.fileno(), select.EPOLLIN)
                return
            answer = opener.sock.recv(256)
        except BlockingIOError:
            return
        except OSError as error:
            self._done(opener, Seen(False, f"connected, then {error.strerror}", True))
            return
        if answer == opener.expects:
            self._done(opener, Seen(True, "answered", True))
        else:
            self._done(opener, Seen(False, f"answered by {answer[_TOKEN.size :]!r}", None))

    def _silent(self) -> None:
        now = time.monotonic()
        due = [opener for opener in self.flying.values() if now - opener.began > SILENCE]
        if len(due) < min(len(self.flying), AT_ONCE // 2):
            return  # many at a time, for to look for half-open requests takes a while
        places = {self.probes[opener.index].acceptor.place for opener in due}
        requests = {place: self._requests(place) for place in places}
        for opener in due:
            probe = self.probes[opener.index]
            arrived: bool | None = None
            if probe.protocol == "tcp":
                to, seen_as = probe.acceptor, self.prober.network.seen_as(probe.opener.address)
                came = {(to.address, to.port, address, probe.opener.port) for address in seen_as}
                came &= requests[to.place]
                arrived = opener.told or bool(came)
                for request in came:
                    # the kernel keeps it for a second, whoever closes: the next one cannot be told from it
                    if now - self.prober.half_open.get(request, -HALF_OPEN) < HALF_OPEN:
                        arrived = None
                    self.prober.half_open[request] = now
                for end, address in product(_ends(probe, self.prober.redirects)[1:], seen_as):
                    self.prober.half_open[*end, address, probe.opener.port] = now  # nobody looked there
            self._done(opener, Seen(False, "connected, no answer" if opener.told else "silence", arrived))

    def _requests(self, place: str) -> set[_Request]:
        if self.here != place:
            enter(self.prober.network.namespaces[place].fd)
            self.here = place
        return half_open()

    def _done(self, opener: _Opener, seen: Seen) -> None:
        if opener.index not in self.flying:
            return
        if time.monotonic() - opener.began > RETRANSMISSION:
            self.prober.late = True
        del self.flying[opener.index]
        self.seen[opener.index] = seen
        self._drop(opener)
