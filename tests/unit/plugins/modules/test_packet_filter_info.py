# SPDX-License-Identifier: GPL-3.0-or-later
"""What else decides about packets: the parser against listings of a real nft, the session from processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.sluice.ftp.plugins.modules.packet_filter_info import (
    findings,
    parse_ruleset,
    ssh_session,
)

NAMESPACE = ["unshare", "--map-root-user", "--net", "sh", "-c"]
LISTED = "nft -f - && nft -s -t list ruleset"


TWO_RULES = 'drop\n tcp dport 1 accept comment "drop"'


def found(ruleset: str) -> dict[str, list[dict[str, str]]]:
    """The findings in a namespace that has just this ruleset, as this nft lists it."""
    broken = ruleset.replace("}", "\n}\n")  # F21
    done = subprocess.run([*NAMESPACE, LISTED], input=broken, capture_output=True, text=True, check=True)
    return findings(parse_ruleset(done.stdout))


def chain(hook: str, rules: str = "", policy: str = "accept") -> str:
    return f"chain c {{ type filter hook {hook} priority filter; policy {policy};\n{rules}\n}}\n"


@pytest.mark.parametrize("hook", ["input", "output", "forward"])
@pytest.mark.parametrize(
    ("rules", "by"),
    [
        ("tcp dport 22 accept\n drop", "last rule drop"),
        ("counter reject with icmpx type admin-prohibited", "last rule reject with icmpx admin-prohibited"),
        ('log prefix "denied: " level warn flags all counter drop comment "the rest"', "last rule drop"),
        ("limit rate 1/second log group 3\n jump rest", "last rule drop"),
        ("counter goto rest", "last rule drop"),
    ],
)
def test_who_denies_by_default_is_named(hook: str, rules: str, by: str) -> None:
    """POLICY 1: by policy, or by a last rule without a condition, be it in a chain that is jumped to."""
    rest = "chain rest { ct state established accept\n counter drop\n}\n"
    place = {"family": "inet", "table": "t", "chain": "c", "hook": hook}
    assert found(f"table inet t {{ {rest} {chain(hook, rules)} }}")["denies"] == [{**place, "by": by}]
    assert found(f"table inet t {{ {chain(hook, policy='drop')} }}")["denies"] == [
        {**place, "by": "policy drop"}
    ]


@pytest.mark.parametrize(
    "table",
    [
        f"table inet t {{ {chain('input', 'ct state invalid drop')} }}",
        f"table inet t {{ {chain('input', 'limit rate 1/second drop')} }}",
        f"table inet t {{ {chain('input', TWO_RULES)} }}",
        f"table inet t {{ {chain('prerouting', policy='drop')} }}",
        f"table inet t {{ flags dormant; {chain('input', policy='drop')} }}",
        f"table bridge t {{ {chain('input', policy='drop')} }}",
        "table inet t { chain unused { drop; } }",
    ],
)
def test_who_does_not_deny_by_default_is_not_named(table: str) -> None:
    assert found(table)["denies"] == []


def test_a_table_with_flags_hides_no_other() -> None:
    """nft 1.0.6 lists it as what is no JSON."""
    tables = f"table inet a {{ flags dormant; }}\n table ip b {{ {chain('input', policy='drop')} }}"
    assert [each["table"] for each in found(tables)["denies"]] == ["b"]


@pytest.mark.parametrize("statement", ["masquerade", "snat ip to 192.0.2.1", "counter masquerade random"])
def test_who_translates_is_named(statement: str) -> None:
    table = f'chain c {{ type nat hook postrouting priority srcnat;\noifname "wan" {statement}\n}}'
    place = {"family": "inet", "table": "t", "chain": "c"}
    assert found(f"table inet t {{ {table} }}")["translates"] == [place]
    quoted = chain("input", 'tcp dport 1 accept comment "masquerade"')
    assert found(f"table inet t {{ {quoted} }}")["translates"] == []


def test_9_4_who_assigns_the_ftp_helper_is_named() -> None:
    """F11; other helpers are nobody's business, and a match on the helper assigns nothing."""
    helpers = 'ct helper a { type "ftp" protocol tcp; }\n ct helper b { type "sip" protocol udp; }\n'
    place = {"family": "inet", "table": "t", "chain": "c"}
    rule = chain("prerouting", 'tcp dport 21 ct helper set "a"')
    assert found(f"table inet t {{ {helpers} {rule} }}")["ftp_helpers"] == [place]
    for other in ('udp dport 5060 ct helper set "b"', 'ct helper "ftp" drop'):
        assert found(f"table inet t {{ {helpers} {chain('prerouting', other)} }}")["ftp_helpers"] == []


ASK = (
    "from ansible_collections.sluice.ftp.plugins.modules.packet_filter_info import ssh_session;"
    "print(ssh_session())"
)


def session(connection: str | None) -> str:
    """What a grandchild finds that sudo, as it were, gave another environment."""
    environment = {key: value for key, value in os.environ.items() if key != "SSH_CONNECTION"}
    path = os.pathsep.join(sys.path)
    inner = f"env -i PYTHONPATH='{path}' {sys.executable} -c '{ASK}'; :"
    if connection is not None:
        environment["SSH_CONNECTION"] = connection
    done = subprocess.run(["sh", "-c", inner], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_the_session_is_found_through_sudo() -> None:
    assert session("192.0.2.9 50022 192.0.2.1 2222") == "{'client': '192.0.2.9', 'port': 2222}"
    assert session("fe80::1%eth0 50022 fe80::2%eth0 22") == "{'client': 'fe80::1', 'port': 22}"
    assert session("UNKNOWN 65535 UNKNOWN 65535") == "{}", "one that came by no network"


def test_no_session_for_what_has_no_ssh_behind_it() -> None:
    assert ssh_session(1) == {}
    assert ssh_session(2**22 + 1) == {}
