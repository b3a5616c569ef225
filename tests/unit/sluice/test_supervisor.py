# SPDX-License-Identifier: GPL-3.0-or-later
"""What the main process refuses before it starts a worker."""

from __future__ import annotations

import asyncio

import pytest
from sluice.net import supervisor


def test_no_more_workers_than_places_to_count_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts in a part of its own (13.7): one beyond them would serve nobody."""
    monkeypatch.setattr(supervisor, "MOST_WORKERS", 0)

    async def spawn() -> None:
        supervisor.Supervisor("no file", None)._spawn()

    with pytest.raises(supervisor.StartError, match="workers run, most for sessions of before"):
        asyncio.run(spawn())
