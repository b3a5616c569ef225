# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets, splice, timers, signals. Nothing in here knows FTP."""
