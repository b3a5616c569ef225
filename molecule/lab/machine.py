# SPDX-License-Identifier: GPL-3.0-or-later
"""One host: an overlay over the shared root file system, booted by systemd-nspawn.

Each host has a keeper, a process that starts systemd-nspawn and, when the host reboots, renews its network
and starts it again: the namespace would otherwise survive with rules, conntrack and addresses, and no
reboot test could fail.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import control_group
import network
from plan import HOSTS, LINKS, MANAGEMENT_BRIDGE, Lab, LabError
from run import run

REBOOT = 133  # systemd-nspawn's exit code with --keep-unit when the machine wants to boot again
SIGRTMIN_REBOOT = signal.SIGRTMIN + 5  # systemd(1): reboot.target


def prepare(lab: Lab, host: str, root: Path) -> None:
    """Mount the host's overlay and write what is its own: name, keys, package source."""
    folder = lab.folder(host)
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True)
    layers = f"lowerdir={root},upperdir={folder}/upper,workdir={folder}/work"
    run("mount", "-t", "overlay", lab.machine(host), "-o", layers, str(folder / "root"))
    etc = folder / "root/etc"
    (etc / "hostname").write_text(f"{host}\n")
    (etc / "hosts").write_text(_names(host))
    (etc / "apt/sources.list").write_text(f"deb [trusted=yes] http://{MANAGEMENT_BRIDGE}/ ./\n")
    key = etc / "ssh/ssh_host_ed25519_key"
    key.write_bytes((lab.state / "host_key").read_bytes())
    key.chmod(0o600)
    keys = folder / "root/root/.ssh"
    keys.mkdir(mode=0o700, exist_ok=True)
    (keys / "authorized_keys").write_bytes((lab.state / "key.pub").read_bytes())
    if lab.release != "bookworm":  # its sshd shuts out who connects and does not log in, as the tests do
        (etc / "ssh/sshd_config.d/lab.conf").write_text("PerSourcePenalties no\n")
    if host == "s1":
        wants = etc / "systemd/system/multi-user.target.wants"
        (wants / "vsftpd.service").symlink_to("/lib/systemd/system/vsftpd.service")
        (wants / "lab-http.service").symlink_to("/etc/systemd/system/lab-http.service")


def _names(host: str) -> str:
    lines = [f"127.0.0.1 localhost {host}", "::1 localhost ip6-localhost"]
    for link in LINKS:
        for end in link:
            lines += [f"{address.split('/')[0]} {end.host}" for address in end.addresses if end.host != host]
    return "\n".join(lines) + "\n"


def start(lab: Lab, host: str) -> None:
    """Start the host's keeper; it runs on after this process ends."""
    control_group.create(lab.machine(host))
    with (lab.folder(host) / "console.log").open("a") as log:
        keeper = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("lab.py")), "keep", host, "--lab", lab.name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (lab.folder(host) / "keeper.pid").write_text(str(keeper.pid))


def keep(lab: Lab, host: str) -> int:
    """Run the host until it powers off; return systemd-nspawn's exit code. The keeper's main function."""
    entrances = control_group.create(lab.machine(host))

    def enter() -> None:
        for procs in entrances:
            procs.write_text("0")

    command = [
        "systemd-nspawn",
        *("--boot", "--quiet", "--register=no", "--keep-unit", "--console=read-only"),
        *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--capability=CAP_NET_ADMIN"),
        f"--directory={lab.folder(host) / 'root'}",
        f"--machine={lab.machine(host)}",
        f"--hostname={host}",
        f"--network-namespace-path=/run/netns/{lab.machine(host)}",
    ]
    environment = {
        **os.environ,
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    }  # /proc/sys/net, for sysctl inside
    while True:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, preexec_fn=enter)  # noqa: PLW1509
        (lab.folder(host) / "nspawn.pid").write_text(str(process.pid))

        def power_off(_signal: int, _frame: FrameType | None, pid: int = process.pid) -> None:
            os.kill(pid, signal.SIGTERM)

        signal.signal(signal.SIGTERM, power_off)
        code = process.wait()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if code != REBOOT:
            return code
        network.renew(lab, host)


def is_up(lab: Lab, host: str) -> bool:
    """Whether the host's keeper runs."""
    return _keeper(lab, host) is not None


def reboot(lab: Lab, host: str, seconds: float = 30.0) -> None:
    """Reboot the host as `systemctl reboot` in it does; return when it boots again."""
    before = _pid(lab, host, "nspawn")
    leader = Path(f"/proc/{before}/task/{before}/children").read_text().split()
    if before is None or not leader:
        raise LabError(f"{host} is not up.")
    os.kill(int(leader[0]), SIGRTMIN_REBOOT)
    deadline = time.monotonic() + seconds
    while _pid(lab, host, "nspawn") == before:
        if time.monotonic() > deadline or not is_up(lab, host):
            raise LabError(f"{host} did not reboot; see {lab.folder(host) / 'console.log'}.")
        time.sleep(0.05)


def power_off(lab: Lab, hosts: tuple[str, ...] = HOSTS, seconds: float = 10.0) -> None:
    """Shut the hosts down in good order, or by force after the given time."""
    for host in hosts:
        if (keeper := _keeper(lab, host)) is not None:
            os.kill(keeper, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(is_up(lab, host) for host in hosts) and time.monotonic() < deadline:
        time.sleep(0.05)
    cut_power(lab, hosts)


def cut_power(lab: Lab, hosts: tuple[str, ...]) -> None:
    """Kill the hosts without any notice."""
    for host in hosts:
        if (keeper := _keeper(lab, host)) is not None:
            os.kill(keeper, signal.SIGKILL)
        control_group.remove(lab.machine(host))
        for kind in ("propagate", "unix-export"):  # what systemd-nspawn leaves where /run is no tmpfs
            leftover = Path("/run/systemd/nspawn", kind, lab.machine(host))
            if leftover.is_dir():
                leftover.rmdir()


def _pid(lab: Lab, host: str, name: str) -> int | None:
    try:
        return int((lab.folder(host) / f"{name}.pid").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _keeper(lab: Lab, host: str) -> int | None:
    """The keeper's process id, if that process still is this host's keeper and not a zombie."""
    pid = _pid(lab, host, "keeper")
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return None
    return pid if words[-5:] == ["keep", host, "--lab", lab.name, ""] else None
