# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages between the proxy's own processes: JSON, one message a line, over a UNIX socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]

_PIECE = 65536
_LONGEST = 16 << 20  # bytes of one message: a list of many sessions; whoever sends more is cut off


class Link:
    """One end. `received` gets each message, `ended` is called once when the other end is gone."""

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[[Message], None],
        ended: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._received = received
        self._ended = ended
        self._in = bytearray()
        self._out = bytearray()
        self._closed = False
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def fileno(self) -> int:
        """Its descriptor; -1 once it is closed."""
        return self._sock.fileno()

    def send(self, message: Message) -> None:
        """Send a message; nothing when the other end is gone."""
        if not self._closed:
            self._out += json.dumps(message).encode() + b"\n"
            self._write()

    def close(self) -> None:
        """Let go of it; `ended` is not called any more."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()

    def _end(self) -> None:
        if not self._closed:
            self.close()
            self._ended()

    def _read(self) -> None:
        try:
            piece = self._sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece or len(self._in) > _LONGEST:
            self._end()
            return
        self._in += piece
        while not self._closed and (end := self._in.find(b"\n")) >= 0:
            line = bytes(self._in[:end])
            del self._in[: end + 1]
            with contextlib.suppress(ValueError):  # half a line, of before an exec, is nobody's message
                message = json.loads(line)
                if isinstance(message, dict):
                    self._received(message)

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:  # its end shows when it is read
            self._out.clear()
            sent = 0
        del self._out[:sent]
        if self._out:
            self._loop.add_writer(self._sock.fileno(), self._write)
        else:
            self._loop.remove_writer(self._sock.fileno())
