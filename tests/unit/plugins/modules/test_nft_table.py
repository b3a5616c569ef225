# SPDX-License-Identifier: GPL-3.0-or-later
"""The module nft_table against a real nft, in network namespaces of its own (POLICY 5, F8, F19, F24)."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
DRIVER = """
import sys
from ansible_collections.sluice.ftp.plugins.modules import nft_table
nft_table.LOCK = sys.argv.pop(2)
nft_table.LOCK_SECONDS = 1
if sys.argv.pop(2) == "without nft":
    nft_table.AnsibleModule.get_bin_path = lambda *_, **__: None
nft_table.main()
"""
CONTENT = """\
table inet t {
    set peers { type ipv4_addr; flags interval; auto-merge; }
    chain jumped { }
    chain input { type filter hook input priority filter + 10; policy accept; }
}
flush table inet t
flush set inet t peers
table inet t {
    set peers {
        type ipv4_addr; flags interval; auto-merge;
        elements = { 10.0.0.0/8, 192.0.2.1 }
    }
    chain jumped {
        tcp dport 21 counter accept comment "a flow"
        counter drop
    }
    chain input {
        ip saddr @peers jump jumped
    }
}
"""


class Host:
    """A network namespace with its own rules; the module runs in it as root of a user namespace."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "etc" / "t.nft"
        self.path.parent.mkdir()
        holder = ["unshare", "--map-root-user", "--net", "sh", "-c", "echo up; exec sleep 600"]
        self.process = subprocess.Popen(holder, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"

    def inside(self, *command: str) -> list[str]:
        target = str(self.process.pid)
        return ["nsenter", "--target", target, "--user", "--net", "--preserve-credentials", *command]

    def nft(self, command: str) -> str:
        done = subprocess.run(self.inside("nft", command), capture_output=True, text=True, check=True)
        return done.stdout

    def command(self, *, check: bool = False, nft: bool = True, **options: Any) -> list[str]:
        arguments = {"name": "t", "path": str(self.path), "content": CONTENT, **options}
        internal = {"_ansible_check_mode": check, "_ansible_diff": True}
        file = self.directory / "arguments.json"
        file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments | internal}))
        lock = str(self.directory / "lock")
        return self.inside(sys.executable, "-c", DRIVER, str(file), lock, "nft" if nft else "without nft")

    def start(self, **options: Any) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "playbooks/collections")}
        return subprocess.Popen(self.command(**options), stdout=subprocess.PIPE, env=environment)

    def run(self, **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.start(**options).communicate()[0])
        return result


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    result = Host(tmp_path)
    yield result
    result.process.terminate()
    result.process.wait()


def test_loads_keeps_and_is_idempotent(host: Host) -> None:
    first = host.run()
    assert (first["changed"], first["loaded"], first["written"]) == (True, True, True)
    assert 'comment "a flow"' in host.nft("list table inet t")
    assert host.path.read_text() == CONTENT
    assert host.path.stat().st_mode & 0o7777 == 0o600
    second = host.run()
    assert (second["changed"], second["loaded"], second["written"]) == (False, False, False)
    assert second["diff"]["before"] == second["diff"]["after"]


def test_check_mode_says_the_same_and_does_nothing(host: Host) -> None:
    check = host.run(check=True)
    assert (check["changed"], check["loaded"], check["written"]) == (True, True, True)
    assert host.nft("list tables") == ""
    assert not host.path.exists()
    assert host.run()["diff"] == check["diff"]
    assert host.run(check=True)["changed"] is False


@pytest.mark.parametrize(
    "edit",
    [
        "flush ruleset",
        "flush chain inet t jumped",
        "flush chain inet t jumped; add table inet other { flags dormant; }",
        "add rule inet t jumped counter",
        "insert rule inet t jumped tcp dport 22 accept",
        "add element inet t peers { 203.0.113.1 }",
        "delete element inet t peers { 192.0.2.1 }",
        "add chain inet t extra; add rule inet t extra counter; add rule inet t input jump extra",
        "add set inet t odd { type ipv4_addr; }; add rule inet t input ip saddr @odd drop",
        "add chain inet t input { policy drop; }",
    ],
)
def test_an_edit_is_seen_and_healed_without_a_gap(host: Host, edit: str) -> None:
    """Idempotent by what is loaded. F8: stale chains and sets go in the same transaction."""
    host.run()
    host.nft(edit)
    assert host.run(check=True)["changed"] is True
    healed = host.run()
    assert (healed["loaded"], healed["written"]) == (True, False)
    assert healed.get("gapless", True) is True
    assert host.run(check=True)["changed"] is False
    assert host.run()["changed"] is False


