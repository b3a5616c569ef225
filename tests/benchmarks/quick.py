# SPDX-License-Identifier: GPL-3.0-or-later
"""What the proxy costs, in a minute: `make bench-quick`.

Four networks of their own stand side by side: C-F-S and C-F-N-S with the proxy and the rules on F and N, and
the same with F and N merely forwarding. Rounds go through all four in turn; the table shows medians, and the
ratio to plain forwarding beside its target. Nothing is asserted: the figures are for people, and only ratios
can be compared from one machine or hour to another.

The proxy runs as role proxy installs it: Debian's Python, its own user with CAP_NET_BIND_SERVICE, settings of
the role's template, records to a journal's socket (where nobody does anything with them). The server is
vsftpd with its files in memory. All of it lives in namespaces that die with this process: mounts, processes,
networks."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path as File
from statistics import median
from typing import Final

import jinja2
from ansible_collections.sluice.ftp.plugins.filter.proxy_settings import proxy_settings

from tests.policy import rules
from tests.policy.network import Network
from tests.policy.paths import HopSpec, PathSpec, leg_address
from tests.policy.prober import UIDS

ROOT: Final = File(__file__).parents[2]
LOAD: Final = File(__file__).with_name("load.py")
PYTHON: Final = "/usr/bin/python3"
HOME: Final = File("/run/bench")  # in a mount namespace of our own
JOURNAL: Final = File("/run/systemd/journal/socket")
MEMORY: Final = 4 << 20  # KiB that must be free: two files of 1 GiB, and what handles them
GIB: Final = 1 << 30
BIG, HALF, TARGET, SMALL = "big", "half", "target", "small"
IDLE: Final = 300  # sessions
RUN: Final = 0.5  # s of a run of many sessions or files
START: Final = 5.0  # s for a process to listen
VSFTPD: Final = """\
listen=YES
background=NO
anonymous_enable=YES
anon_root={files}
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_umask=022
ftp_username=daemon
secure_chroot_dir={empty}
seccomp_sandbox=NO
max_per_ip=0
max_clients=0
xferlog_enable=NO
"""


@dataclass(frozen=True)
class Measure:
    """A row of the table, and how load.py is told to fill it. `figure` is read from its answer."""

    name: str
    arguments: tuple[str, ...]
    figure: str  # GB/s, /s
    amount: float = 0.0  # GiB
    one_hop: float | None = None  # targets, of PERFORMANCE
    two_hops: float | None = None
    cost: tuple[str, float] | None = None  # of the proxy's processor time: what of, and its target

    def per_second(self, answer: Mapping[str, float]) -> float:
        """The figure."""
        return self.count(answer) / answer["seconds"]

    def count(self, answer: Mapping[str, float]) -> float:
        """GiB, sessions or files."""
        return self.amount or answer.get("sessions") or answer["files"]


def _many(what: str, *more: str) -> tuple[str, ...]:
    return (what, "--file", SMALL, "--seconds", str(RUN), *more)


MEASURES: Final = (
    Measure(
        "fetch 1 GiB", ("fetch", "--file", BIG), "GiB/s", 1.0,
        one_hop=1.0, two_hops=0.80, cost=("processor s per GiB fetched", 0.08),
    ),
    Measure(
        "store 1 GiB", ("store", "--file", TARGET, "--source", str(HOME / "files" / BIG)), "GiB/s", 1.0,
        one_hop=1.05, two_hops=1.0, cost=("processor s per GiB stored", 0.10),
    ),
    Measure(
        "8 fetches at once", ("fetch", "--file", HALF, "--at-once", "8"), "GiB/s", 4.0,
        one_hop=0.72, two_hops=0.50,
    ),
    Measure("sessions, 1 at a time", _many("sessions"), "/s", one_hop=0.75),
    Measure(
        "sessions, 16 at once", _many("sessions", "--at-once", "16"), "/s",
        one_hop=0.88, two_hops=0.65, cost=("processor ms per session", 0.40),
    ),
    Measure("sessions, 64 at once", _many("sessions", "--at-once", "64"), "/s", one_hop=0.80),
    Measure("10 KiB files in a session", _many("files"), "/s", one_hop=0.62, two_hops=0.50),
)  # fmt: skip


class Sink:
    """The journal's socket, and how many records of each kind it got."""

    def __init__(self, path: File) -> None:
        path.parent.mkdir(parents=True)
        self.kinds: Counter[bytes] = Counter()
        self.warning = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while record := self._socket.recv(65536):
            kind = record.partition(b"SLUICE_EVENT=")[2].partition(b"\n")[0]
            self.kinds[kind] += 1
            if kind == b"warning":
                self.warning = record


