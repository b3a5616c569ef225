# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets these tests import what they share as `tests.unit.sluice.playbook`, wherever pytest is started."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
