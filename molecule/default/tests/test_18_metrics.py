# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics of F: C may scrape it from one of its addresses and not from another; N has none."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest
import yaml
from support import C4, F4, LAB, S4, UNLISTED_C4, USER, converge, counters, listing, ok, on, url

LINE = "monitor -> F: -> proxy user: to port 9421"
LISTENING = "ss --tcp --listening --numeric --no-header"
SIZE = 3000000  # of S's file `small`


def scrape(source: str) -> str:
    return shlex.join(["curl", "-sS", "--max-time", "3", "--interface", source, f"http://{F4}:9421/metrics"])


@pytest.fixture(scope="module")
def described() -> tuple[str, str]:
    """What a run is told: metrics on F alone."""
    topology = yaml.safe_load((LAB.inventory / "group_vars/sluice.yml").read_text())["sluice_topology"]
    topology["hops"][0]["metrics_from"] = [f"{C4}/32"]
    topology["hops"][0]["hosts"]["f1"]["metrics"] = F4
    return "-e", json.dumps({"sluice_topology": topology})


@pytest.fixture(scope="module", autouse=True)
def scraped(described: tuple[str, str]) -> Iterator[None]:
    """Off before and afterwards: nothing listens, no flow."""
    for turn in range(2):
        for host in ("f1", "n1"):
            assert ":9421" not in ok(host, LISTENING)
            assert "9421" not in listing(host)
        if turn == 0:
            converge(*described)
            yield
            converge()


def moved() -> float:
    """Bytes of passive downloads on the clients' leg, since the proxy's start."""
    name = 'sluice_transfer_bytes_total{direction="download",leg="C-F",mode="passive"}'
    (value,) = (line.split()[-1] for line in ok("c1", scrape(C4)).splitlines() if line.startswith(name))
    return float(value)


def test_a_listed_address_gets_the_counts() -> None:
    fetch = ["curl", "-s", "-S", "--max-time", "30", "-o", "/dev/null", url(f"{USER}@{S4}", F4, "small")]
    before = moved()
    ok("c1", shlex.join(fetch))
    assert moved() == before + SIZE
    assert counters("f1")[LINE] > 0


def test_another_address_gets_no_answer() -> None:
    before = counters("f1")["not a flow: to a proxy port"]
    assert on("c1", scrape(UNLISTED_C4)).returncode == 28
    assert counters("f1")["not a flow: to a proxy port"] > before


def test_the_package_is_where_it_is_needed() -> None:
    asked = "dpkg-query --show --showformat='${db:Status-Status}' python3-prometheus-client"
    assert ok("f1", asked) == "installed"
    assert on("n1", asked).stdout != "installed"
    assert LINE in listing("f1")
    assert ":9421" not in ok("n1", LISTENING)


def test_a_second_run_changes_nothing(described: tuple[str, str]) -> None:
    play = converge(*described)
    assert play.recap("f1")["changed"] == play.recap("n1")["changed"] == 0
