# SPDX-License-Identifier: GPL-3.0-or-later
"""How one reaches a host: SSH over the management bridge, from this machine through the bridge's namespace.

`ssh -F STATE/ssh_config f1` is all it takes, for a person, for Ansible and for testinfra: the configuration's
ProxyCommand opens the connection inside the namespace and hands the socket over.
"""

from __future__ import annotations

import subprocess
import time

from plan import HOSTS, MANAGEMENT, Lab, LabError
from run import run


def write_config(lab: Lab) -> None:
    """Make the lab's keys, its known hosts and the client configuration."""
    for name in ("key", "host_key"):
        run(
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            f"sluice lab {lab.id}",
            "-f",
            str(lab.state / name),
        )
    (lab.state / "control").mkdir()
    host_key = (lab.state / "host_key.pub").read_text()
    (lab.state / "known_hosts").write_text("".join(f"{host} {host_key}" for host in HOSTS))
    lines = [
        "User root",
        f"IdentityFile {lab.state}/key",
        "IdentitiesOnly yes",
        "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {lab.state}/known_hosts",
        "GlobalKnownHostsFile none",
        f"ProxyCommand nsenter --net=/run/netns/{lab.management} nc -w 3 -F %h %p",
        "ProxyUseFdpass yes",
        "ControlMaster auto",
        f"ControlPath {lab.state}/control/%n",
        "ControlPersist 60",
        "LogLevel ERROR",
    ]
    for host in HOSTS:
        lines += [f"Host {host}", f"  HostName {MANAGEMENT[host]}", f"  HostKeyAlias {host}"]
    lab.ssh_config.write_text("\n".join(lines) + "\n")


def command(lab: Lab, host: str, *words: str) -> list[str]:
    """The command that runs the words on the host, in a new connection."""
    return ["ssh", "-F", str(lab.ssh_config), "-o", "ControlPath=none", host, *words]


def wait(lab: Lab, hosts: tuple[str, ...] = HOSTS, seconds: float = 120.0) -> None:
    """Return when each host has finished booting and lets us in; raise LabError if one does not."""
    deadline = time.monotonic() + seconds
    for host in hosts:
        while True:
            ask = command(lab, host, "systemctl", "is-system-running", "--wait")
            done = subprocess.run(ask, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
            if done.stdout.strip() in ("running", "degraded"):
                break
            if time.monotonic() > deadline:
                said = (done.stdout + done.stderr).strip()
                raise LabError(
                    f"{host} did not boot in {seconds:.0f} s ({said}); see {lab.folder(host)}/console.log."
                )
            time.sleep(0.1)


def forget(lab: Lab, host: str) -> None:
    """Close the connections that are kept open to the host."""
    for socket in [*(lab.state / "control").glob(host), *(lab.state / "ansible").glob("*")]:
        subprocess.run(["ssh", "-O", "exit", "-S", str(socket), host], capture_output=True, check=False)
