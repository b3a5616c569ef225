# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths that nobody thought of: one to five hops of one to three hosts, in either scope, with anything that a
description may say (Policy 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .conftest import WHOLE, drawn
from .edges import FAMILIES
from .paths import HopSpec, HostSpec, PathSpec
from .scopes import FORWARD, GUARD, HOST, MANAGEMENT, Scope
from .trial import trial
from .values import Ports

pytestmark = pytest.mark.usefixtures("packets")

PARTS = 4 if WHOLE else 1  # side by side, for each takes a minute
EXAMPLES = 40 if WHOLE else 30
PROBES = 400 if WHOLE else 150
MODES = st.sampled_from(["both", "active", "passive"])
SIDES = ("client_side", "server_side")


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, dict[str, str]]:
    """Four ranges that do not touch each other, in any order; the client side's source may be port 20."""
    bounds = sorted(draw(st.lists(st.integers(1025, 65534), min_size=8, max_size=8, unique=True)))
    leaves = draw(st.permutations([(side, leaf) for side in SIDES for leaf in ("listen", "source")]))
    found: dict[str, dict[str, str]] = {side: {} for side in SIDES}
    for (side, leaf), first, last in zip(leaves, bounds[::2], bounds[1::2], strict=True):
        found[side][leaf] = f"{first}-{draw(st.sampled_from([last, first]))}"
    if draw(st.booleans()):
        found["client_side"]["source"] = "20"
    return found


@st.composite
def hops(draw: st.DrawFn, legs: list[tuple[int, ...]], at: int, crowded: bool) -> HopSpec:
    """A hop between two legs with these families. Its hosts are mostly alike, and may differ in anything."""
    maybe_ports = st.one_of(st.just(dict[str, Any]()), ranges())
    maybe_public = st.one_of(st.just((False, False)), st.tuples(st.booleans(), st.booleans()))
    first = draw(st.builds(HostSpec, maybe_public, maybe_ports))
    other = st.one_of(st.just(first), st.builds(HostSpec, maybe_public, maybe_ports))
    others = draw(st.lists(other, min_size=1, max_size=2)) if crowded else []
    kinds = ["", "", "redirect", "tproxy"]
    if set(legs) == {legs[0]}:
        kinds.append("tproxy client")  # the next hop needs its clients' families
    return HopSpec(
        (legs[at], legs[at + 1]), first.public, first.ports, tuple(others), draw(st.sampled_from(kinds))
    )


def _without_conflict(hop: HopSpec, shared: Mapping[str, Any], control_ports: tuple[int, ...]) -> HopSpec:
    """Without an interception that the description refuses: control ports may be in no range of the hop's."""
    for ports in (shared, *(host.ports for host in hop.hosts)):
        for side in SIDES:
            for leaf in ports.get(side, {}).values():
                if any(port in Ports.read(leaf) for port in (2121, *control_ports)):
                    return replace(hop, intercept="")
    return hop


SCOPES = st.one_of(
    st.just(GUARD),
    st.builds(
        Scope,
        st.just("exclusive"),
        st.sampled_from(MANAGEMENT),
        st.sampled_from(HOST),
        st.sampled_from(FORWARD),
    ),
)


@st.composite
def paths(draw: st.DrawFn) -> PathSpec:
    """Any path that the description can say today."""
    count = draw(st.integers(1, 5))
    families = draw(st.sampled_from([(4,), (6,), FAMILIES]))
    # both sides of a leg need a family in common, so a leg has one or both
    legs = [draw(st.sampled_from([families, families[:1]])) for _ in range(count - 1)]
    legs = [families, *legs, families]
    crowded = draw(st.sets(st.integers(0, count - 1), max_size=2))
    control_ports = draw(st.sampled_from([(), (21, 2121), (2121,), (990, 2100, 2121)]))
    ports = draw(st.one_of(st.just(dict[str, Any]()), ranges()))
    found = [draw(hops(legs, at, at in crowded)) for at in range(count)]
    found = [_without_conflict(hop, ports, control_ports) for hop in found]
    networks = st.sampled_from([("leg",), ("host",), ("edge", "host", "edge"), ("leg", "edge"), ("all",)])
    return PathSpec(
        hops=tuple(found),
        modes=tuple(draw(MODES) for _ in range(count + 1)),
        clients=draw(networks),
        servers=draw(networks),
        families=families,
        client_ports=draw(st.sampled_from(["", "2000-2999", "40000"])),
        server_ports=draw(st.sampled_from(["", "40000-41000", "1024-1024"])),
        control_ports=control_ports,
        resolvers=draw(st.sampled_from([(), (), ("server",), ("stub",), ("server", "stub")])),
        metrics=draw(st.sampled_from(["", "own:1024", "other:1024"])),
        ports=ports,
        scope=draw(SCOPES),
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_any_path(part: int) -> None:
    """Around one host of the path, every host's rules loaded."""

    @seed(drawn(f"random paths {part}").randrange(2**32))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(spec=paths(), drawn_by=st.integers(0, 2**32))
    def exact(spec: PathSpec, drawn_by: int) -> None:
        random = Random(drawn_by)
        with trial(spec) as everybody:
            host = random.choice(spec.hosts)
            around = everybody.around(host, random)
            complaints = everybody.complaints(around.all(PROBES))
            assert not complaints, f"around {host}:\n" + "\n\n".join(complaints)

    exact()
