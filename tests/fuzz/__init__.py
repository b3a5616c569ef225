# SPDX-License-Identifier: GPL-3.0-or-later
"""The fuzzing of the proxy; it finds the proxy's package wherever it is started."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "roles/proxy/files"))
