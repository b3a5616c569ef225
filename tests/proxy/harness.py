# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxies as processes on loopback (settings, start, log, stop), and the path from a client to a server."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any

from .fake_client import Client, Setup
from .fake_server import Answer, FakeServer, ServerSession
from .wire import PATIENCE, Data, eventually

PACKAGE = File(__file__).parents[2] / "roles" / "proxy" / "files"
PYTHON = "/usr/bin/python3"
NOBODY = 65534
WHOLE = os.environ.get("SLUICE_TEST_ALL", "0") != "0"  # nothing is a sample
CONTROL = 2121
SERVER_CONTROL = 2100

Settings = dict[str, Any]


class Site:
    """Addresses of 127.0.0.0/8 that no other run of these tests uses; a copy of the package for all."""

    def __init__(self) -> None:
        self._lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.octet = self._take_octet()
        self._thirds = iter(range(1, 255))
        self.directory = File(tempfile.mkdtemp(prefix="sluice-proxy-tests-"))
        self.directory.chmod(0o755)

    @functools.cached_property
    def package(self) -> File:
        """The directory that holds the package, for PYTHONPATH."""
        package = self.directory / "package"
        shutil.copytree(PACKAGE / "sluice", package / "sluice", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([PYTHON, "-m", "compileall", "-q", str(package)], check=True)
        for entry in [package, *package.rglob("*")]:
            entry.chmod(0o755 if entry.is_dir() else 0o644)
        return package

    def net(self) -> Net:
        """The next network of its own."""
        return Net(f"127.{self.octet}.{next(self._thirds)}")

    def v6_port(self, offset: int) -> int:
        """A port of its own on ::1, where there is but one address; `offset` 0 to 69."""
        return 10000 + self.octet * 70 + offset

    def close(self) -> None:
        self._lock.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _take_octet(self) -> int:
        start = os.getpid() % 200
        for i in range(200):
            octet = 20 + (start + i) % 200
            with contextlib.suppress(OSError):
                self._lock.bind((f"127.{octet}.255.254", 10999))
                return octet
        raise RuntimeError("no free network in 127.20.0.0 to 127.219.0.0")


class Net:
    """The hosts of one path: each address is one host's side, as in C - F - N - S."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.f_client, self.f_server = f"{prefix}.1", f"{prefix}.2"
        self.n_client, self.n_server = f"{prefix}.3", f"{prefix}.5"
        self.server, self.other_server, self.forbidden_server = f"{prefix}.4", f"{prefix}.6", f"{prefix}.9"
        self.client, self.other_client, self.thief = f"{prefix}.10", f"{prefix}.11", f"{prefix}.77"
        self.stranger = "127.0.0.9"


TIMEOUTS = {"connect": 2, "greeting": 2, "data_connect": 2, "data_idle": 20, "reply": 20, "idle": 60}


def last_hop(net: Net) -> Settings:
    """Settings of N, the last hop, whose sessions all go to the server of `net`."""
    return {
        "hop": "N",
        "host": "n1",
        "client_side": {
            "leg": "F-N",
            "neighbour": "F",
            "mode": "both",
            "peers": [f"{net.prefix}.0/24"],
            "control_port": CONTROL,
            "addresses": [{"address": net.n_client, "public": net.n_client}],
            "listen": "24000-24019",
            "source": "25000-25019",
            "peer_ports": "1024-65535",
        },
        "server_side": {
            "leg": "N-S",
            "neighbour": "S",
            "mode": "both",
            "addresses": [{"address": net.n_server, "public": net.n_server}],
            "listen": "26000-26019",
            "source": "27000-27019",
            "peer_ports": "1024-65535",
        },
        "servers": {
            "networks": [f"{net.server}/32", f"{net.other_server}/32"],
            "control_ports": [SERVER_CONTROL],
            "fixed": f"{net.server}:{SERVER_CONTROL}",
        },
        "timeouts": dict(TIMEOUTS),
    }


def first_hop(net: Net) -> Settings:
    """Settings of F, whose next hop is N as last_hop() has it; the timeouts nest (10.2)."""
    return {
        "hop": "F",
        "host": "f1",
        "client_side": {
            "leg": "C-F",
            "neighbour": "C",
            "mode": "both",
            "peers": [f"{net.prefix}.0/24"],
            "control_port": CONTROL,
            "addresses": [{"address": net.f_client, "public": net.f_client}],
            "listen": "20000-20019",
            "source": "21000-21019",
            "peer_ports": "1024-65535",
        },
        "server_side": {
            "leg": "F-N",
            "neighbour": "N",
            "mode": "both",
            "addresses": [{"address": net.f_server, "public": net.f_server}],
            "listen": "22000-22019",
            "source": "23000-23019",
            "peer_ports": "24000-24019",
        },
        "next_hop": {"hosts": [{"name": "n1", "addresses": [net.n_client]}], "control_port": CONTROL},
        "timeouts": {key: TIMEOUTS[key] + 1 for key in TIMEOUTS},
    }


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """A copy with dotted keys changed ("client_side.mode"), or taken out where the value is None."""
    result = copy.deepcopy(settings)
    for key, value in changes.items():
        *path, last = key.split(".")
        table = result
        for name in path:
            table = table[name]
        if value is None:
            del table[last]
        else:
            table[last] = value
    return result


def toml(settings: Settings) -> str:
    """The settings as TOML text."""
    scalars = {k: v for k, v in settings.items() if not isinstance(v, dict)}
    lines = [f"{key} = {_value(value)}" for key, value in scalars.items()]
    for key, table in settings.items():
        if isinstance(table, dict):
            lines += ["", f"[{key}]", *(f"{k} = {_value(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def command(
    site: Site, *arguments: str, environment: Mapping[str, str] | None = None, capability: str = ""
) -> dict[str, Any]:
    """What subprocess needs to run the proxy as an ordinary user, with one capability or none."""
    as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    given: list[str] = []
    if capability:  # only root can give one, and who is nobody already cannot take it
        as_nobody = {}
        sets = [f"--{each}-caps=-all,+{capability}" for each in ("inh", "ambient")]
        given = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *sets]
        given += [f"--bounding-set=-all,+{capability}", "--no-new-privs", "--pdeathsig=KILL"]
    return {
        "args": [*given, PYTHON, "-sP", "-m", "sluice", *arguments],
        "env": {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site.package), **(environment or {})},
        "cwd": "/",
        **as_nobody,
    }


class NotReadyError(Exception):
    """The proxy ended, or did not say READY=1; args: its exit code (None: still running), its stderr."""


def _ended(pid: int) -> bool:
    """Whether the process is gone, or waits for its parent to notice."""
    try:
        return File(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Proxy:
    """One proxy process (with its workers), its settings and its log."""

    def __init__(
        self,
        site: Site,
        settings: Settings,
        environment: Mapping[str, str] | None = None,
        descriptors: int | None = None,
        capability: str = "",
    ) -> None:
        """`descriptors`: the limit that it lives under, if not everybody's. `capability`: its only one."""
        self.settings = settings
        self.log: list[dict[str, Any]] = []
        """What it logged so far, one record a line."""
        self.noise: list[str] = []
        """Lines on stderr that are no JSON object: there must not be any."""
        self.directory = File(tempfile.mkdtemp(dir=site.directory))
        self.directory.chmod(0o755)
        file = self.directory / "sluice.toml"
        file.write_text(toml(settings))
        notify_path = self.directory / "notify"
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(notify_path))
        notify_path.chmod(0o777)
        self.runtime = self.directory / "run"
        self.runtime.mkdir()
        self.runtime.chmod(0o777)
        notify.settimeout(0.05)
        full = command(
            site,
            "--config",
            str(file),
            environment={
                "NOTIFY_SOCKET": str(notify_path),
                "SLUICE_POLICY": __file__,  # any file that is there
                "RUNTIME_DIRECTORY": str(self.runtime),
                **(environment or {}),
            },
            capability=capability,
        )
        # Even when this run is killed no proxy outlives it.
        if not capability:
            full["args"] = ["setpriv", "--pdeathsig", "KILL", *full["args"]]
        if descriptors is not None:
            full["args"] = ["prlimit", f"--nofile={descriptors}", *full["args"]]
        self.process = subprocess.Popen(
            **full, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            with notify:
                self._await_ready(notify)
        except KeyboardInterrupt:
            self.stop()
            raise
        self.baseline = self.descriptors()

    @property
    def name(self) -> str:
        return str(self.settings["hop"])

    def configure(self, settings: Settings) -> None:
        """Write other settings to its file; nothing more."""
        self.settings = settings
        (self.directory / "sluice.toml").write_text(toml(settings))

    def ask(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Ask it as an operator on its host does: `sluice status` and the like."""
        return subprocess.run(
            [PYTHON, "-sP", "-m", "sluice.ctl", *words],
            env={"PYTHONPATH": str(PACKAGE), "RUNTIME_DIRECTORY": str(self.runtime)},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def sessions(self) -> int:
        """How many sessions it has, as it tells."""
        return sum(each.get("sessions", 1) for each in self.workers())

    def workers(self) -> list[dict[str, Any]]:
        """Its workers, as it tells."""
        found: list[dict[str, Any]] = json.loads(self.ask("--json", "status").stdout)["workers"]
        return found

    def alive(self) -> bool:
        return self.process.poll() is None

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        parents: dict[int, list[int]] = {}
        for entry in File("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    parents.setdefault(parent, []).append(int(entry.name))
        found = [self.process.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def descriptors(self) -> int:
        """How many descriptors are open in all its processes."""
        return sum(len(list(File(f"/proc/{pid}/fd").iterdir())) for pid in self.pids())

    def memory(self) -> int:
        """Resident bytes of all its processes."""
        pages = sum(int(File(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids())
        return pages * os.sysconf("SC_PAGESIZE")

    def records(self, event: str, since: int = 0, **fields: Any) -> list[dict[str, Any]]:
        """The log records of an event from index `since` on, with these fields (without their SLUICE_)."""
        wanted = {"SLUICE_EVENT": event, **{f"SLUICE_{key}": value for key, value in fields.items()}}
        return [r for r in self.log[since:] if all(r.get(k) == v for k, v in wanted.items())]

    def record(self, event: str, since: int = 0, **fields: Any) -> dict[str, Any]:
        """The one such record, waited for."""
        eventually(
            f"a record {event} {fields} in {self.log[since:]}",
            lambda: bool(self.records(event, since, **fields)),
        )
        found = self.records(event, since, **fields)
        assert len(found) == 1, found
        return found[0]

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """It does nothing meanwhile; what happens on its sockets it finds all at once."""
        pids = self.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to every process of it at once; none holds a socket any more when this returns."""
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        eventually("its processes have ended", lambda: all(_ended(pid) for pid in pids))

    def stop(self) -> None:
        """SIGTERM, SIGTERM again (10.3: now), and SIGKILL where that does not end it."""
        for patience in (0.3, 3.0):
            if self.alive():
                self.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience)
        stubborn = self.alive()
        if stubborn:
            self.kill()
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()
        assert not stubborn, f"{self.name} did not end after SIGTERM twice; its log ends {self.log[-3:]}"

    def _await_ready(self, notify: socket.socket) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in notify.recv(4096).split(b"\n"):
                    self._await_started()
                    return
            if not self.alive():
                self._reader.join(PATIENCE)
                break
        code = self.process.poll()
        log = [json.dumps(record) for record in self.log]
        self.stop()
        raise NotReadyError(code, "\n".join([*self.noise, *log]))

    def _await_started(self) -> None:
        """What it says of its start is read now, where it says it to us: a mark set later lies behind it."""
        until = time.monotonic() + 1
        while not self.records("started") and time.monotonic() < until:
            time.sleep(0.002)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            try:
                record = json.loads(line)
            except ValueError:
                self.noise.append(line)
                continue
            self.log.append(record)


class Session:
    """A client `c` and, at the far end of the path, the server `s` that serves it."""

    def __init__(self, c: Client, s: ServerSession) -> None:
        self.c = c
        self.s = s

    def begin(
        self, verb: str, setup: str = "PASV", *, receive_buffer: int | None = None
    ) -> tuple[Data, Data]:
        """Start a transfer: set-up, verb, 150; the client's and the server's end of its data connection."""
        agreed = self.c.setup(setup, receive_buffer=receive_buffer)
        return self.run(verb, agreed)

    def run(self, verb: str, agreed: Setup) -> tuple[Data, Data]:
        """Start a transfer on a set-up that stands."""
        self.c.line(verb)
        if agreed.listener is None:
            client_data = agreed.open()
            self.open_at_server(verb)
            server_data = self.s.data()
        else:
            self.open_at_server(verb)
            server_data = self.s.data()
            client_data = agreed.open()
        reply = self.c.reply()
        assert reply.code == 150, reply
        return client_data, server_data

    def open_at_server(self, verb: str) -> None:
        assert self.s.next() == verb.encode()
        self.s.reply(b"150 Opening data connection.")

    def in_step(self) -> None:
        """The next command gets its own reply: nothing was lost and nothing was added before."""
        self.c.line("SYST")
        assert self.s.next() == b"SYST"
        self.s.reply(b"215 UNIX in step")
        reply = self.c.reply()
        assert reply.raw == b"215 UNIX in step\r\n", reply


class Path:
    """Running proxies in a row, and the server at the end of it."""

    def __init__(
        self, net: Net, proxies: list[Proxy], entry: tuple[str, int], server: tuple[str, int]
    ) -> None:
        self.net = net
        self.proxies = proxies
        self.entry = entry
        self.server_address = server
        self._server: FakeServer | None = None
        self._clients: list[Client] = []

    @property
    def first(self) -> Proxy:
        """The proxy that the client talks to."""
        return self.proxies[0]

    @property
    def last(self) -> Proxy:
        """The proxy that talks to the server."""
        return self.proxies[-1]

    @property
    def server(self) -> FakeServer:
        """The server, which listens from the first time it is asked for to the end of the test."""
        if self._server is None:
            self._server = FakeServer(*self.server_address)
        return self._server

    def client(self, source: str | None = None) -> Client:
        """A client that has connected to the path's entry and read nothing yet."""
        if source is None and ":" not in self.entry[0]:
            source = self.net.client
        client = Client(*self.entry, source)
        self._clients.append(client)
        return client

    def open(
        self,
        auto: Mapping[str, Answer] | None = None,
        *,
        login: bool = True,
        greeting: bytes | None = b"220 Fake server ready.",
        source: str | None = None,
    ) -> Session:
        """A session; with `login` false the greeting is not read yet."""
        server = self.server
        client = self.client(source)
        session = Session(client, server.accept(auto, greeting))
        if login:
            client.login()
        return session

    def tidy(self) -> None:
        """End what a test left open; the proxies run on."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self._server is not None:
            self._server.close()
            self._server = None

    def check(self) -> None:
        """What holds after every test: each proxy lives, and its stderr holds records only, no traceback."""
        for proxy in self.proxies:
            assert proxy.alive(), f"{proxy.name} ended with {proxy.process.returncode}: {proxy.noise}"
            assert proxy.noise == [], proxy.name
            assert "Traceback" not in json.dumps(proxy.log), proxy.log

    def stop(self) -> None:
        self.tidy()
        for proxy in self.proxies:
            proxy.stop()


class Paths:
    """Paths by their settings: started once, shared by the tests that want the same, stopped at the end."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._shared: dict[str, Path] = {}
        self._used: list[Path] = []
        self._own: list[Path] = []

    def one(self, **changes: Any) -> Path:
        """One proxy, N; the settings changed as changed() has it, "__" for ".". See also own()."""
        return self._get(1, changes, shared=True)

    def two(self, **changes: Any) -> Path:
        """Two proxies, F and N; the changes begin with f__ or n__."""
        return self._get(2, changes, shared=True)

    def front(self, **changes: Any) -> Path:
        """One proxy, F; the path's server stands where N would be."""
        return self._get(0, changes, shared=True)

    def own(self, hops: int, **changes: Any) -> Path:
        """A path for one test alone, which may stop or kill it; a value may be a function of its Net."""
        return self._get(hops, changes, shared=False)

    def add(self, path: Path) -> Path:
        """A path that a test put together itself."""
        self._own.append(path)
        return path

    def after_test(self) -> None:
        """Tidy and check the shared paths that the test used, stop its own."""
        used, self._used = self._used, []
        own, self._own = self._own, []
        for path in own:
            path.stop()
        for path in used:
            path.tidy()
        for path in used:
            path.check()

    def close(self) -> None:
        """All at once: each takes a moment."""
        for path in self._shared.values():
            path.tidy()
        proxies = [proxy for path in self._shared.values() for proxy in path.proxies]
        for proxy in proxies:
            if proxy.alive():
                proxy.process.terminate()
        for proxy in proxies:
            proxy.stop()

    def _get(self, hops: int, changes: dict[str, Any], *, shared: bool) -> Path:
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        assert not (shared and any(map(callable, dotted.values()))), "a shared path is known by its values"
        key = f"{hops} {sorted(dotted.items())}"
        path = self._shared.get(key) if shared else None
        if path is None or not all(proxy.alive() for proxy in path.proxies):
            path = self._start(hops, dotted)
            if shared:
                self._shared[key] = path
        (self._used if shared else self._own).append(path)
        return path

    def _start(self, hops: int, dotted: dict[str, Any]) -> Path:
        net = self.site.net()
        dotted = {key: value(net) if callable(value) else value for key, value in dotted.items()}
        server = (net.server, SERVER_CONTROL)
        if hops == 0:
            settings = changed(first_hop(net), {"server_side.peer_ports": "1024-65535", **dotted})
            return Path(net, [Proxy(self.site, settings)], (net.f_client, CONTROL), (net.n_client, CONTROL))
        if hops == 1:
            return Path(
                net, [Proxy(self.site, changed(last_hop(net), dotted))], (net.n_client, CONTROL), server
            )
        of_f = {key.removeprefix("f."): value for key, value in dotted.items() if key.startswith("f.")}
        of_n = {key.removeprefix("n."): value for key, value in dotted.items() if key.startswith("n.")}
        assert len(of_f) + len(of_n) == len(dotted), dotted
        n = Proxy(self.site, changed(last_hop(net), of_n))
        try:
            f = Proxy(self.site, changed(first_hop(net), of_f))
        except NotReadyError:
            n.stop()
            raise
        return Path(net, [f, n], (net.f_client, CONTROL), server)
