# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference reads the design's lines as they stand there."""

from __future__ import annotations

import pytest

from .paths import HopSpec, PathSpec, leg_address
from .probe import End, Probe, User, probe
from .reference import Reference

TWELVE = {
    "f1": [
        "C -> F: -> proxy user: to port 21",
        "C <- F: <- proxy user: to port specified by C",
        "C -> F: -> proxy user: to port specified by proxy user",
        "N <- F: <- proxy user: to port 21",
        "N -> F: -> proxy user: to port specified by proxy user",
        "N <- F: <- proxy user: to port specified by N",
    ],
    "n1": [
        "F -> N: -> proxy user: to port 21",
        "F <- N: <- proxy user: to port specified by F",
        "F -> N: -> proxy user: to port specified by proxy user",
        "S <- N: <- proxy user: to port 21",
        "S -> N: -> proxy user: to port specified by proxy user",
        "S <- N: <- proxy user: to port specified by S",
    ],
}


def reference(*modes: str) -> Reference:
    """The lab's path."""
    description = PathSpec((HopSpec(), HopSpec()), modes).description()
    return Reference(description.topology, description.mode, description.ports, **description.scope)


@pytest.mark.parametrize("host", sorted(TWELVE))
def test_twelve_lines(host: str) -> None:
    """Design: for C-F-N-S with both modes exactly these, in this order."""
    assert [flow.line for flow in reference("both", "both", "both").policies[host].flows] == TWELVE[host]


@pytest.mark.parametrize(
    ("mode", "without"), [("active", "-> F: -> proxy user: to port specified"), ("passive", "C <- F")]
)
def test_a_mode_leaves_lines_out(mode: str, without: str) -> None:
    """Policy 2: a mode is chosen by leaving lines out."""
    lines = [flow.line for flow in reference(mode, "both", "both").policies["f1"].flows]
    left_out = [line for line in TWELVE["f1"][:3] if line not in lines]
    assert len(left_out) == 1
    assert without in left_out[0]


def end(place: str, leg: int, number: int, port: int, user: User = "proxy") -> End:
    """An end on a leg."""
    return End(place, leg_address(leg, 4, number), user, port)


@pytest.mark.parametrize(
    ("tried", "why"),
    [
        (probe(end("C", 0, 201, 40000), end("f1", 0, 202, 9421)), ""),
        (probe(end("f1", 1, 201, 40000, "root"), end("n1", 1, 202, 9421)), "not a flow: to a proxy port"),
        (probe(end("C", 0, 1, 40000), end("f1", 0, 202, 9421)), "not a flow: to a proxy port"),
        (probe(end("C", 0, 201, 40000), end("f1", 0, 2, 9421)), "not a flow: to a proxy port"),
        (probe(end("C", 0, 201, 40000), end("f1", 0, 202, 9420)), "proxy user: anything else"),
        (
            probe(end("C", 0, 201, 40000), end("f1", 0, 202, 9421, "root")),
            "other user serves on a proxy port",
        ),
    ],
    ids=str,
)
def test_a_scrape(tried: Probe, why: str) -> None:
    """Design: metrics, from where the hop says, to one address and port, held by the proxy's user."""
    description = PathSpec((HopSpec(), HopSpec()), ("both",) * 3, metrics="other").description()
    told = Reference(description.topology, description.mode, description.ports)
    assert told.policies["f1"].flows[-1].line == "monitor -> F: -> proxy user: to port 9421"
    verdict = told.judge(tried)
    assert verdict.passes == (not why), verdict.why
    assert why in verdict.why


@pytest.mark.parametrize(
    ("tried", "why"),
    [
        (probe(end("C", 0, 1, 40000), end("f1", 0, 2, 21)), ""),
        (probe(end("C", 0, 1, 40000), end("f1", 0, 2, 21, "other")), "other user serves on a proxy port"),
        (probe(end("C", 0, 201, 40000), end("f1", 0, 2, 21)), "not a flow: to a proxy port"),
        (probe(end("C", 0, 1, 40000), end("f1", 0, 2, 51000)), "proxy user: anything else"),
        (probe(end("C", 0, 1, 40000), end("f1", 0, 2, 22, "root")), ""),
        (probe(end("f1", 0, 2, 51000), end("C", 0, 1, 1024)), ""),
        (probe(end("f1", 0, 2, 51000), end("C", 0, 1, 1023)), "proxy user: anything else"),
        (probe(end("f1", 1, 1, 40000, "root"), end("n1", 1, 2, 21)), "other user speaks FTP upstream"),
        (probe(end("C", 0, 1, 40000), end("S", 2, 2, 21)), "FTP only through the proxy"),
        (probe(end("C", 0, 1, 40000), end("S", 2, 2, 80)), ""),
        (probe(end("f1", 0, 2, 40000, "root"), end("f1", 0, 2, 21)), "not a flow: to a proxy port"),
    ],
    ids=str,
)
def test_guard(tried: Probe, why: str) -> None:
    """Policy 1 and 2: what `guard` closes and what it leaves alone, one case for each reason."""
    verdict = reference("both", "both", "both").judge(tried)
    assert verdict.passes == (not why), verdict.why
    assert why in verdict.why
