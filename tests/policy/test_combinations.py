# SPDX-License-Identifier: GPL-3.0-or-later
"""Every combination of the modes of a host's two legs with the families and the scope, for each position that
a host can have, and every interception with them.

Two oracles: every probe passes or is refused as the reference says, and each flow's counter moves by the
number of probes that the reference gives to it (Policy 6)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest

from .conftest import WHOLE, drawn
from .edges import FAMILIES
from .paths import HopSpec, HostSpec, PathSpec
from .scopes import FORWARD, GUARD, HOST, MANAGEMENT, Scope
from .trial import trial

pytestmark = pytest.mark.usefixtures("packets")

MODES = ("active", "passive", "both")
PROBES = 1500 if WHOLE else 500
SAMPLE = 6
# a second host of a hop: the same ranges, or its own where its neighbours see them
OTHERS = (
    HostSpec(),
    HostSpec(
        ports={
            "client_side": {"listen": "50500-51499", "source": "51500-51999"},
            "server_side": {"listen": "53500-53999", "source": "52000-52999"},
        }
    ),
)


@dataclass(frozen=True)
class Combination:
    """The host at `position` of `hops` hops, the modes of its legs, families and scope of the whole path."""

    position: int
    hops: int
    client_leg: str
    server_leg: str
    families: tuple[int, ...]
    scope: str
    intercepts: tuple[str, ...] = ()  # of each hop

    def __str__(self) -> str:
        families = "+".join(str(family) for family in self.families)
        said = f"{self.position}of{self.hops}-{self.client_leg}-{self.server_leg}-v{families}-{self.scope}"
        return "-".join([said, *(kind.replace(" ", "_") or "none" for kind in self.intercepts)])

    def spec(self) -> PathSpec:
        """A path with these; what they leave open is drawn."""
        random = drawn(f"path {self}")
        modes = [random.choice(MODES) for _ in range(self.hops + 1)]
        modes[self.position - 1], modes[self.position] = self.client_leg, self.server_leg
        # the others of each hop: none, one like the first, one with other ranges
        others = [random.choice([(), OTHERS[:1], OTHERS[1:]]) for _ in range(self.hops)]
        intercepts = self.intercepts or ("",) * self.hops
        exclusive = Scope("exclusive", random.choice(MANAGEMENT), random.choice(HOST), random.choice(FORWARD))
        return PathSpec(
            hops=tuple(
                HopSpec((self.families, self.families), others=others[at], intercept=intercepts[at])
                for at in range(self.hops)
            ),
            modes=tuple(modes),
            families=self.families,
            clients=random.choice([("leg",), ("host",), ("host", "edge")]),
            servers=random.choice([("leg",), ("host", "edge"), ("all",)]),
            metrics=random.choice(["", "own", "other"]),
            scope=exclusive if self.scope == "exclusive" else GUARD,
        )


# alone between the ends, next to the clients, next to the servers, between two other hops
ALL = [
    Combination(position, hops, *rest)
    for position, hops in ((1, 1), (1, 2), (2, 2), (2, 3))
    for rest in product(MODES, MODES, ((4,), (6,), FAMILIES), ("guard", "exclusive"))
]

KINDS = ("redirect", "tproxy", "tproxy client")
PAIRS = [each for each in product(("", *KINDS), repeat=2) if any(each)]
SCOPES = ("guard", "exclusive")


def of_pair(pair: tuple[str, ...], position: int, scope: str) -> Combination:
    """A host of two hops, what else it could have drawn."""
    random = drawn(f"pair {pair} {position} {scope}")
    families = random.choice([(4,), (6,), FAMILIES])
    return Combination(position, 2, random.choice(MODES), random.choice(MODES), families, scope, pair)


INTERCEPTING = [
    *(
        Combination(1, 1, *rest, (kind,))
        for kind in KINDS
        for rest in product(MODES, MODES, ((4,), (6,), FAMILIES), SCOPES)
    ),
    *(of_pair(*rest) for rest in product(PAIRS, (1, 2), SCOPES)),
]


@pytest.mark.parametrize("combination", ALL if WHOLE else drawn("combinations").sample(ALL, SAMPLE), ids=str)
def test_exact(combination: Combination) -> None:
    """With the host's rules alone, and with everybody's: what passes, and no more."""
    _try(combination)


@pytest.mark.parametrize(
    "combination", INTERCEPTING if WHOLE else drawn("interceptions").sample(INTERCEPTING, SAMPLE), ids=str
)
def test_9_1_exact_where_a_hop_intercepts(combination: Combination) -> None:
    """The same."""
    _try(combination)


def _try(combination: Combination) -> None:
    spec = combination.spec()
    host = drawn(f"host {combination}").choice(spec.hosts_of(combination.position - 1))
    with trial(spec, [host]) as alone:
        around = alone.around(host, drawn(f"probes {combination}"))
        complaints = alone.complaints(around.all(PROBES))
        assert not complaints, "\n\n".join(complaints)
    if combination.hops > 1:
        with trial(spec) as together:
            complaints = together.complaints(around.all(PROBES // 3))
            assert not complaints, "\n\n".join(complaints)
