# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command; a failure becomes a sentence."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from plan import LabError

TOOLS = {  # command: Debian package
    "ip": "iproute2",
    "nft": "nftables",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nc": "netcat-openbsd",
    "systemd-nspawn": "systemd-container",
}


def run(*command: str, stdin: str | None = None) -> str:
    """Return what the command prints; raise LabError with the command and its complaint if it fails."""
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise LabError(f"`{shlex.join(command)}` failed: {complaint}")
    return done.stdout


def inside(namespace: str, *command: str) -> Sequence[str]:
    """The command as run in a network namespace: the file system stays this machine's."""
    return ("nsenter", f"--net=/run/netns/{namespace}", *command)


def check_machine(needs: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise LabError with one sentence if this machine cannot run the lab, or lacks what else is needed."""
    if os.geteuid() != 0:
        raise LabError("The lab needs root: it makes network namespaces and boots systemd-nspawn machines.")
    for tool, package in {**TOOLS, **needs}.items():
        if shutil.which(tool) is None:
            raise LabError(f"The lab needs {tool}, of the package {package}; `make setup` installs it.")
    probe = f"sluice-probe-{os.getpid()}"
    try:
        run("ip", "netns", "add", probe)
        run("ip", "netns", "delete", probe)
    except LabError as error:
        raise LabError(f"The lab needs network namespaces, and this machine makes none: {error}") from None
