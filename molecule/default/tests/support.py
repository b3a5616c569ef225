# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of a scenario share: its lab, playbook runs against it, and FTP transfers from C."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

import ssh
from plan import CHECKOUT, FTP_PASSWORD, FTP_USER, MANAGEMENT_BRIDGE, Lab
from plan import MANAGEMENT as ADDRESSES

LAB = Lab(os.environ.get("MOLECULE_SCENARIO_NAME", "default"))
SITE = CHECKOUT / "playbooks/site.yml"
ROOT, USER, PASSWORD, MANAGEMENT, BRIDGE = CHECKOUT, FTP_USER, FTP_PASSWORD, ADDRESSES, MANAGEMENT_BRIDGE

F4, F6, N4, N6 = "10.1.0.1", "2001:db8:1::1", "10.2.0.2", "2001:db8:2::2"
F_UP4, N_UP4 = "10.2.0.1", "198.51.100.2"
S4, S6 = "198.51.100.10", "2001:db8:3::10"
C4, C6, UNLISTED_C4, UNLISTED_C6 = "10.1.0.10", "2001:db8:1::10", "10.1.0.200", "2001:db8:1::200"
UNLISTED_S4 = "198.51.100.200"


def lab(*words: str) -> None:
    """Run the lab's own command."""
    subprocess.run(
        ["/usr/bin/python3", str(ROOT / "molecule/lab/lab.py"), *words, "--lab", LAB.name], check=True
    )