@pytest.mark.parametrize(
    "edit",
    [
        # nft 1.0.6 lists a table with flags as what is no JSON
        "delete table inet t; add table inet t { flags dormant; }",
        "add map inet t verdicts { type ipv4_addr : verdict; }",
        "add chain inet t nat { type nat hook prerouting priority -100; }; add counter inet t c",
        "delete table inet t; table inet t {}; add chain inet t input { type filter hook input priority 0; }",
        "delete table inet t; add table inet t; add set inet t peers { type ipv6_addr; }",
    ],
)
def test_what_cannot_stay_is_replaced_in_one_transaction(host: Host, edit: str) -> None:
    """F8: delete and add only when a hook, a priority or a set's type changes."""
    host.run()
    host.nft(edit)
    healed = host.run()
    assert (healed["loaded"], healed["gapless"]) == (True, False)
    assert host.run()["changed"] is False


def test_counters_and_spelling_are_no_drift(host: Host) -> None:
    """POLICY 5: another spelling is no drift."""
    host.run()
    spelt = CONTENT.replace("tcp dport 21", "tcp dport ftp").replace(
        "{ 10.0.0.0/8, 192.0.2.1 }", "{ 192.0.2.1, 10.0.0.0/8 }"
    )
    result = host.run(content=spelt)
    assert (result["loaded"], result["written"]) == (False, True)


def test_a_changed_or_open_file_is_written_again(host: Host) -> None:
    host.run()
    host.path.chmod(0o644)
    assert (host.run()["written"], host.path.stat().st_mode & 0o777) == (True, 0o600)
    host.path.unlink()
    result = host.run()
    assert (result["loaded"], result["written"]) == (False, True)


def test_a_bad_file_changes_nothing(host: Host) -> None:
    """Checked away from the live rules, in check mode too."""
    host.run()
    before = host.nft("list ruleset")
    for check in (True, False):
        result = host.run(check=check, content=CONTENT.replace("counter drop", "counter dorp"))
        assert result["failed"] is True
        assert result["msg"].startswith("nft refuses the rules: line:15:")
    assert host.nft("list ruleset") == before
    assert host.path.read_text() == CONTENT


@pytest.mark.parametrize("more", ["table inet other { }\n", "flush ruleset\n"])
def test_other_tables_are_out_of_reach(host: Host, more: str) -> None:
    host.nft("add table inet admin")
    result = host.run(content=more + CONTENT)
    assert result["msg"].startswith("content: found rules that touch other tables too")
    assert "table inet admin" in host.nft("list tables")
    assert "table inet t" not in host.nft("list tables")


def test_others_rules_stay_as_they_are(host: Host) -> None:
    host.nft("add table inet admin; add chain inet admin c { type filter hook input priority 0; }")
    before = host.nft("list table inet admin")
    host.run()
    host.run(state="absent")
    assert host.nft("list ruleset") == before


def test_absent_takes_table_and_file(host: Host) -> None:
    host.run()
    assert host.run(check=True, state="absent")["changed"] is True
    assert host.path.exists()
    assert host.run(state="absent")["changed"] is True
    assert host.nft("list tables") == ""
    assert list(host.path.parent.iterdir()) == []
    assert not (host.directory / "lock").exists()
    assert host.run(state="absent")["changed"] is False


def test_without_nft(host: Host) -> None:
    """F24: check mode tells what it left out; a real run says what is missing."""
    check = host.run(check=True, nft=False)
    assert check["changed"] is True
    assert check["left_out"] == ["The rules were not checked by nft, which is not installed yet."]
    missing = "Found no nft on this host, expected the package nftables to be installed."
    assert host.run(nft=False)["msg"] == missing
    assert not host.path.exists()
    assert host.run(nft=False, state="absent")["changed"] is False


def test_a_user_not_yet_made(host: Host) -> None:
    """F24: the diff shows `<uid of sluice>`; the rest of the file is checked all the same."""
    unmade = CONTENT.replace("counter drop", "meta skuid <uid of sluice> counter drop")
    result = host.run(check=True, content=unmade)
    assert (result["changed"], len(result["left_out"])) == (True, 1)
    assert "meta skuid <uid of sluice> counter drop" in result["diff"]["after"]
    assert host.run(check=True, content=unmade.replace("accept", "acept"))["failed"] is True
    assert host.run(content=unmade)["msg"] == "content: found <uid of sluice>, expected a number."


def test_the_directory_has_to_be_there(host: Host) -> None:
    result = host.run(path=str(host.directory / "nowhere" / "t.nft"))
    assert result["msg"].endswith("nowhere, expected it to be there.")


def test_two_runs_wait_for_each_other(host: Host) -> None:
    """Two runs at once against one host: neither leaves a half-loaded policy."""
    with (host.directory / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert host.run()["msg"].startswith("Another run has held ")
        assert host.nft("list tables") == ""
    runs = [host.start() for __ in range(3)]
    results = [json.loads(each.communicate()[0]) for each in runs]
    assert sorted(each["changed"] for each in results) == [False, False, True]
