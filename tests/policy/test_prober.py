# SPDX-License-Identifier: GPL-3.0-or-later
"""The prober itself: it sees what passes, what does not, and who answered. Fails if it could be fooled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .network import Network
from .paths import HopSpec, PathSpec, leg_address
from .probe import USERS, End, probe
from .prober import UIDS, Prober

pytestmark = pytest.mark.usefixtures("packets")

C, F, S = leg_address(0, 4, 1), leg_address(0, 4, 2), leg_address(1, 4, 2)


@pytest.fixture
def network() -> Iterator[Network]:
    """C, f1 and S, without any rule."""
    with Network(PathSpec((HopSpec(),), ("both", "both")).row()) as made:
        yield made


def test_without_rules_everything_passes(network: Network) -> None:
    """Nothing but rules refuses a probe: every user, low ports, both families, UDP, loopback, forwarding."""
    probes = [
        probe(End(a, from_address, opener, 20), End(b, to_address, acceptor, port), protocol=protocol)
        for a, from_address, b, to_address in (
            ("C", C, "f1", F),
            ("f1", F, "C", C),
            ("C", C, "S", S),
            ("C", leg_address(0, 6, 1), "S", leg_address(1, 6, 2)),
            ("f1", "127.0.0.1", "f1", F),
            ("f1", "::1", "f1", "::1"),
        )
        for opener in USERS
        for acceptor in USERS
        for port in (21, 1023, 65535)
        for protocol in ("tcp", "udp")
    ]
    seen = zip(probes, Prober(network).run(probes), strict=True)
    refused = [f"{one}: {result.how}" for one, result in seen if not result.passed]
    assert refused == []


def test_silence_is_refusal(network: Network) -> None:
    """Dropped packets of either direction, and of a user: exactly those probes are refused."""
    uid = UIDS["other"]
    network.namespaces["f1"].run(
        "nft", "-f", "-",
        stdin=f"""
            table inet by_hand {{
              chain in {{ type filter hook input priority 0; tcp dport 1001 drop; }}
              chain out {{ type filter hook output priority 0; tcp sport 1002 drop; meta skuid {uid} drop; }}
            }}
        """,
    )  # fmt: skip
    cases = {
        probe(End("C", C, "root", 40001), End("f1", F, "root", 1000)): True,
        probe(End("C", C, "root", 40002), End("f1", F, "root", 1001)): False,
        probe(End("C", C, "root", 40003), End("f1", F, "root", 1002)): False,
        probe(End("C", C, "root", 40004), End("f1", F, "other", 1003)): False,
        probe(End("C", C, "root", 40005), End("f1", F, "proxy", 1004)): True,
        probe(End("C", C, "root", 40006), End("f1", F, "other", 1005), protocol="udp"): False,
        probe(End("f1", F, "other", 40007), End("C", C, "root", 1006)): False,
        probe(End("f1", F, "other", 40008), End("C", C, "root", 1007), protocol="udp"): False,
        probe(End("C", C, "other", 40009), End("S", S, "root", 1008)): True,
    }
    seen = Prober(network).run(list(cases))
    assert [one.passed for one in seen] == list(cases.values()), [one.how for one in seen]


def test_somebody_else_answers(network: Network) -> None:
    """A probe passes only if the acceptor it means answers: interception is seen."""
    network.namespaces["f1"].run(
        "nft", "-f", "-",
        stdin=f"""
            table ip by_hand {{
              chain to {{ type nat hook prerouting priority dstnat; tcp dport 1001 dnat to {S}:1002; }}
            }}
        """,
    )  # fmt: skip
    probes = [
        probe(End("f1", leg_address(1, 4, 1), "root", 40002), End("S", S, "root", 1002)),
        probe(End("C", C, "root", 40001), End("f1", F, "proxy", 1001)),
    ]
    other, meant = Prober(network).run(probes)
    assert other.passed
    assert not meant.passed
    assert "S root" in meant.how


def test_one_tuple_twice(network: Network) -> None:
    """Probes that differ in the user alone share a 4-tuple; they wait for each other, and each is tried."""
    probes = [
        probe(End(*ends[0], opener, 2000), End(*ends[1], acceptor, 2001))
        for ends in ((("C", C), ("f1", F)), (("f1", F), ("C", C)))
        for opener in USERS
        for acceptor in USERS
    ]
    assert {seen.how for seen in Prober(network).run(probes)} == {"answered"}
