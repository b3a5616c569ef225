# SPDX-License-Identifier: GPL-3.0-or-later
"""A path that becomes transparent, and addressed again: both kinds at once, N behind the client's address.
The scenario transparent tries all of interception."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support import F4, N4, converge, fetch, ok
from test_04_refused import reaches
from test_22_taken_away import DESCRIPTION


def intercepting() -> dict[str, Any]:
    """The lab's path, F with TPROXY at the client's address, N with REDIRECT."""
    topology: dict[str, Any] = copy.deepcopy(DESCRIPTION["sluice_topology"])
    f, n = topology["hops"]
    f |= {"intercept": "tproxy", "source": "client"}
    n |= {"intercept": "redirect", "identity": False}
    return topology


def routing(host: str) -> list[str]:
    """What a hop may leave behind, but for its files: rules for packets, routes, marks and units."""
    return [
        *(
            ok(host, f"ip -{version} {what} show table 21021 || true")
            for version in (4, 6)
            for what in ("rule", "route")
        ),
        ok(host, "nft --stateless list ruleset"),
        ok(host, "systemctl list-unit-files --no-legend 'sluice*'"),
        ok(host, "systemctl show --value --property=CapabilityBoundingSet sluice"),
    ]


@pytest.fixture(scope="module")
def before() -> Iterator[dict[str, list[str]]]:
    """What there is of it on an addressed path, and again afterwards. F comes by `ip` through the run."""
    found = {host: routing(host) for host in ("f1", "n1")}
    ok("f1", "dpkg --remove --force-depends iproute2 && ! command -v ip")
    play = converge("-e", json.dumps({"sluice_topology": intercepting()}))
    for host, capabilities in (("f1", "CAP_NET_RAW"), ("n1", "none")):
        assert f"{host}: the proxy's capabilities are {capabilities} from now on" in play.output
    yield found
    converge()
    assert {host: routing(host) for host in found} == found
    assert fetch()


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("command", ["EPSV", "EPRT"])
def test_9_1_a_client_that_knows_of_no_proxy_has_its_file(command: str, family: int) -> None:
    assert fetch(transparent=True, command=command, family=family)


@pytest.mark.usefixtures("before")
def test_9_1_nobody_addresses_the_hops() -> None:
    for port in (21, 2121):
        assert not reaches("c1", F4, port)
        assert not reaches("f1", N4, port)


def test_f4_f7_each_host_has_what_its_kind_needs(before: dict[str, list[str]]) -> None:
    f, n = routing("f1"), routing("n1")
    assert f[-1].split() == ["cap_net_raw"]
    assert n[-1].split() == []
    for interface in ("to_c1", "to_n1"):
        assert f"iif {interface} " in f[0]
        assert f"iif {interface} " in f[2]
    assert n[:4] == before["n1"][:4]
    assert "sluice-routes.service" in f[-2]
