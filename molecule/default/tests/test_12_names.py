# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers by name: N asks its resolvers, and the rules open DNS for that alone (POLICY F23)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import F4, LAB, S4, USER, converge, listing, ok, on, url

NAME = "ftp.example.org"


@pytest.fixture(scope="module", autouse=True)
def resolving() -> Iterator[None]:
    """S answers DNS, N may ask it; afterwards neither."""
    code = Path(__file__).with_name("dns_server.py").read_text()
    ok("s1", "cat >/var/tmp/dns_server.py", stdin=code)
    command = ["/usr/bin/python3", "/var/tmp/dns_server.py", S4, NAME, S4]
    ok("s1", shlex.join(["systemd-run", "--quiet", "--collect", "--unit=dns", *command]))
    topology = yaml.safe_load((LAB.inventory / "group_vars/sluice.yml").read_text())["sluice_topology"]
    topology["hops"][1]["resolvers"] = [S4]
    converge("-e", json.dumps({"sluice_topology": topology}))
    yield
    ok("s1", "systemctl stop dns; rm /var/tmp/dns_server.py")
    converge()
    assert "to port 53" not in listing("n1")


def test_a_server_is_reached_by_its_name() -> None:
    login = url(f"{USER}@{NAME}", F4, "small")
    ok("c1", shlex.join(["curl", "-s", "-S", "--max-time", "30", "-o", "/var/tmp/by-name", login]))
    assert ok("c1", "sha256sum </var/tmp/by-name") == ok("s1", f"sha256sum </home/{USER}/small")


def test_a_name_that_is_not_known_is_answered_530() -> None:
    login = url(f"{USER}@nowhere.example.org", F4)
    done = on("c1", shlex.join(["curl", "-v", "-s", "--max-time", "30", login]))
    assert "< 530 N: " in done.stderr, done.stderr
    assert "nowhere.example.org" in done.stderr


def test_dns_is_the_proxy_users_and_n_alone() -> None:
    assert "resolver <- N: <- proxy user: to port 53 (udp)" in listing("n1")
    assert "to port 53" not in listing("f1")
