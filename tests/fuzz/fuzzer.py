# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that atheris drives; __main__.py starts it."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["sluice"]):
    from tests.fuzz.targets import feed

atheris.Setup(sys.argv, feed)
atheris.Fuzz()
