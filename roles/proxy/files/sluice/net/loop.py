# SPDX-License-Identifier: GPL-3.0-or-later
"""asyncio's event loop with a short way for sockets: who reads and writes is called straight from epoll.

asyncio's own way leads every event through a key, a handle, a queue and a context, and every change of
interest through as many; of a proxy's processor time that is a sixth. What asyncio itself watches (signals,
its resolver) goes on as before: its selector is one more descriptor in ours.
"""

from __future__ import annotations

import asyncio
import functools
import select
import selectors
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVarTuple

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_MOST = 64  # events of one turn

Args = TypeVarTuple("Args")
Call = Callable[[], object]


class _Selector(selectors.EpollSelector):
    """Waits for asyncio's descriptors and for ours; ours are served within."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        """`failed` is told what a call raised."""
        super().__init__()
        self._failed = failed
        self._epoll = select.epoll()
        self._inner = self.fileno()
        self._epoll.register(self._inner, _IN)
        self._calls: dict[int, tuple[Call | None, Call | None]] = {}  # by descriptor: to read, to write

    def close(self) -> None:
        super().close()
        self._epoll.close()

    def change(self, fd: int, reader: Call | None, writer: Call | None) -> None:
        """Set who is called for a descriptor."""
        mask = (_IN if reader else 0) | (_OUT if writer else 0)
        before = self._calls.get(fd)
        if not mask:
            if before:
                del self._calls[fd]
                self._epoll.unregister(fd)
            return
        if before:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._calls[fd] = reader, writer

    def of(self, fd: int) -> tuple[Call | None, Call | None]:
        """Who is called for a descriptor."""
        return self._calls.get(fd, (None, None))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve our descriptors; return what is ready of asyncio's."""
        calls, inner = self._calls, False
        found = self._epoll.poll(timeout, _MOST)
        for fd, mask, both in [(fd, mask, calls.get(fd)) for fd, mask in found]:
            if both is None:
                inner = inner or fd == self._inner
                continue
            # a call may have closed another's descriptor, and its number may be a new one's already
            try:
                if mask & ~_OUT and both[0] and calls.get(fd) is both:
                    both[0]()
                if mask & ~_IN and both[1] and calls.get(fd) is both:
                    both[1]()
            except Exception as error:
                self._failed(error)
        return super().select(0) if inner else []


class Loop(asyncio.SelectorEventLoop):
    """The loop of a worker."""

    def __init__(self) -> None:
        self._ours = _Selector(self._call_failed)
        super().__init__(self._ours)

    def _call_failed(self, error: Exception) -> None:
        self.call_exception_handler({"message": "exception in a callback of a socket", "exception": error})

    def add_reader(self, fd: FileDescriptorLike, callback: Callable[[*Args], object], *args: *Args) -> None:
        """Call back when there is something to read."""
        fd = _number(fd)
        self._ours.change(fd, functools.partial(callback, *args), self._ours.of(fd)[1])

    def add_writer(self, fd: FileDescriptorLike, callback: Callable[[*Args], object], *args: *Args) -> None:
        """Call back when something can be written."""
        fd = _number(fd)
        self._ours.change(fd, self._ours.of(fd)[0], functools.partial(callback, *args))

    def remove_reader(self, fd: FileDescriptorLike) -> bool:
        """Read no more; whether somebody did."""
        fd = _number(fd)
        reader, writer = self._ours.of(fd)
        self._ours.change(fd, None, writer)
        return reader is not None

    def remove_writer(self, fd: FileDescriptorLike) -> bool:
        """Write no more; whether somebody did."""
        fd = _number(fd)
        reader, writer = self._ours.of(fd)
        self._ours.change(fd, reader, None)
        return writer is not None


def _number(fd: FileDescriptorLike) -> int:
    return fd if isinstance(fd, int) else fd.fileno()
