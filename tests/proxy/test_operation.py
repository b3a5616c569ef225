# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers, reload and what an operator asks (PROTOCOL 10.3, 10.4, 6.4, 6.5)."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from .harness import CONTROL, NOBODY, SERVER_CONTROL, Path, Paths, Proxy, Session, changed, last_hop
from .wire import dial, eventually, listen

PART = bytes(range(256)) * 400


@pytest.fixture
def busy(paths: Paths) -> Path:
    """A proxy with two workers, for one test alone."""
    return paths.own(1, workers=2)


def worker_of(path: Path, x: Session) -> int:
    """The process that serves the session: its client's connection is open there."""
    port = x.c.sock.getsockname()[1]
    sessions = path.last.ask("--json", "sessions").stdout
    assert f":{port}" in sessions
    inodes = {
        line.split()[9]
        for line in File("/proc/net/tcp").read_text().splitlines()[1:]
        if int(line.split()[2].rpartition(":")[2], 16) == port
    }
    for pid in path.last.pids()[1:]:
        for entry in File(f"/proc/{pid}/fd").iterdir():
            if any(f"socket:[{inode}]" == str(entry.readlink()) for inode in inodes):
                return pid
    raise AssertionError("no worker holds the session")


def finish(x: Session, verb: str, ends: tuple[object, object]) -> None:
    """The rest of a transfer, and its 226."""
    c_data, s_data = ends
    sender, receiver = (c_data, s_data) if verb == "STOR f" else (s_data, c_data)
    sender.send(PART)  # type: ignore[attr-defined]
    sender.fin()  # type: ignore[attr-defined]
    assert receiver.read_all() == (PART, "fin")  # type: ignore[attr-defined]
    x.s.reply(b"226 Done.")
    s_data.close()  # type: ignore[attr-defined]
    assert x.c.reply().code == 226


def test_a_workers_death_costs_its_own_sessions_and_is_healed(busy: Path) -> None:
    """6.4: its uploads end with RST at the server; the others never notice; another one takes its place."""
    sessions = [busy.open() for _ in range(12)]
    victim = worker_of(busy, sessions[0])
    while all(worker_of(busy, x) == victim for x in sessions):  # the kernel may wake the same one for a while
        assert len(sessions) < 60, "the other worker does not accept"
        sessions += [busy.open() for _ in range(12)]
    sessions.sort(key=lambda x: worker_of(busy, x) == victim)
    sessions = [*sessions[:6], *sessions[-6:]]
    running = [x.begin("STOR f") for x in sessions]
    for c_data, _ in running:
        c_data.send(PART)
    lost = [worker_of(busy, x) == victim for x in sessions]
    os.kill(victim, signal.SIGKILL)
    for x, ends, gone in zip(sessions, running, lost, strict=True):
        if gone:
            assert ends[1].end() == "reset"
            assert ends[0].end() == "reset"
        else:
            assert ends[1].receive(len(PART)) == PART
            finish(x, "STOR f", ends)
    assert any(lost)
    assert not all(lost)
    eventually("two workers again", lambda: len(busy.last.workers()) == 2)
    assert victim not in [each["pid"] for each in busy.last.workers()]
    busy.open().in_step()
    assert busy.last.records("warning")[-1]["MESSAGE"].startswith(f"worker {victim} died")


@contextlib.contextmanager
def without_processes(proxy: Proxy) -> Iterator[None]:
    """Its main process can start nothing: neither a process nor a thread."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NPROC)
    limit(proxy, 0)
    try:
        yield
    finally:
        limit(proxy, soft)


def limit(proxy: Proxy, processes: int) -> None:
    """The soft limit of its user's processes, which that user sets."""
    command = ["prlimit", f"--pid={proxy.process.pid}", f"--nproc={processes}:"]
    subprocess.run(command, check=True, user=NOBODY, group=NOBODY, extra_groups=[])


@pytest.mark.skipif(os.geteuid() != 0, reason="root's processes have no limit")
def test_a_workers_death_is_healed_when_processes_can_be_started_again(busy: Path) -> None:
    with without_processes(busy.last):
        os.kill(busy.last.workers()[0]["pid"], signal.SIGKILL)
        said = "a worker could not be started: no process for a worker"
        eventually("a warning", lambda: any(said in each["MESSAGE"] for each in busy.last.records("warning")))
        busy.open().in_step()
    eventually("two workers again", lambda: len(busy.last.workers()) == 2, patience=20)


