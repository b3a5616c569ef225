# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients move real files through F and N, byte for byte, and the journal of each hop says so."""

from __future__ import annotations

import json

import observe
import pytest
from support import LAB, USER, Transfer, arrives, counters, fetch, ok, on

TRANSFERS = [
    Transfer(client, direction, command, family)
    for client in ("curl", "lftp", "ftplib")
    for family, commands in ((4, ("PASV", "PORT", "EPSV", "EPRT")), (6, ("EPSV", "EPRT")))
    for command in commands
    for direction in ("down", "up")
    if (client, family, command) != ("lftp", 4, "EPRT")  # lftp sends PORT for IPv4, always
]


@pytest.mark.parametrize("transfer", TRANSFERS, ids=str)
def test_file_arrives_whole(transfer: Transfer) -> None:
    arrives(transfer)


@pytest.mark.parametrize(
    ("command", "f_flow", "n_flow"),
    [
        (
            "EPSV",
            "C -> F: -> proxy user: to port specified by proxy user (passive)",
            "S <- N: <- proxy user: to port specified by S (passive)",
        ),
        (
            "EPRT",
            "C <- F: <- proxy user: to port specified by C (active)",
            "S -> N: -> proxy user: to port specified by proxy user (active)",
        ),
    ],
)
def test_connections_are_those_of_the_mode(command: str, f_flow: str, n_flow: str) -> None:
    """One session opens one control and one data connection a leg, in the direction of its mode (DESIGN)."""
    before = counters("f1"), counters("n1")
    assert fetch(command=command)
    for flow, host, old in ((f_flow, "f1", before[0]), (n_flow, "n1", before[1])):
        new = counters(host)
        assert {name: new[name] - old.get(name, 0) for name in new if new[name] != old.get(name, 0)} == {
            name: 1 for name in new if name == flow or name in _always(host, command)
        }


def _always(host: str, command: str) -> set[str]:
    """The control flows of the host, and its other data flow of this mode."""
    if host == "f1":
        control = {"C -> F: -> proxy user: to port 21", "N <- F: <- proxy user: to port 21"}
        between = {
            "EPSV": "N <- F: <- proxy user: to port specified by N (passive)",
            "EPRT": "N -> F: -> proxy user: to port specified by proxy user (active)",
        }
    else:
        control = {"F -> N: -> proxy user: to port 21", "S <- N: <- proxy user: to port 21"}
        between = {
            "EPSV": "F -> N: -> proxy user: to port specified by proxy user (passive)",
            "EPRT": "F <- N: <- proxy user: to port specified by F (active)",
        }
    return control | {between[command]}


DATA = {
    "EPSV": [("N", "S"), ("F", "N"), ("C", "F")],
    "EPRT": [("S", "N"), ("N", "F"), ("F", "C")],
}


@pytest.mark.parametrize("command", DATA)
def test_a_session_has_six_connections(command: str) -> None:
    """As DESIGN lists them, each seen by the hosts that it ends at: opener and acceptor, control first."""
    with observe.new_connections(LAB) as found:
        assert fetch(command=command)
    seen = [
        (one.opener, one.acceptor, one.port == 21, sorted(witnesses))
        for one, witnesses in observe.in_order(found)
        if (one.opener, one.acceptor) != ("C", "S")  # the lab's own HTTP, past the proxies all the time
    ]
    ends = [("C", "F", True), ("F", "N", True), ("N", "S", True), *((*each, False) for each in DATA[command])]
    assert seen == [(*each, sorted({"F", "N"} & set(each[:2]))) for each in ends]


@pytest.mark.parametrize("host", ["f1", "n1"])
def test_journal_has_the_transfer_in_fields(host: str) -> None:
    since = ok(host, "date +%s.%N").strip()
    assert fetch(command="PASV")
    text = ok(
        host, f"journalctl --unit sluice --since @{since} --output json --no-pager SLUICE_EVENT=transfer"
    )
    entries = [json.loads(line) for line in text.splitlines()]
    assert len(entries) == 1
    entry = entries[0]
    assert entry["SLUICE_COMMAND"] == "RETR"
    assert entry["SLUICE_FILE"] == "small"
    assert entry["SLUICE_BYTES"] == "3000000"
    assert entry["SLUICE_OUTCOME"] == "complete"
    assert entry["SLUICE_CLIENT_MODE"] == entry["SLUICE_SERVER_MODE"] == "passive"
    assert entry["SLUICE_USER"].split("@")[0] == USER  # F passes user@server on to N
    assert entry["SLUICE_SESSION"]


@pytest.mark.parametrize("host", ["f1", "n1"])
def test_password_is_in_no_log(host: str) -> None:
    assert fetch()
    assert on(host, "journalctl --output export --no-pager | grep --quiet opensesame").returncode == 1
