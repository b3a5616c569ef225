# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule deleted in turn, each value wrong by a step, each element of a set missing: some probe, some
flow's counter, or what ICMP does, must notice (Policy 6).

A rule that nothing notices is redundant, and stands in the table with the reason; in the whole run a rule
in the table that is noticed after all is a mistake, too."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import pytest

from .conftest import WHOLE, drawn
from .edges import FAMILIES, networks
from .icmp import all_of_it_works
from .mutants import Mutant, mutants
from .paths import HopSpec, HostSpec, PathSpec, leg_address
from .probe import Probe
from .probes import Around
from .rules import Rule, delete, load, rules, text
from .scopes import ANYWHERE, HALL, OFFICE, STATION, Scope
from .test_interception import data_follows, fails_closed
from .test_other_tables import HELPED, HELPER, helped_data_passes
from .trial import AT_ONCE, Trial, trial
from .values import Packet

pytestmark = pytest.mark.usefixtures("packets")

VALUES, RULES = 3, 2  # of a sample
# The whole waits for silence most of the time: in parts, it does so side by side.
PARTS: Final = 6 if WHOLE else 1
OF_EACH_KIND = 4

SOURCE_20: Final = HopSpec(ports={"client_side": {"source": "20"}})
# the second host of a hop, in all its ranges beside the first
DIFFERENT: Final = HostSpec(
    ports={
        "client_side": {"listen": "50500-51499", "source": "51500-51999"},
        "server_side": {"listen": "53500-53999", "source": "52000-52999"},
    }
)
SEVERAL: Final = HopSpec(others=(DIFFERENT,))
CLIENT, SERVER = leg_address(0, 4, 1), leg_address(2, 4, 2)
N2: Final = [leg_address(1, family, 12) for family in FAMILIES]
# What FTP's own rules refuse must else be allowed, or nothing would notice that they are gone; but not with
# n1, or nothing would notice that its flows' rules are.
EXCLUSIVE: Final = Scope(
    "exclusive",
    management={"networks": networks(STATION), "ports": [22, 2222]},
    host=(
        {"direction": "out", "protocol": "udp", "ports": 53, "networks": networks(HALL)},
        {"direction": "out", "protocol": "tcp", "ports": "20-25", "networks": N2},
        {"direction": "out", "protocol": "tcp", "ports": "50000-51999", "networks": N2},
        {"direction": "in", "protocol": "tcp", "ports": [80, 443]},
        {"direction": "in", "protocol": "udp", "ports": "123", "networks": networks(OFFICE)},
    ),
    forward=(
        {"from": ANYWHERE, "to": ANYWHERE, "protocol": "tcp", "ports": "20-80"},
        {"from": networks(OFFICE), "to": networks(HALL)},
        {"from": networks(STATION), "to": networks(HALL), "protocol": "udp", "ports": 514},
        {"from": [CLIENT], "to": [SERVER], "protocol": "tcp", "ports": HELPED},
        {"from": [SERVER], "to": [CLIENT], "protocol": "tcp", "ports": 30001},
    ),
)
# Servers that no hop's address is one of: what overlaps, nothing would miss.
SERVERS: Final = ("host", "edge")
# paths that use all that makes rules, and the host whose rules are changed
PATHS: Final = {
    "guard-f1": PathSpec(
        (SOURCE_20, HopSpec()), ("both",) * 3, servers=SERVERS, resolvers=("server", "stub"), metrics="other"
    ),
    "guard-n1": PathSpec(
        (SOURCE_20, HopSpec()), ("both",) * 3, servers=SERVERS, resolvers=("server", "stub"), metrics="other"
    ),
    "several-g1": PathSpec((SEVERAL, HopSpec(), SEVERAL), ("both",) * 4, servers=SERVERS),
    "exclusive-f1": PathSpec(
        (SOURCE_20, SEVERAL), ("both",) * 3, servers=SERVERS, metrics="own", scope=EXCLUSIVE
    ),
    "exclusive-redirect-f1": PathSpec(
        (HopSpec(intercept="redirect"), SEVERAL), ("both",) * 3, servers=SERVERS, scope=EXCLUSIVE
    ),
    "exclusive-tproxy-f1": PathSpec(
        (HopSpec(intercept="tproxy client"), SEVERAL), ("both",) * 3, servers=SERVERS, scope=EXCLUSIVE
    ),
    # everywhere a server may be: so may be the hosts' own addresses
    "redirect-f1": PathSpec((HopSpec(intercept="redirect"),), ("both",) * 2, servers=("all",)),
    "tproxy-f1": PathSpec(
        (HopSpec(intercept="tproxy client"), HopSpec(intercept="tproxy")),
        ("both",) * 3,
        servers=SERVERS,
        metrics="other",
    ),
    "tproxy-n1": PathSpec((HopSpec(), HopSpec(intercept="tproxy")), ("both",) * 3, servers=SERVERS),
}

