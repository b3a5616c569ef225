# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves the bytes of a transfer from one socket to the other with splice (PROTOCOL 4, 6; PERFORMANCE)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Callable

from sluice.tally import Tally

_PIPE = 1 << 20  # bytes wanted of a pipe
_ROUNDS = 16  # of a full pipe in one callback, then others have their turn
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_TCP_CLOSE = 7  # tcpi_state of a connection that was reset
_SIOCATMARK = 0x8905  # <linux/sockios.h>


def was_reset(sock: socket.socket) -> bool:
    """Whether the connection was reset: once somebody has read the error, that looks like a clean end."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE


def at_urgent(sock: socket.socket) -> bool:
    """Whether urgent data comes next: splice never gets past it, and an end behind it looks like one here."""
    return fcntl.ioctl(sock.fileno(), _SIOCATMARK, bytes(4)) != bytes(4)


class Pipe:
    """A pipe and how many bytes it takes."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.capacity = 65536
        size = _PIPE
        while size > self.capacity:
            try:
                self.capacity = fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, size)
            except OSError:  # the user's pipes hold pipe-user-pages-soft already: be content with less
                size //= 4

    def close(self) -> None:
        """Close both ends."""
        os.close(self.read)
        os.close(self.write)


class PipePool:
    """Empty pipes for the next transfer."""

    def __init__(self, keep: int = 16) -> None:
        self._keep = keep
        self._idle: list[Pipe] = []

    def take(self) -> Pipe:
        """Return an empty pipe. Raises OSError when there are no descriptors."""
        return self._idle.pop() if self._idle else Pipe()

    def give(self, pipe: Pipe, empty: bool) -> None:
        """Take a pipe back."""
        if empty and len(self._idle) < self._keep:
            self._idle.append(pipe)
        else:
            pipe.close()


class Relay:
    """One direction of one transfer.

    moved: bytes handed to the kernel towards the sink. Callbacks: began, at the first byte; ended, at
    the source's clean end with everything handed on; broken, with the socket that failed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipes: PipePool,
        source: socket.socket,
        sink: socket.socket,
        *,
        began: Callable[[], None],
        ended: Callable[[], None],
        broken: Callable[[socket.socket], None],
        tally: Tally,
        index: int,
        half_closed: bool = False,
    ) -> None:
        """Bytes count at `index` of the tally.

        `half_closed`: the source has had its FIN from here; a clean end looks like a reset then.
        """
        self._loop = loop
        self._pipes = pipes
        self._pipe: Pipe | None = None  # from the first byte on
        self._stopped = False
        self._source = source
        self._half_closed = half_closed
        self._sink = sink
        self._began = began
        self._ended = ended
        self._broken = broken
        self._numbers = tally.numbers
        self._index = index
        self._held = 0  # bytes in the pipe
        self._at_end = False
        self._reading = False
        self._writing = False
        self.moved = 0
        self._read(True)

    def stop(self) -> None:
        """Move nothing more; what the pipe holds is lost."""
        self._stopped = True
        self._read(False)
        self._write(False)
        if self._pipe:
            self._pipes.give(self._pipe, empty=not self._held)
            self._pipe = None

    def _read(self, wanted: bool) -> None:
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self._source.fileno(), self._move)
            else:
                self._loop.remove_reader(self._source.fileno())

    def _write(self, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._loop.add_writer(self._sink.fileno(), self._move)
            else:
                self._loop.remove_writer(self._sink.fileno())

    def _move(self) -> None:
        if self._stopped:
            return
        try:
            pipe = self._pipe = self._pipe or self._pipes.take()
        except OSError:  # no descriptor left: this transfer fails, none else
            self._fail(self._source)
            return
        first = not self.moved and not self._held
        before = self.moved + self._held
        for _round in range(_ROUNDS):
            got = self._fill(pipe)
            if got is None:
                return
            if got and first:
                first = False
                self._began()
                if self._stopped:
                    return
            if self._held and not self._drain(pipe):
                return
            if self._at_end and not self._held:
                self.stop()
                self._ended()
                return
            if self._held:  # the sink is full
                self._read(False)
                self._write(True)
                return
            if not got:  # the source is empty
                break
        if self.moved + self._held == before and at_urgent(self._source):
            self._fail(self._source)  # FTP has none on data connections; and it would be readable for ever
            return
        self._write(False)
        self._read(True)

    @property
    def held_back(self) -> bool:
        """Whether it waits for a limit of its own: then its silence is nobody's fault."""
        return False

    def _room(self, pipe: Pipe) -> int:
        """How many bytes the pipe may take now."""
        return pipe.capacity - self._held

    def _fill(self, pipe: Pipe) -> int | None:
        """Read into the pipe; return the bytes read, None when the source broke."""
        if self._at_end or (room := self._room(pipe)) <= 0:
            return 0
        try:
            got = os.splice(self._source.fileno(), pipe.write, room, flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError:
            self._fail(self._source)
            return None
        if got:
            self._held += got
        elif at_urgent(self._source) or (not self._half_closed and was_reset(self._source)):
            self._fail(self._source)
            return None
        else:
            self._at_end = True
        return got

    def _drain(self, pipe: Pipe) -> bool:
        """Write from the pipe; return whether the sink lives."""
        try:
            while self._held:
                put = os.splice(pipe.read, self._sink.fileno(), self._held, flags=_FLAGS)
                self._held -= put
                self.moved += put
                self._numbers[self._index] += put
        except BlockingIOError:
            pass
        except OSError:
            self._fail(self._sink)
            return False
        return True

    def _fail(self, sock: socket.socket) -> None:
        self.stop()
        self._broken(sock)


class Drain:
    """Reads a socket and throws away what comes (5.5, 6.6, 6.8); tells its end or its reset."""

    _scratch = bytearray(65536)

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, ended: Callable[[bool], None]
    ) -> None:
        """`ended` is called once, with whether it was a reset."""
        self._loop = loop
        self._sock = sock
        self._ended = ended
        self._active = True
        loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            for _round in range(_ROUNDS):
                if not self._sock.recv_into(self._scratch):
                    self.stop()
                    self._ended(False)
                    return
        except BlockingIOError:
            pass
        except OSError:
            self.stop()
            self._ended(True)

    def stop(self) -> None:
        """Read no more."""
        if self._active:
            self._active = False
            with contextlib.suppress(OSError, ValueError):
                self._loop.remove_reader(self._sock.fileno())
