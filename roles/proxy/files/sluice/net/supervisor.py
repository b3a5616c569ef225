# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens the control listeners, keeps a worker for each processor, and changes them over on reload.

A reload takes the settings and the code that are on the disk. The new code first checks the settings in a
process of its own; only then this one becomes the new code (exec, with its process number, its listeners and
its old workers), starts new workers, and lets the old ones finish what they have once the new ones serve.
Nothing is refused and nothing is cut meanwhile; if anything fails, the old workers go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluice import __version__, config
from sluice.config import ClientSide, Settings
from sluice.journal import Journal
from sluice.net.control import on_this_host
from sluice.net.ledger import Ledger, make_ledger
from sluice.net.link import Link, Message
from sluice.net.listeners import ListenError, adopt, listen
from sluice.net.places import MOST_WORKERS, Counts, make_counts
from sluice.net.prober import LONGEST
from sluice.net.scrapes import Page, Scrapes
from sluice.net.worker_process import FAREWELL, internal
from sluice.tally import DEATHS, LAYOUT

HANDOVER = "SLUICE_HANDOVER"  # the environment variable in which the old code hands on to the new
_DRAIN = 20.0  # s for running transfers after SIGTERM (10.3)
_START = 15.0  # s for a worker to begin to serve
_PAUSES = (0.1, 1.0, 5.0)  # s before a worker that died soon is started anew
_SOON = 10.0  # s
_LOOK = 0.5  # s between two looks whether transfers have finished
_BEFORE = 1.0  # s before old workers end at which their last transfers are counted and reset
_NO_POLICY = "No policy protects this proxy: sluice-policy.service is not installed on this host."


class StartError(Exception):
    """The proxy cannot start; the message is a sentence."""


