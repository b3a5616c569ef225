# SPDX-License-Identifier: GPL-3.0-or-later
"""Each role by itself, the other order, another user, hosts that are not supported; on F alone."""

from __future__ import annotations

import json
import re
import select
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import snapshot
import yaml
from support import (
    LAB,
    N4,
    Play,
    converge,
    fetch,
    finish,
    forget,
    lab,
    listing,
    ok,
    on,
    playbook,
    refused_run,
    start_playbook,
)
from test_07_reboot import FILE
from test_16_exclusive import VARIABLES as EXCLUSIVE
from test_23_intercepted import intercepting

UNPROTECTED = "No policy protects this proxy"
ABSENT = ("-e", "sluice_state=absent")


@pytest.fixture(autouse=True)
def both_again() -> Iterator[None]:
    """Afterwards F is as site.yml leaves it."""
    yield
    converge("--limit", "f1")
    assert fetch()


def run(tmp_path: Path, roles: list[str], *arguments: str) -> Play:
    """A playbook of somebody's own with these roles, against F."""
    site = tmp_path / "site.yml"
    names = ", ".join(f"sluice.ftp.{role}" for role in roles)
    site.write_text(f"- hosts: f1\n  gather_facts: false\n  roles: [{names}]\n")
    where = {"ANSIBLE_COLLECTIONS_PATH": str(Path(__file__).parents[3] / "playbooks/collections")}
    return converge(*arguments, playbook=site, cwd=tmp_path, env=where)


def off(user: str = "sluice") -> None:
    """Take all of it off F."""
    converge("--limit", "f1", *ABSENT, "-e", f"sluice_user={user}")


def said() -> str:
    """What the proxy that runs now has written so far."""
    pid = ok("f1", "systemctl show --value --property=MainPID sluice").strip()
    return ok("f1", f"journalctl _PID={pid} --output cat --no-pager")


def test_proxy_alone_runs_and_says_that_nothing_protects_it(tmp_path: Path) -> None:
    off()
    run(tmp_path, ["proxy"])
    assert "inet sluice" not in on("f1", "nft list tables").stdout
    assert UNPROTECTED in said()
    assert fetch()


def test_policy_alone_loads_its_rules_and_goes_wholly(tmp_path: Path) -> None:
    off()
    run(tmp_path, ["policy"])
    assert "C -> F: -> proxy user: to port 21" in listing("f1")
    assert on("f1", "systemctl cat sluice").returncode != 0
    run(tmp_path, ["policy"], *ABSENT)
    assert snapshot.difference(snapshot.load(LAB, "checked", "f1"), snapshot.take(LAB, "f1")) == {}


def test_other_order_ends_protected_and_changes_nothing_more(tmp_path: Path) -> None:
    off()
    run(tmp_path, ["proxy", "policy"])
    assert UNPROTECTED not in said()
    play = converge("--limit", "f1")
    assert play.recap("f1")["changed"] == 0, play.output


def test_a_proxy_that_stays_says_when_its_policy_has_gone(tmp_path: Path) -> None:
    run(tmp_path, ["policy"], *ABSENT)
    assert on("f1", "systemctl is-active sluice").stdout.strip() == "active"
    assert UNPROTECTED in said()


def test_removal_is_foreseen_and_needs_no_description(tmp_path: Path) -> None:
    before = snapshot.take(LAB, "f1")
    foreseen = converge("--limit", "f1", "--check", *ABSENT)
    assert "TASK [sluice.ftp.user : Remove the user]" in foreseen.output
    assert snapshot.difference(before, snapshot.take(LAB, "f1")) == {}
    hosts = tmp_path / "hosts.yml"  # without the group's variables beside it
    hosts.write_text((LAB.inventory / "hosts.yml").read_text())
    play = converge("-i", str(hosts), "--limit", "f1", *ABSENT, inventory=False)
    assert play.recap("f1")["changed"] == foreseen.recap("f1")["changed"], foreseen.output + play.output
    assert snapshot.difference(snapshot.load(LAB, "checked", "f1"), snapshot.take(LAB, "f1")) == {}


def test_another_user_of_its_own(tmp_path: Path) -> None:
    off()
    run(tmp_path, ["policy", "proxy"], "-e", "sluice_user=ftpgate")
    pid = ok("f1", "systemctl show --value --property=MainPID sluice").strip()
    assert ok("f1", f"stat -c %U /proc/{pid}").strip() == "ftpgate"
    assert fetch()
    off("ftpgate")
    assert on("f1", "getent passwd ftpgate").returncode != 0


def test_an_account_of_somebody_elses_is_neither_taken_nor_removed() -> None:
    before = ok("f1", "getent passwd backup")
    message = refused_run(playbook("--limit", "f1", "-e", "sluice_user=backup"), "f1")
    assert "found the account 'backup'" in message
    off("backup")
    assert ok("f1", "getent passwd backup") == before


