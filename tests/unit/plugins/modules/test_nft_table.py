# SPDX-License-Identifier: GPL-3.0-or-later
"""The module nft_table against a real nft, in network namespaces of its own (POLICY 5, F8, F19, F24)."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
NUMBER = count()
DRIVER = """
import sys
from pathlib import Path
from ansible_collections.sluice.ftp.plugins.module_utils import rollback
from ansible_collections.sluice.ftp.plugins.modules import nft_table
rollback.RUN = Path(sys.argv.pop(2))
nft_table.LOCK = str(rollback.RUN / "lock")
nft_table.LOCK_SECONDS = 1
found = nft_table.AnsibleModule.get_bin_path
tools = dict(pair.split("=") for pair in sys.argv.pop(2).split())
nft_table.AnsibleModule.get_bin_path = lambda self, name, **_: tools.get(name, found(self, name)) or None
nft_table.main()
"""
# In place of systemd, which no namespace of ours has: a timer that can be stopped, and asked for.
SYSTEMD = """#!/bin/sh
cd "$(dirname "$0")"
case "$0 $1" in
*systemd-run*)
    while :; do
        case $1 in --unit=*) unit=${1#*=} ;; --on-active=*) seconds=${1#*=} ;; --*) ;; *) break ;; esac
        shift
    done
    (sleep "$seconds" & echo $! >"$unit.timer"; wait $! && "$@"; rm "$unit.timer") >/dev/null 2>&1 & ;;
*is-active) for unit; do [ -e "$unit" ] && exit 0; done; exit 3 ;;
*stop) for unit; do [ -e "$unit" ] && kill "$(cat "$unit")"; done; rm -f -- *.timer; exit 0 ;;
esac
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
        self.pending = directory / "sluice.ftp.nft_table.inet-t"
        self.tools = {}
        for name in ("systemd-run", "systemctl"):
            self.tools[name] = str(directory / name)
            Path(self.tools[name]).write_text(SYSTEMD)
            Path(self.tools[name]).chmod(0o755)
        holder = ["unshare", "--map-root-user", "--net", "sh", "-c", "echo up; exec sleep 600"]
        self.process = subprocess.Popen(holder, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"

    def inside(self, *command: str) -> list[str]:
        target = str(self.process.pid)
        return ["nsenter", "--target", target, "--user", "--net", "--preserve-credentials", *command]

    def listing(self) -> str:
        """The table without counters."""
        done = subprocess.run(
            self.inside("nft", "-s", "list", "table", "inet", "t"), capture_output=True, text=True, check=True
        )
        return done.stdout

    def nft(self, command: str) -> str:
        done = subprocess.run(self.inside("nft", command), capture_output=True, text=True, check=True)
        return done.stdout

    def command(self, *, check: bool = False, nft: bool = True, **options: Any) -> list[str]:
        arguments = {"name": "t", "path": str(self.path), "content": CONTENT, **options}
        internal = {"_ansible_check_mode": check, "_ansible_diff": True}
        file = self.directory / f"arguments{next(NUMBER)}.json"
        file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments | internal}))
        tools = " ".join(
            f"{name}={path}" for name, path in (self.tools | ({} if nft else {"nft": ""})).items()
        )
        return self.inside(sys.executable, "-c", DRIVER, str(file), str(self.directory), tools)

    def start(self, **options: Any) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "playbooks/collections")}
        return subprocess.Popen(self.command(**options), stdout=subprocess.PIPE, env=environment)

    def rolled_back(self, seconds: float = 10) -> bool:
        """Whether nothing is pending any more within that time."""
        deadline = time.monotonic() + seconds
        while self.pending.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.pending.exists()

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


def test_what_the_packet_path_keeps_is_no_drift(host: Host) -> None:
    """POLICY 5. nft 1.0.6 says in JSON of such a set that it has a timeout, and not that it is dynamic."""
    declared = "set seen { type ipv4_addr . ipv4_addr; size 64; flags dynamic,timeout; timeout 5m; }\n"
    content = CONTENT.replace("table inet t {\n", f"table inet t {{\n    {declared}")
    host.run(content=content)
    host.nft("add element inet t seen { 10.0.0.1 . 192.0.2.1, 10.0.0.2 . 192.0.2.1, 10.0.0.3 . 192.0.2.1 }")
    again = host.run(content=content)
    assert again["changed"] is False
    assert again["diff"]["before"] == again["diff"]["after"]
    host.nft("add rule inet t jumped accept")
    healed = host.run(content=content)
    assert (healed["loaded"], healed["gapless"]) == (True, True)
    assert "10.0.0" not in healed["diff"]["before"].replace("10.0.0.0/8", "")


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


