# SPDX-License-Identifier: GPL-3.0-or-later
"""The module that listens and connects, on loopback; what it leaves behind is nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.modules.path_probe import (
    addresses,
    candidates,
    connecting,
    finish,
    listening,
    started,
    user_ids,
)

UIDS: dict[str, int | None] = {"own": None}


def probe(name: str, **other: Any) -> dict[str, Any]:
    known = {"id": name, "user": "own", "source": "127.0.0.1", "source_ports": "", "target": "127.0.0.1"}
    known |= {"ports": "40000-49999", "listener": "own", "bind": "127.0.0.1"}
    return {**known, "greets": False, "identity": False, **other}


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 20
    while started(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not started(pid)


def test_who_listens_answers_and_ends_when_told() -> None:
    v6 = {"source": "::1", "target": "::1", "bind": "::1"}
    probes = [probe("p1"), probe("p2", **v6), probe("p3", source_ports="39000-39100")]
    found = listening(probes, UIDS, 30)
    try:
        assert found["failed_probes"] == {}
        assert all(40000 <= port <= 49999 for port in found["ports"].values())
        came = connecting(probes, found["ports"], UIDS)["answers"]
        assert came == {name: {"outcome": "answered", "said": name} for name in ("p1", "p2", "p3")}
        assert Path(f"/proc/{found['pid']}/comm").read_text() == "sluice-verify\n"
        assert {str(each.readlink()) for each in Path(f"/proc/{found['pid']}/fd").glob("[012]")} == {
            "/dev/null"
        }
    finally:
        finish(found["pid"], found["started"])
    wait_for_end(found["pid"])
    assert connecting(probes, found["ports"], UIDS)["answers"]["p1"]["outcome"] == "reset"


def test_who_listens_ends_by_itself() -> None:
    found = listening([probe("p1")], UIDS, 1)
    wait_for_end(found["pid"])


def test_only_the_process_that_was_meant_is_ended() -> None:
    finish(os.getpid(), "1")
    finish(os.getpid(), "")


def test_a_stranger_gets_no_answer() -> None:
    found = listening([probe("p1")], UIDS, 30)
    try:
        with socket.create_connection(("127.0.0.1", found["ports"]["p1"]), timeout=10) as sock:
            sock.sendall(b"USER anonymous\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(10) == b""
    finally:
        finish(found["pid"], found["started"])


def test_a_server_that_greets_and_one_that_does_not_know_us() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        greets = probe("p1", ports=str(port), listener="", greets=True)
        pid = os.fork()
        if pid == 0:
            for _each in range(2):
                server.accept()[0].sendall(b"220 hello\r\n")
                time.sleep(0.2)
            os._exit(0)
        try:
            answered = connecting([greets], {}, UIDS)["answers"]["p1"]
            assert answered == {"outcome": "answered", "said": "220 hello"}
            other = connecting([{**greets, "greets": False}], {}, UIDS)["answers"]["p1"]
            assert other == {"outcome": "connected", "said": "220 hello"}
        finally:
            os.waitpid(pid, 0)


def test_14_1_a_hop_that_wants_a_header_first_gets_a_local_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asks = probe("p1", ports=str(server.getsockname()[1]), listener="", greets=True, identity=True)
        pid = os.fork()
        if pid == 0:
            sock = server.accept()[0]
            sock.sendall(b"220 it is " + sock.recv(100).hex().encode() + b"\r\n")
            os._exit(0)
        try:
            said = connecting([asks], {}, UIDS)["answers"]["p1"]["said"]
        finally:
            os.waitpid(pid, 0)
    assert said == "220 it is 0d0a0d0a000d0a515549540a20000000"


def test_what_cannot_be_tried_says_why() -> None:
    foreign = probe("p1", bind="192.0.2.1", source="192.0.2.1")
    assert "Cannot assign" in listening([foreign], UIDS, 5)["failed_probes"]["p1"]
    assert connecting([foreign], {"p1": 9}, UIDS)["answers"]["p1"]["outcome"] == "failed"
    nobody = probe("p2", user="proxy", listener="proxy")
    assert listening([nobody], UIDS, 5) == {
        "ports": {},
        "failed_probes": {"p2": "the proxy's user does not exist on this host"},
        "pid": 0,
        "started": "",
    }
    assert connecting([nobody], {}, UIDS)["answers"] == {}  # nobody could listen for it


def test_a_port_that_is_taken_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        found = listening([probe("p1", ports=port)], UIDS, 5)
        assert found["failed_probes"] == {"p1": f"no free port in {port}"}


def test_ports_to_look_at() -> None:
    assert candidates("") == [0]
    assert candidates("20") == [20]
    assert sorted(candidates("1000-1003")) == [1000, 1001, 1002, 1003]
    assert len(set(candidates("1024-65535"))) == 64


def test_own_addresses_towards_others() -> None:
    assert addresses(["127.0.0.9", "127.0.0.8", "::1"]) == ["127.0.0.1", "::1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")
def test_sockets_belong_to_the_wanted_user() -> None:
    """POLICY F2: who calls socket() and accept() is who the rules see."""
    uids = user_ids("daemon")
    assert uids["proxy"] == 1
    found = listening([probe("p1", listener="proxy"), probe("p2", listener="other")], uids, 30)
    try:
        owners = {}
        for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A":
                owners[int(fields[1].partition(":")[2], 16)] = int(fields[7])
        assert owners[found["ports"]["p1"]] == 1
        assert owners[found["ports"]["p2"]] == uids["other"]
        assert os.geteuid() == 0
    finally:
        finish(found["pid"], found["started"])
