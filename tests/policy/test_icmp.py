# SPDX-License-Identifier: GPL-3.0-or-later
"""The scope `exclusive` drops by default, and ICMP with it, were it not for its own rules (F12, Policy 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from .edges import FAMILIES
from .icmp import ASKS, SAYS, data_arrives, echo_comes_back, neighbours_are_found, smaller_mtu
from .paths import HopSpec, HostSpec, PathSpec, leg_address
from .rules import delete, rules
from .scopes import ANYWHERE, Scope
from .trial import Trial, trial

pytestmark = pytest.mark.usefixtures("packets")

EXCLUSIVE: Final = Scope(
    "exclusive",
    management={"networks": ANYWHERE},
    host=({"direction": "in", "protocol": "tcp", "ports": 80},),
    forward=({"from": ANYWHERE, "to": ANYWHERE, "protocol": "tcp", "ports": 80},),
)


@pytest.fixture(scope="module")
def path() -> Iterator[Trial]:
    """C - f1 - a router - n1 and n2 - a router - S; rules on f1 alone."""
    spec = PathSpec((HopSpec(), HopSpec(others=(HostSpec(),))), ("both", "both", "both"), scope=EXCLUSIVE)
    with trial(spec, ["f1"]) as made:
        yield made


@pytest.fixture
def without(path: Trial) -> Iterator[Trial]:
    """The same without any rule for ICMP."""
    namespace = path.network.namespaces["f1"]
    found = [rule for rule in rules(namespace) if "icmp" in rule.text]
    assert found
    for rule in found:
        delete(namespace, rule)
    yield path
    path.reload()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", SAYS)
def test_a_smaller_mtu_is_told(path: Trial, what: str, family: int) -> None:
    """F12: all of 200,000 bytes arrive."""
    ends, place, device = SAYS[what]
    with smaller_mtu(path, place, device, ["C", "f1"]):
        assert data_arrives(path, *ends(path, family))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", SAYS)
def test_without_the_rules_nothing_arrives(without: Trial, what: str, family: int) -> None:
    """F12: without this the test before would prove nothing."""
    ends, place, device = SAYS[what]
    with smaller_mtu(without, place, device, ["C", "f1"]):
        assert not data_arrives(without, *ends(without, family))


@pytest.mark.parametrize("what", ASKS)
def test_neighbours_are_found(path: Trial, what: str) -> None:
    """IPv6 finds nobody without neighbour discovery, in either direction."""
    assert neighbours_are_found(path, *ASKS[what])


@pytest.mark.parametrize("what", ASKS)
def test_without_the_rules_nobody_is_found(without: Trial, what: str) -> None:
    """Without this the test before would prove nothing."""
    assert not neighbours_are_found(without, *ASKS[what])


@pytest.mark.parametrize("family", FAMILIES)
def test_echo(path: Trial, family: int) -> None:
    """The host answers and may ask; its proxy's user may not, and nothing is forwarded that nobody listed."""
    client, host, server = leg_address(0, family, 1), leg_address(0, family, 2), leg_address(2, family, 2)
    assert echo_comes_back(path, "C", host)
    assert echo_comes_back(path, "f1", client)
    assert not echo_comes_back(path, "f1", client, "proxy")
    assert not echo_comes_back(path, "C", server)
