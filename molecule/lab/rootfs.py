# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system that a release's hosts share, and the small .deb repository that serves what it lacks.

Built once by mmdebstrap and kept in .cache/rootfs/RELEASE-DIGEST, where DIGEST is that of this file: a
changed recipe is another root file system. Built beside its place and renamed, so that an interrupted build
leaves nothing half.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plan import CACHE, FTP_PASSWORD, FTP_USER, LabError
from run import run

# What an administrator's host has before our roles run, the clients of C and the servers of S.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "iproute2", "procps", "iputils-ping"),
    *("python3-minimal", "python3", "curl", "lftp", "netcat-openbsd", "vsftpd"),
)
# What the roles install, and python3-apt, which Ansible's apt module brings: not on the hosts, but for
# iproute2, with which the tests look around; one of them takes it away.
ROLES_INSTALL = ("nftables", "python3-dnspython", "python3-prometheus-client", "python3-apt", "iproute2")
LEFT_OUT = ("doc", "man", "info", "locale", "lintian")

MASKED = (
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-journal-catalog-update.service",
    "ldconfig.service",
    "console-getty.service",
    "getty.target",
    "ssh.socket",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "dpkg-db-backup.timer",
)

VSFTPD = """\
listen=NO
listen_ipv6=YES
anonymous_enable=NO
local_enable=YES
write_enable=YES
local_umask=022
connect_from_port_20=YES
pam_service_name=vsftpd
secure_chroot_dir=/var/run/vsftpd/empty
"""
HTTP_UNIT = """\
[Unit]
Description=A web server on S: what is not FTP must still pass the hops

[Service]
ExecStart=/usr/bin/python3 -m http.server --bind :: --directory /srv 80
"""


def ensure(release: str) -> Path:
    """Return the folder that holds `root` and `debs` of the release; build it if it is not there yet.

    Raises LabError if it cannot be built.
    """
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    target = CACHE / "rootfs" / f"{release}-{digest}"
    with _lock(target.parent, release) as lock:
        if not target.is_dir():
            for old in target.parent.glob(f"{release}-*"):
                if old.name.endswith(".partial"):
                    _remove(old)
            print(f"lab: building the root file system of {release}, once (about half a minute)", flush=True)
            partial = target.with_name(f"{target.name}.partial")
            try:
                _build(release, partial, lock)
                partial.rename(target)
            finally:
                _remove(partial)
    return target


@contextmanager
def _lock(folder: Path, release: str) -> Iterator[int]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _remove(folder: Path) -> None:
    """A killed build may leave mounts below: never follow them."""
    if folder.exists():
        run("rm", "-rf", "--one-file-system", str(folder))


def _build(release: str, folder: Path, lock: int) -> None:
    root, debs = folder / "root", folder / "debs"
    debs.mkdir(parents=True)
    archives = "/var/cache/apt/archives"
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
        '--customize-hook=chroot "$1" apt-get install -qq --no-install-recommends --reinstall '
        f"--download-only {' '.join(ROLES_INSTALL)}",
        f'--customize-hook=cp "$1"{archives}/*.deb "$SLUICE_DEBS"',
        release,
        str(root),
        *_mirror(),
    ]
    environment = {**os.environ, "SLUICE_DEBS": str(debs), "DEBIAN_FRONTEND": "noninteractive"}
    # It holds the lock, too: if we are killed and it lives on, the next build waits for its end.
    bootstrap = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=(lock,))
    try:
        bootstrap.wait()
    except BaseException:
        bootstrap.terminate()  # it takes away its mounts
        bootstrap.wait()
        raise
    if bootstrap.returncode != 0:
        raise LabError(
            f"mmdebstrap could not build the root file system of {release}; what it said is above."
        )
    _index(debs)
    _customise(root)


def _mirror() -> list[str]:
    """The mirror that this machine's apt uses for Debian itself, if it has one; else mmdebstrap's own."""
    sites = run(
        "apt-get",
        "indextargets",
        "--format",
        "$(SITE)",
        "Created-By: Packages",
        "Origin: Debian",
        "Label: Debian",
    )
    return sites.split()[:1]


def _index(debs: Path) -> None:
    """Write the index of a flat repository."""
    with (debs / "Packages").open("w") as index:
        for deb in sorted(debs.glob("*.deb")):
            fields = run("dpkg-deb", "--field", str(deb)).rstrip("\n")
            content = deb.read_bytes()
            index.write(f"{fields}\nFilename: ./{deb.name}\nSize: {len(content)}\n")
            index.write(f"SHA256: {hashlib.sha256(content).hexdigest()}\n\n")


def _customise(root: Path) -> None:
    (root / "etc/hostname").unlink(missing_ok=True)  # each host writes its own
    (root / "etc/resolv.conf").unlink(missing_ok=True)  # it was this machine's
    (root / "etc/machine-id").write_text("")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    run("chroot", str(root), "systemctl", "disable", "vsftpd.service")  # the lab starts it, on s1 only
    (units / "lab-http.service").write_text(HTTP_UNIT)
    (root / "etc/vsftpd.conf").write_text(VSFTPD)
    run("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/sh", FTP_USER)
    run("chroot", str(root), "chpasswd", stdin=f"{FTP_USER}:{FTP_PASSWORD}\n")
    shutil.rmtree(root / "var/log/journal", ignore_errors=True)
