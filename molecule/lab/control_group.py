# SPDX-License-Identifier: GPL-3.0-or-later
"""A control group for each host.

systemd-nspawn --keep-unit puts its machine below the caller's group, in `payload`: hosts that shared the
caller's group would share that one, and one host's systemd would see another's services as its own.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from plan import LabError


def _folders(name: str) -> list[Path]:
    """Where the group of this name lives: the unified hierarchy, and systemd's own where there are more."""
    folders = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            folders.append(Path(point) / name)
    if not folders:
        raise LabError("The lab needs control groups, and no unified or systemd hierarchy is mounted here.")
    return folders


def create(name: str) -> list[Path]:
    """Make the group; return the files that a process writes 0 to in order to enter it."""
    for folder in _folders(name):
        folder.mkdir(exist_ok=True)
    return [folder / "cgroup.procs" for folder in _folders(name)]


def processes(name: str) -> set[int]:
    """The ids of all processes in the group and below."""
    pids: set[int] = set()
    for folder in _folders(name):
        for procs in folder.rglob("cgroup.procs"):
            try:
                pids.update(int(pid) for pid in procs.read_text().split())
            except OSError:  # the group went away meanwhile
                continue
    return pids


def kill(name: str, seconds: float = 10.0) -> None:
    """End all processes of the group at once, as a power cut does."""
    deadline = time.monotonic() + seconds
    while pids := processes(name):
        if time.monotonic() > deadline:
            raise LabError(f"Processes {sorted(pids)} of {name} do not end.")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def remove(name: str) -> None:
    """Kill what is left in the group and remove it."""
    kill(name)
    for folder in _folders(name):
        if folder.is_dir():
            for below in sorted(folder.rglob("*/"), reverse=True):
                if below.is_dir():
                    below.rmdir()
            folder.rmdir()
