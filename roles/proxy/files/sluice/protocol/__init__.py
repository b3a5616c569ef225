# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes in, values out: no socket, no clock, no asyncio."""
