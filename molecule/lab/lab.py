#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: C, F, N and S as systemd machines on this one, for Molecule, the demo and a curious person."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import inventory
import kernel_log
import machine
import network
import rootfs
import ssh
from plan import HOSTS, LETTERS, MARK, RELEASES, STATES, Lab, LabError
from run import check_machine, run


def create(lab: Lab) -> None:
    """Make the lab; what an earlier one of the same name left goes first. Interrupted, it leaves nothing."""
    with _only_one(lab):
        files = rootfs.ensure(lab.release)
        _destroy(lab)
        try:
            lab.state.mkdir(mode=0o700)
            run("mount", "-t", "tmpfs", "-o", "mode=700", lab.id, str(lab.state))
            kernel_log.use(lab.id)
            ssh.write_config(lab)
            inventory.write(lab)
            network.create(lab)
            network.serve_debs(lab, files / "debs")
            for host in HOSTS:
                machine.prepare(lab, host, files / "root")
                machine.start(lab, host)
            ssh.wait(lab)
            lab.shortcut.parent.mkdir(parents=True, exist_ok=True)
            lab.shortcut.unlink(missing_ok=True)
            lab.shortcut.symlink_to(lab.state)
        except BaseException:
            _destroy(lab)
            raise


def destroy(lab: Lab) -> None:
    """Remove whatever is there of the lab, by its exact names."""
    with _only_one(lab):
        _destroy(lab)


def _destroy(lab: Lab) -> None:
    for host in HOSTS:
        ssh.forget(lab, host)
    machine.power_off(lab)
    network.delete(lab)
    for point in (*(lab.folder(host) / "root" for host in HOSTS), lab.state):
        while point.is_mount():
            run("umount", str(point))
    if lab.state.is_dir():
        lab.state.rmdir()
    kernel_log.release(lab.id)
    lab.shortcut.unlink(missing_ok=True)


@contextmanager
def _only_one(lab: Lab) -> Iterator[None]:
    """Two commands that make or remove the same lab wait for each other."""
    STATES.mkdir(mode=0o700, exist_ok=True)
    with Path(f"{lab.state}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _names() -> list[str]:
    """The labs of this checkout that are there, or of which something is left."""
    return [state.name.removesuffix(f"-{MARK}") for state in STATES.glob(f"*-{MARK}") if state.is_dir()]


def _need(lab: Lab) -> None:
    if not lab.ssh_config.exists():
        raise LabError(f"There is no lab {lab.name}; `{sys.argv[0]} create --lab {lab.name}` makes it.")


def reboot(lab: Lab, host: str) -> None:
    """Reboot one host; return when it lets us in again."""
    machine.reboot(lab, host)
    ssh.wait(lab, (host,))


def start(lab: Lab, host: str) -> None:
    """Boot a host that was stopped, with a new network as after a reboot."""
    if machine.is_up(lab, host):
        raise LabError(f"{host} is up already.")
    network.renew(lab, host)
    machine.start(lab, host)
    ssh.wait(lab, (host,))


def status(lab: Lab) -> str:
    """Who is up, one host a line."""
    return "".join(f"{host} {'up' if machine.is_up(lab, host) else 'down'}\n" for host in HOSTS)


def _host(word: str) -> str:
    host = LETTERS.get(word.upper(), word)
    if host not in HOSTS:
        raise LabError(f"host {word!r}: expected one of {', '.join((*HOSTS, *LETTERS))}.")
    return host


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lab.py", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--lab", default="demo", help="the lab's name (default: demo)")
    released = argparse.ArgumentParser(add_help=False)
    released.add_argument("--release", default=RELEASES[0], choices=RELEASES, help="the hosts' Debian")
    hosted = argparse.ArgumentParser(add_help=False)
    hosted.add_argument("host", help="c1, f1, n1, s1 or C, F, N, S")
    actions.add_parser("check", help="whether this machine can run the lab")
    actions.add_parser("build", parents=[released], help="build the root file system, if it is not cached")
    actions.add_parser("create", parents=[named, released], help="make the lab")
    remove = actions.add_parser("destroy", parents=[named], help="remove it")
    remove.add_argument("--all", action="store_true", help="remove all labs of this checkout")
    actions.add_parser("status", parents=[named], help="who is up")
    actions.add_parser("inventory", parents=[named], help="print the path of its Ansible inventory")
    actions.add_parser("reboot", parents=[hosted, named], help="reboot a host")
    stop = actions.add_parser("stop", parents=[hosted, named], help="power a host off")
    stop.add_argument("--hard", action="store_true", help="as a power cut")
    actions.add_parser("start", parents=[hosted, named], help="boot a stopped host")
    actions.add_parser("shell", parents=[hosted, named], help="a shell on a host; after ` -- `, a command")
    actions.add_parser("keep", parents=[hosted, named])  # what `start` runs in the background
    own, command = sys.argv[1:], []
    if "--" in own:
        own, command = own[: own.index("--")], own[own.index("--") + 1 :]
    return parser.parse_args(own, argparse.Namespace(command=command))


def _main() -> int:
    words = _arguments()
    if words.action in ("check", "build", "create"):
        check_machine()
    if words.action == "check":
        return 0
    if words.action == "build":
        rootfs.ensure(words.release)
        return 0
    lab = Lab(words.lab, getattr(words, "release", RELEASES[0]))
    if words.action == "create":
        create(lab)
    elif words.action == "destroy":
        for name in _names() if words.all else [words.lab]:
            destroy(Lab(name))
    else:
        return _use(lab, words)
    return 0


def _use(lab: Lab, words: argparse.Namespace) -> int:
    """What needs a lab that is there."""
    _need(lab)
    if words.action == "status":
        print(status(lab), end="")
    elif words.action == "inventory":
        print(lab.inventory)
    elif words.action == "keep":
        return machine.keep(lab, _host(words.host))
    elif words.action == "reboot":
        reboot(lab, _host(words.host))
    elif words.action == "start":
        start(lab, _host(words.host))
    elif words.action == "stop":
        (machine.cut_power if words.hard else machine.power_off)(lab, (_host(words.host),))
    elif words.action == "shell":
        terminal = [] if words.command else ["-t"]
        os.execvp("ssh", ["ssh", "-F", str(lab.ssh_config), *terminal, _host(words.host), *words.command])
    return 0


def _interrupted(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        sys.exit(_main())
    except LabError as error:
        sys.exit(f"lab: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