def test_a_group_of_somebody_elses_is_refused() -> None:
    """Its members could steer the proxy."""
    off()
    ok("f1", "groupadd --system sluice; usermod --append --groups sluice backup")
    try:
        message = refused_run(playbook("--limit", "f1"), "f1")
        assert "found the group 'sluice'" in message
        assert "members backup" in message
    finally:
        ok("f1", "gpasswd --delete backup sluice; groupdel sluice")
    assert snapshot.difference(snapshot.load(LAB, "checked", "f1"), snapshot.take(LAB, "f1")) == {}


def test_a_connection_that_may_stall_under_the_first_rules_is_named() -> None:
    """Nobody followed connections before, so nobody knows who opened it; the run goes on."""
    off()
    talk = "import signal, socket; s = socket.create_connection(('{}', 22), source_address=('', 50022))"
    code = f"{talk.format(N4)}; signal.pause()"
    ok("f1", shlex.join(["systemd-run", "--quiet", "--unit=talks", "/usr/bin/python3", "-c", code]))
    try:
        ok("f1", "timeout 10 sh -c 'until ss -Htn sport = :50022 | grep -q ESTAB; do sleep 0.1; done'")
        play = converge("--limit", "f1")
        assert re.search(
            rf"WARNING: f1: python3 \(number \d+\) has a connection from port 50022, which the proxy is to "
            rf"serve, to {re.escape(N4)} port 22\.",
            play.output,
        )
    finally:
        ok("f1", "systemctl stop talks")


def test_who_is_reached_through_the_host_is_not_cut_off() -> None:
    """`exclusive` would end what F's sshd opens for a jump, unless it is let out."""
    ssh = ["ssh", "-F", str(LAB.ssh_config), "-o", "ControlPath=none"]
    through = shlex.join([*ssh, "-W", f"{N4}:22", "f1"])
    ssh += ["-o", "ProxyUseFdpass=no", "-o", f"ProxyCommand={through}"]
    jump = subprocess.Popen([*ssh, "n1", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def goes_on() -> bool:
        assert jump.stdin
        assert jump.stdout
        jump.stdin.write(b"still there\n")
        jump.stdin.flush()
        there, _, _ = select.select([jump.stdout], [], [], 20)
        return bool(there) and jump.stdout.readline() == b"still there\n"

    try:
        assert goes_on()
        before = listing("f1")
        message = refused_run(playbook("--limit", "f1", "-e", json.dumps(EXCLUSIVE)), "f1")
        entry = f"{{direction: out, protocol: tcp, ports: 22, networks: [{N4}]}}"
        assert f"to {N4} port 22, expected {entry} in sluice_exclusive_host" in message
        assert listing("f1") == before
        out = [*EXCLUSIVE["sluice_exclusive_host"], yaml.safe_load(entry)]
        converge("--limit", "f1", "-e", json.dumps({**EXCLUSIVE, "sluice_exclusive_host": out}))
        assert goes_on()
    finally:
        jump.terminate()
        jump.communicate()


def test_a_power_cut_right_after_the_first_confirmation_loses_no_rules() -> None:
    """Their units are there before them."""
    off()
    run_of_all = start_playbook("--limit", "f1")
    while on("f1", f"test -e {FILE}").returncode != 0:
        assert run_of_all.poll() is None, finish(run_of_all).output
    lab("stop", "f1", "--hard")
    lab("start", "f1")
    forget("f1")
    assert finish(run_of_all).code != 0
    assert "C -> F: -> proxy user: to port 21" in listing("f1")


@pytest.mark.parametrize("port", [21, 50022, 52999, 2121])
def test_whoever_listens_where_the_proxy_would_is_named(port: int) -> None:
    """On any address, for the rules would cut it off (POLICY 5); sshd in a range would lock everybody out.
    Port 2121 is the proxy's where it intercepts."""
    off()
    described = ("-e", json.dumps({"sluice_topology": intercepting()})) if port == 2121 else ()
    serve = f"import socket; s = socket.create_server(('127.0.0.1', {port})); s.accept()"
    words = ["systemd-run", "--quiet", "--collect", "--unit=elsewhere", "/usr/bin/python3", "-c", serve]
    ok("f1", shlex.join(words))
    try:
        ok("f1", f"timeout 10 sh -c 'until ss -Hltn | grep -q :{port}; do sleep 0.1; done'")
        message = refused_run(playbook("--limit", "f1", *described), "f1")
        assert f"port {port} of 127.0.0.1 is held by python3" in message
        assert "unit elsewhere.service" in message
    finally:
        ok("f1", "systemctl stop elsewhere")
    assert snapshot.difference(snapshot.load(LAB, "checked", "f1"), snapshot.take(LAB, "f1")) == {}


def test_a_distribution_that_was_not_tested_is_refused_in_one_sentence() -> None:
    release = 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="22.04"\nVERSION="22.04"\n'
    ok("f1", "cp --no-dereference /etc/os-release /var/tmp/os-release")
    ok("f1", "rm /etc/os-release; cat >/etc/os-release", stdin=release)
    try:
        message = refused_run(playbook("--limit", "f1"), "f1")
        assert "expected Debian 12 or 13; set sluice_unsupported_ok to true to try anyway" in message
        converge("--limit", "f1", "-e", '{"sluice_unsupported_ok": true}')
    finally:
        ok("f1", "rm /etc/os-release; mv /var/tmp/os-release /etc/os-release")
