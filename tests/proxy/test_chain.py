# SPDX-License-Identifier: GPL-3.0-or-later
"""10.1 and 14.3: to a hop the one before is the client, and it behaves as one that is looked at closely."""

from __future__ import annotations

import pytest

from .harness import Paths


@pytest.mark.parametrize("mode", ["active", "passive"])
def test_10_1_data_comes_from_the_address_of_the_control_connection(paths: Paths, mode: str) -> None:
    """As N checks it of its client F (3.14, 3.16): F dials from there, or names that address."""
    x = paths.front(server_side__mode=mode).open()
    control = x.s.peer[0]
    _c_data, s_data = x.begin("RETR f")
    assert s_data.peer[0] == control
    if mode == "active":
        assert x.s.lines[-2].startswith(b"EPRT |1|" + control.encode() + b"|")


def test_14_3_a_hop_logs_the_one_before_as_its_client(paths: Paths) -> None:
    path = paths.two()
    since = len(path.last.log)
    x = path.open()
    start = path.last.record("session-start", since)
    assert start["SLUICE_CLIENT"].startswith(f"{path.net.f_server}:")
    x.in_step()
