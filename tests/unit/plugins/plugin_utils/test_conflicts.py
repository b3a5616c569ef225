# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a host is refused or warned of before its policy is loaded (POLICY 1, 5, F11)."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.conflicts import Conflicts, conflicts
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import host_on_path, read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import DescriptionError
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import read_scope

from tests.unit.plugins.paths import twenty_lines

QUIET: dict[str, Any] = {
    "denies": [],
    "translates": [],
    "ftp_helpers": [],
    "forwarding": [],
    "ssh_session": {"client": "192.0.2.9", "port": 22},
    "left_out": [],
}
DENIES = {"family": "inet", "table": "filter", "chain": "input", "hook": "input", "by": "policy drop"}
NAT = {"family": "inet", "table": "admin_nat", "chain": "postrouting"}


def judged(
    found: dict[str, Any],
    *,
    scope: str = "guard",
    management: dict[str, Any] | None = None,
    host: list[dict[str, Any]] | None = None,
    ports: dict[str, Any] | None = None,
    **how: Any,
) -> Conflicts:
    path = read_path(twenty_lines(), "both", ports)
    flows = derive(path, host_on_path(path, "f1"))
    how = {"forward_said": False} | how
    return conflicts(QUIET | found, flows, read_scope(scope, management, host), **how)


def refused(found: dict[str, Any], **how: Any) -> str:
    """The one sentence that refuses it."""
    (sentence,) = judged(found, **how).refused
    return sentence


def test_a_quiet_host_is_neither_refused_nor_warned_of() -> None:
    assert judged({}) == Conflicts((), ())
    assert judged({}, scope="exclusive", management={"networks": ["192.0.2.0/24"]}) == Conflicts((), ())


def test_another_table_that_denies_by_default_is_named() -> None:
    sentence = refused({"denies": [DENIES]})
    assert "table inet filter, chain input at hook input (policy drop)" in sentence
    assert "sluice_other_tables to warn" in sentence
    warned = judged({"denies": [DENIES]}, other_tables="warn")
    assert (warned.refused, warned.warned) == ((), (sentence,))
    ours = DENIES | {"table": "sluice"}
    assert judged({"denies": [ours]}) == Conflicts((), ())


def test_other_tables_has_two_words() -> None:
    with pytest.raises(
        DescriptionError, match=r"^sluice_other_tables: found 'ignore', expected fail or warn$"
    ):
        judged({}, other_tables="ignore")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"forwarding": ["net.ipv4.ip_forward"]}, "net.ipv4.ip_forward is 1"),
        ({"translates": [NAT]}, "table inet admin_nat, chain postrouting translates addresses"),
    ],
)
def test_exclusive_says_why_it_thinks_that_the_host_forwards(found: dict[str, Any], why: str) -> None:
    how: dict[str, Any] = {"scope": "exclusive", "management": {"networks": ["192.0.2.9/32"]}}
    assert refused(found, **how).startswith(f"Found a host that forwards ({why}), expected sluice_exclusive_")
    assert judged(found, forward_said=True, **how) == Conflicts((), ())
    assert judged(found) == Conflicts((), ())


@pytest.mark.parametrize(
    ("client", "management", "expected"),
    [
        ("192.0.2.9", {"networks": ["198.51.100.0/24"]}, "expected 192.0.2.9 in sluice_management.networks"),
        ("2001:db8::9", {"networks": ["192.0.2.0/24"]}, "expected 2001:db8::9 in sluice_management.networks"),
        (
            "192.0.2.9",
            {"networks": ["192.0.2.0/24"], "ports": [2222]},
            "expected 22 in sluice_management.ports",
        ),
    ],
)
def test_the_session_in_use_has_to_stay_allowed(
    client: str, management: dict[str, Any], expected: str
) -> None:
    found = {"ssh_session": {"client": client, "port": 22}}
    assert expected in refused(found, scope="exclusive", management=management)
    assert judged(found).refused == ()
    assert judged({"ssh_session": {}}, scope="exclusive", management=management).refused == ()


JUMP = {"process": "sshd", "pid": 7, "outgoing": True, "peer_address": "192.0.2.2", "peer_port": 22}


def test_who_is_reached_through_an_exclusive_host_is_not_cut_off() -> None:
    """A jump over it: its rules would be confirmed, and the next host be lost."""
    how: dict[str, Any] = {"scope": "exclusive", "management": {"networks": ["192.0.2.9/32"]}}
    entry = "{direction: out, protocol: tcp, ports: 22, networks: [192.0.2.2]}"
    sentence = refused({"connections": [JUMP]}, **how)
    assert sentence.startswith(
        f"Found a connection of sshd (process 7) to 192.0.2.2 port 22, expected {entry} in sluice"
    )
    assert judged({"connections": [JUMP]}) == Conflicts((), ())
    listed = [{"direction": "out", "protocol": "tcp", "ports": 22, "networks": ["192.0.2.0/24"]}]
    assert judged({"connections": [JUMP]}, host=listed, **how) == Conflicts((), ())
    for other in ({"outgoing": False}, {"process": "curl"}, {"peer_address": "127.0.0.1"}):
        assert judged({"connections": [JUMP | other]}, **how) == Conflicts((), ())


@pytest.mark.parametrize("port", [21, 50000, 50999, 51500, 52000, 53999])
def test_no_range_holds_the_ssh_port(port: int) -> None:
    """Listening or source range, or the control port; the ephemeral ports of control connections are none."""
    sentence = refused({"ssh_session": {"client": "192.0.2.9", "port": port}})
    assert sentence.startswith(f"Found port {port} of this run's SSH session in the proxy's ports ")
    assert judged({"ssh_session": {"client": "192.0.2.9", "port": 49999}}).refused == ()


def test_no_range_holds_a_management_port() -> None:
    management = {"networks": ["192.0.2.0/24"], "ports": [22, 50022]}
    assert "Found port 50022 of sluice_management.ports in" in refused({}, management=management)


def test_9_4_helpers_and_what_was_not_looked_at_are_warned_of() -> None:
    found = {"ftp_helpers": [NAT], "left_out": ["Nothing was looked at."]}
    helper, left_out = judged(found).warned
    assert helper.startswith("Found the FTP helper assigned by table inet admin_nat, chain postrouting")
    assert left_out == "Nothing was looked at."