OTHER = CONTENT.replace("192.0.2.1", "198.51.100.1").replace('"a flow"', '"another"')


def test_what_is_pending_is_kept_once_it_is_confirmed(host: Host) -> None:
    host.run()
    before = host.listing()
    armed = host.run(content=OTHER, rollback_seconds=60)
    assert (armed["loaded"], armed["written"], armed["pending"]) == (True, False, True)
    assert 'comment "another"' in host.nft("list table inet t")
    assert host.path.read_text() == CONTENT
    assert (host.pending / "former.nft").read_text() == f"table inet t {{\n}}\ndelete table inet t\n{before}"
    assert {each.stat().st_mode & 0o777 for each in host.pending.iterdir()} == {0o600}
    confirmed = host.run(content=OTHER, state="confirmed")
    assert (confirmed["loaded"], confirmed["written"], confirmed["pending"]) == (False, True, False)
    assert host.path.read_text() == OTHER
    assert not host.pending.exists()
    assert not list(host.directory.glob("*.timer"))
    assert host.run(content=OTHER, rollback_seconds=60)["changed"] is False
    assert host.run(content=OTHER, state="confirmed")["changed"] is False


@pytest.mark.parametrize(
    "wanted",
    [
        OTHER,
        # A hook and a set's type that change on the way there change on the way back, too.
        OTHER.replace("hook input priority filter + 10", "hook output priority filter + 20"),
        CONTENT.replace("ipv4_addr", "ipv6_addr")
        .replace("10.0.0.0/8, 192.0.2.1", "2001:db8::/32")
        .replace("ip s", "ip6 s"),
    ],
)
@pytest.mark.parametrize("meanwhile", ["list tables", "flush ruleset", "add rule inet t input counter"])
def test_what_nobody_confirms_goes_back(host: Host, wanted: str, meanwhile: str) -> None:
    """POLICY 5: the table as it was, whatever has become of it; the file for the next boot is untouched."""
    host.run()
    before = host.listing()
    assert host.run(content=wanted, rollback_seconds=1)["pending"] is True
    assert host.listing() != before
    host.nft(meanwhile)
    assert host.rolled_back()
    assert host.listing() == before
    assert host.path.read_text() == CONTENT
    late = host.run(content=wanted, state="confirmed")
    assert (late["failed"], late["rolled_back"]) == (True, True)
    assert late["msg"].startswith(
        "The rules of table inet t were not confirmed in time, so the former ones are"
    )
    assert host.run(check=True)["changed"] is False


def test_a_first_table_goes_wholly(host: Host) -> None:
    host.run(rollback_seconds=1)
    assert host.rolled_back()
    assert host.nft("list tables") == ""
    assert not host.path.exists()
    assert host.run(state="confirmed")["rolled_back"] is True


def test_the_timer_is_there_before_the_rules(host: Host) -> None:
    """Without a timer nothing is loaded; where loading fails, the timer goes."""
    host.tools["systemd-run"] = "/bin/false"
    result = host.run(rollback_seconds=60)
    assert result["msg"].startswith("systemd-run could not arm the rollback, so nothing was loaded")
    assert (host.nft("list tables"), host.pending.exists()) == ("", False)
    host.tools["systemd-run"] = ""
    assert host.run(rollback_seconds=60)["msg"].startswith("Found no systemd-run on this host")


def test_a_confirmation_and_the_timer_never_both_win(host: Host) -> None:
    """One rename decides: after the timer's, the confirmation fails though its rules are still loaded."""
    host.run()
    host.run(content=OTHER, rollback_seconds=60)
    (host.pending / "former.nft").rename(host.pending / "going-back.nft")
    assert host.run(content=OTHER, state="confirmed")["rolled_back"] is True
    host.nft("flush chain inet t jumped")
    assert host.run(content=OTHER, state="confirmed")["rolled_back"] is True
    assert host.path.read_text() == CONTENT


