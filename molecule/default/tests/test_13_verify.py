# SPDX-License-Identifier: GPL-3.0-or-later
"""verify.yml on live hosts (issue 4, "Proof"): where something is broken it says what, else all is right.

It changes no rule and leaves no process.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import F4, ROOT, S4, Play, fetch, ok, on, playbook

VERIFY = ROOT / "playbooks/verify.yml"
ENDS = ("-e", "sluice_verify_client=c1", "-e", "sluice_verify_server=s1")
HOSTS = ("c1", "f1", "n1", "s1")
HOPS = ("f1", "n1")


def verify(*arguments: str) -> Play:
    """Run it; whatever it finds, all is as it was afterwards."""
    before = {host: ok(host, "nft -s list ruleset") for host in HOPS}
    play = playbook(*arguments, playbook=VERIFY)
    assert {host: ok(host, "nft -s list ruleset") for host in HOPS} == before
    for host in HOSTS:
        assert on(host, "pgrep -x sluice-verify").returncode != 0
    return play


def lines(play: Play, host: str) -> list[str]:
    """The host's report."""
    found = re.search(rf'ok: \[{host}\] => {{\n    "msg": \[\n(.*?)\n    \]', play.output, re.DOTALL)
    assert found, play.output
    return [line.strip().strip('",') for line in found[1].splitlines()]


def wrong(play: Play, host: str) -> list[str]:
    """The subjects of its lines that are wrong."""
    return [re.split(r" {2,}", line)[1] for line in lines(play, host) if line.startswith("WRONG ")]


def failure(play: Play, host: str) -> str:
    """The sentences with which the play failed on the host."""
    assert play.code != 0, play.output
    found = re.findall(rf"^fatal: \[{host}\]: FAILED! => (.*)$", play.output, re.MULTILINE)
    assert len(found) == 1, play.output
    return str(found[0])


@pytest.fixture
def mended() -> Iterator[None]:
    """Afterwards rules and proxies are as before."""
    yield
    for host in HOPS:
        on(host, "systemctl stop elsewhere")
        ok(host, "systemctl restart sluice-policy; systemctl start sluice")
    assert fetch()


def test_all_is_right() -> None:
    play = verify(*ENDS)
    assert play.code == 0, play.output
    for host in HOPS:
        report = lines(play, host)
        assert all(line.startswith("ok ") for line in report[1:]), report
        assert sum("allowed by this rule" in line and "IPv4 and IPv6" in line for line in report) == 6
        for what in (
            "another user: ",
            "another user listens",
            "another port",
            "another direction",
            "another peer",
        ):
            assert any(line.startswith(f"ok         {what}") and "refused by '" in line for line in report), (
                what
            )
    assert any("past the proxy: c1" in line for line in lines(play, "f1"))
    assert play.recap("f1")["changed"] == play.recap("n1")["changed"] == 0


def test_an_end_that_ansible_does_not_know_or_reach_is_refused(tmp_path: Path) -> None:
    play = verify("-e", "sluice_verify_client=web1")
    assert play.code != 0
    assert "sluice_verify_client: found 'web1', expected a host of the inventory" in play.output
    away = tmp_path / "hosts.yml"
    away.write_text("all: {hosts: {away1: {ansible_host: 192.168.250.99, ansible_user: root}}}\n")
    play = verify("-i", str(away), "-e", "sluice_verify_client=away1")
    assert play.code != 0
    assert "sluice_verify_client: away1 did not answer" in play.output


@pytest.mark.usefixtures("mended")
def test_a_lost_rule_and_a_foreign_listener_are_named() -> None:
    flow = "N <- F: <- proxy user: to port specified by N (passive)"
    rules = ok("f1", "nft --handle list chain inet sluice out_up").splitlines()
    handle = next(rule.split()[-1] for rule in rules if flow in rule)
    ok("f1", f"nft delete rule inet sluice out_up handle {handle}")
    serve = f"import socket; s = socket.create_server(('{F4}', 50999)); s.accept()"
    ok("f1", shlex.join(["systemd-run", "--quiet", "--unit=elsewhere", "/usr/bin/python3", "-c", serve]))
    ok("f1", "timeout 10 sh -c 'until ss -Hltn | grep -q :50999; do sleep 0.1; done'")
    play = verify(*ENDS)
    message = failure(play, "f1")
    assert wrong(play, "f1")[:3] == ["rules", "listeners", flow]
    assert any(
        re.match(r"\+ chain out_up: .*specified by N \(passive\)", each.strip()) for each in lines(play, "f1")
    )
    assert "found python3 (process " in message
    assert f"on {F4}:50999, a port of the proxy's" in message
    assert "unit elsewhere.service" in message
    assert "found that nothing answered, expected it to pass" in message
    assert "'proxy user: anything else' of f1 counted" in message


@pytest.mark.usefixtures("mended")
def test_a_widened_rule_and_a_stopped_proxy_are_named() -> None:
    ok("n1", "nft insert rule inet sluice guard_in counter accept; systemctl stop sluice")
    play = verify(*ENDS)
    message = failure(play, "n1")
    found = wrong(play, "n1")
    assert found[:3] == ["rules", "listeners", "F -> N: -> proxy user: to port 21"]
    assert any(each.startswith("another port, another user: f1") for each in found)
    assert any(each.startswith("another peer, another user: f1") for each in found)
    assert any(each.startswith(f"another port: s1 {S4}") for each in found)
    assert "passes, expected 'not a flow: to a proxy port' to refuse it" in message
    assert "found nobody on 10.2.0.2:21, expected the proxy (sluice.service)" in message
    assert "10.2.0.2 answered that nobody listens on port 21" in failure(play, "f1")
    # F greets its clients only when N has greeted it
    assert wrong(play, "f1") == ["C -> F: -> proxy user: to port 21", "N <- F: <- proxy user: to port 21"]
    assert "found the answer '421 F: next hop N" in failure(play, "f1")


@pytest.mark.usefixtures("mended")
def test_a_host_without_rules_is_said_so_and_ends_that_are_not_named_are_not_tried() -> None:
    ok("n1", "nft delete table inet sluice")
    play = verify("--check")
    message = failure(play, "n1")
    assert "found no table inet sluice loaded" in message
    assert "passes, but the rule of this line did not count it on n1" in message
    assert "Traceback" not in play.output
    for host, variable in (("f1", "sluice_verify_client"), ("n1", "sluice_verify_server")):
        report = lines(play, host)
        assert (
            sum(line.startswith("not tried  ") and f"{variable} is not set" in line for line in report) == 3
        )
    assert sum("allowed by this rule: n1 IPv4 and IPv6" in line for line in lines(play, "f1")) == 3
