# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 in the middle of transfers, both directions, both modes: what the ends see (6.4, 6.5, 6.10).

Whoever dies, no end hears FIN, which would say that the file is whole, and no client hears 226.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from .harness import Path, Paths, Proxy, Session
from .wire import Data, EndedError

PART = bytes(range(256)) * 400
VERBS = ("STOR f", "RETR f")
MODES = {"passive": "EPSV", "active": "PORT"}  # of the client's leg; the others follow it
TRANSFERS = list(itertools.product(VERBS, MODES))
NAMES = [f"{verb.split()[0]} {mode}" for verb, mode in TRANSFERS]


def begun(path: Path, verb: str, mode: str) -> tuple[Session, Data, Data]:
    """A transfer whose first bytes have arrived; its sender, its receiver."""
    x = path.open()
    c_data, s_data = x.begin(verb, MODES[mode])
    sender, receiver = (c_data, s_data) if verb == "STOR f" else (s_data, c_data)
    sender.send(PART)
    assert receiver.receive(len(PART)) == PART
    return x, sender, receiver


def holder(proxy: Proxy, end: tuple[str, int]) -> int:
    """The worker that has the control connection which has this end, of the proxy or of its peer."""
    text = f"{int.from_bytes(bytes(map(int, end[0].split('.'))), 'little'):08X}:{end[1]:04X}"
    lines = [line.split() for line in File("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{words[9]}]" for words in lines if text in (words[1], words[2])}
    for pid in proxy.pids()[1:]:
        for entry in File(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()) in sockets:
                    return pid
    raise AssertionError("no worker has it")


def hears(x: Session) -> list[int]:
    """The codes that the client hears until its control connection ends, however it does."""
    codes = []
    with contextlib.suppress(EndedError):
        while True:
            codes.append(x.c.reply().code)
    return codes


@pytest.mark.parametrize(("verb", "mode"), TRANSFERS, ids=NAMES)
@pytest.mark.parametrize(("hops", "victim"), [(1, 0), (2, 0), (2, 1)], ids=["N", "F of two", "N of two"])
def test_6_4_kill_9_of_a_whole_proxy(paths: Paths, hops: int, victim: int, verb: str, mode: str) -> None:
    """The receiver sees RST. Of two proxies the first lives on, resets the sender too and says 421 or 426."""
    path = paths.own(hops)
    x, sender, receiver = begun(path, verb, mode)
    path.proxies[victim].kill()
    assert receiver.read_all() == (b"", "reset")
    if victim == 1:
        assert hears(x)[0] in {421, 426}
    else:
        assert hears(x) == []
    if verb == "STOR f":
        assert sender.end() == "reset", "its bytes go nowhere"


@pytest.mark.parametrize(("hops", "victim"), [(1, 0), (2, 0), (2, 1)], ids=["N", "F of two", "N of two"])
def test_6_4_kill_9_of_a_worker(paths: Paths, hops: int, victim: int) -> None:
    """Both ends of its transfers see RST; a session of another worker goes on."""
    workers = {"workers": 5} if hops == 1 else {"f__workers": 5, "n__workers": 5}
    path = paths.own(hops, **workers)
    proxy = path.proxies[victim]
    for verb, mode in TRANSFERS:
        x, sender, receiver = begun(path, verb, mode)
        pid = holder(proxy, x.c.local if victim == 0 else x.s.peer)
        others = [path.open() for _ in range(6)]
        spared = [y for y in others if holder(proxy, y.c.local if victim == 0 else y.s.peer) != pid]
        os.kill(pid, signal.SIGKILL)
        assert receiver.read_all() == (b"", "reset")
        assert sender.end() == "reset"
        codes = hears(x)
        assert codes == [] or (victim == 1 and codes[0] in {421, 426})
        for y in spared:
            y.in_step()
        path.tidy()


@pytest.mark.parametrize(("verb", "mode"), TRANSFERS, ids=NAMES)
def test_6_4_kill_9_of_the_supervisor(paths: Paths, verb: str, mode: str) -> None:
    """Its workers end with it, and with RST."""
    path = paths.own(1, workers=2)
    _x, sender, receiver = begun(path, verb, mode)
    os.kill(path.last.process.pid, signal.SIGKILL)
    assert receiver.end() == "reset"
    assert sender.end() == "reset"


@contextlib.contextmanager
def process_of(x: Session, data: Data) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the server's two connections, and alone has them."""
    mine = (x.s.sock.fileno(), data.sock.fileno())
    server = subprocess.Popen(["sleep", "60"], pass_fds=mine)
    try:
        x.s.close_control()
        data.sock.close()
        yield server
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(("verb", "mode"), TRANSFERS, ids=NAMES)
@pytest.mark.parametrize("under_way", [True, False], ids=["much under way", "all delivered"])
def test_6_10_kill_9_of_the_server(path: Path, verb: str, mode: str, under_way: bool) -> None:
    """Its kernel ends both connections in an orderly way: a download looks whole but for the control's end.

    That overtakes what is under way. Where nothing is, the proxies find both ends at once.
    """
    x = path.open()
    c_data, s_data = x.begin(verb, MODES[mode])
    sender, receiver = (c_data, s_data) if verb == "STOR f" else (s_data, c_data)
    if under_way:
        sender.send_until_blocked()
    else:
        sender.send(PART)
        assert receiver.receive(len(PART)) == PART
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(process_of(x, s_data))
        if not under_way:
            for proxy in path.proxies:
                stack.enter_context(proxy.busy())
        server.kill()
        server.wait()
    assert c_data.end() == "reset"
    codes = hears(x)
    assert codes[0] in {421, 426}
    assert set(codes) <= {421, 426}
