# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the control listeners, hands them to the worker, listens to signals and tells systemd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import traceback
from collections.abc import Coroutine
from typing import Any

from sluice import __version__
from sluice.config import Settings
from sluice.journal import Journal
from sluice.net.control import family, freebind, on_this_host
from sluice.net.worker import Worker
from sluice.protocol.addresses import endpoint

_BACKLOG = 1024
_DRAIN = 20.0  # s for running transfers after SIGTERM (10.3)
_FAREWELL = 5.0  # s for the last sockets to close
_NO_POLICY = "No policy protects this proxy: sluice-policy.service is not installed on this host."


class StartError(Exception):
    """The proxy cannot start; the message is a sentence."""


def listen(settings: Settings) -> list[socket.socket]:
    """Make the control listeners, one for each client-side address. Raises StartError."""
    listeners: list[socket.socket] = []
    port = settings.client_side.control_port
    for local in settings.client_side.addresses:
        sock = socket.socket(family(local.address), socket.SOCK_STREAM)
        listeners.append(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # accepted sockets inherit it (5.2)
        if local.address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        freebind(sock)
        try:
            sock.bind((str(local.address), port))
            sock.listen(_BACKLOG)
        except OSError as error:
            place = endpoint(local.address, port)
            raise StartError(f"cannot listen on {place}: {error.strerror}.") from None
    return listeners


def notify(state: str) -> None:
    """Tell systemd (sd_notify); nothing without NOTIFY_SOCKET."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), path)


async def run(settings: Settings) -> None:
    """Run the proxy until SIGTERM or SIGINT; a second one ends it at once. Raises StartError."""
    journal = Journal(bool(os.environ.get("JOURNAL_STREAM")))
    signals: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, None)
    hop = {"SLUICE_HOP": settings.hop}
    loop.set_exception_handler(lambda _loop, context: journal.write("warning", _internal(context), 3, **hop))
    try:
        worker = Worker(settings, journal, listen(settings))
    except ImportError:
        raise StartError("servers.resolvers: python3-dnspython is not installed.") from None
    worker.start()
    for local in (*settings.client_side.addresses, *settings.server_side.addresses):
        if not on_this_host(local.address):
            journal.write("warning", f"{local.address} is not on this host yet.", 4, **hop)
    if not os.environ.get("SLUICE_POLICY"):
        journal.write("warning", _NO_POLICY, 4, **hop)
    journal.write("started", f"sluice {__version__} serves hop {settings.hop} on {settings.host}", 6, **hop)
    notify("READY=1")
    await signals.get()
    notify("STOPPING=1")
    worker.close_listeners()
    worker.stop(now=False)
    if not await _either(worker.ended(), signals.get(), _DRAIN):
        worker.stop(now=True)
        await _either(worker.ended(), signals.get(), _FAREWELL)
        worker.abandon()
    if journal.dropped:
        journal.write("warning", f"{journal.dropped} log records were dropped", 4, **hop)


def _internal(context: dict[str, Any]) -> str:
    """Describe what asyncio has to say of an error outside any session."""
    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if error else ""
    return f"internal error: {context['message']} {trace}"


async def _either(
    wanted: Coroutine[Any, Any, None], other: Coroutine[Any, Any, None], seconds: float
) -> bool:
    """Wait for either, or the time; return whether the wanted one came."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(other)]
    done, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return tasks[0] in done