def on(host: str, command: str, *, stdin: str = "", seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a shell command on a host."""
    kept = ["ssh", "-F", str(LAB.ssh_config), host, command]
    return subprocess.run(kept, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)


def ok(host: str, command: str, *, stdin: str = "", seconds: float = 60) -> str:
    """The same; fail unless it succeeds, and return what it prints."""
    done = on(host, command, stdin=stdin, seconds=seconds)
    assert done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
    return done.stdout


def start_playbook(
    *arguments: str,
    playbook: str | Path = SITE,
    inventory: str | Path = LAB.inventory,
    cwd: Path = CHECKOUT,
    env: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """Start ansible-playbook as a user does: with nothing of Molecule's in the environment.

    `inventory`: against the lab as its own inventory describes it; else the arguments say where.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_", "SLUICE_"))}
    return subprocess.Popen(
        ["ansible-playbook", *(["-i", str(LAB.inventory)] if inventory else []), str(playbook), *arguments],
        cwd=cwd,
        env={**clean, "ANSIBLE_NOCOLOR": "1", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@dataclass(frozen=True)
class Play:
    """How a run ended."""

    code: int
    output: str

    def recap(self, host: str) -> dict[str, int]:
        """The host's line of the recap, such as {'ok': 40, 'changed': 0, ...}."""
        lines = re.findall(rf"^{host} +: (.*)$", self.output, re.MULTILINE)
        assert lines, self.output
        return {word.split("=")[0]: int(word.split("=")[1]) for word in lines[-1].split()}


def finish(run: subprocess.Popen[str]) -> Play:
    """Wait for a started run."""
    output, _ = run.communicate(timeout=300)
    return Play(run.returncode, output)


def playbook(*arguments: str, **where: Any) -> Play:
    """Run site.yml, or another playbook, and return how it ended."""
    return finish(start_playbook(*arguments, **where))


def converge(*arguments: str, **where: Any) -> Play:
    """The same; fail unless it succeeds."""
    play = playbook(*arguments, **where)
    assert play.code == 0, play.output
    return play


def listing(host: str) -> str:
    """Our table as the host's own nft lists it, without counters."""
    return ok(host, "nft --stateless list table inet sluice")


def counters(host: str) -> dict[str, int]:
    """The packets that each commented rule of our table has counted."""
    found: dict[str, int] = {}
    for item in json.loads(ok(host, "nft --json list table inet sluice"))["nftables"]:
        rule = item.get("rule", {})
        for statement in rule.get("expr", []):
            if "counter" in statement and "comment" in rule:
                found[rule["comment"]] = found.get(rule["comment"], 0) + statement["counter"]["packets"]
    return found


@dataclass(frozen=True)
class Transfer:
    """One way to move a file: who does it, in which mode, with which commands, over which family."""

    client: str  # curl, lftp, ftplib
    direction: str  # down, up
    command: str  # PASV, PORT, EPSV, EPRT
    family: int  # 4, 6
    options: str = ""  # of curl, or settings of lftp
    transparent: bool = False  # to the server itself, by a client that knows of no proxy

    def __str__(self) -> str:
        words = (self.client, self.direction, self.command, f"IPv{self.family}", self.options)
        return "-".join(word for word in words if word)

    @property
    def passive(self) -> bool:
        return self.command in ("PASV", "EPSV")

    @property
    def login(self) -> str:
        if self.transparent:
            return USER
        return f"{USER}@{S4 if self.family == 4 else f'[{S6}]'}"

    @property
    def address(self) -> str:
        if self.transparent:
            return S4 if self.family == 4 else S6
        return F4 if self.family == 4 else F6

    @property
    def host(self) -> str:
        return self.address if self.family == 4 else f"[{self.address}]"

    def run(self, local: str, remote: str) -> subprocess.CompletedProcess[str]:
        """Move the file between C's path and S's path in the user's home."""
        return getattr(self, f"_{self.client}")(local, remote)  # type: ignore[no-any-return]

    def _curl(self, local: str, remote: str) -> subprocess.CompletedProcess[str]:
        words = ["curl", "--globoff", "--verbose", "--silent", "--show-error", "--max-time", "60"]
        words += {
            "PASV": ["--disable-epsv"],
            "EPSV": [],
            "PORT": ["--ftp-port", "-", "--disable-eprt"],
            "EPRT": ["--ftp-port", "-"],
        }[self.command]
        words += self.options.split()
        words += ["--output" if self.direction == "down" else "--upload-file", local]
        words += [url(self.login, self.host, remote)]
        done = on("c1", shlex.join(words), seconds=90)
        if done.returncode == 0:
            assert f"> {self.command}" in done.stderr, done.stderr
        return done

    def _lftp(self, local: str, remote: str) -> subprocess.CompletedProcess[str]:
        script = [
            "set cmd:fail-exit yes; set net:max-retries 1; set net:timeout 20",
            "set ftp:ssl-allow no; set xfer:clobber yes",
            f"set ftp:passive-mode {str(self.passive).lower()}",
            f"set ftp:prefer-epsv {str(self.command == 'EPSV').lower()}",
            *([self.options] if self.options else []),
            f"open -u {self.login},{PASSWORD} ftp://{self.host}",
            f"get {remote} -o {local}" if self.direction == "down" else f"put {local} -o {remote}",
        ]
        return on("c1", shlex.join(["lftp", "-c", "; ".join(script)]), seconds=90)

    def _ftplib(self, local: str, remote: str) -> subprocess.CompletedProcess[str]:
        code = Path(__file__).with_name("ftplib_client.py").read_text()
        words = [
            "/usr/bin/python3",
            "-",
            self.address,
            self.login,
            PASSWORD,
            self.command,
            self.direction,
        ]
        return on("c1", shlex.join([*words, local, remote]), stdin=code, seconds=90)


def url(login: str, host: str, path: str = "") -> str:
    """An FTP URL; the login may hold `@` and `:`."""
    return f"ftp://{quote(login, safe='')}:{PASSWORD}@{host}/{path}"


def make_files() -> None:
    """Something to fetch in the home of S's user, and something to store on C."""
    home = f"/home/{USER}"
    ok("s1", f"head -c 3000000 /dev/urandom >{home}/small; head -c 60000000 /dev/urandom >{home}/large")
    ok("s1", f"chown {USER}: {home}/small {home}/large")
    ok("c1", "head -c 3000001 /dev/urandom >/var/tmp/to-store")


def arrives(transfer: Transfer) -> None:
    """Move a file; fail unless it arrives byte for byte."""
    here, there = (
        ("/var/tmp/fetched", "small") if transfer.direction == "down" else ("/var/tmp/to-store", "stored")
    )
    if transfer.direction == "down":
        ok("c1", f"rm -f {here}")
    else:
        ok("s1", f"rm -f /home/{USER}/{there}")
    done = transfer.run(here, there)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum_of("c1", here) == sum_of("s1", f"/home/{USER}/{there}")


def sum_of(host: str, path: str) -> str:
    """The file's SHA-256."""
    return ok(host, f"sha256sum {shlex.quote(path)}").split()[0]


def fetch(local: str = "/var/tmp/fetched", remote: str = "small", **how: Any) -> bool:
    """Whether C can fetch S's small file through F and N now, byte for byte."""
    ok("c1", f"rm -f {local}")
    transfer = Transfer(**{"client": "curl", "direction": "down", "command": "EPSV", "family": 4, **how})
    done = transfer.run(local, remote)
    return done.returncode == 0 and sum_of("c1", local) == sum_of("s1", f"/home/{USER}/{remote}")


def refused_run(play: Play, host: str) -> str:
    """The message with which a run failed on the host."""
    assert play.code != 0, play.output
    found = re.findall(rf"^fatal: \[{host}\]: .*$", play.output, re.MULTILINE)
    assert found, play.output
    return "\n".join(found)


def forget(host: str) -> None:
    """Drop connections that are kept open to a host that went away."""
    ssh.forget(LAB, host)