@pytest.mark.skipif(os.geteuid() != 0, reason="root's processes have no limit")
def test_10_4_a_reload_without_a_process_changes_nothing(busy: Path) -> None:
    x = busy.open()
    ends = x.begin("STOR f")
    with without_processes(busy.last):
        done = busy.last.ask("reload")
        assert done.returncode != 0
        assert "the new code could not check the settings" in done.stderr
    finish(x, "STOR f", ends)
    done = busy.last.ask("reload")
    assert done.returncode == 0, done.stderr


def test_places_of_a_dead_worker_are_free_again(paths: Paths) -> None:
    """13.7: the limit counts over all workers, and forgets the dead."""
    path = paths.own(1, workers=2, limits={"transfers": 3})
    sessions = [path.open() for _ in range(3)]
    for x in sessions:
        x.begin("STOR f")
    late = path.open()
    assert late.c.cmd("PASV").text == "425 N: the limit of 3 transfers at once is reached."
    victims = {worker_of(path, x) for x in sessions} - {worker_of(path, late)}
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    if victims:
        eventually("a place", lambda: late.c.cmd("PASV").code == 227)


@pytest.mark.parametrize("verb", ["STOR f", "RETR f"])
def test_10_4_reload_cuts_nothing(busy: Path, verb: str) -> None:
    """Sessions of before go on with their settings; new ones have the new ones."""
    x = busy.open()
    ends = x.begin(verb)
    before = {each["pid"] for each in busy.last.workers()}
    busy.last.configure(changed(busy.last.settings, {"client_side.mode": "active"}))
    main = busy.last.process.pid
    done = busy.last.ask("reload")
    assert done.returncode == 0, done.stderr
    assert busy.last.process.pid == main
    assert busy.last.alive()
    finish(x, verb, ends)
    assert x.c.cmd("PASV").code == 227, "an old session has its old settings"
    new = busy.open()
    assert new.c.cmd("PASV").code == 502
    workers = busy.last.workers()
    assert {each["state"] for each in workers if each["pid"] in before} <= {"retiring"}
    assert len([each for each in workers if each["state"] == "serving"]) == 2
    x.c.close()
    new.in_step()
    eventually("the old workers end", lambda: not before & {e["pid"] for e in busy.last.workers()})


def test_10_4_sighup_reloads(busy: Path) -> None:
    busy.last.configure(changed(busy.last.settings, {"client_side.mode": "active"}))
    busy.last.process.send_signal(signal.SIGHUP)
    eventually("the new settings", lambda: busy.open().c.cmd("PASV").code == 502)


def test_10_4_no_client_is_refused_during_reloads(busy: Path) -> None:
    refused: list[str] = []
    over, served = threading.Event(), threading.Event()

    def connect_all_the_time() -> None:
        while not over.is_set():
            try:
                with dial(*busy.entry, busy.net.client) as sock:
                    said = sock.recv(1000)
                    if not said.startswith(b"220"):
                        refused.append(repr(said))
            except OSError as error:
                refused.append(str(error))

    _ = busy.server
    greeting = threading.Thread(target=_greet, args=(busy, served), daemon=True)
    clients = threading.Thread(target=connect_all_the_time)
    greeting.start()
    clients.start()
    try:
        for _ in range(4):
            assert busy.last.ask("reload").returncode == 0
    finally:
        over.set()
        clients.join()
        served.set()
    assert refused == []


def _greet(path: Path, over: threading.Event) -> None:
    """The server greets whoever comes."""
    while not over.is_set():
        with contextlib.suppress(Exception):  # a client that has gone meanwhile
            path.server.accept(None, b"220 Ready.")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("mode = 3", "client_side.mode: found 3, expected active, passive or both."),
        ("no toml", "no TOML"),
    ],
)
def test_10_4_a_reload_with_bad_settings_changes_nothing_and_says_why(
    busy: Path, what: str, says: str
) -> None:
    x = busy.open()
    before = busy.last.workers()
    file = busy.last.directory / "sluice.toml"
    good = file.read_text()
    file.write_text(good.replace('mode = "both"', what, 1) if "=" in what else what)
    done = busy.last.ask("reload")
    assert done.returncode == 1
    assert says in done.stderr
    assert [each["pid"] for each in busy.last.workers()] == [each["pid"] for each in before]
    x.in_step()
    file.write_text(good)
    assert busy.last.ask("reload").returncode == 0
    x.in_step()


