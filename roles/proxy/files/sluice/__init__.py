# SPDX-License-Identifier: GPL-3.0-or-later
"""The FTP proxy of sluice.ftp: protocol (bytes), session (decisions), net (sockets)."""

__version__ = "0.1.0"
