# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that takes a range, a peer or a mode away freezes no transfer (POLICY F9)."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import (
    F4,
    LAB,
    PASSWORD,
    S4,
    USER,
    Play,
    converge,
    fetch,
    finish,
    listing,
    ok,
    on,
    start_playbook,
    sum_of,
)

NEXT = "/etc/sluice/policy.next.nft"
HERE = Path(__file__).parent
MOVED = {
    "client_side": {"listen": "40000-40999", "source": "41000-41999"},
    "server_side": {"listen": "42000-42999", "source": "43000-43999"},
}
DESCRIPTION: dict[str, Any] = yaml.safe_load((LAB.inventory / "group_vars/sluice.yml").read_text())


def changes(**variables: Any) -> tuple[str, str]:
    """As a user changes the description."""
    return "-e", json.dumps(variables)


def other_clients() -> dict[str, Any]:
    """The path without the network that C is in."""
    return {**DESCRIPTION["sluice_topology"], "clients": {"networks": ["10.1.0.128/25", "2001:db8:1::/120"]}}


CHANGES: dict[str, dict[str, Any]] = {
    "range": {"sluice_ports": MOVED},
    "mode": {"sluice_mode": "active"},
    "peer": {"sluice_topology": other_clients()},
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Afterwards F and N are as the description has them, and nothing of before is open."""
    yield
    converge()
    for host in ("f1", "n1"):
        assert on(host, f"test -e {NEXT}").returncode == 1
        assert "former" not in listing(host)
    assert fetch()


def start(host: str, script: str, *words: str) -> subprocess.Popen[str]:
    """Run one of our programs on a host, with pipes to it."""
    ok(host, f"cat >/var/tmp/{script}", stdin=(HERE / script).read_text())
    command = ["ssh", "-F", str(LAB.ssh_config), host, "/usr/bin/python3", f"/var/tmp/{script}", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes)  # type: ignore[call-overload, no-any-return]


class Download:
    """A passive download of S's large file through F and N, which halts on its way."""

    def __init__(self, address: str = F4, login: str = f"{USER}@{S4}") -> None:
        self._client = start("c1", "slow_client.py", address, login, PASSWORD, "large")
        assert self._client.stdout is not None
        assert self._client.stdout.readline() == "halted\n"

    def go_on(self) -> list[str]:
        """Let it read on; how it ended."""
        output, _ = self._client.communicate("\n", timeout=60)
        return output.splitlines()


@pytest.fixture
def sampled() -> Iterator[None]:
    """Meanwhile nothing listens on F or N that the loaded rules do not serve."""
    samplers = [start(host, "sampler.py") for host in ("f1", "n1")]
    yield
    for sampler in samplers:
        found = json.loads(sampler.communicate("\n", timeout=60)[0])
        assert found["outside"] == []
        assert found["looks"] > 20


def until(run: subprocess.Popen[str], words: str) -> str:
    """Read what the run says up to these words."""
    assert run.stdout is not None
    said = ""
    for line in run.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(said)


def rest(run: subprocess.Popen[str], said: str) -> Play:
    play = finish(run)
    return Play(play.code, said + play.output)


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize("what", CHANGES)
def test_a_transfer_on_what_goes_finishes(what: str) -> None:
    """Byte for byte, within the drain's time; only then the narrower rules are loaded."""
    download = Download()
    run = start_playbook(*changes(**CHANGES[what]))
    said = until(run, "1 transfers run on what this run takes away")
    assert "former1_" in listing("f1"), "the union"
    lines = download.go_on()
    play = rest(run, said)
    assert play.code == 0, play.output
    assert lines[0] == sum_of("s1", f"/home/{USER}/large")
    assert lines[1].startswith("226")
    assert "f1: 1 transfers on what this run takes away: 1 finished, 0 reset" in play.output
    assert "former" not in listing("f1")
    again = converge(*changes(**CHANGES[what]))
    assert [again.recap(host)["changed"] for host in ("f1", "n1")] == [0, 0]
    assert fetch(command="EPRT" if what == "mode" else "EPSV") == (what != "peer")


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize("what", CHANGES)
def test_6_4_what_does_not_finish_in_time_is_reset(what: str) -> None:
    """Its client learns of it: a reset and 426, or 421 where the client may not come any more."""
    download = Download()
    play = converge(*changes(**CHANGES[what], sluice_timeouts={"drain": 10}))
    assert "f1: 1 transfers on what this run takes away: 0 finished, 1 reset" in play.output
    assert "former" not in listing("f1")
    lines = download.go_on()
    assert lines[0] == "reset"
    # F and N share the leg F-N: either may be the first. On a slow machine the time may be over before the
    # proxy is asked: then the sessions have ended, too.
    said = ("421 F: ", *(f"426 {hop}: the settings have changed: " for hop in "FN" if what != "peer"))
    assert lines[1].startswith(said)


def test_role_policy_alone_leaves_the_former_flows_open_until_the_proxy_has_its_settings(
    tmp_path: Path,
) -> None:
    site = tmp_path / "site.yml"
    site.write_text("- hosts: f1\n  gather_facts: false\n  roles: [sluice.ftp.policy]\n")
    where: dict[str, Any] = {
        "playbook": site,
        "env": {"ANSIBLE_COLLECTIONS_PATH": str(HERE.parents[2] / "playbooks/collections")},
    }
    topology = copy.deepcopy(DESCRIPTION["sluice_topology"])  # F's own range, with which N has nothing to do
    topology["hops"][0]["hosts"]["f1"]["ports"] = {"client_side": MOVED["client_side"]}
    new = changes(sluice_topology=topology)
    foreseen = converge("--check", "--diff", *new, **where)
    assert "former1_" not in foreseen.output, "what is loaded in the end"
    play = converge(*new, **where)
    passive = "C -> F: -> proxy user: to port specified by proxy user (passive)"
    assert re.search(
        f"f1: open until the proxy has taken these settings: .*{re.escape(passive)}", play.output
    )
    assert fetch()
    assert converge(*new, **where).recap("f1")["changed"] == 0
    assert converge(*new, "--limit", "f1").recap("f1")["changed"] > 0
    assert "former" not in listing("f1")
    assert fetch()
