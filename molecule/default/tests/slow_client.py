# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on C: fetches a file, a passive one, and halts after the first bytes until a line comes on its stdin.

Prints `halted`, then how the data ended (its SHA-256, or `reset`), then the reply that followed, then a
reply to one more command, or `closed`.
"""

from __future__ import annotations

import ftplib
import hashlib
import sys

address, login, password, path = sys.argv[1:]
with ftplib.FTP(address, timeout=120) as ftp:
    ftp.login(login, password)
    data = ftp.transfercmd(f"RETR {path}")
    content = data.recv(100_000)
    print("halted", flush=True)
    # A reset while it halts shows on the next read; go on at once then.
    sys.stdin.readline()
    try:
        while part := data.recv(1 << 20):
            content += part
        print(hashlib.sha256(content).hexdigest(), flush=True)
    except ConnectionResetError:
        print("reset", flush=True)
    data.close()
    for ask in (ftp.voidresp, lambda: ftp.sendcmd("PWD")):
        try:
            print(ask(), flush=True)
        except ftplib.Error as error:
            print(error, flush=True)
        except EOFError:
            print("closed", flush=True)
            break