def test_10_4_a_reload_that_cannot_listen_changes_nothing(busy: Path) -> None:
    """Settings that are well, but a port that somebody else holds."""
    x = busy.open()
    before = [each["pid"] for each in busy.last.workers()]
    good = busy.last.settings
    with listen(busy.net.n_client, CONTROL + 1):
        busy.last.configure(changed(good, {"client_side.control_port": CONTROL + 1}))
        done = busy.last.ask("reload")
    assert done.returncode == 1
    assert f"cannot listen on {busy.net.n_client}:{CONTROL + 1}: Address already in use." in done.stderr
    assert [each["pid"] for each in busy.last.workers()] == before
    x.in_step()
    for each in before:
        os.kill(each, signal.SIGKILL)
    eventually(
        "others in their place", lambda: {each["pid"] for each in busy.last.workers()}.isdisjoint(before)
    )
    eventually("two of them", lambda: len(busy.last.workers()) == 2)
    busy.open().in_step()
    busy.last.configure(good)
    assert busy.last.ask("reload").returncode == 0


@pytest.mark.parametrize("limits", [{"sessions": 3}, {"sessions_per_client": 3}])
def test_2_12_sessions_are_counted_over_all_workers(paths: Paths, limits: dict[str, int]) -> None:
    """And those of a worker that died are forgotten."""
    path = paths.own(1, workers=2, limits=limits)
    sessions = [path.open() for _ in range(3)]
    assert path.client().reply().code == 421
    os.kill(worker_of(path, sessions[0]), signal.SIGKILL)
    eventually("a seat", lambda: path.last.sessions() < 3)
    path.open().in_step()


@pytest.fixture
def versions(paths: Paths) -> File:
    """A folder with the code as versions 1 and 2, and a link `current` to 1: as the role installs it."""
    folder = File(tempfile.mkdtemp(dir=paths.site.directory))
    folder.chmod(0o755)
    for version in ("1", "2"):
        shutil.copytree(paths.site.package / "sluice", folder / version / "sluice")
        init = folder / version / "sluice/__init__.py"
        init.write_text(f'{init.read_text()}\n__version__ = "{version}"\n')
    (folder / "current").symlink_to("1")
    return folder


def versioned(paths: Paths, versions: File) -> Path:
    """A path whose proxy runs the code behind the link."""
    net = paths.site.net()
    settings = last_hop(net) | {"workers": 2}
    proxy = Proxy(paths.site, settings, {"PYTHONPATH": str(versions / "current")})
    return paths.add(Path(net, [proxy], (net.n_client, CONTROL), (net.server, SERVER_CONTROL)))


def test_10_4_a_reload_takes_new_code(paths: Paths, versions: File) -> None:
    """The switch of the link, then reload: as the role does it."""
    path = versioned(paths, versions)
    x = path.open()
    ends = x.begin("RETR f")
    assert "sluice 1, hop N" in path.last.ask("status").stdout
    (versions / "current").unlink()
    (versions / "current").symlink_to("2")
    assert path.last.ask("reload").stdout == "sluice 2 serves with 2 workers.\n"
    assert "sluice 2, hop N" in path.last.ask("status").stdout
    finish(x, "RETR f", ends)
    path.open().in_step()


def test_10_4_code_that_does_not_run_is_refused(paths: Paths, versions: File) -> None:
    path = versioned(paths, versions)
    (versions / "1/sluice/session.py").write_text("this is no Python\n")
    done = path.last.ask("reload")
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr
    path.open().in_step()


# What a version does when it checks the settings: it says so, and waits for a word.
CHECKS_SLOWLY = """
import sys, time
from pathlib import Path
if "--check-config" in sys.argv:
    folder = Path(__file__).parents[2]
    (folder / "checking").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
"""
# Of the one that runs, and of the next: the interpreter is gone between the check and the change.
RUNS_BY_A_LINK = """
import sys
from pathlib import Path
sys.executable = str(Path(__file__).parents[2] / "python")
"""
UNLINKS = f"""{RUNS_BY_A_LINK}
if "--check-config" in sys.argv:
    Path(sys.executable).unlink()
"""


def write(versions: File, version: str, code: str) -> None:
    """More that a version does first; what it writes to the folder, it writes as whoever it runs as."""
    versions.chmod(0o777)
    with (versions / version / "sluice/__init__.py").open("a") as file:
        file.write(code)


def switch(versions: File) -> None:
    """To version 2."""
    (versions / "current").unlink()
    (versions / "current").symlink_to("2")


def ask_to_reload(path: Path) -> socket.socket:
    """Ask, and wait for no answer."""
    asking = socket.socket(socket.AF_UNIX)
    asking.connect(str(path.last.runtime / "control"))
    asking.sendall(b'{"ask": "reload"}\n')
    return asking


