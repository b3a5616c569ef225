# SPDX-License-Identifier: GPL-3.0-or-later
"""Log records: journal datagrams under systemd, JSON lines on stderr elsewhere. Never waits."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
_LINE_LIMIT = 4096  # PIPE_BUF: a pipe that can be written takes this much without waiting


def encode(fields: Mapping[str, str]) -> bytes:
    """Write a record in the journal's native protocol (systemd: Native Journal Protocol)."""
    if "\n" not in "".join(fields.values()):
        return "".join([f"{key}={value}\n" for key, value in fields.items()]).encode(
            "utf-8", "backslashreplace"
        )
    out = bytearray()
    for key, value in fields.items():
        raw = value.encode("utf-8", "backslashreplace")
        if b"\n" in raw:
            out += key.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"
        else:
            out += key.encode() + b"=" + raw + b"\n"
    return bytes(out)


class Journal:
    """Where records go; one that cannot be written at once is dropped and counted."""

    def __init__(self, to_journal: bool, path: str = SOCKET) -> None:
        self.dropped = 0
        self._path = path
        self._socket: socket.socket | None = None
        if to_journal:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def write(
        self, event: str, message: str, priority: int = 6, identifier: str = "sluice", **fields: str
    ) -> None:
        """Write one record. event: SLUICE_EVENT; priority: 0-7 as syslog has them; identifier: for -t."""
        record = {"MESSAGE": message, "PRIORITY": str(priority), "SLUICE_EVENT": event} | fields
        if self._socket:
            record["SYSLOG_IDENTIFIER"] = identifier
        try:
            written = self._send(record)
        except OSError:
            written = False
        self.dropped += not written

    def _send(self, record: dict[str, str]) -> bool:
        if self._socket:
            self._socket.sendto(encode(record), self._path)
            return True
        line = json.dumps(record).encode() + b"\n"
        ready = select.poll()
        ready.register(2, select.POLLOUT)
        if len(line) > _LINE_LIMIT or not ready.poll(0):
            return False
        return os.write(2, line) == len(line)


def show(raw: bytes) -> str:
    """Return bytes from the wire as text for a log: one line, nothing a terminal would obey (10.5)."""
    text = raw.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text[:2048]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)[:2048]
