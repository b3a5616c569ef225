# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule deleted in turn: some probe, or some flow's counter, must notice (Policy 6).

A rule that nothing notices is redundant, and stands in the table with the reason; in the whole run a rule
in the table that is noticed after all is a mistake, too."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

import pytest

from .conftest import WHOLE, drawn
from .paths import HopSpec, PathSpec
from .probe import Probe
from .probes import Around
from .rules import Rule, delete, load, rules, text
from .test_other_tables import HELPER, helped_data_passes
from .trial import Trial, trial

pytestmark = pytest.mark.usefixtures("packets")

SAMPLE = 4
OF_EACH_KIND = 4

# (chain, what the rule's text contains, why nothing can notice that it is gone)
REDUNDANT: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "in_down|in_up",
        r"^ct direction reply tcp sport .* ct state established counter accept$",
        "answers to what the proxy opened: `guard` accepts what arrives and is for no proxy port anyway; "
        "a scope whose input drops by default needs the line",
    ),
    (".*", r" log prefix ", "writes to the kernel's log and decides nothing (F22)"),
)


def why_redundant(rule: Rule) -> str:
    """The reason in the table; empty if the rule does not stand there."""
    for chain, part, why in REDUNDANT:
        if re.fullmatch(chain, rule.chain) and re.search(part, rule.text):
            return why
    return ""


def kinds(path: Trial, around: Around) -> list[Probe]:
    """A few probes for each reason that the reference gives, each family, and each way."""
    found: dict[tuple[object, ...], list[Probe]] = defaultdict(list)
    for one in [*around.at_edges(), *around.all(4000)]:
        verdict = path.reference.judge(one, path.policed)
        kind = (verdict.why, verdict.flows, one.family, one.opener.place, one.acceptor.place, one.protocol)
        if len(found[kind]) < OF_EACH_KIND:
            found[kind].append(one)
    return [one for several in found.values() for one in several]


@pytest.fixture(scope="module", params=["f1", "n1"])
def mutable(request: pytest.FixtureRequest) -> Iterator[tuple[Trial, str, list[Probe]]]:
    """A path that uses all that makes rules, the rules of one host, and probes for all that they do."""
    host: str = request.param
    source = {"client_side": {"source": "20"}}
    spec = PathSpec(
        (HopSpec(ports=source), HopSpec()),
        ("both", "both", "both"),
        resolvers=("server", "stub"),
    )
    with trial(spec, [host]) as path:
        path.network.namespaces[host].run("nft", "-f", "-", stdin=HELPER)
        probes = kinds(path, path.around(host, drawn(f"mutations {host}")))
        assert not path.complaints(probes)
        yield path, host, probes


def widened(ruleset: str) -> Iterator[tuple[str, str]]:
    """Each port range one port longer at either end, each network twice as large: what, and the file."""
    first_rule = ruleset.index("flush table")
    for found in dict.fromkeys(re.findall(r"\b\d+-\d+\b", ruleset[first_rule:])):
        first, last = map(int, found.split("-"))
        for longer in (f"{first - 1}-{last}", f"{first}-{last + 1}"):
            if last < 65535 or longer != f"{first}-{last + 1}":
                yield f"{found} is {longer}", re.sub(rf"\b{found}\b", longer, ruleset)
    for found in dict.fromkeys(re.findall(r"[\da-f:.]+/\d+", ruleset[first_rule:])):
        larger = str(ip_network(found).supernet())
        yield f"{found} is {larger}", ruleset.replace(found, larger)


def test_each_value_matters(mutable: tuple[Trial, str, list[Probe]]) -> None:
    """A range or a network that is wrong by one step is noticed: the probes stand at the edges."""
    path, host, _ = mutable
    probes = path.around(host, drawn(f"edges {host}")).at_edges()
    assert not path.complaints(probes)
    mutants = list(widened(text(path.description, host)))
    if not WHOLE:
        mutants = drawn(f"values of {host}").sample(mutants, SAMPLE // 2)
    wrong = []
    for what, ruleset in mutants:
        load(path.network.namespaces[host], ruleset)
        if path.agrees(probes):
            wrong.append(what)
    path.reload()
    assert mutants
    assert wrong == []


def test_each_rule_matters(mutable: tuple[Trial, str, list[Probe]]) -> None:
    """Everything noticed, or listed with its reason."""
    path, host, probes = mutable
    namespace = path.network.namespaces[host]
    count = len(rules(namespace))
    numbers = range(count) if WHOLE else sorted(drawn(f"rules of {host}").sample(range(count), SAMPLE))
    wrong = []
    for number in numbers:
        path.reload()
        rule = rules(namespace)[number]
        delete(namespace, rule)
        noticed = not path.agrees(probes) or helped_data_passes(path, 4)
        why = why_redundant(rule)
        if noticed and why:
            wrong.append(f"noticed, though listed as redundant: {rule}")
        if not noticed and not why:
            wrong.append(f"nothing noticed that it was gone: {rule}")
    assert not wrong, "\n".join(wrong)
