# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody is locked out: what is loaded goes back by itself unless Ansible gets in anew (POLICY 5); on F."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import SEED, WHOLE
from support import (
    BRIDGE,
    ROOT,
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

COLLECTIONS = str(ROOT / "playbooks/collections")
PENDING = "/run/sluice.ftp.nft_table.inet-sluice"
# Rules to add to F's own: they let only those in who are in already; nobody, not even those; and everybody.
ONLY_OLD = "tcp dport 22 ct state new drop"
NOBODY = "tcp dport 22 drop"
EVERYBODY = "tcp dport 22 counter"
# So sshd believes that Ansible comes from elsewhere, and so do the guards; the rules see the packets before.
ELSEWHERE = "192.168.250.77"
DISGUISE = f"""
table ip disguise {{
    chain input {{
        type nat hook input priority 100
        ip saddr {BRIDGE} tcp dport 22 snat to {ELSEWHERE}
    }}
}}
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Whatever was tried: F has the rules that it had, loaded and for the next boot."""
    before, kept = listing("f1"), ok("f1", f"cat {FILE}")
    yield
    forget("f1")
    assert listing("f1") == before
    assert ok("f1", f"cat {FILE}") == kept
    assert on("f1", f"test -e {PENDING}").returncode != 0
    assert "sluice-nft-rollback" not in ok("f1", "systemctl list-units --all --no-legend")


def attempt(tmp_path: Path, rule: str, seconds: int) -> subprocess.Popen[str]:
    """Start to load F's own rules and this one in front of them, by the module alone."""
    chain = f"type filter hook input priority -50; policy accept;\n{rule}\n"
    content = ok("f1", f"cat {FILE}") + f"table inet sluice {{\nchain tried {{\n{chain}}}\n}}\n"
    task = {"name": "sluice", "path": FILE, "content": content, "rollback_seconds": seconds}
    play = [{"hosts": "f1", "gather_facts": False, "tasks": [{"sluice.ftp.nft_table": task}]}]
    site = tmp_path / "try.yml"
    site.write_text(yaml.safe_dump(play))
    return start_playbook(playbook=site, env={"ANSIBLE_COLLECTIONS_PATH": COLLECTIONS})


def rolled_back(play: Play, seconds: int) -> None:
    """The one clear sentence."""
    message = refused_run(play, "f1")
    assert "f1: the new rules of table inet sluice could not be confirmed over a new connection" in message
    assert f"within {seconds} s of loading them, so the former rules are in force again" in message
    assert "Traceback" not in message


@pytest.mark.parametrize("rule", [ONLY_OLD, NOBODY])
def test_rules_that_lock_ansible_out_go_back(tmp_path: Path, rule: str) -> None:
    """Also where the loading task's own connection hangs meanwhile."""
    rolled_back(finish(attempt(tmp_path, rule, 6)), 6)


def test_the_role_fails_and_the_former_rules_are_back() -> None:
    """Every guard passes, for the session seems to come from management; the rules cut it off."""
    variables = {
        "sluice_scope": "exclusive",
        "sluice_management": {"networks": [f"{ELSEWHERE}/32"]},
        "sluice_exclusive_forward": [],
        "sluice_rollback_seconds": 10,
    }
    ok("f1", "nft -f -", stdin=DISGUISE)
    forget("f1")
    try:
        assert ok("f1", "echo $SSH_CONNECTION").split()[0] == ELSEWHERE
        rolled_back(playbook("--limit", "f1", "-e", json.dumps(variables)), 10)
    finally:
        # It takes the translated connections with it, so nobody may be on the host then.
        ok("f1", "systemd-run --quiet --collect sh -c 'sleep 0.5; exec nft delete table ip disguise'")
        forget("f1")
        time.sleep(1)
    assert "disguise" not in ok("f1", "nft list tables")
    assert fetch()


def pending(started: subprocess.Popen[str]) -> None:
    """Return when rules wait for their confirmation; asked over the connection that is open already."""
    while on("f1", f"test -e {PENDING}/former.nft && nft list chain inet sluice tried").returncode != 0:
        assert started.poll() is None, "the run is over"
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["reboot", "power cut"])
def test_a_reboot_is_a_rollback(tmp_path: Path, how: str) -> None:
    """The timer would come much later."""
    started = attempt(tmp_path, ONLY_OLD, 60)
    pending(started)
    if how == "reboot":
        lab("reboot", "f1")
    else:
        lab("stop", "f1", "--hard")
        lab("start", "f1")
    rolled_back(finish(started), 60)


def test_power_cut_at_any_moment_of_loading(tmp_path: Path) -> None:
    """After the boot the last confirmed policy is live: if the run got that far, the new one."""
    before = listing("f1")
    kept = ok("f1", f"cat {FILE}")
    dice = random.Random(SEED)
    for _ in range(6 if WHOLE else 1):
        started = attempt(tmp_path, EVERYBODY, 60)
        time.sleep(dice.uniform(1, 4))
        lab("stop", "f1", "--hard")
        lab("start", "f1")
        forget("f1")
        confirmed = finish(started).code == 0
        live, file = listing("f1"), ok("f1", f"cat {FILE}")
        assert (live == before) == (file == kept)
        assert not (confirmed and live == before)
        # As it was, for the next one.
        ok("f1", f"cat >{FILE}", stdin=kept)
        ok("f1", "nft delete table inet sluice; systemctl restart sluice-policy")


FIREWALL = """
table inet firewall {
    chain input {
        type filter hook input priority filter; policy drop;
        tcp dport 22 accept
        iif lo accept
        ct state established accept
    }
}
"""


def test_another_table_that_denies_by_default_is_named() -> None:
    """POLICY 1: ours can only restrict, so success must not be reported."""
    ok("f1", "nft -f -", stdin=FIREWALL)
    try:
        message = refused_run(playbook("--limit", "f1", "--check"), "f1")
        assert "table inet firewall, chain input at hook input (policy drop)" in message
        play = converge("--limit", "f1", "--check", "-e", "sluice_other_tables=warn")
        assert "WARNING: f1: Found other tables that deny by default: table inet firewall" in play.output
    finally:
        ok("f1", "nft delete table inet firewall")


def test_exclusive_asks_what_may_still_be_forwarded() -> None:
    variables = {"sluice_scope": "exclusive", "sluice_management": {"networks": [f"{BRIDGE}/32"]}}
    message = refused_run(playbook("--limit", "f1", "--check", "-e", json.dumps(variables)), "f1")
    assert "Found a host that forwards (net.ipv4.ip_forward is 1" in message
    variables["sluice_management"] = {"networks": ["192.168.250.64/26"]}
    variables["sluice_exclusive_forward"] = []
    message = refused_run(playbook("--limit", "f1", "--check", "-e", json.dumps(variables)), "f1")
    assert f"own SSH session coming from {BRIDGE} to port 22, expected {BRIDGE} in" in message


def test_a_rollback_time_too_short_is_refused() -> None:
    message = refused_run(playbook("--limit", "f1", "--check", "-e", "sluice_rollback_seconds=5"), "f1")
    assert "sluice_rollback_seconds: found 5, expected 10 or more" in message
