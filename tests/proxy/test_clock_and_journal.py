# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host may do to the proxy: its clock is set, its journal takes nothing. Sessions do not notice."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from .harness import CONTROL, PYTHON, SERVER_CONTROL, Path, Paths, Proxy, Session, changed, last_hop
from .wire import eventually

PART = b"some content\r\n" * 5000


def whole(x: Session, verb: str) -> None:
    """A whole transfer."""
    c_data, s_data = x.begin(verb)
    finish(x, verb, (c_data, s_data))


def finish(x: Session, verb: str, ends) -> None:  # type: ignore[no-untyped-def]
    sender, receiver = ends if verb == "STOR f" else ends[::-1]
    sender.send(PART)
    sender.fin()
    assert receiver.read_all() == (PART, "fin")
    x.s.reply(b"226 Done.")
    ends[1].close()
    assert x.c.reply().code == 226


# --- the clock --------------------------------------------------------------------------------------


class Clock:
    """A clock that a test sets, for whoever has the environment; CLOCK_MONOTONIC goes on."""

    def __init__(self, directory: File) -> None:
        libraries = list(File("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        assert libraries, "libfaketime is not there: make setup"
        self.library = libraries[0]
        self._file = directory / "time"
        self.environment = {
            "LD_PRELOAD": str(self.library),
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
        }
        self.users: list[int] = []
        self.set("+0")

    def set(self, to: str) -> None:
        """Set it: "-3600" is an hour ago."""
        self._file.write_text(to + "\n")

    def shift(self) -> float:
        """By how many seconds its users are told a wrong time."""
        code = "import time; print(time.time())"
        told = [
            subprocess.run([PYTHON, "-c", code], env=env, capture_output=True, check=True).stdout
            for env in (self.environment, {})
        ]
        return float(told[0]) - float(told[1])


@pytest.fixture
def clock(paths: Paths) -> Iterator[Clock]:
    directory = File(tempfile.mkdtemp(dir=paths.site.directory))
    directory.chmod(0o755)
    clock = Clock(directory)
    yield clock
    for pid in clock.users:  # what the library leaves behind
        for name in ("sem.faketime_sem_", "faketime_shm_"):
            File(f"/dev/shm/{name}{pid}").unlink(missing_ok=True)


@pytest.mark.parametrize("to", ["-86400", "+86400"])
def test_2_11_a_clock_that_is_set_ends_no_session_and_stops_no_timer(
    paths: Paths, clock: Clock, to: str
) -> None:
    """A day back or forth: idle and moving sessions live on, timers of before and of after run out."""
    net = paths.site.net()
    times = {"timeouts.data_connect": 1, "timeouts.reply": 3}
    proxy = Proxy(paths.site, changed(last_hop(net), times), clock.environment)
    clock.users.append(proxy.process.pid)
    path = paths.add(Path(net, [proxy], (net.n_client, CONTROL), (net.server, SERVER_CONTROL)))
    assert str(clock.library.name) in File(f"/proc/{proxy.pids()[-1]}/maps").read_text()
    idle, fetching, storing, waiting, stuck = (path.open() for _ in range(5))
    downloads, uploads = fetching.begin("RETR f"), storing.begin("STOR f")
    waiting.c.setup("PASV")
    waiting.c.line("STOR f")
    assert waiting.s.next() == b"STOR f"
    stuck.c.line("SYST")
    clock.set(to)
    assert abs(clock.shift()) > 80_000
    assert waiting.c.reply().code == 425, "its timer began before"
    idle.in_step()
    finish(fetching, "RETR f", downloads)
    finish(storing, "STOR f", uploads)
    assert stuck.c.reply().code == 421, "its timer, too"
    new = path.open()
    whole(new, "RETR f")
    new.c.line("SYST")
    assert new.c.reply().code == 421, "a timer of after"
    records = [float(each["SLUICE_SECONDS"]) for each in proxy.records("transfer")]
    assert all(0 <= seconds < 3600 for seconds in records), records


# --- the journal ------------------------------------------------------------------------------------


class Journal:
    """A journal's socket of the test's own, and a proxy that writes there."""

    def __init__(self, paths: Paths) -> None:
        self.directory = File(tempfile.mkdtemp(dir=paths.site.directory))
        self.directory.chmod(0o755)
        self.path = self.directory / "socket"
        package = self.directory / "package"
        shutil.copytree(paths.site.package / "sluice", package / "sluice")
        module = package / "sluice/journal.py"
        text = module.read_text()
        assert '"/run/systemd/journal/socket"' in text
        module.write_text(text.replace("/run/systemd/journal/socket", str(self.path)))
        self.environment = {"PYTHONPATH": str(package), "JOURNAL_STREAM": "1:1"}
        self.socket = self.begin()

    def begin(self) -> socket.socket:
        """Be there."""
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.path.chmod(0o666)
        return self.socket

    def read(self) -> list[bytes]:
        """The records that wait."""
        found = []
        self.socket.setblocking(False)
        while True:
            try:
                found.append(self.socket.recv(1 << 20))
            except BlockingIOError:
                return found


@pytest.fixture
def journal(paths: Paths) -> Iterator[Journal]:
    journal = Journal(paths)
    yield journal
    journal.socket.close()


@pytest.mark.parametrize("fault", ["full", "gone", "nobody behind it"])
def test_10_5_a_journal_that_takes_nothing_holds_up_nobody(
    paths: Paths, journal: Journal, fault: str
) -> None:
    """It does not read, for its disk is full, or it died. Records are lost, sessions are not."""
    net = paths.site.net()
    proxy = Proxy(paths.site, last_hop(net), journal.environment)
    path = paths.add(Path(net, [proxy], (net.n_client, CONTROL), (net.server, SERVER_CONTROL)))
    assert any(b"SLUICE_EVENT=started" in record for record in journal.read())
    if fault != "full":
        journal.socket.close()
    if fault == "gone":
        journal.path.unlink()
    old = path.open()
    for verb in ("RETR f", "STOR f"):
        for _ in range(15):  # a datagram socket takes some ten records that nobody reads
            x = path.open()
            whole(x, verb)
            assert x.c.cmd("QUIT").code == 221
    old.in_step()
    if fault == "full":
        kept = journal.read()
        assert len(kept) < 60, "it was not full"
    else:
        journal.begin()
    whole(old, "RETR f")

    def written() -> bool:
        return any(b"SLUICE_EVENT=transfer" in record for record in journal.read())

    eventually("records again", written)