def test_a_confirmation_that_was_killed_is_completed(host: Host) -> None:
    host.run()
    host.run(content=OTHER, rollback_seconds=60)
    (host.pending / "former.nft").rename(host.pending / "claimed.nft")
    assert host.run(content=OTHER, state="confirmed")["written"] is True
    assert host.path.read_text() == OTHER


def test_a_full_disk_leaves_the_rollback_armed(host: Host) -> None:
    host.run()
    host.run(content=OTHER, rollback_seconds=2)
    host.path.parent.rename(host.directory / "away")
    assert host.run(content=OTHER, state="confirmed")["failed"] is True
    (host.directory / "away").rename(host.path.parent)
    assert host.rolled_back()
    assert 'comment "a flow"' in host.nft("list table inet t")


def test_a_second_run_waits_for_what_is_pending_and_compares_anew(host: Host) -> None:
    host.run()
    host.run(content=OTHER, rollback_seconds=2)
    second = host.start(rollback_seconds=60)
    assert second.poll() is None
    assert host.rolled_back()
    assert json.loads(second.communicate()[0])["changed"] is False
    host.run(content=OTHER, rollback_seconds=60)
    refused = host.run()
    assert refused["msg"].startswith(
        "Found a change of another run pending for table inet t, expected it to be"
    )
    third = host.start(content=OTHER, rollback_seconds=60)
    assert host.run(content=OTHER, state="confirmed")["written"] is True
    assert json.loads(third.communicate()[0])["changed"] is False


def test_a_late_confirmation_does_not_confirm_another_run(host: Host) -> None:
    host.run(rollback_seconds=60)
    late = host.run(content=OTHER, state="confirmed")
    assert late["rolled_back"] is True
    assert (host.pending / "former.nft").exists()


def test_nothing_is_armed_for_a_file_alone(host: Host) -> None:
    """A wrong file beside the right rules is put right, and there is nothing to confirm."""
    host.run()
    host.path.write_text("nonsense")
    result = host.run(rollback_seconds=60)
    assert (result["loaded"], result["written"], result["pending"]) == (False, True, False)
    assert not host.pending.exists()


def test_removal_forgets_what_is_pending(host: Host) -> None:
    host.run()
    host.run(content=OTHER, rollback_seconds=60)
    assert host.run(state="absent")["changed"] is True
    assert (host.nft("list tables"), host.pending.exists(), list(host.directory.glob("*.timer"))) == (
        "",
        False,
        [],
    )


@pytest.mark.parametrize("check", [False, True])
def test_a_table_of_somebody_elses_is_left_alone(host: Host, check: bool) -> None:
    host.nft("add table inet t; add chain inet t theirs")
    before = host.nft("list ruleset")
    result = host.run(check=check)
    assert result["msg"].startswith(
        f"Found a live table inet t that no file {host.path} explains, expected none"
    )
    assert "`nft delete table inet t` makes room" in result["msg"]
    assert (host.nft("list ruleset"), host.path.exists()) == (before, False)


def test_an_nft_that_is_too_old_is_named(host: Host) -> None:
    old = host.directory / "old-nft"
    old.write_text("#!/bin/sh\necho 'nftables v1.0.5 (Lester Gooch #4)'\n")
    old.chmod(0o755)
    host.tools["nft"] = str(old)
    assert host.run()["msg"] == "Found nft 1.0.5, expected 1.0.6 or newer, as in Debian 12."


def test_an_nft_that_crashes_says_on_what(host: Host) -> None:
    """F17: an old nft does so on a table of a newer one."""
    crashes = host.directory / "crashes"
    crashes.write_text('#!/bin/sh\n[ "$1" = --version ] || kill -SEGV $$\n')
    crashes.chmod(0o755)
    host.tools["nft"] = str(crashes)
    assert "it ended by signal 11, as it does on a table that a newer nft" in host.run()["msg"]


def test_what_the_kernel_refuses_is_told_from_what_nft_refuses(host: Host) -> None:
    """A jump to nowhere is the kernel's to refuse, as is an expression that it lacks."""
    flow = 'tcp dport 21 counter accept comment "a flow"'
    result = host.run(content=CONTENT.replace(flow, "jump nowhere"))
    assert re.match(
        r"nft refuses the rules, or rather the kernel \S+ does, which may lack what", result["msg"]
    )
    assert host.nft("list tables") == ""


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
