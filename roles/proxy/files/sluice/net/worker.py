# SPDX-License-Identifier: GPL-3.0-or-later
"""Accepts clients on the listeners it is given and keeps their sessions."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any

from sluice import access
from sluice.config import Settings
from sluice.events import Endpoint
from sluice.journal import Journal
from sluice.memory import Memory
from sluice.net import prober
from sluice.net.control import from_text
from sluice.net.pace import Pace, Shared
from sluice.net.places import Counts, Places, Seats
from sluice.net.prober import Errand, ProbeError
from sluice.net.relay import PipePool
from sluice.net.resolve import Resolver
from sluice.net.runner import Runner
from sluice.net.transparent import original_destination
from sluice.protocol.addresses import Address
from sluice.session import Session
from sluice.tally import Tally

_PROBES = 4  # at once
_BATCH = 64  # connections accepted in one callback
_PAUSE = 0.2  # s without accepting when descriptors run out (2.12)


class Worker:
    """Serves sessions until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        listeners: list[socket.socket],
        counts: Counts,
        tally: Tally,
    ) -> None:
        """The listeners bind and listen already; they are the worker's to close."""
        self._settings = settings
        self._journal = journal
        self._listeners = listeners
        self._tally = tally
        self._pipes = PipePool()
        self._places = Places(settings.limits.transfers, counts)
        self._seats = Seats(settings.limits, counts)
        rate = settings.limits.bandwidth
        self._bandwidth = Shared(rate, counts, time.monotonic()) if rate else None
        resolvers = settings.servers.resolvers if settings.servers else ()
        self.broke: Callable[[], None] = lambda: None  # a transfer broke that was to end (F9)
        self._resolver = Resolver(resolvers, settings.timeouts.connect)
        self._memory = Memory(time.monotonic)
        self._runners: set[Runner] = set()
        self._probes = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def start(self) -> None:
        """Accept clients."""
        self._loop = asyncio.get_running_loop()
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _one in range(_BATCH):
            try:
                sock, name = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # it was reset while it waited
                continue
            except OSError as error:  # EMFILE and the like: breathe, then go on
                self._journal.write(
                    "warning", f"cannot accept a client: {error.strerror}", 4, SLUICE_HOP=self._settings.hop
                )
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(_PAUSE, self._resume, listener)
                return
            try:
                self._begin(sock, name)
            except Exception as error:
                sock.close()
                self._journal.write("warning", f"cannot serve a client: {error!r}", 3)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _begin(self, sock: socket.socket, name: tuple[str, int]) -> None:
        sock.setblocking(False)
        peer = Endpoint(from_text(name[0]), name[1])
        original = original_destination(sock, self._settings.client_side.intercept)
        cause, reason = self._refusal(peer.address, original)
        if reason:
            self._refuse(sock, peer, cause, reason)
            return
        session = Session(
            self._settings,
            secrets.token_hex(6),
            peer,
            from_text(sock.getsockname()[0]),
            self._memory,
            tally=self._tally,
            original=original,
        )
        runner = Runner(
            sock,
            session,
            journal=self._journal,
            pipes=self._pipes,
            resolver=self._resolver,
            places=self._places,
            finished=lambda runner: self._finished(runner, peer.address),
            broke=self.broke,
            pace=self._pace(),
        )
        self._seats.take(peer.address)
        self._tally.session()
        self._runners.add(runner)
        self._empty.clear()
        runner.start()

    def _pace(self) -> Pace | None:
        rate = self._settings.limits.bandwidth_per_session
        return Pace(rate, self._bandwidth, time.monotonic()) if rate or self._bandwidth else None

    def _refusal(self, client: Address, original: Endpoint | None) -> tuple[str, str]:
        """Why the client gets no session, by cause and in words; "" where it does."""
        side = self._settings.client_side
        if not access.inside(client, side.peers):
            return "client", f"{client} is not in the allowed networks"
        if side.intercept and (reason := access.original_refused(self._settings, client, original)):
            return "destination", reason
        return "limit", self._seats.refused(client)

    def _refuse(self, sock: socket.socket, peer: Endpoint, cause: str, reason: str) -> None:
        hop = self._settings.hop
        self._tally.refused(cause)
        self._journal.write(
            "refused",
            f"refused: {reason}",
            5,
            SLUICE_HOP=hop,
            SLUICE_CLIENT=str(peer),
            SLUICE_REASON=reason,
        )
        side = self._settings.client_side
        if cause != "client" or not side.identity:  # 14.1: a stranger gets no word
            with contextlib.suppress(OSError):
                sock.send(f"421 {hop}: {reason}.\r\n".encode())
        sock.close()

    def _finished(self, runner: Runner, client: Address) -> None:
        self._runners.discard(runner)
        self._seats.give_back(client)
        if not self._runners:
            self._empty.set()

    # --- for the operator ------------------------------------------------------------------------

    def count(self) -> dict[str, int]:
        """Return how many sessions and transfers there are."""
        return {"sessions": len(self._runners), "transfers": self._places.own}

    def sessions(self) -> list[dict[str, str]]:
        """Return what is to be known of each session."""
        return [runner.describe() for runner in self._runners]

    def kill(self, ident: str) -> bool:
        """End a session at once, its transfer with RST; False where there is none with that id."""
        for runner in list(self._runners):
            if runner.ident == ident:
                runner.kill()
                return True
        return False

    def enforce(self, settings: Settings, *, now: bool) -> int:
        """Hold all sessions to other settings (F9); how many transfers run that they do not carry.

        `now`: these are reset.
        """
        self._settings = settings
        return sum(runner.enforce(settings, now=now) for runner in list(self._runners))

    async def probe(self, message: dict[str, Any]) -> dict[str, Any]:
        """Walk the path as a session would; what was found, or why there was nothing to find."""
        if self._probes >= _PROBES:
            return {"failed": f"{_PROBES} probes run already."}
        self._probes += 1
        try:
            walks = await prober.probe(self._settings, self._resolver, Errand.read(message))
        except ProbeError as error:
            return {"failed": str(error)}
        finally:
            self._probes -= 1
        for walk in walks:
            text = f"probe of {walk['to']}: {walk['verdict']}"
            self._journal.write("probe", text, 6, SLUICE_HOP=self._settings.hop, SLUICE_SERVER=walk["to"])
        return {"done": walks}

    # --- stopping --------------------------------------------------------------------------------

    def close_listeners(self) -> None:
        """Take no more clients."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners = []

    def stop(self, now: bool) -> None:
        """End the sessions: idle ones, or all of them now (10.3)."""
        for runner in list(self._runners):
            runner.stop(now)

    def abandon(self) -> None:
        """Drop what is left, with RST."""
        for runner in list(self._runners):
            runner.abandon()

    async def ended(self) -> None:
        """Return when no session is left."""
        await self._empty.wait()
