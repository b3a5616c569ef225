# SPDX-License-Identifier: GPL-3.0-or-later
"""FTP servers that people run, each serving a directory of its own to one user whose password is "secret".

The programs come from Debian's packages, unpacked by `make setup` into .cache/servers, for they may not be
installed beside each other. They run as an ordinary user, from a configuration of their own, on loopback.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path as File
from typing import Any, Protocol

from pyftpdlib.authorizers import DummyAuthorizer  # type: ignore[import-untyped]
from pyftpdlib.handlers import FTPHandler  # type: ignore[import-untyped]
from pyftpdlib.servers import ThreadedFTPServer  # type: ignore[import-untyped]

from .harness import NOBODY, Site
from .wire import PATIENCE, eventually, refused

UNPACKED = File(__file__).parents[2] / ".cache" / "servers" / "root"


class Server(Protocol):
    """A running server: the directory that it serves, the name of its user."""

    root: File
    user: str

    def close(self) -> None:
        """Stop it."""


class Pyftpdlib:
    """In a thread of the test's own process."""

    user = "me"

    def __init__(self, site: Site, address: str, port: int) -> None:
        logging.getLogger("pyftpdlib").setLevel(logging.ERROR)
        self.root = _directory(site)
        authorizer = DummyAuthorizer()
        authorizer.add_user(self.user, "secret", str(self.root), perm="elradfmwMT")
        handler: Any = type("Handler", (FTPHandler,), {"authorizer": authorizer, "auth_failed_timeout": 0})
        self._server = ThreadedFTPServer((address, port), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"handle_exit": False}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.close_all()
        self._thread.join(PATIENCE)


VSFTPD = """\
{listen}
listen_port={port}
background=NO
run_as_launching_user=YES
ftp_username={name}
nopriv_user={name}
anonymous_enable=YES
anon_root={root}
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=022
write_enable=YES
secure_chroot_dir={root}
seccomp_sandbox=NO
connect_from_port_20=NO
"""

# the password is "secret"
PASSWD = "me:$5$sluice$ORWvukq4ttYE.VM0kyfXEcV0UWhh7UUq.prs5XqpVw3:{uid}:{gid}::{root}:/bin/false\n"

PROFTPD = """\
ServerName test
ServerType standalone
DefaultAddress {address}
SocketBindTight on
Port {port}
User {name}
Group {group}
AuthOrder mod_auth_file.c
AuthUserFile {directory}/passwd
RequireValidShell off
UseReverseDNS off
WtmpLog off
AllowOverwrite on
AllowStoreRestart on
AllowRetrieveRestart on
DelayEngine off
ControlsEngine off
ScoreboardFile {directory}/scoreboard
PidFile {directory}/pid
SystemLog {directory}/log
TransferLog none
"""


class Program:
    """A program of the unpacked packages; it ends with its process group."""

    def __init__(
        self, site: Site, address: str, port: int, *, user: str, command: str, files: Mapping[str, str]
    ) -> None:
        """`command` and `files` hold {directory} and what else is known only here."""
        import grp
        import pwd

        program = UNPACKED / "usr/sbin" / command.split(maxsplit=1)[0]
        assert program.exists(), f"{program} is not there: make setup"
        self.user = user
        self.root = _directory(site)
        directory = _directory(site)
        root = os.geteuid() == 0
        entry = pwd.getpwuid(NOBODY if root else os.geteuid())
        known = {
            "directory": directory,
            "root": self.root,
            "address": address,
            "listen": f"listen_ipv6=YES\nlisten_address6={address}"
            if ":" in address
            else f"listen=YES\nlisten_address={address}",
            "port": port,
            "name": entry.pw_name,
            "group": grp.getgrgid(entry.pw_gid).gr_name,
            "uid": entry.pw_uid,
            "gid": entry.pw_gid,
        }
        for name, text in files.items():
            (directory / name).write_text(text.format(**known))
            (directory / name).chmod(0o600)
            os.chown(directory / name, entry.pw_uid, entry.pw_gid)
        (libraries,) = UNPACKED.glob("usr/lib/*-linux-gnu")
        self._process = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                *(("--reuid", str(NOBODY), "--regid", str(entry.pw_gid), "--clear-groups") if root else ()),
                str(program.parent / command.format(**known).split()[0]),
                *command.format(**known).split()[1:],
            ],
            env={"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(libraries)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            eventually(f"{command} listens", lambda: not refused(address, port))
        except AssertionError:
            self.close()
            raise

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)


def vsftpd(site: Site, address: str, port: int) -> Server:
    return Program(site, address, port, user="ftp", command="vsftpd {directory}/conf", files={"conf": VSFTPD})


def proftpd(site: Site, address: str, port: int) -> Server:
    return Program(
        site,
        address,
        port,
        user="me",
        command="proftpd --nodaemon --quiet --config {directory}/conf",
        files={"conf": PROFTPD, "passwd": PASSWD},
    )


KINDS: Mapping[str, Callable[[Site, str, int], Server]] = {
    "pyftpdlib": Pyftpdlib,
    "vsftpd": vsftpd,
    "proftpd": proftpd,
}


def _directory(site: Site) -> File:
    """A directory that the servers' user may write."""
    directory = File(tempfile.mkdtemp(dir=site.directory))
    directory.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
    return directory
