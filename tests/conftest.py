# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is told to end ends like an interrupted one: what the tests started is stopped."""

from __future__ import annotations

import signal
from types import FrameType

from hypothesis import settings

settings.register_profile("sluice", deadline=None)  # no test asserts a time
settings.load_profile("sluice")


def pytest_configure() -> None:
    """Take SIGTERM as Ctrl-C, so that teardown runs."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
