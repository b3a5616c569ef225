# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on C: one transfer with Python's ftplib, with exactly the data command that was asked for.

ftplib itself takes PASV and PORT for IPv4 and EPSV and EPRT for IPv6; the extended ones work for both.
"""

from __future__ import annotations

import ftplib
import socket
import sys
from pathlib import Path


class Client(ftplib.FTP):
    """ftplib with the choice of command left to us."""

    extended = False

    def makepasv(self) -> tuple[str, int]:
        if not self.extended:
            return super().makepasv()
        assert self.sock is not None
        host, port = ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())
        return str(host), int(port)

    def makeport(self) -> socket.socket:
        if not self.extended:
            return super().makeport()
        assert self.sock is not None
        listener = socket.create_server(("", 0), family=self.af, backlog=1)
        self.sendeprt(self.sock.getsockname()[0], listener.getsockname()[1])
        listener.settimeout(20)
        return listener


def main() -> None:
    address, login, password, command, direction, local, remote = sys.argv[1:]
    with Client(timeout=30) as ftp:
        ftp.connect(address, 21)
        ftp.login(login, password)
        ftp.extended = command in ("EPSV", "EPRT")
        ftp.set_pasv(command in ("PASV", "EPSV"))
        if direction == "down":
            with Path(local).open("wb") as file:
                ftp.retrbinary(f"RETR {remote}", file.write)
        else:
            with Path(local).open("rb") as file:
                ftp.storbinary(f"STOR {remote}", file)


if __name__ == "__main__":
    main()
