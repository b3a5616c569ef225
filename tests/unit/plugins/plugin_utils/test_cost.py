# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's flows cost: they are in proportion to its own two legs, not to the whole path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Hop, Path

HOPS = 7


class Untouchable:
    """Stands for what a derivation has no business with."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} of something beyond the host's own legs was asked for")


class Some(tuple[Hop, ...]):
    """Hops that may be taken one by one, and not be looked through."""

    __slots__ = ()

    def __iter__(self) -> Any:
        raise AssertionError("all hops were looked through")


def path() -> Path:
    """Seven hops."""
    hops = [
        {
            "name": f"H{i}",
            "hosts": {f"h{i}": {"client_side": f"10.0.{i}.1", "server_side": f"10.0.{i}.2"}},
        }
        for i in range(HOPS)
    ]
    ends = {"clients": {"networks": ["192.0.2.0/24"]}, "servers": {"networks": ["198.51.100.0/24"]}}
    return read_path({**ends, "hops": hops})


@pytest.mark.parametrize("position", range(HOPS))
def test_a_hosts_flows_touch_its_own_legs_alone(position: int) -> None:
    whole = path()
    beyond: Any = Untouchable()
    hops = Some(hop if abs(i - position) <= 1 else beyond for i, hop in enumerate(whole.hops))
    seen = replace(
        whole,
        clients=whole.clients if position == 0 else beyond,
        hops=hops,
        servers=whole.servers if position == whole.last else beyond,
    )
    host = whole.hops[position].hosts[0]
    assert derive(seen, host) == derive(whole, host)
