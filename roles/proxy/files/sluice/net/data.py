# SPDX-License-Identifier: GPL-3.0-or-later
"""The sockets of one transfer: listeners and connections within their ranges, ends with FIN or RST."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

from sluice import events
from sluice.events import DataSocket, Endpoint, Event, Leg
from sluice.net.control import family, freebind, from_text, why
from sluice.net.pace import Pace, PacedRelay
from sluice.net.relay import Drain, PipePool, Relay, was_reset
from sluice.net.transparent import make_transparent
from sluice.ports import PortRange
from sluice.protocol.addresses import Address
from sluice.tally import PORTS, Tally, bytes_index, port_index

_RST = struct.pack("ii", 1, 0)
_PEACE = struct.pack("ii", 0, 0)
_LINGER = 30.0  # s for a client that still reads after the end of the data (4.5, 6.8)
_PAUSE = 0.2  # s without accepting when descriptors run out
_CLIENT_SOURCE = PORTS + port_index(Leg.CLIENT, "source")  # in use where the client's mode is active
_SERVER_LISTEN = PORTS + port_index(Leg.SERVER, "listen")  # where the server's is
_BUSY = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


def _socket(address: Address, transparent: bool) -> socket.socket:
    """Make a data socket: its death is an RST until its data has ended well (6.4).

    transparent: `address` is not this host's. Raises OSError where it may not be used.
    """
    sock = socket.socket(family(address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # 13.3
    freebind(sock)
    if transparent:
        try:
            make_transparent(sock)
        except OSError:
            sock.close()
            raise
    if address.version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # what a listener accepts has these from it
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _endpoint(name: tuple[str, int]) -> Endpoint:
    return Endpoint(from_text(name[0]), name[1])


def _peer(sock: socket.socket) -> Endpoint | None:
    """The far end, where it is connected."""
    try:
        return _endpoint(sock.getpeername())
    except OSError:
        return None


def listen(address: Address, ports: PortRange, *, transparent: bool = False) -> socket.socket:
    """Listen on a free port of the range (13.2). Raises OSError: EADDRINUSE when none is free."""
    for port in ports.candidates():
        sock = _socket(address, transparent)
        try:
            sock.bind((str(address), port))
            sock.listen(8)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return sock
    raise OSError(errno.EADDRINUSE, f"no free port in {ports}")


class Channel:
    """All sockets of one transfer; everything it has to tell goes to `emit` as an event."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipes: PipePool,
        number: int,
        emit: Callable[[Event], None],
        gone: Callable[[Channel], None],
        *,
        pace: Pace | None = None,
        tally: Tally | None = None,
    ) -> None:
        """`gone` is called when a released channel holds no socket any more.

        `pace` is the session's; `tally`: where it counts.
        """
        self._loop = loop
        self._pipes = pipes
        self._number = number
        self._emit = emit
        self._gone = gone
        self._make_relay = functools.partial(PacedRelay, pace=pace) if pace else Relay
        self._tally = tally or Tally()
        self._ports: dict[Leg, int] = {}  # of each leg that holds one the place among the four ranges
        self._listeners: dict[Leg, socket.socket] = {}
        self._offered: dict[int, tuple[Leg, socket.socket]] = {}
        self._tokens = 0
        self._dials: dict[Leg, socket.socket] = {}
        self._ends: dict[Leg, socket.socket] = {}
        self._accepted: set[Leg] = set()  # the ends that came from a listener
        self._drains: dict[Leg, Drain] = {}
        self._at_end: set[Leg] = set()
        self._relay: Relay | None = None
        self._source = Leg.SERVER
        self._idle_check: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._began = time.monotonic()
        self._bytes = 0
        self._released = False
        self._finished = False
        self._undecided = False  # whose direction the relay has
        self._half_closed = False  # the server's end has had its FIN already

    @property
    def bytes(self) -> int:
        """Bytes handed on so far."""
        return self._relay.moved if self._relay else self._bytes

    @property
    def seconds(self) -> float:
        """Seconds since the relay began."""
        return time.monotonic() - self._began

    def sockets(self) -> Iterator[DataSocket]:
        """What it holds on either leg."""
        for sockets, accepts in ((self._listeners, True), (self._dials, False), (self._ends, None)):
            for leg, sock in sockets.items():
                came = leg in self._accepted if accepts is None else accepts
                yield DataSocket(leg, came, _endpoint(sock.getsockname()), _peer(sock))

    # --- listening -------------------------------------------------------------------------------

    def listen(self, action: events.Listen) -> None:
        """Open a listener; emit Listening or ListenFailed."""
        try:
            sock = listen(action.address, action.ports, transparent=action.transparent)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                self._tally.no_port(action.leg, "listen")
                cause = f"no free port in {action.ports}"
            else:
                cause = f"cannot listen on {action.address}: {error.strerror}"
            self._emit(events.ListenFailed(self._number, action.leg, cause))
            return
        self._listeners[action.leg] = sock
        self._hold(action.leg, "listen")
        self._loop.add_reader(sock.fileno(), self._acceptable, action.leg)
        self._emit(events.Listening(self._number, action.leg, sock.getsockname()[1]))

    def _hold(self, leg: Leg, use: str) -> None:
        """Count a port of a range as in use, until `_free` finds that nothing holds it any more."""
        index = self._ports[leg] = PORTS + port_index(leg, use)
        self._tally.numbers[index] += 1

    def _free(self, leg: Leg) -> None:
        if leg in self._ports and not (leg in self._listeners or leg in self._dials or leg in self._ends):
            self._tally.numbers[self._ports.pop(leg)] -= 1

    def _acceptable(self, leg: Leg) -> None:
        listener = self._listeners.get(leg)
        if listener is None:
            return
        try:
            sock, name = listener.accept()
        except (BlockingIOError, ConnectionError):  # gone again
            return
        except OSError:  # no descriptors: breathe, then try again; the session's timer bounds the wait
            self._loop.remove_reader(listener.fileno())
            self._loop.call_later(_PAUSE, self._resume, leg, listener)
            return
        sock.setblocking(False)
        self._tokens += 1
        self._offered[self._tokens] = (leg, sock)
        peer = Endpoint(from_text(name[0]), name[1])
        self._emit(events.Incoming(self._number, leg, self._tokens, peer))

    def _resume(self, leg: Leg, listener: socket.socket) -> None:
        if self._listeners.get(leg) is listener:
            self._loop.add_reader(listener.fileno(), self._acceptable, leg)

    def take(self, token: int) -> None:
        """Use an offered connection; its listener closes."""
        if token not in self._offered:  # it went with its leg while the offer was on its way
            self._emit(events.DataReset(self._number, Leg.SERVER))
            return
        leg, sock = self._offered.pop(token)
        self._ends[leg] = sock
        self._close_listener(leg)
        # A port is busy while its transfer runs: without this another listener could share it (3.17).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._accepted.add(leg)

    def drop(self, token: int) -> None:
        """Reset an offered connection."""
        if token in self._offered:
            self._offered.pop(token)[1].close()

    def _close_listener(self, leg: Leg) -> None:
        listener = self._listeners.pop(leg, None)
        if listener:
            self._loop.remove_reader(listener.fileno())
            listener.close()
            self._free(leg)

    # --- dialling --------------------------------------------------------------------------------

    def dial(self, action: events.Dial) -> None:
        """Connect from a free port of the range; emit Dialled or DialFailed."""
        self._dial(action, action.ports.candidates())

    def _dial(self, action: events.Dial, ports: Iterator[int]) -> None:
        target = (str(action.to.address), action.to.port)
        for port in ports:
            sock: socket.socket | None = None
            bound = False
            try:
                sock = _socket(action.address, action.transparent)
                sock.bind((str(action.address), port))
                bound = True
                sock.connect(target)
            except BlockingIOError:
                assert sock is not None  # noqa: S101 - connect was reached
                self._dials[action.leg] = sock
                self._hold(action.leg, "source")
                self._loop.add_writer(sock.fileno(), self._dialled, action, ports, port)
                return
            except OSError as error:
                if sock:
                    sock.close()
                if error.errno in _BUSY:
                    continue
                cause = why(error, action.address) if bound else f"cannot use port {port}: {error.strerror}"
                self._emit(events.DialFailed(self._number, action.leg, cause, here=not bound))
                return
            else:  # connected at once
                self._ends[action.leg] = sock
                self._hold(action.leg, "source")
                self._emit(events.Dialled(self._number, action.leg, port))
                return
        self._tally.no_port(action.leg, "source")
        cause = f"no free port in {action.ports}"
        self._emit(events.DialFailed(self._number, action.leg, cause, here=True))

    def _dialled(self, action: events.Dial, ports: Iterator[int], port: int) -> None:
        sock = self._dials.pop(action.leg)
        self._loop.remove_writer(sock.fileno())
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error:
            self._ends[action.leg] = sock
            self._emit(events.Dialled(self._number, action.leg, port))
            return
        sock.close()
        self._free(action.leg)
        if error in _BUSY:
            self._dial(action, ports)
        else:
            cause = why(OSError(error, os.strerror(error)), action.address)
            self._emit(events.DialFailed(self._number, action.leg, cause))

    # --- moving data -----------------------------------------------------------------------------

    def relay(self, source: Leg | None, idle: float) -> None:
        """Move data from leg `source` to the other, or from the one that sends first."""
        self._began = time.monotonic()
        if source is None:
            for leg, sock in self._ends.items():
                self._loop.add_reader(sock.fileno(), self._first, leg, idle)
            self._undecided = True
        else:
            self._relay_from(source, idle)

    def _first(self, leg: Leg, idle: float) -> None:
        if leg is Leg.CLIENT and self._silent_end(self._ends[leg]):
            # It sends nothing: a download, or an upload of nothing, whose end the server waits for. Its
            # own end decides (6.6).
            self._loop.remove_reader(self._ends[leg].fileno())
            self._half_closed = True
            server = self._ends[Leg.SERVER]
            with contextlib.suppress(OSError):  # what is broken shows on its reader
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as in finish
                server.shutdown(socket.SHUT_WR)
            return
        self._decide()
        self._relay_from(leg, idle)

    @staticmethod
    def _silent_end(sock: socket.socket) -> bool:
        """Whether the stream ends well without a byte."""
        try:
            return not sock.recv(1, socket.MSG_PEEK) and not was_reset(sock)
        except OSError:
            return False

    def _decide(self) -> None:
        if self._undecided:
            self._undecided = False
            for sock in self._ends.values():
                self._loop.remove_reader(sock.fileno())

    def _relay_from(self, source: Leg, idle: float) -> None:
        self._source = source
        self._relay = self._make_relay(
            self._loop,
            self._pipes,
            self._ends[source],
            self._ends[source.other],
            began=lambda: self._emit(events.DataMoved(self._number, source)),
            ended=lambda: self._emit(events.DataEnd(self._number)),
            broken=self._broken,
            tally=self._tally,
            index=bytes_index(
                upload=source is Leg.CLIENT,
                client_active=self._ports[Leg.CLIENT] == _CLIENT_SOURCE,
                server_active=self._ports[Leg.SERVER] == _SERVER_LISTEN,
            ),
            half_closed=self._half_closed,
        )
        self._drain(source.other)
        self._watch(idle / 4, 0, self._relay.moved)

    def _watch(self, step: float, silent: int, moved: int) -> None:
        """Emit DataIdle after four steps without a byte."""
        if self._relay is None:
            return
        now = self._relay.moved
        silent = silent + 1 if now == moved and not self._relay.held_back else 0
        if silent > 4:
            silent = 0
            self._emit(events.DataIdle(self._number))
        self._idle_check = self._loop.call_later(step, self._watch, step, silent, now)

    def _stop_watch(self) -> None:
        if self._idle_check:
            self._idle_check.cancel()
            self._idle_check = None

    def _broken(self, sock: socket.socket) -> None:
        leg = next((leg for leg, end in self._ends.items() if end is sock), self._source)
        self._emit(events.DataReset(self._number, leg))

    def _drain(self, leg: Leg) -> None:
        self._drains[leg] = Drain(self._loop, self._ends[leg], lambda reset: self._drained(leg, reset))

    def _drained(self, leg: Leg, reset: bool) -> None:
        self._drains.pop(leg, None)
        self._at_end.add(leg)
        if self._released or (self._finished and not reset):
            self._close_end(leg)
            self._check_gone()
        elif reset:
            self._emit(events.DataReset(self._number, leg))

    def finish(self) -> None:
        """After the clean end of the source: FIN to the sink; from here no RST (6.4, 6.6)."""
        self._stop_relay()
        for sock in self._ends.values():
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _PEACE)
                # from here the port is free again, also from under a TIME_WAIT (13.3)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._finished = True
        with contextlib.suppress(OSError):  # a sink that is gone already shows on its drain
            self._ends[self._source.other].shutdown(socket.SHUT_WR)
        if self._source is Leg.SERVER:
            # A server that closes with SO_LINGER (vsftpd) says 226 only when its FIN is acknowledged, and
            # the kernel would delay that by 40 ms. An uploading client's end stays until S has spoken.
            self._close_end(Leg.SERVER)

    def discard(self, leg: Leg) -> None:
        """Read a leg to its end and throw the data away."""
        self._stop_relay()
        if leg in self._ends and leg not in self._drains:
            self._drain(leg)

    def _stop_relay(self) -> None:
        self._decide()
        self._stop_watch()
        if self._relay:
            self._relay.stop()
            self._bytes = self._relay.moved
            self._relay = None

    # --- ends ------------------------------------------------------------------------------------

    def reset(self, leg: Leg | None) -> None:
        """Close a leg, or both, with RST; a listener or a dial of it too."""
        for each in (leg,) if leg else Leg:
            if each in self._ends:
                self._stop_relay()
                with contextlib.suppress(OSError):
                    self._ends[each].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                self._close_end(each)
            self._close_listener(each)
            dial = self._dials.pop(each, None)
            if dial:
                self._loop.remove_writer(dial.fileno())
                dial.close()
                self._free(each)
            for token in [t for t, (owner, _sock) in self._offered.items() if owner is each]:
                self.drop(token)

    def release(self) -> None:
        """Let the ends close: the source at once, the sink when its peer has (bounded, 6.8)."""
        self._released = True
        self._stop_relay()
        for leg in list(self._listeners):
            self._close_listener(leg)
        for leg in list(self._ends):
            if leg is self._source or leg in self._at_end:
                self._close_end(leg)
        if self._ends:
            self._linger = self._loop.call_later(_LINGER, self.expire)
        self._check_gone()

    def expire(self) -> None:
        """Wait for no peer any longer; the kernel still delivers what it has."""
        for leg in list(self._ends):
            self._close_end(leg)
        self._check_gone()

    def _close_end(self, leg: Leg) -> None:
        drain = self._drains.pop(leg, None)
        if drain:
            drain.stop()
        self._ends.pop(leg).close()
        self._free(leg)

    def _check_gone(self) -> None:
        if self._released and not self._ends:
            if self._linger:
                self._linger.cancel()
                self._linger = None
            self._gone(self)
