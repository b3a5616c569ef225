# SPDX-License-Identifier: GPL-3.0-or-later
"""Who must not get through does not; each refusal stands beside the same attempt by one who may.

POLICY 2 (guard), F3, F5; issue 3: other users, other peers, past the proxy.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
from collections.abc import Iterator

import pytest
from support import (
    C4,
    C6,
    F4,
    F6,
    N4,
    N6,
    N_UP4,
    S4,
    S6,
    UNLISTED_C4,
    UNLISTED_C6,
    UNLISTED_S4,
    USER,
    ok,
    on,
    url,
)

# N wants to know for whom F comes: what F says for itself, in the PROXY protocol.
FIRST_WORD = {(address, 21): "0d0a0d0a000d0a515549540a20000000" for address in (N4, N6)}
CONNECT = """
import socket, sys
source, source_port, address, port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
    s.settimeout(1.5)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((source, source_port))
    s.connect((address, port))
    s.sendall(bytes.fromhex(sys.argv[5]))
    print(s.recv(100).decode())
"""
SERVE = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family) as server:
    while True:
        client, _ = server.accept()
        client.sendall(b"hello")
        client.close()
"""


def reaches(
    host: str, address: str, port: int, *, user: str = "root", source: str = "", source_port: int = 0
) -> bool:
    """Whether the user on the host, from this source, gets a word from that address and port."""
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "/usr/bin/python3", "-"]
    words += [source, str(source_port), address, str(port), FIRST_WORD.get((address, port), "")]
    return on(host, shlex.join(words), stdin=CONNECT).returncode == 0


@contextlib.contextmanager
def served(host: str, address: str, port: int, user: str) -> Iterator[None]:
    """A server of the user on the host's address and port that says hello."""
    ok(host, "cat >/var/tmp/serve.py; chmod 644 /var/tmp/serve.py", stdin=SERVE)
    run = f"systemd-run --quiet --collect --unit=test-serve --uid={user}"
    ok(host, f"{run} /usr/bin/python3 /var/tmp/serve.py {address} {port}")
    try:
        for _ in range(50):
            if f":{port} " in ok(host, "ss --no-header --listening --numeric --tcp"):
                break
            time.sleep(0.1)
        yield
    finally:
        ok(host, "systemctl stop test-serve")


@pytest.mark.parametrize("user", [USER, "root"])
@pytest.mark.parametrize(("host", "address"), [("f1", N4), ("f1", N6), ("n1", S4), ("n1", S6)])
def test_only_the_proxy_user_speaks_ftp_upstream(host: str, address: str, user: str) -> None:
    assert reaches(host, address, 21, user="sluice")
    assert not reaches(host, address, 21, user=user)


@pytest.mark.parametrize(
    ("host", "address", "port", "peer"), [("f1", F4, 50500, "c1"), ("n1", N_UP4, 52500, "s1")]
)
def test_only_the_proxy_user_serves_on_a_proxy_port(host: str, address: str, port: int, peer: str) -> None:
    with served(host, address, port, "sluice"):
        assert reaches(peer, address, port)
    with served(host, address, port, USER):
        assert not reaches(peer, address, port)
    with served(host, address, 60500, USER):
        assert reaches(peer, address, 60500)


@pytest.mark.parametrize(("listed", "unlisted", "address"), [(C4, UNLISTED_C4, F4), (C6, UNLISTED_C6, F6)])
def test_only_listed_clients_reach_the_proxy(listed: str, unlisted: str, address: str) -> None:
    assert reaches("c1", address, 21, source=listed)
    assert not reaches("c1", address, 21, source=unlisted)


def test_what_is_refused_is_seen_in_the_log() -> None:
    """POLICY F22. The machine's log, for a namespace has none; at a low rate, so more than one try."""
    for port in range(40001, 40016):
        assert not reaches("c1", F4, 21, source=UNLISTED_C4, source_port=port)
        log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
        lines = [line for line in log.splitlines() if "sluice F: not a flow: to a proxy port: " in line]
        if any(f"SRC={UNLISTED_C4} DST={F4} " in line and f"SPT={port} DPT=21 " in line for line in lines):
            return
    raise AssertionError("no refusal stands in the machine's log")


def test_only_listed_servers_reach_the_data_ports() -> None:
    with served("n1", N_UP4, 52501, "sluice"):
        assert reaches("s1", N_UP4, 52501, source=S4)
        assert not reaches("s1", N_UP4, 52501, source=UNLISTED_S4)


def test_client_does_not_reach_the_ports_between_the_hops() -> None:
    """N takes data on its client side from F's source range alone."""
    with served("n1", N4, 50501, "sluice"):
        assert reaches("f1", N4, 50501, user="sluice", source_port=53000)
        assert not reaches("f1", N4, 50501, user="sluice")
        assert not reaches("c1", N4, 50501)
    assert not reaches("c1", N4, 21)


@pytest.mark.parametrize("address", [S4, S6])
def test_ftp_past_the_proxy_is_not_forwarded(address: str) -> None:
    assert reaches("c1", address, 22)  # SSH is
    assert not reaches("c1", address, 21)


@pytest.mark.parametrize("target", [UNLISTED_S4, f"{S4}:2121", "[2001:db8:3::200]"])
def test_server_outside_the_description_is_answered_530(target: str) -> None:
    done = on("c1", shlex.join(["curl", "-v", "-s", "--max-time", "30", url(f"{USER}@{target}", F4)]))
    assert done.returncode != 0
    assert "< 530 N: " in done.stderr, done.stderr
