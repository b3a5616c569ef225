# SPDX-License-Identifier: GPL-3.0-or-later
"""While a proxy still has the settings of before, the rules carry the flows of both descriptions (Policy F9):
what either allows the proxy, and of everybody else what both leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .conftest import WHOLE, drawn
from .paths import HopSpec, HostSpec, PathSpec
from .probes import Around
from .reference import Policy
from .scopes import FORWARD, GUARD, HOST, MANAGEMENT, Scope
from .trial import reference_of, trial
from .values import Ports

pytestmark = pytest.mark.usefixtures("packets")

PROBES = 1000 if WHOLE else 300
FORMER = PathSpec(hops=(HopSpec(), HopSpec()), modes=("both", "both", "both"))
MOVED = {
    "client_side": {"listen": "50500-51499", "source": "51500-51999"},
    "server_side": {"listen": "53500-53999", "source": "52000-52999"},
}
TWO = HopSpec(others=(HostSpec(ports=MOVED),))
REDIRECT = replace(FORMER, hops=(HopSpec(intercept="redirect"), HopSpec()))
CLIENT = replace(FORMER, hops=(HopSpec(intercept="tproxy client"), HopSpec(intercept="tproxy")))
# of before, and of now
CHANGES = {
    "ranges": (FORMER, replace(FORMER, ports=MOVED)),
    "modes": (FORMER, replace(FORMER, modes=("active", "passive", "active"))),
    "peers": (FORMER, replace(FORMER, clients=("host",), servers=("host",))),
    "ranges of one host of a hop": (
        replace(FORMER, hops=(HopSpec(), replace(TWO, others=(HostSpec(),)))),
        replace(FORMER, hops=(HopSpec(), TWO), modes=("both", "passive", "both")),
    ),
    "ranges where F redirects": (REDIRECT, replace(REDIRECT, ports=MOVED)),
    "modes where F redirects": (REDIRECT, replace(REDIRECT, modes=("active", "passive", "active"))),
    "ranges of tproxy": (CLIENT, replace(CLIENT, ports=MOVED)),
    "modes of tproxy": (CLIENT, replace(CLIENT, modes=("active", "passive", "active"))),
}


def both(former: Policy, now: Policy) -> Policy:
    """What holds meanwhile. Past the proxy goes what went past it anyway, and no transfer waits for DNS.

    New sessions are taken as they are to be, data as it was, too.
    """
    return replace(
        now,
        flows=(*now.flows, *(flow for flow in former.flows if not flow.stub)),
        serve=Ports.join((now.serve, former.serve)),
        sources=Ports.join((now.sources, former.sources)),
        between=(*now.between, *former.between),
        upstream=(*now.upstream, *former.upstream),
        takes=(*now.takes, *(one for one in former.takes if one.talking or one.waited_for)),
        foreign=(*now.foreign, *former.foreign),
    )


@pytest.mark.parametrize("scope", ["guard", "exclusive"])
@pytest.mark.parametrize("what", CHANGES)
def test_both_and_no_more(what: str, scope: str) -> None:
    random = drawn(f"union {what} {scope}")
    exclusive = Scope("exclusive", random.choice(MANAGEMENT), random.choice(HOST), random.choice(FORWARD))
    former, now = (replace(each, scope=GUARD if scope == "guard" else exclusive) for each in CHANGES[what])
    before = reference_of(former)
    with trial(now, former=former) as tried:
        meanwhile = tried.reference
        plain = reference_of(now)
        for host, policy in plain.policies.items():
            meanwhile.policies[host] = both(before.policies[host], policy)
        for spec, reference in ((former, before), (now, plain)):
            for host in now.hosts:
                complaints = tried.complaints(Around(spec, reference, host, random).all(PROBES))
                assert not complaints, "\n\n".join(complaints)