def test_10_4_code_that_cannot_be_started_is_refused(paths: Paths, versions: File) -> None:
    write(versions, "1", RUNS_BY_A_LINK)
    write(versions, "2", UNLINKS)
    (versions / "python").symlink_to(sys.executable)
    path = versioned(paths, versions)
    x = path.open()
    ends = x.begin("STOR f")
    switch(versions)
    done = path.last.ask("reload")
    assert done.returncode == 1
    assert "the new code could not be started: [Errno 2]" in done.stderr
    assert "sluice 1, hop N" in path.last.ask("status").stdout
    assert path.last.ask("kill", "nosuch").stderr == "sluice: there is no session nosuch.\n", "workers answer"
    finish(x, "STOR f", ends)
    path.open().in_step()


def test_10_4_a_reload_goes_on_when_who_asked_has_left(paths: Paths, versions: File) -> None:
    write(versions, "2", CHECKS_SLOWLY)
    path = versioned(paths, versions)
    x = path.open()
    switch(versions)
    with ask_to_reload(path):
        eventually("a check", (versions / "checking").exists)
    path.last.ask("status")  # so it has seen that one leave
    (versions / "go").touch()
    eventually("the new code", lambda: "sluice 2, hop N" in path.last.ask("status").stdout)
    assert path.last.sessions() == 1
    x.in_step()
    path.open().in_step()


def test_10_3_a_stop_during_a_reload_is_a_stop(paths: Paths, versions: File) -> None:
    write(versions, "2", CHECKS_SLOWLY)
    path = versioned(paths, versions)
    x = path.open()
    ends = x.begin("STOR f")
    switch(versions)
    with ask_to_reload(path) as asking:
        eventually("a check", (versions / "checking").exists)
        path.last.process.send_signal(signal.SIGTERM)
        eventually("no more clients", lambda: refused(path))
        (versions / "go").touch()
        assert b"the proxy is stopping" in asking.recv(1000)
    finish(x, "STOR f", ends)
    assert path.last.process.wait(timeout=30) == 0


def refused(path: Path) -> bool:
    """Whether the proxy takes no more clients."""
    try:
        dial(*path.entry, path.net.client).close()
    except ConnectionRefusedError:
        return True
    return False


def test_10_4_hangups_in_a_row_are_no_end(busy: Path) -> None:
    """A reload forgets its handlers of signals for a moment."""
    x = busy.open()
    ends = x.begin("STOR f")
    for _ in range(200):
        busy.last.process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
    finish(x, "STOR f", ends)
    assert busy.last.alive()
    eventually("an answer", lambda: busy.last.ask("status").returncode == 0)
    busy.open().in_step()


def test_old_workers_are_bounded(paths: Paths) -> None:
    """timeouts.drain: what an old worker still has after that time ends with 421."""
    path = paths.own(1, timeouts__drain=1)
    x = path.open()
    assert path.last.ask("reload").returncode == 0
    assert x.c.reply().code == 421


def test_sessions_and_kill(busy: Path) -> None:
    x, other = busy.open(), busy.open()
    ends = x.begin("STOR f")
    ends[0].send(PART)
    shown = busy.last.ask("sessions").stdout.splitlines()
    assert shown[0].split() == ["session", "client", "user", "server", "doing", "bytes", "seconds"]
    assert len(shown) == 3
    mine = next(line for line in shown if f":{x.c.sock.getsockname()[1]} " in line)
    assert " STOR " in mine
    done = busy.last.ask("kill", mine.split()[0])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ends[1].end() == "reset", "6.4"
    other.in_step()
    assert busy.last.ask("kill", "nosuch").stderr == "sluice: there is no session nosuch.\n"


def test_drain_takes_no_more_clients_until_a_reload(busy: Path) -> None:
    x = busy.open()
    assert busy.last.ask("drain").returncode == 0

    def refused() -> bool:
        try:
            dial(*busy.entry, busy.net.client).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually("nobody listens", refused)
    x.in_step()
    assert "listening on nothing: drained" in busy.last.ask("status").stdout
    assert busy.last.ask("reload").returncode == 0
    busy.open().in_step()
    x.in_step()


def test_the_door_is_the_groups(busy: Path) -> None:
    door = busy.last.runtime / "control"
    assert door.stat().st_mode & 0o777 == 0o660
    busy.stop()
    assert not door.exists()
    assert busy.last.ask("status").stderr == f"sluice: there is no {door}: the proxy does not run.\n"
