# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be seen of a host: its files, its tables, its sysctls. Two of these tell what changed in between.

python3 molecule/lab/snapshot.py LAB NAME      writes STATE/snapshots/NAME-f1.json and NAME-n1.json, once
"""

from __future__ import annotations

import json
import subprocess
import sys

import ssh
from plan import FORWARDS, Lab
from run import inside, run

# Runs on the host. Left out: what lives in memory, logs, what apt, Ansible and useradd keep for themselves.
PROBE = r"""
import hashlib, json, os, stat, subprocess

SKIP = set(
    "/dev /proc /run /sys /tmp /var/tmp /var/log /var/cache /var/lib/apt /var/lib/dpkg /var/lib/systemd "
    "/root/.ansible /root/.ansible_async /etc/ld.so.cache /etc/passwd- /etc/shadow- /etc/group- "
    "/etc/gshadow-".split()
)

def lines(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.splitlines()

seen = {}
for folder, folders, files in os.walk("/"):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in SKIP and f != "__pycache__"]
    for path in (os.path.join(folder, name) for name in folders + files):
        if path not in SKIP:
            s = os.lstat(path)
            seen[path] = [oct(s.st_mode), s.st_uid, s.st_gid]
            if stat.S_ISLNK(s.st_mode):
                seen[path].append(os.readlink(path))
            elif stat.S_ISREG(s.st_mode):
                with open(path, "rb") as file:
                    seen[path].append(hashlib.file_digest(file, "sha256").hexdigest())
for package in lines("dpkg-query", "--show", "--showformat", "${Package}\n"):
    seen["package " + package] = lines("dpkg-query", "--listfiles", package)
for key, value in (line.split(" = ", 1) for line in lines("sysctl", "-a") if " = " in line):
    if key.startswith("net.") and "nf_conntrack_count" not in key:
        seen["sysctl " + key] = value
for line in lines("systemctl", "list-unit-files", "--no-legend", "--no-pager"):
    unit, state = line.split()[:2]
    seen["unit " + unit] = state
print(json.dumps(seen))
"""

COMMAND_NOT_FOUND = 127  # of the shell
Snapshot = dict[str, object]


def take(lab: Lab, host: str) -> Snapshot:
    """Return path, unit, sysctl, package or table: what stands there now."""
    command = ssh.command(lab, host, "/usr/bin/python3", "-")
    done = subprocess.run(command, input=PROBE, capture_output=True, text=True, check=True)
    seen: Snapshot = json.loads(done.stdout)
    for line in _tables(lab, host).splitlines():
        seen[line] = "there"
    return seen


def _tables(lab: Lab, host: str) -> str:
    """By the host's own nft where it has one: an older one may die of what a newer one has loaded (F17)."""
    own = ssh.command(lab, host, "nft", "list", "tables")
    done = subprocess.run(own, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == COMMAND_NOT_FOUND:
        return run(*inside(lab.machine(host), "nft", "list", "tables"))
    done.check_returncode()
    return done.stdout


def difference(before: Snapshot, after: Snapshot) -> dict[str, tuple[object, object]]:
    """Return what differs as name: (before, after), less the files of packages that came in between."""
    came = [after[name] for name in after if name.startswith("package ") and name not in before]
    brought = {path for files in came if isinstance(files, list) for path in files}
    brought |= {f"/usr{path}" for path in brought if path.startswith(("/bin/", "/lib/", "/sbin/"))}
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
        and name not in brought
        and not name.startswith("package ")
        and not (name.startswith("unit ") and name not in before and _unit_file(name) & brought)
    }


def _unit_file(name: str) -> set[str]:
    unit = name.removeprefix("unit ")
    return {f"/lib/systemd/system/{unit}", f"/usr/lib/systemd/system/{unit}"}


def load(lab: Lab, name: str, host: str) -> Snapshot:
    """Return a snapshot that was written before."""
    seen: Snapshot = json.loads((lab.state / "snapshots" / f"{name}-{host}.json").read_text())
    return seen


def _main() -> None:
    lab, name = Lab(sys.argv[1]), sys.argv[2]
    folder = lab.state / "snapshots"
    folder.mkdir(exist_ok=True)
    for host in FORWARDS:
        target = folder / f"{name}-{host}.json"
        if not target.exists():
            target.write_text(json.dumps(take(lab, host)))
    table = folder / f"{name}-admin_nat"
    if not table.exists() and not lab.returning:
        table.write_text(admin_table(lab))


def admin_table(lab: Lab) -> str:
    """N's own translation table as nft lists it, with the handles that tell whether it was loaded anew."""
    return run(*inside(lab.machine("n1"), "nft", "--handle", "list", "table", "inet", "admin_nat"))


if __name__ == "__main__":
    _main()
