# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo: F and N converged by site.yml, 100 MiB through both in each mode, and what they saw of it.

The lab stays up for `make shell`; an interrupted demo takes it away.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import lab
import observe
import ssh
from plan import CHECKOUT, FTP_PASSWORD, FTP_USER, Lab, LabError
from run import check_machine

DEMO = Lab("demo")
MEBIBYTES = 100
F, S = "10.1.0.1", "198.51.100.10"
LOGIN = f"{FTP_USER}@{S}"
HOME = f"/home/{FTP_USER}"
MODES = ("passive", "active")
NEEDS = {"ansible-playbook": "ansible-core", "conntrack": "conntrack"}


def say(text: str = "") -> None:
    print(text, flush=True)


def on(host: str, command: str) -> str:
    """Run a command on a host; return what it prints."""
    done = subprocess.run(
        ["ssh", "-F", str(DEMO.ssh_config), host, command], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"On {host} `{command}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def converge() -> None:
    """Run site.yml against F and N as a user would; show each task that changed something."""
    inventory = os.path.relpath(DEMO.inventory if not DEMO.shortcut.exists() else DEMO.shortcut / "inventory")
    say(f"\n== ansible-playbook -i {inventory} playbooks/site.yml")
    log = DEMO.state / "site.log"
    play = subprocess.Popen(
        ["ansible-playbook", "-i", inventory, "playbooks/site.yml"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
    )
    assert play.stdout is not None
    try:
        with log.open("w") as file:
            task, hosts = "", list[str]()
            for line in play.stdout:
                file.write(line)
                if found := re.match(r"changed: \[(\w+)\]", line):
                    hosts += [found[1]] if found[1] not in hosts else []
                elif found := re.match(r"TASK \[(?:sluice\.ftp\.)?(.*?)\]|PLAY RECAP", line):
                    if hosts:
                        say(f"   {task:<68} {' '.join(sorted(hosts))}")
                    task, hosts = found[1] or "", []
            code = play.wait()
    except BaseException:
        play.terminate()  # it must not go on against a lab that goes away
        play.wait()
        raise
    if code != 0:
        say(log.read_text())
        raise LabError("site.yml failed; what it said is above.")


def transfers() -> list[tuple[str, str, str, str]]:
    """The eight transfers as (client, mode, what, command on C)."""
    address = f"ftp://{shlex.quote(f'{FTP_USER}%40{S}:{FTP_PASSWORD}@{F}')}"
    commands = []
    for mode in MODES:
        port = "" if mode == "passive" else "--ftp-port - "
        curl = f"curl --silent --show-error {port}"
        passive = str(mode == "passive").lower()
        lftp = "set cmd:fail-exit yes; set ftp:ssl-allow no; set xfer:clobber yes"
        lftp += f"; set ftp:passive-mode {passive}; open -u {LOGIN},{FTP_PASSWORD} ftp://{F}"
        commands += [
            ("curl", mode, "fetched", f"{curl} --output /var/tmp/fetched {address}/on-server"),
            ("curl", mode, "stored", f"{curl} --upload-file /var/tmp/on-client {address}/stored"),
            (
                "lftp",
                mode,
                "fetched",
                shlex.join(["lftp", "-c", f"{lftp}; get on-server -o /var/tmp/fetched"]),
            ),
            ("lftp", mode, "stored", shlex.join(["lftp", "-c", f"{lftp}; put /var/tmp/on-client -o stored"])),
        ]
    return commands


def make_files() -> dict[str, str]:
    """What is to be fetched on S and what is to be stored on C, at once; return their sums."""
    wanted = {"fetched": ("s1", f"{HOME}/on-server"), "stored": ("c1", "/var/tmp/on-client")}
    with ThreadPoolExecutor() as both:
        sums = {
            what: both.submit(on, host, f"head -c {MEBIBYTES}M /dev/urandom >{path}; {sum_of(path)}")
            for what, (host, path) in wanted.items()
        }
    return {what: done.result().strip() for what, done in sums.items()}


def sum_of(path: str) -> str:
    """The command that prints a file's SHA-256 and nothing else."""
    return f"sha256sum <{path} | cut -d ' ' -f 1"


def move_files() -> dict[str, list[observe.Connection]]:
    """Make all transfers, compare sums, print speeds; return of each mode the connections of one session."""
    expected = make_files()
    say(f"\n== {MEBIBYTES} MiB through F and N, by clients on C, from and to the FTP server on S")
    seen: dict[str, list[observe.Connection]] = {}
    for client, mode, what, command in transfers():
        host, path = {"fetched": ("c1", "/var/tmp/fetched"), "stored": ("s1", f"{HOME}/stored")}[what]
        on(host, f"rm -f {path}")
        timed = f"date +%s%N; {command} && date +%s%N"
        if mode in seen:
            times = on("c1", timed).split()
        else:
            with observe.new_connections(DEMO) as connections:
                times = on("c1", timed).split()
            seen[mode] = connections
        if on(host, sum_of(path)).strip() != expected[what]:
            raise LabError(f"The file that {client} {what} in {mode} mode is not the one that was sent.")
        seconds = (int(times[-1]) - int(times[0])) / 1e9
        speed = f"{MEBIBYTES / seconds:6.0f} MiB/s"
        say(f"   {mode:<8} {client} {what:<8} {speed}   SHA-256 equal: {expected[what][:16]}...")
    return seen


def show_connections(seen: dict[str, list[observe.Connection]]) -> None:
    """The six connections of a session in each mode."""
    for mode in MODES:
        say(f"\n== The connections of one {mode} session, from conntrack on F and on N")
        connections = observe.in_order(seen[mode])
        for connection, witnesses in connections:
            say(f"   {connection} on {', '.join(witnesses)}")
        if len(connections) != 6:
            raise LabError(f"A session has six connections, and conntrack showed {len(connections)}.")


def show_flows() -> None:
    """What each host's policy allows, in the product's notation, and what its rules counted."""
    for host, letter in (("f1", "F"), ("n1", "N")):
        say(f"\n== What {letter} allows, and what its rules counted (nft list table inet sluice on {host})")
        say(f"   {'':<74} opened  packets")
        for flow in observe.flows(on(host, "nft --json list table inet sluice")):
            say(f"   {flow.text:<74} {flow.opened:>6} {flow.packets:>8}")
    say("   opened: connections; packets: what their openers sent.")
    say("   What else concerns these ports or the proxy user is dropped.")


def show_further(began: float) -> None:
    say(f"""
== Look further ({time.monotonic() - began:.0f} s so far)
   make shell HOST=F      a shell on F (or C, N, S), and there for example:
                            systemctl status sluice sluice-policy
                            journalctl -u sluice -o verbose SLUICE_EVENT=transfer
                            nft list table inet sluice
   make shell HOST=C      and there: curl --user {LOGIN}:{FTP_PASSWORD} ftp://{F}/
   make clean             removes all of it""")


def main() -> None:
    """The demo, from nothing to the last table."""
    began = time.monotonic()
    check_machine(NEEDS)
    os.chdir(CHECKOUT)
    say("== The lab: C, F, N and S as four systemd machines in network namespaces")
    try:
        lab.create(DEMO)
        say("   C 10.1.0.10 --- 10.1.0.1 F 10.2.0.1 --- 10.2.0.2 N 198.51.100.2 --- 198.51.100.10 S")
        converge()
        seen = move_files()
        show_connections(seen)
        show_flows()
        show_further(began)
    except (KeyboardInterrupt, SystemExit):
        say("\nInterrupted; removing the lab.")
        lab.destroy(DEMO)
        raise
    finally:
        for host in ("c1", "f1", "n1", "s1"):
            ssh.forget(DEMO, host)


def _interrupted(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        main()
    except LabError as error:
        there = " The lab is still there: `make shell HOST=F` looks, `make clean` removes it."
        sys.exit(f"demo: {error}{there if DEMO.ssh_config.exists() else ''}")
    except KeyboardInterrupt:
        sys.exit(130)
