# SPDX-License-Identifier: GPL-3.0-or-later
"""The example examples/other-firewall: where an administrator's own table denies by default, its rules let
FTP's flows in and out, and ours guard them still (POLICY 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
import pytest
from ansible.plugins.test import core
from ansible_collections.sluice.ftp.plugins.filter.allowed_flows import allowed_flows

from .conftest import WHOLE, drawn
from .paths import HopSpec, PathSpec
from .probe import Probe
from .prober import UIDS
from .probes import Around
from .trial import Trial, trial

pytestmark = pytest.mark.usefixtures("packets")

PROBES = 1500 if WHOLE else 500
HOST: Final = "f1"
TEMPLATES: Final = Path(__file__).parents[2] / "examples/other-firewall/templates"
# both kinds of neighbour on the server side; resolvers on the last hop
PATHS: Final = {
    "alone": PathSpec((HopSpec(),), ("both", "both"), resolvers=("server", "stub")),
    "before-another-hop": PathSpec((HopSpec(), HopSpec()), ("both", "both", "both")),
    "redirect": PathSpec((HopSpec(intercept="redirect"),), ("both", "both")),
    "tproxy": PathSpec((HopSpec(intercept="tproxy client"),), ("both", "both")),
}


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Iterator[Trial]:
    """A path with our rules and the administrator's on its first hop."""
    with trial(PATHS[request.param], [HOST]) as made:
        said = made.description
        load(made, allowed_flows(said.topology, HOST, said.mode, said.ports))
        made.talk()
        yield made


@pytest.fixture
def around(path: Trial) -> Around:
    """Probes around that host."""
    return path.around(HOST, drawn("the administrator's table"))


def load(path: Trial, flows: Sequence[dict[str, Any]]) -> None:
    """Load the administrator's table as the example's playbook does, with these flows."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["search"] = core.TestModule().tests()["search"]
    text = environment.get_template("firewall.nft.j2").render(
        firewall_management=["192.0.2.0/24"], firewall_ftp_user=UIDS["proxy"], firewall_ftp_flows=flows
    )
    path.network.namespaces[HOST].run("nft", "-f", "-", stdin=text + "\n")


def lines(path: Trial, one: Probe) -> set[str]:
    """The host's flows that a probe belongs to."""
    verdict = path.reference.judge(one, path.policed)
    return {line for _, line in verdict.flows} if verdict.passes else set()


def expected(path: Trial, one: Probe) -> bool:
    """What the host opens or accepts is a flow; past it and within it only our table has a say."""
    within = one.local or HOST not in (one.opener.place, one.acceptor.place)
    return path.reference.judge(one, path.policed).passes if within else bool(lines(path, one))


def passed(path: Trial, probes: Sequence[Probe]) -> set[Probe]:
    """Those that pass; what stays silent is asked once more, for the machine may be busy."""
    found = {one for one, seen in zip(probes, path.prober.run(probes), strict=True) if seen.passed}
    again = [one for one in probes if one not in found and expected(path, one)]
    return found | {one for one, seen in zip(again, path.prober.run(again), strict=True) if seen.passed}


def flow_probes(around: Around) -> list[Probe]:
    """One for each flow and family."""
    return [around.probe(draft) for _, draft in around.flow_drafts()]


def test_every_flow_passes_and_nothing_else(path: Trial, around: Around) -> None:
    """In and out; what passes the host, or stays within it, is as it was."""
    probes = list(dict.fromkeys([*flow_probes(around), *around.all(PROBES)]))
    wanted = {one for one in probes if expected(path, one)}
    found = passed(path, probes)
    assert {str(one) for one in wanted - found} == set()
    assert {str(one) for one in found - wanted} == set()
    tried = {line for one in wanted for line in lines(path, one)}
    assert tried == {flow.line for flow in path.reference.policies[HOST].flows}


def test_without_the_examples_rules_no_flow_passes(path: Trial, around: Around) -> None:
    """Drop is final: our table's accept opens nothing that another table denies."""
    load(path, [])
    probes = [one for one in flow_probes(around) if not one.local]
    assert probes
    assert passed(path, probes) == set()


def test_without_our_table_more_would_pass(path: Trial, around: Around) -> None:
    """The administrator's rules know peers and ports; who holds the local end is ours to say (F3)."""
    path.network.namespaces[HOST].run("nft", "delete", "table", "inet", "sluice")
    probes = [one for one in around.all(PROBES) if one.acceptor.place == HOST and not expected(path, one)]
    assert passed(path, probes) != set()