# (scope and interception, chain, what the rule's text contains, why nothing can notice that it is gone)
REDUNDANT: Final[tuple[tuple[str, str, str, str], ...]] = (
    (
        "guard.*",
        "in_down|in_up",
        r"^ct direction reply .* ct state established counter accept$",
        "answers to what the proxy opened: `guard` accepts what arrives and is for no proxy port anyway",
    ),
    (".*", ".*", r" log prefix ", "writes to the kernel's log and decides nothing (F22)"),
    (
        ".*",
        ".*",
        r" ct state invalid counter accept$",
        "packets of a running transfer that conntrack missed some of (F20); a probe is a new connection",
    ),
    (
        ".*",
        "in_down",
        r'^tcp dport \S+ counter drop comment "not a flow: to a proxy port"$',
        "packets at a server's address of no connection that conntrack knows (F9); a probe opens one",
    ),
    (
        ".*",
        "forward",
        r"^meta mark ",
        "the kernel drops most by itself; test_interception.py has it not do so",
    ),
    (
        ".*",
        "intercept_tproxy",
        r"^fib daddr type local return$",
        "in_down takes nothing at the host's own addresses either",
    ),
    (
        "exclusive redirect",
        "intercept_redirect",
        r"^fib daddr type local return$",
        "where SERVERS are, the host has no address; in `guard`, where all are servers, it is noticed",
    ),
    (
        "guard tproxy.*",
        "intercept_tproxy",
        r"^meta l4proto \{ icmp, ipv6-icmp \} ",
        "errors of routers (F12), which probes are too small for; in `exclusive` it is noticed",
    ),
    (
        "exclusive tproxy client",
        "output|guard_out",
        r'^tcp sport @serve meta skuid != \d+ jump guard_out$|"other user serves on a proxy port"$',
        "nobody is reached there: the proxy serves at others' addresses, which a rule before it guards",
    ),
    (
        "exclusive.*",
        "input|output|forward",
        r'^counter drop comment "exclusive: anything else ',
        "the chain drops by default; the line counts what it drops",
    ),
    (
        "exclusive.*",
        "input|output",
        r'comment "multicast listeners"$',
        "only a switch that follows multicast listeners needs to hear of them; here is none",
    ),
)


def intercepting(spec: PathSpec) -> dict[str, str]:
    """The kind of interception, by host."""
    return {
        host: hop.intercept for at, hop in enumerate(spec.hops) for host in spec.hosts_of(at) if hop.intercept
    }


def why_redundant(kind: str, rule: Rule) -> str:
    """The reason in the table; empty if the rule does not stand there."""
    for hosts, chain, part, why in REDUNDANT:
        if re.fullmatch(hosts, kind) and re.fullmatch(chain, rule.chain) and re.search(part, rule.text):
            return why
    return ""