def notify(state: str) -> None:
    """Tell systemd (sd_notify); nothing without NOTIFY_SOCKET."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), path)


@dataclass(eq=False)
class Child:
    """A worker process."""

    pid: int
    link: Link
    slot: int
    generation: int
    began: float
    retiring: bool = False
    ready: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    asked: dict[int, asyncio.Future[Any]] = field(default_factory=dict)


class Supervisor:
    """The main process."""

    def __init__(self, path: str, handover: dict[str, Any] | None) -> None:
        """`path` is the file of the settings. `handover` is what the former code left."""
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._journal = Journal(bool(os.environ.get("JOURNAL_STREAM")))
        self._children: list[Child] = []
        self._pids: set[int] = set()  # of workers that are not reaped yet
        self._empty = asyncio.Event()  # no child is left
        self._stops: asyncio.Queue[None] = asyncio.Queue()
        self._generation = 0
        self._question = 0
        self._deaths = 0
        self._retired = float("inf")  # when the workers of before the last reload are at their end
        self._broken = 0  # transfers of theirs that were reset, by them or at their end
        self._stopping = False
        self._draining = False
        self._busy = asyncio.Lock()  # one reload after the other
        self._data: dict[str, Any] = {}
        self._settings: Settings | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._askers: list[Link] = []
        left = handover or {}
        self._listeners = adopt(left.get("listeners", []))
        self._counts = left.get("counts") or make_counts()
        # Code that counts otherwise begins at 0; old workers go on in what they have.
        tally: int | None = left.get("tally")
        if tally is not None and left.get("layout") != LAYOUT:
            os.close(tally)
            tally = None
        self._ledger = Ledger(make_ledger() if tally is None else tally)
        self._scrapes = Scrapes()
        self._door = socket.socket(fileno=left["door"]) if left.get("door") else None
        self._asker: int | None = left.get("asker")
        self._former: dict[str, Any] = left.get("data", {})  # the settings of its workers
        self._pids.update(left.get("pids", []))
        for child in left.get("children", []):
            self._adopt(child)
        self._bury()  # whoever ended during exec

    # --- the whole life ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; a second one ends it at once. Raises StartError."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stops.put_nowait, None)
        self._heed_hangups()
        self._loop.add_signal_handler(signal.SIGCHLD, self._bury)
        self._loop.set_exception_handler(lambda _loop, context: self._log("warning", internal(context), 3))
        await self._begin()
        self._open_door()
        notify("READY=1")
        await self._stops.get()
        await self._end()

    async def _begin(self) -> None:
        """Start workers on the settings of the file; after a handover the old ones go on if that fails."""
        old = list(self._children)
        try:
            self._read()
            await self._change_over(old)
        except (StartError, config.ConfigError) as error:
            if not old:
                raise
            self._go_on_as_before(old)
            self._log("warning", f"reload failed, the former settings and code go on: {error}", 3)
            with contextlib.suppress(StartError):
                self._answer_scrapes()
            self._tell_asker({"failed": str(error)})
            return
        settings = self._settings
        assert settings is not None  # noqa: S101 - _read has set it
        for local in (*settings.client_side.addresses, *settings.server_side.addresses):
            if not on_this_host(local.address):
                self._log("warning", f"{local.address} is not on this host yet.", 4)
        if not old and not _policy_is_installed():
            self._log("warning", _NO_POLICY, 4)
        what = "serves" if not old else "was reloaded and serves"
        _mark_loaded()
        self._log("started", f"sluice {__version__} {what} hop {settings.hop} on {settings.host}", 6)
        self._tell_asker({"done": f"sluice {__version__} serves with {len(self._serving())} workers."})

    def _go_on_as_before(self, old: list[Child]) -> None:
        """The settings and the generation are those of the old workers again; one that dies is replaced."""
        self._generation = max(child.generation for child in old)
        if self._former:
            self._data = self._former
            with contextlib.suppress(config.ConfigError):  # of another version
                self._settings = config.parse(self._data)

    def _read(self) -> None:
        try:
            self._data = tomllib.loads(Path(self._path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise StartError(f"{self._path}: {error}.") from None
        self._settings = config.parse(self._data)

    async def _change_over(self, old: list[Child]) -> None:
        """Start the new generation; when all of it serves, let `old` retire."""
        settings = self._settings
        assert settings is not None  # noqa: S101 - _read has set it
        self._page(settings)  # what it lacks, it lacks before anything changes
        try:
            listeners = listen(settings, self._listeners)
        except ListenError as error:
            raise StartError(str(error)) from None
        former, self._listeners = self._listeners, listeners
        self._generation = 1 + max((child.generation for child in old), default=0)
        new: list[Child] = []
        try:
            for _worker in range(settings.workers or len(os.sched_getaffinity(0))):
                new.append(self._spawn())
            await asyncio.wait_for(asyncio.gather(*(child.ready for child in new)), _START)
        except (StartError, TimeoutError) as error:
            for child in new:
                self._dismiss(child)
            for place, sock in listeners.items():
                if place not in former:
                    sock.close()
            self._listeners = former
            reason = str(error) or f"a worker did not begin to serve within {_START:g} s."
            raise StartError(reason) from None
        self._retired = self._loop.time() + settings.timeouts.drain
        self._broken = 0
        for child in old:
            child.retiring = True
            child.link.send({"do": "retire", "seconds": settings.timeouts.drain})
        self._answer_scrapes()
        for place, sock in former.items():
            if place not in listeners:
                sock.close()

    async def _end(self) -> None:
        self._stopping = True
        notify("STOPPING=1")
        self._scrapes.stop()
        for sock in self._listeners.values():
            sock.close()
        if not self._children:
            self._empty.set()
        everybody = list(self._children)
        for child in everybody:
            child.link.send({"do": "refuse"})
            child.link.send({"do": "stop", "now": False})
            child.link.send({"do": "retire", "seconds": _DRAIN})
        if not await self._all_gone(_DRAIN):
            for child in everybody:
                child.link.send({"do": "stop", "now": True})
            await self._all_gone(FAREWELL + 1)
        for child in list(self._children):
            self._dismiss(child)
        if self._door:
            self._close_door()

    def _close_door(self) -> None:
        assert self._door is not None  # noqa: S101 - the caller looked
        self._door.close()
        Path(door_path()).unlink(missing_ok=True)

    async def _all_gone(self, seconds: float) -> bool:
        """Wait until no worker is left, for the next signal, or for the time; whether none is left."""
        waits = [asyncio.ensure_future(self._empty.wait()), asyncio.ensure_future(self._stops.get())]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        return not self._children

    # --- workers ----------------------------------------------------------------------------------

    def _serving(self) -> list[Child]:
        return [child for child in self._children if not child.retiring]

    def _spawn(self) -> Child:
        """Start a worker of this generation. Raises StartError."""
        slots = {child.slot for child in self._children}
        slot = next(number for number in range(len(slots) + 1) if number not in slots)
        if slot >= MOST_WORKERS:
            raise StartError(
                f"{len(slots)} workers run, most for sessions of before the last reloads, and no more can."
            )
        listeners = [sock.fileno() for sock in self._listeners.values() if sock is not self._scraped()]
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise StartError(f"no socket for a worker: {error.strerror}.") from None
        passed = [theirs.fileno(), self._counts, self._ledger.descriptor, *listeners]
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
                [sys.executable, "-sP", "-m", "sluice", "--worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=passed,
                env=environment,
            )
        except OSError as error:
            ours.close()
            raise StartError(f"no process for a worker: {error.strerror}.") from None
        finally:
            theirs.close()
        process.returncode = 0  # we bury it ourselves
        child = self._add(process.pid, ours, slot, self._generation)
        child.link.send(
            {
                "do": "serve",
                "settings": self._data,
                "slot": slot,
                "counts": self._counts,
                "tally": self._ledger.descriptor,
                "listeners": listeners,
            }
        )
        return child

    def _add(self, pid: int, sock: socket.socket, slot: int, generation: int) -> Child:
        child: Child
        link = Link(sock, lambda message: self._heard(child, message), lambda: self._lost(child))
        child = Child(pid, link, slot, generation, self._loop.time())
        self._ledger.tally(slot)
        self._pids.add(pid)
        self._children.append(child)
        self._empty.clear()
        return child

    def _adopt(self, left: dict[str, Any]) -> None:
        child = self._add(left["pid"], socket.socket(fileno=left["link"]), left["slot"], left["generation"])
        child.retiring = left["retiring"]
        child.ready.set_result(None)

    def _heard(self, child: Child, message: Message) -> None:
        match message:
            case {"ready": True} if not child.ready.done():
                child.ready.set_result(None)
            case {"failed": reason} if not child.ready.done():
                child.ready.set_exception(StartError(str(reason)))
            case {"broke": int(transfers)}:
                self._broken += transfers
            case {"number": number, "answer": answer} if number in child.asked:
                asked = child.asked.pop(number)
                if not asked.done():
                    asked.set_result(answer)

    def _lost(self, child: Child) -> None:
        """A worker's end of the link is closed: it has ended, or is about to."""
        if child not in self._children:
            return
        self._gone(child)
        for asked in child.asked.values():
            if not asked.done():
                asked.set_result(None)
        if not child.ready.done():
            child.ready.set_exception(StartError("a worker ended before it served."))
            child.ready.exception()  # whoever waits gets it; nobody need wait
        elif not child.retiring and not self._stopping:
            self._ledger.own.numbers[DEATHS] += 1
            self._log("warning", f"worker {child.pid} died; its sessions are lost, another one is started", 3)
            self._later(self._replace, child)

    async def _replace(self, dead: Child) -> None:
        """Heal: another worker in the place of one that died, not too fast where they die soon."""
        soon = self._loop.time() - dead.began < _SOON
        self._deaths = self._deaths + 1 if soon else 0
        await asyncio.sleep(_PAUSES[min(self._deaths, len(_PAUSES) - 1)] if soon else 0)
        while not (self._stopping or self._draining or dead.generation != self._generation):
            child: Child | None = None
            try:
                child = self._spawn()
                await asyncio.wait_for(child.ready, _START)
            except (StartError, TimeoutError) as error:
                if child:
                    self._dismiss(child)
                self._log("warning", f"a worker could not be started: {error}", 3)
            else:
                return
            await asyncio.sleep(_PAUSES[-1])

    def _dismiss(self, child: Child) -> None:
        """Be done with a worker at once."""
        child.retiring = True
        child.link.close()
        if child in self._children:
            self._gone(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)

    def _gone(self, child: Child) -> None:
        """It counts no more, and what it held is free."""
        self._children.remove(child)
        Counts(self._counts).clear(child.slot)
        self._ledger.bury(child.slot)
        if not self._children:
            self._empty.set()

    def _bury(self) -> None:
        """Reap the workers that have ended, and nobody else's process; their links tell what it means."""
        for pid in list(self._pids):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            self._pids.discard(pid)

    async def _ask(self, child: Child, question: str, patience: float = FAREWELL, **more: Any) -> Any:
        """Return a worker's answer, None where it gives none within `patience` seconds."""
        self._question += 1
        number = self._question
        child.asked[number] = self._loop.create_future()
        child.link.send({"do": question, "number": number, **more})
        try:
            return await asyncio.wait_for(child.asked[number], patience)
        except TimeoutError:
            child.asked.pop(number, None)
            return None

    # --- reload -----------------------------------------------------------------------------------

    def _heed_hangups(self) -> None:
        """Reload on SIGHUP."""
        self._loop.add_signal_handler(signal.SIGHUP, self._later, self._reload, None)

    async def _reload(self, asker: Link | None) -> None:
        """Become the code on the disk, with the settings on the disk; or say why not, and change nothing."""
        async with self._busy:
            problem = "" if self._stopping else await self._check()
            if self._stopping:  # perhaps only since then
                problem = "the proxy is stopping."
            problem = problem or self._become_new(asker)
            self._log("warning", f"reload refused, nothing was changed: {problem}", 3)
            if asker:
                asker.send({"failed": problem})

    async def _check(self) -> str:
        """Let the code on the disk check the settings on the disk; what is wrong, or ""."""
        command = [sys.executable, "-sP", "-m", "sluice", "--check-config", "--config", self._path]
        try:
            process = await asyncio.to_thread(
                subprocess.run,
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_START,
            )
        except subprocess.TimeoutExpired:
            return f"the new code did not check the settings within {_START:g} s."
        except (OSError, RuntimeError) as error:  # no process, no thread
            return f"the new code could not check the settings: {error}."
        if process.returncode == 0:
            return ""
        return " ".join(process.stderr.split()) or f"the new code ended with {process.returncode}."

    def _become_new(self, asker: Link | None) -> str:
        """Exec the code on the disk in this process; return only where that fails, with the reason."""
        children = [
            {
                "pid": child.pid,
                "slot": child.slot,
                "generation": child.generation,
                "retiring": child.retiring,
                "link": child.link.fileno(),
            }
            for child in self._children
            if child.ready.done()
        ]
        listeners = [sock.fileno() for sock in self._listeners.values()]
        door = self._door.fileno() if self._door else None
        answer_to = asker.fileno() if asker and asker.fileno() >= 0 else None  # who asked may have left
        handover = {
            "listeners": listeners,
            "counts": self._counts,
            "tally": self._ledger.descriptor,
            "layout": LAYOUT,
            "door": door,
            "asker": answer_to,
            "children": children,
            "pids": list(self._pids),
            "data": self._data,
        }
        kept = (*listeners, self._counts, self._ledger.descriptor, *(child["link"] for child in children))
        kept = (*kept, *(each for each in (door, answer_to) if each is not None))
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        command = [sys.executable, "-sP", "-m", "sluice", "--config", self._path]
        # Until the new code heeds it, it would be the end of the process; and that reads the settings then.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            os.execve(command[0], command, {**os.environ, HANDOVER: json.dumps(handover)})  # noqa: S606
        except OSError as error:
            self._heed_hangups()
            for descriptor in kept:
                os.set_inheritable(descriptor, False)
            return f"the new code could not be started: {error}."

    def _tell_asker(self, message: Message) -> None:
        """Answer whoever asked for the reload that this process has just made."""
        if self._asker is not None:
            with contextlib.suppress(OSError), socket.socket(fileno=self._asker) as sock:
                sock.setblocking(True)
                sock.settimeout(1)
                sock.sendall(json.dumps(message).encode() + b"\n")
            self._asker = None

    # --- the operator's door ----------------------------------------------------------------------

    def _open_door(self) -> None:
        """Listen where `sluice` on this host asks; the proxy's group may."""
        path = door_path()
        if not path:
            return
        if self._door is None:
            Path(path).unlink(missing_ok=True)
            self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._door.bind(path)
            Path(path).chmod(0o660)  # bind() leaves no moment in which others could: the directory is ours
            self._door.listen(8)
        self._door.setblocking(False)
        self._loop.add_reader(self._door.fileno(), self._let_in)

    def _let_in(self) -> None:
        assert self._door is not None  # noqa: S101 - its reader is set
        try:
            sock, _name = self._door.accept()
        except OSError:
            return
        link: Link

        def gone() -> None:
            self._askers.remove(link)

        link = Link(sock, lambda message: self._later(self._serve_asker, link, message), gone)
        self._askers.append(link)

    async def _serve_asker(self, link: Link, message: Message) -> None:
        match message:
            case {"ask": "status"}:
                link.send({"done": await self._status()})
            case {"ask": "sessions"}:
                everybody = [await self._ask(child, "sessions") for child in list(self._children)]
                link.send({"done": [session for several in everybody for session in several or []]})
            case {"ask": "kill", "session": str(session)}:
                killed = [await self._ask(child, "kill", session=session) for child in list(self._children)]
                link.send({"done": True} if any(killed) else {"failed": f"there is no session {session}."})
            case {"ask": "probe"}:
                link.send(await self._probe(message))
            case {"ask": "drain"}:
                self._drain()
                link.send({"done": True})
            case {"ask": "enforce", "wait": bool(wait)}:
                link.send({"done": await self._enforce(wait)})
            case {"ask": "reload"}:
                await self._reload(link)
            case _:
                link.send({"failed": "this question is not known."})

    async def _probe(self, message: Message) -> Message:
        """Have a worker walk the path: its sockets are those of the sessions."""
        child = next((child for child in self._serving() if child.ready.done()), None)
        if child is None:
            return {"failed": "no worker serves."}
        said = {key: message[key] for key in ("server", "user", "password") if key in message}
        answer: Message | None = await self._ask(child, "probe", LONGEST + FAREWELL, **said)
        return answer or {"failed": "the worker that walked the path ended before it was done."}

    def _drain(self) -> None:
        """Take no more clients until the next reload or start; sessions go on."""
        self._draining = True
        for child in self._children:
            child.link.send({"do": "refuse"})
        scraped = self._scraped()
        for sock in self._listeners.values():
            if sock is not scraped:
                sock.close()
        self._listeners = {place: sock for place, sock in self._listeners.items() if sock is scraped}
        self._log("warning", "drained: no more clients are taken until the next reload or start", 4)

    async def _enforce(self, wait: bool) -> dict[str, Any]:
        """Hold the sessions of before the reload to the settings of now (F9).

        Transfers that these do not carry may finish until the drain's time is over; then they are reset.
        Not `wait`: only say how many there are. What was reset already, when that time was over, counts.
        """
        left = await self._hold(now=False)
        began = left + self._broken
        drain = self._settings.timeouts.drain if self._settings else 0.0
        until = min(self._loop.time() + drain, self._retired - _BEFORE)  # the counting comes before the end
        while wait and left and self._loop.time() < until and not self._stopping:
            await asyncio.sleep(min(_LOOK, max(0.0, until - self._loop.time())))
            left = await self._hold(now=False)
        if wait:
            await self._hold(now=True)
        reset = self._broken
        if wait and began:
            finished = max(0, began - reset)
            said = f"{began} transfers on what the settings took away: {finished} finished, {reset} reset"
            self._log("enforced", said, 5)
        return {"transfers": began, "left": left, "reset": reset, "seconds": drain}

    async def _hold(self, *, now: bool) -> int:
        """How many transfers of old workers the settings do not carry; `now`: reset them."""
        old = [child for child in self._children if child.retiring]
        return sum(await asyncio.gather(*(self._hold_child(child, now=now) for child in old)))

    async def _hold_child(self, child: Child, *, now: bool) -> int:
        answer = await self._ask(child, "enforce", settings=self._data, now=now)
        if isinstance(answer, int) or child not in self._children:
            return answer or 0
        # Its code does not know how, or it does not answer: all that it has has to go.
        count = (await self._ask(child, "count") or {}).get("transfers", 0)
        if now:
            child.link.send({"do": "retire", "seconds": 0})
            self._broken += int(count)
        return int(count)

    async def _status(self) -> dict[str, Any]:
        settings = self._settings
        workers = []
        for child in list(self._children):
            counts = await self._ask(child, "count") or {}
            state = "retiring" if child.retiring else "serving"
            workers.append({"pid": child.pid, "generation": child.generation, "state": state, **counts})
        return {
            "version": __version__,
            "hop": settings.hop if settings else "",
            "host": settings.host if settings else "",
            "pid": os.getpid(),
            "listening": [
                f"{address} port {port}"
                for (address, port), sock in self._listeners.items()
                if sock is not self._scraped()
            ],
            "intercepts": _intercepted(settings.client_side) if settings else "",
            "workers": workers,
        }

    # --- metrics ----------------------------------------------------------------------------------

    def _page(self, settings: Settings) -> Page | None:
        """What a scrape gets; None where nobody may scrape. Raises StartError."""
        if not settings.metrics:
            return None
        try:
            from sluice import metrics  # noqa: PLC0415 - only where it is used
        except ImportError:
            raise StartError("metrics: python3-prometheus-client is not installed.") from None

        counts = Counts(self._counts)

        def figures() -> metrics.Figures:
            serving = len(self._serving())
            retiring = len(self._children) - serving
            return metrics.Figures(self._ledger.sums(), counts.of(1), counts.of(0), serving, retiring)

        return metrics.Page(settings, figures)

    def _answer_scrapes(self) -> None:
        """Answer whom the settings allow it, where they say so; else nobody. Raises StartError."""
        self._scrapes.stop()
        scraped, metrics = self._scraped(), self._settings.metrics if self._settings else None
        page = self._page(self._settings) if self._settings else None
        if scraped and metrics and page:
            self._scrapes.serve(scraped, metrics.peers, page)

    def _scraped(self) -> socket.socket | None:
        """The listener for scrapes, where there is one."""
        metrics = self._settings.metrics if self._settings else None
        return self._listeners.get((metrics.address, metrics.port)) if metrics else None

    # --- small things -----------------------------------------------------------------------------

    def _later(self, what: Any, *arguments: Any) -> None:
        task = self._loop.create_task(what(*arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _log(self, event: str, message: str, priority: int) -> None:
        fields = {"SLUICE_HOP": self._settings.hop} if self._settings else {}
        self._journal.write(event, message, priority, **fields)


def _intercepted(side: ClientSide) -> str:
    """Which connections come here whose clients address another host, for a person; "" where none do."""
    if not side.intercept:
        return ""
    networks, ports = ", ".join(map(str, side.destinations)), ", ".join(map(str, side.destination_ports))
    return f"connections to {networks} port {ports}, by {side.intercept.value}"


def _mark_loaded() -> None:
    """Leave a mark with the time, by which others see whether files are newer than what runs."""
    directory = os.environ.get("RUNTIME_DIRECTORY", "")
    if directory:
        mark = Path(directory) / "loaded"
        mark.unlink(missing_ok=True)
        mark.touch(0o644)


def door_path() -> str:
    """Where the operator's socket is; "" outside systemd, which makes the directory."""
    directory = os.environ.get("RUNTIME_DIRECTORY", "")
    return f"{directory}/control" if directory else ""


async def run(path: str) -> None:
    """Run the proxy until it is told to end. Raises StartError, ConfigError."""
    left = os.environ.pop(HANDOVER, "")
    await Supervisor(path, json.loads(left) if left else None).run()


def _policy_is_installed() -> bool:
    """Whether the unit that the role policy installs is on the host; the proxy's own unit says where."""
    return Path(os.environ.get("SLUICE_POLICY", "")).is_file()
