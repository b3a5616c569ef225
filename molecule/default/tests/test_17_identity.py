# SPDX-License-Identifier: GPL-3.0-or-later
"""N has `identity: true` in the lab: it knows C, and takes nobody but F's proxy (PROTOCOL 14)."""

from __future__ import annotations

import json

import pytest
from support import C4, F_UP4, N4, fetch, ok

# As F's proxy user, past F's own rules: a control connection without a header, and what N says to it.
PLAIN = f"""
import os, socket
os.setgid(int(os.environ["GID"])); os.setuid(int(os.environ["UID_"]))
with socket.create_connection(("{N4}", 21), 10) as sock:
    sock.sendall(b"USER anonymous\\r\\n")
    print(sock.getsockname()[1], sock.recv(100))
"""


def records(host: str, since: str, event: str) -> list[dict[str, str]]:
    """What the host's journal has of an event."""
    text = ok(
        host, f"journalctl --unit sluice --since @{since} --output json --no-pager SLUICE_EVENT={event}"
    )
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("command", ["EPSV", "EPRT"])
def test_n_logs_the_client_and_the_session_of_f(command: str) -> None:
    since = {host: ok(host, "date +%s.%N").strip() for host in ("f1", "n1")}
    assert fetch(command=command)
    for event in ("session-start", "transfer"):
        (f,), (n,) = (records(host, since[host], event) for host in ("f1", "n1"))
        assert n["SLUICE_SESSION"] == f["SLUICE_SESSION"]
        assert n["SLUICE_CLIENT"] == f["SLUICE_CLIENT"]
        assert n["SLUICE_CLIENT"].startswith(f"{C4}:")
        assert n["SLUICE_PEER"].startswith(f"{F_UP4}:")
    assert f["SLUICE_SERVER_DATA"].split() == n["SLUICE_CLIENT_DATA"].split()[::-1], (
        "one connection, two ends"
    )


def test_a_connection_of_f_without_a_header_is_closed_without_a_reply() -> None:
    since = ok("n1", "date +%s.%N").strip()
    said = ok("f1", "UID_=$(id -u sluice) GID=$(id -g sluice) /usr/bin/python3 -", stdin=PLAIN).split()
    assert said[1:] == ["b''"]
    (record,) = records("n1", since, "refused")
    assert record["SLUICE_CLIENT"] == f"{F_UP4}:{said[0]}"
    assert "no PROXY header" in record["SLUICE_REASON"]
    assert not records("n1", since, "session-start")