def kinds(path: Trial, around: Around) -> list[Probe]:
    """A few probes for each reason that the reference gives, each entry of a list, each family and way."""
    found: dict[tuple[object, ...], list[Probe]] = defaultdict(list)
    for one in [*around.at_edges(), *around.all(4000)]:
        verdict = path.reference.judge(one, path.policed)
        ends = one.opener.place, one.acceptor.place
        kind = (verdict.why, verdict.flows, one.family, *ends, one.protocol, listed(around, one))
        if len(found[kind]) < OF_EACH_KIND:
            found[kind].append(one)
    return [one for several in found.values() for one in several]


def listed(around: Around, one: Probe) -> tuple[bool, ...]:
    """Which entries of the scope's lists speak of a probe."""
    if not around.listed:
        return ()
    there = Packet(one.opener.address, one.opener.port, one.dialled, one.acceptor.port)
    back = Packet(one.dialled, one.acceptor.port, one.opener.address, one.opener.port)
    entries = (*around.listed.inward, *around.listed.outward, *around.listed.past)
    return (
        around.listed.management.holds(one.protocol, back),
        *(entry.holds(one.protocol, there) for entry in entries),
    )


@pytest.fixture(scope="module", params=PATHS)
def mutable(request: pytest.FixtureRequest) -> Iterator[tuple[Trial, str, list[Probe]]]:
    """A path, the host whose rules are changed, and probes for all that they do."""
    name: str = request.param
    host = name.rpartition("-")[2]
    with trial(PATHS[name], [host]) as path:
        path.network.namespaces[host].run("nft", "-f", "-", stdin=HELPER)
        probes = kinds(path, path.around(host, drawn(f"mutations {name}")))
        assert not path.complaints(probes)
        yield path, host, probes


@pytest.mark.parametrize("part", range(PARTS))
def test_each_value_matters(mutable: tuple[Trial, str, list[Probe]], part: int) -> None:
    """A range or a network that is wrong by one step, or an element that is missing, is noticed."""
    path, host, _ = mutable
    intercepts = host in intercepting(path.spec)
    random = drawn(f"values of {path.spec}")
    probes = path.around(host, random).at_edges()
    found: list[Mutant] = list(mutants(text(path.description, host)))
    found = found[part::PARTS] if WHOLE else random.sample(found, VALUES)
    touched = [[one for one in probes if mutant.touches(one)][:AT_ONCE] for mutant in found]
    assert not path.complaints(list(dict.fromkeys(one for several in touched for one in several)))
    wrong = []
    for mutant, first in zip(found, touched, strict=True):
        load(path.network.namespaces[host], mutant.ruleset)
        if path.agrees(first) and path.agrees(probes) and (not intercepts or fails_closed(path, host)):
            wrong.append(mutant.what)
    path.reload()
    assert found
    assert wrong == []


@pytest.mark.parametrize("part", range(PARTS))
def test_each_rule_matters(mutable: tuple[Trial, str, list[Probe]], part: int) -> None:
    """Everything noticed, or listed with its reason."""
    path, host, probes = mutable
    name = intercepting(path.spec).get(host, "")
    namespace = path.network.namespaces[host]
    scope = path.spec.scope.name
    count = len(rules(namespace))
    sample = sorted(drawn(f"rules of {path.spec}").sample(range(count), RULES))
    numbers = range(part, count, PARTS) if WHOLE else sample
    wrong = []
    for number in numbers:
        path.reload()
        rule = rules(namespace)[number]
        delete(namespace, rule)
        noticed = (
            not path.agrees(probes)
            or helped_data_passes(path, 4)
            or (name.startswith("redirect") and not all(data_follows(path, family) for family in FAMILIES))
            or (scope == "exclusive" and not all_of_it_works(path))
            or (name and not fails_closed(path, host))
        )
        why = why_redundant(f"{scope} {name}".strip(), rule)
        if noticed and why:
            wrong.append(f"noticed, though listed as redundant: {rule}")
        if not noticed and not why:
            wrong.append(f"nothing noticed that it was gone: {rule}")
    assert not wrong, "\n".join(wrong)
