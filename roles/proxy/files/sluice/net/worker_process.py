# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker as a process: what its supervisor tells it over their link, and what it answers."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import traceback
from typing import Any

from sluice import config
from sluice.journal import Journal
from sluice.net.ledger import Ledger
from sluice.net.link import Link, Message
from sluice.net.places import Counts
from sluice.net.worker import Worker

_GARBAGE = 5000  # objects that may be made and not freed before their circles are looked for
FAREWELL = 5.0  # s for the last sockets to close


def internal(context: dict[str, Any]) -> str:
    """Describe what asyncio has to say of an error outside any session."""
    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if error else ""
    return f"internal error: {context['message']} {trace}"


class WorkerProcess:
    """Serves until the supervisor says stop, or is gone: then everything ends with RST (6.4)."""

    def __init__(self, descriptor: int) -> None:
        self._link = Link(socket.socket(fileno=descriptor), self._told, self._orphaned)
        self._journal = Journal(bool(os.environ.get("JOURNAL_STREAM")))
        self._worker: Worker | None = None
        self._over = asyncio.Event()
        self._retiring: asyncio.Task[None] | None = None
        self._probes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Return when there is nothing left to do."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: None)  # the supervisor gets them, too, and decides
        await self._over.wait()
        if self._journal.dropped:
            self._journal.write("warning", f"{self._journal.dropped} log records were dropped", 4)

    def _told(self, message: Message) -> None:
        match message:
            case {"do": "serve"}:
                self._serve(message)
            case {"do": "retire", "seconds": seconds}:
                self._begin_to_retire(seconds)
            case {"do": "stop", "now": now} if self._worker:
                self._worker.stop(now)
                if now:
                    self._begin_to_retire(FAREWELL)
            case {"do": "refuse"} if self._worker:
                self._worker.close_listeners()
            case {"do": "probe", "number": number} if self._worker:
                task = asyncio.get_running_loop().create_task(self._probe(number, message))
                self._probes.add(task)
                task.add_done_callback(self._probes.discard)
            case {"do": question, "number": number} if self._worker:
                self._link.send({"number": number, "answer": self._answer(question, message)})

    def _serve(self, message: Message) -> None:
        try:
            settings = config.parse(message["settings"])
            counts = Counts(message["counts"], message["slot"])
            tally = Ledger(message["tally"]).tally(message["slot"])
            listeners = [socket.socket(fileno=each) for each in message["listeners"]]
            hop = {"SLUICE_HOP": settings.hop}
            asyncio.get_running_loop().set_exception_handler(
                lambda _loop, context: self._journal.write("warning", internal(context), 3, **hop)
            )
            self._worker = Worker(settings, self._journal, listeners, counts, tally)
            self._worker.broke = lambda: self._link.send({"broke": 1})
            self._worker.start()
            gc.freeze()  # what is there now stays; and a session leaves some hundred objects in circles
            gc.set_threshold(_GARBAGE)
        except ImportError:
            self._failed("servers.resolvers: python3-dnspython is not installed.")
        except (config.ConfigError, OSError) as error:
            self._failed(str(error))
        else:
            self._link.send({"ready": True})

    def _failed(self, reason: str) -> None:
        self._link.send({"failed": reason})
        self._over.set()

    def _answer(self, question: str, message: Message) -> Any:
        assert self._worker is not None  # noqa: S101 - the caller looked
        if question == "count":
            return self._worker.count()
        if question == "sessions":
            return self._worker.sessions()
        if question == "kill":
            return self._worker.kill(message["session"])
        if question == "enforce":
            return self._enforce(message["settings"], message["now"])
        return None

    async def _probe(self, number: int, message: Message) -> None:
        assert self._worker is not None  # noqa: S101 - the caller looked
        self._link.send({"number": number, "answer": await self._worker.probe(message)})

    def _enforce(self, data: dict[str, Any], now: bool) -> int | None:
        """As Worker.enforce; None where this code cannot read the settings."""
        assert self._worker is not None  # noqa: S101 - the caller looked
        try:
            settings = config.parse(data)
        except config.ConfigError:
            return None
        return self._worker.enforce(settings, now=now)

    def _begin_to_retire(self, seconds: float) -> None:
        """Take no more clients; end when the last session has, or after this time."""
        if self._retiring:
            self._retiring.cancel()
        self._retiring = asyncio.get_running_loop().create_task(self._retire(seconds))

    async def _retire(self, seconds: float) -> None:
        if self._worker:
            self._worker.close_listeners()
            try:
                await asyncio.wait_for(self._worker.ended(), seconds)
            except TimeoutError:
                self._worker.stop(now=True)
                try:
                    await asyncio.wait_for(self._worker.ended(), FAREWELL)
                except TimeoutError:
                    self._worker.abandon()
        self._over.set()

    def _orphaned(self) -> None:
        if self._worker:
            self._worker.close_listeners()
            self._worker.abandon()
        self._over.set()


async def run(descriptor: int) -> None:
    """Be the worker at the other end of this link."""
    await WorkerProcess(descriptor).run()
