# SPDX-License-Identifier: GPL-3.0-or-later
"""net.netfilter.nf_log_all_netns: without it nothing that a host's rules log is seen anywhere (fact F22).

It is the machine's one setting for all namespaces: switched on with the first lab and put back with the last.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

from plan import STATES

SWITCH = Path("/proc/sys/net/netfilter/nf_log_all_netns")
MARK = "log-was-off-for"  # one file for each lab that relies on the switch


def use(lab_id: str) -> None:
    """Switch logging on, unless the machine's owner had it on already."""
    with _lock():
        if SWITCH.exists() and (SWITCH.read_text().strip() == "0" or _users()):
            SWITCH.write_text("1\n")
            (STATES / f"{MARK}-{lab_id}").touch()


def release(lab_id: str) -> None:
    """Give it up; the last one puts it back."""
    with _lock():
        mark = STATES / f"{MARK}-{lab_id}"
        if mark.exists():
            mark.unlink()
            if not _users():
                SWITCH.write_text("0\n")


def _users() -> list[Path]:
    return list(STATES.glob(f"{MARK}-*"))


class _lock:  # noqa: N801
    """Held while two labs might look at the marks at once."""

    def __enter__(self) -> None:
        STATES.mkdir(mode=0o700, exist_ok=True)
        self.file = (STATES / "log.lock").open("w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()