def family(pid: int) -> Iterator[File]:
    """A process and all that came of it, in /proc."""
    process = File(f"/proc/{pid}")
    yield process
    for child in (process / "task" / str(pid) / "children").read_text().split():
        yield from family(int(child))


@dataclass
class Way:
    """A way from C to the server: its network, what C connects to, and the processes of its proxies."""

    name: str
    network: Network
    target: str
    proxies: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def load(self, *arguments: str) -> dict[str, float]:
        """Run load.py on C."""
        with self.network.namespaces["C"].inside():
            done = subprocess.run(
                [PYTHON, "-I", str(LOAD), self.target, *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            sys.exit(f"{self.name}: {done.stderr.strip()}")
        answer: dict[str, float] = json.loads(done.stdout)
        return answer

    def processor_seconds(self) -> float:
        """Of its proxies, since they began."""
        return sum(
            int(task.read_text().split()[0]) / 1e9
            for proxy in self.proxies
            for process in family(proxy.pid)
            for task in (process / "task").glob("*/schedstat")
        )

    def memory(self) -> int:
        """KiB (PSS) of its first proxy, all its processes together."""
        return sum(
            int(line.split()[1])
            for process in family(self.proxies[0].pid)
            for line in (process / "smaps_rollup").read_text().splitlines()
            if line.startswith("Pss:")
        )


class Bench:
    """The networks and all that runs in them."""

    def __init__(self, vsftpd: File, package: File, stack: ExitStack) -> None:
        self._vsftpd = vsftpd
        self._stack = stack
        self._package = HOME / "package"
        shutil.copytree(
            package / "sluice", self._package / "sluice", ignore=shutil.ignore_patterns("__pycache__")
        )
        subprocess.run([PYTHON, "-m", "compileall", "-q", str(self._package)], check=True)
        self._server()

    def _server(self) -> None:
        files, empty = HOME / "files", HOME / "empty"
        files.mkdir()
        empty.mkdir()
        piece = os.urandom(1 << 20)
        for name, size in ((BIG, GIB), (HALF, GIB // 2), (TARGET, GIB), (SMALL, 10240)):
            with (files / name).open("wb") as content:
                for _ in range(-(-size // len(piece))):
                    content.write(piece[:size])
        shutil.chown(files / TARGET, "daemon")
        (HOME / "vsftpd.conf").write_text(VSFTPD.format(files=files, empty=empty))

    def way(self, hops: int, proxied: bool) -> Way:
        """A way with or without proxies."""
        spec = PathSpec((HopSpec(families=((4,), (4,))),) * hops, ("passive",) * (hops + 1), families=(4,))
        network = self._stack.enter_context(Network(spec.nodes()))
        for namespace in network.namespaces.values():
            with namespace.inside():
                File("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")
        server = leg_address(hops, 4, 2)
        libraries = next(self._vsftpd.parents[1].glob("lib/*/libwrap.so.0")).parent
        self._start(
            network, "S", [str(self._vsftpd), str(HOME / "vsftpd.conf")], {"LD_LIBRARY_PATH": str(libraries)}
        )
        if not proxied:
            way = Way("-".join(("C", *spec.names, "S")) + " without proxies", network, server)
        else:
            way = Way("-".join(("C", *spec.names, "S")), network, leg_address(0, 4, 2))
            description = spec.description()
            description.topology["servers"]["fixed"] = server
            for host in spec.hosts:
                rules.load(network.namespaces[host], rules.text(description, host))
                way.proxies.append(self._proxy(network, description, host))
        self._wait(way)
        return way

    def _proxy(self, network: Network, description: rules.Description, host: str) -> subprocess.Popen[bytes]:
        settings = proxy_settings(description.topology, host, description.mode, description.ports)
        template = (ROOT / "roles/proxy/templates/sluice.toml.j2").read_text()
        environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
        environment.filters["to_json"] = json.dumps
        written = HOME / f"{id(network)}-{host}.toml"
        written.write_text(environment.from_string(template).render({"__sluice_settings": settings}))
        uid, may = str(UIDS["proxy"]), "-all,+net_bind_service"
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", f"--inh-caps={may}"]
        command += [f"--ambient-caps={may}", f"--bounding-set={may}", "--no-new-privs"]
        command += [PYTHON, "-sP", "-m", "sluice", "--config", str(written)]
        said = {"PYTHONPATH": str(self._package), "PYTHONDONTWRITEBYTECODE": "1"}
        return self._start(
            network, host, command, said | {"JOURNAL_STREAM": "1:1", "SLUICE_POLICY": __file__}
        )

    def _start(
        self, network: Network, place: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with network.namespaces[place].inside():
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, cwd="/")
        self._stack.callback(process.kill)
        return process

    def _wait(self, way: Way) -> None:
        until = time.monotonic() + START
        with way.network.namespaces["C"].inside():
            while True:
                try:
                    with socket.create_connection((way.target, 21), 1) as control:
                        if control.recv(4).startswith(b"220"):
                            return
                except OSError:
                    pass
                if time.monotonic() > until:
                    sys.exit(f"{way.name}: no 220 within {START:g} s.")
                time.sleep(0.05)


def per_idle_session(way: Way) -> float:
    """KiB of the first proxy for each session that does nothing."""
    way.load("sessions", "--file", SMALL, "--at-once", "16", "--seconds", "0.1")
    before = way.memory()
    with way.network.namespaces["C"].inside():
        holder = subprocess.Popen(
            [PYTHON, "-I", str(LOAD), way.target, "idle", "--at-once", str(IDLE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
    assert holder.stdout
    if not holder.stdout.readline():
        sys.exit(f"{way.name}: {IDLE} idle sessions could not be opened.")
    after = way.memory()
    holder.communicate()
    return (after - before) / IDLE


@dataclass
class Figures:
    """What the rounds gave: by measure and way."""

    rates: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    costs: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    worst: dict[str, list[float]] = field(default_factory=dict)

    def run(self, measure: Measure, way: Way) -> None:
        """Measure once."""
        before = way.processor_seconds()
        answer = way.load(*measure.arguments)
        key = measure.name, way.name
        self.rates.setdefault(key, []).append(measure.per_second(answer))
        cost = (way.processor_seconds() - before) / measure.count(answer)
        self.costs.setdefault(key, []).append(cost)
        if "p99" in answer:
            self.worst.setdefault(way.name, []).append(answer["p99"])


def rounds(ways: Sequence[Way], measures: Sequence[Measure], until: float) -> tuple[Figures, int]:
    """Rounds until the time is over; a round that would not end in time is not begun."""
    figures, done, longest = Figures(), 0, 0.0
    while not done or time.monotonic() + longest < until:
        began = time.monotonic()
        for measure in measures:
            for way in ways if done % 2 == 0 else ways[::-1]:
                figures.run(measure, way)
        for way in ways:
            way.network.forget_connections()
        done += 1
        longest = max(longest, time.monotonic() - began)
    return figures, done


def table(
    figures: Figures, measures: Sequence[Measure], direct: Way, proxied: Way, two: bool
) -> Iterator[str]:
    """The lines of a pair of ways."""
    yield f"{proxied.name:32} {'forwarded':>12} {'proxied':>12} {'ratio':>7} {'target':>8}"
    for measure in measures:
        target = measure.two_hops if two else measure.one_hop
        goal = f">= {target:.2f}" if target is not None else ""
        plain, through = (median(figures.rates[measure.name, way.name]) for way in (direct, proxied))
        digits = 2 if measure.amount else 0
        yield (
            f"{measure.name + ', ' + measure.figure:32} {plain:12.{digits}f} {through:12.{digits}f}"
            f" {through / plain:7.2f} {goal:>8}"
        )
    for name, way in (("forwarded", direct), ("proxied", proxied)):
        if way.name in figures.worst:
            goal = "< 1" if way is proxied and not two else ""
            p99 = median(figures.worst[way.name]) * 1e3
            yield f"{'p99 of such a file, ms, ' + name:58} {p99:7.2f} {goal:>8}"
    for measure in measures:
        if measure.cost:
            what, at_most = measure.cost
            spent = median(figures.costs[measure.name, proxied.name]) * (1e3 if " ms " in what else 1)
            goal = "" if two else f"<= {at_most:.2f}"
            yield f"{what + (', both hops' if two else ''):58} {spent:7.3f} {goal:>8}"


@contextmanager
def own_mounts() -> Iterator[None]:
    """/run is ours alone, in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bench", b"/run", b"tmpfs", 0, b"mode=755"):
        sys.exit(f"No memory can be mounted: {os.strerror(ctypes.get_errno())}.")
    HOME.mkdir()
    yield


def missing(vsftpd: File) -> str:
    """Say why this machine cannot run it; "" where it can."""
    if os.geteuid() != 0:
        return "it makes namespaces, which takes root"
    for tool in ("nft", "ip", "setpriv", "unshare"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    if not vsftpd.exists():
        return f"{vsftpd} is not there; `make setup` unpacks it"
    if "reno" not in File("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split():
        return "the kernel has no congestion control reno, and others hide what is measured"
    free = next(
        int(line.split()[1])
        for line in File("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    if free < MEMORY:
        return f"{free >> 10} MiB of memory are available, and {MEMORY >> 10} are needed"
    return ""


def main() -> None:
    """Print the table."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description="What the proxy costs beside plain forwarding.")
    parser.add_argument("--vsftpd", type=File, default=ROOT / ".cache/servers/root/usr/sbin/vsftpd")
    parser.add_argument("--package", type=File, default=ROOT / "roles/proxy/files", help="the proxy's code")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of it (60)")
    parser.add_argument("--only", default="", help="measures whose name holds this")
    parser.add_argument("--hops", type=int, choices=(1, 2), help="only one hop, or only two")
    said = parser.parse_args()
    why = missing(said.vsftpd)
    if why:
        sys.exit(f"This machine cannot run the benchmark: {why}.")
    if os.getpid() != 1:  # in a PID namespace all processes die with its first
        again = [sys.executable, "-m", "tests.benchmarks.quick", *sys.argv[1:]]
        os.execvp(
            "unshare", ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *again]
        )
    measures = [measure for measure in MEASURES if said.only in measure.name]
    with own_mounts(), ExitStack() as stack:
        sink = Sink(JOURNAL)
        bench = Bench(said.vsftpd, said.package, stack)
        lengths = (said.hops,) if said.hops else (1, 2)
        ways = [bench.way(hops, proxied) for hops in lengths for proxied in (False, True)]
        idle = per_idle_session(ways[1])
        figures, done = rounds(ways, measures, began + said.seconds)
    for at in range(0, len(ways), 2):
        print(*table(figures, measures, ways[at], ways[at + 1], len(ways[at].network.nodes) > 3), sep="\n")
        print()
    print(f"{'KiB (PSS) per idle session':58} {idle:7.1f} {'<= 6':>8}")
    print(f"\nMedians of {done} rounds, {os.cpu_count()} processors, {time.monotonic() - began:.0f} s.")
    if sink.warning:
        print(f"The proxy warned {sink.kinds[b'warning']} times, lastly: {sink.warning.decode()}")


if __name__ == "__main__":
    main()
