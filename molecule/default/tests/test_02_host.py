# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves on a hop: user, files, units, ports (issue 3; POLICY F2, F14, F20)."""

from __future__ import annotations

import re
from typing import Any

import pytest


def test_user_has_no_shell_and_no_home(hop: Any) -> None:
    user = hop.user("sluice")
    assert user.exists
    assert user.shell == "/usr/sbin/nologin"
    assert not hop.file(user.home).exists
    assert user.uid < 1000
    assert hop.run("getent shadow sluice").stdout.split(":")[1].startswith(("!", "*"))


@pytest.mark.parametrize(
    ("path", "owner", "group", "mode"),
    [
        ("/etc/sluice", "root", "sluice", 0o750),
        ("/etc/sluice/sluice.toml", "root", "sluice", 0o640),
        ("/etc/sluice/policy.nft", "root", "root", 0o600),
        ("/usr/local/lib/sluice/current/sluice/__main__.py", "root", "root", 0o644),
        ("/etc/systemd/system/sluice.service", "root", "root", 0o644),
        ("/etc/systemd/system/sluice-policy.service", "root", "root", 0o644),
        ("/etc/systemd/system/sluice-policy-restore.service", "root", "root", 0o644),
    ],
)
def test_files_belong_to_whom_they_should(hop: Any, path: str, owner: str, group: str, mode: int) -> None:
    file = hop.file(path)
    assert file.exists
    assert (file.user, file.group, file.mode) == (owner, group, mode)


def test_code_is_a_version_behind_a_link(hop: Any) -> None:
    assert hop.file("/usr/local/lib/sluice/current").is_symlink
    assert hop.run("find /usr/local/lib/sluice ! -user root").stdout == ""


def test_service_runs_as_the_user_with_one_capability(hop: Any) -> None:
    service = hop.service("sluice")
    assert service.is_running
    assert service.is_enabled
    pid = hop.check_output("systemctl show --value --property=MainPID sluice")
    status = hop.file(f"/proc/{pid}/status").content_string
    uid = str(hop.user("sluice").uid)
    assert re.findall(r"^Uid:\s+(.*)$", status, re.MULTILINE)[0].split() == [uid] * 4
    for which in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert (
            int(re.findall(rf"^{which}:\s+(\w+)", status, re.MULTILINE)[0], 16) == 1 << 10
        )  # NET_BIND_SERVICE


def test_unit_is_hardened(hop: Any) -> None:
    verdict = hop.check_output("systemd-analyze security sluice.service --no-pager")
    exposure = re.findall(r"Overall exposure level for sluice.service: ([0-9.]+)", verdict)
    assert float(exposure[0]) <= 1.5, verdict


def test_listens_on_its_own_addresses_only(hop: Any) -> None:
    own = {"f1": {"10.1.0.1:21", "[2001:db8:1::1]:21"}, "n1": {"10.2.0.2:21", "[2001:db8:2::2]:21"}}
    lines = hop.check_output("ss --no-header --listening --numeric --tcp").splitlines()
    assert {line.split()[3] for line in lines if line.split()[3].endswith(":21")} == own[
        hop.check_output("hostname")
    ]


def test_ranges_are_kept_from_other_users(hop: Any) -> None:
    reserved = hop.check_output("sysctl --values net.ipv4.ip_local_reserved_ports")
    assert reserved == "50000-53999"


def test_units_come_before_the_network(hop: Any) -> None:
    for unit in ("sluice-policy.service", "sluice-policy-restore.service"):
        assert hop.service(unit).is_enabled
        shown = hop.check_output(f"systemctl show --property=Before,After,DefaultDependencies {unit}")
        assert "network-pre.target" in re.findall(r"^Before=(.*)$", shown, re.MULTILINE)[0].split()
        assert "nftables.service" in re.findall(r"^After=(.*)$", shown, re.MULTILINE)[0].split()
        assert "DefaultDependencies=no" in shown


def test_proxy_starts_after_its_rules(hop: Any) -> None:
    shown = hop.check_output(
        "systemctl show --property=After,Wants,Requires,BindsTo,ExecStartPre sluice.service"
    )
    facts = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    assert "sluice-policy.service" in facts["After"].split()
    assert "sluice-policy.service" in facts["Wants"].split()
    assert "sluice-policy.service" not in (facts["Requires"] + facts["BindsTo"]).split()
    assert "list table inet sluice" in shown


def test_journal_says_that_a_policy_protects_it(hop: Any) -> None:
    assert "No policy protects this proxy" not in hop.check_output(
        "journalctl --unit sluice --output cat --no-pager"
    )
