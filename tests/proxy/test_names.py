# SPDX-License-Identifier: GPL-3.0-or-later
"""2.3 with `resolvers`: a name is asked of exactly these, and what it means is checked like an address."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

import pytest

from .harness import PYTHON, SERVER_CONTROL, Path, Paths, Session, Site
from .wire import listen, untouched

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a resolver of our own listens on port 53"),
    pytest.mark.skipif(
        subprocess.run([PYTHON, "-c", "import dns"], capture_output=True, check=False).returncode != 0,
        reason="python3-dnspython is not installed",
    ),
]


class Resolver:
    """A DNS server over UDP that knows a few names; `asked` holds every name it was asked for."""

    def __init__(self, address: str, names: dict[str, list[str] | None]) -> None:
        self.asked: list[str] = []
        self._names = names
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((address, 53))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        host, port = self._sock.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (host, port))
        self._thread.join(8)
        self._sock.close()

    def _run(self) -> None:
        while True:
            query, peer = self._sock.recvfrom(4096)
            if not query:
                return
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, end = ".".join(labels).lower(), at + 5
            kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
            self.asked.append(name)
            addresses = self._names.get(name, [])
            if addresses is None:
                continue  # silence
            answers = [a for a in addresses if (":" in a) == (kind == 28)] if kind in {1, 28} else []
            records = b""
            for address in answers:
                packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
                records += struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(packed)) + packed
            flags = 0x8180 if name in self._names else 0x8183  # NOERROR, NXDOMAIN
            header = query[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0)
            self._sock.sendto(header + query[12:end] + records, peer)


@pytest.fixture(scope="module")
def running(site: Site) -> Iterator[tuple[Path, Resolver]]:
    paths = Paths(site)
    path = paths.own(
        1, servers__fixed=None, servers__resolvers=lambda net: [f"{net.prefix}.53"], timeouts__connect=1
    )
    net = path.net
    resolver = Resolver(
        f"{net.prefix}.53",
        {
            "ftp.example.org": [net.server],
            "evil.example.org": [net.forbidden_server],
            "mixed.example.org": [net.forbidden_server, net.server],
            "local.example.org": ["127.0.0.1"],
            "six.example.org": ["2001:db8::1"],
            "empty.example.org": [],
            "silent.example.org": None,
        },
    )
    yield path, resolver
    resolver.close()
    paths.after_test()


@pytest.fixture
def resolver(running: tuple[Path, Resolver]) -> Resolver:
    running[1].asked.clear()
    return running[1]


@pytest.fixture
def path(running: tuple[Path, Resolver]) -> Iterator[Path]:
    yield running[0]
    running[0].tidy()
    running[0].check()


def test_2_3_a_name_is_asked_of_the_resolver(path: Path, resolver: Resolver) -> None:
    server, c = path.server, path.client()
    assert c.reply().code == 220
    c.line(f"USER a@b@ftp.example.org:{SERVER_CONTROL}")
    x = Session(c, server.accept())
    assert c.reply().code == 331
    assert c.cmd("PASS x").code == 230
    assert x.s.lines[0] == b"USER a@b"
    x.in_step()
    assert set(resolver.asked) == {"ftp.example.org"}


@pytest.mark.parametrize(
    "name",
    ["evil", "local", "six", "empty", "unknown", "silent"],
)
def test_2_3_a_name_that_leads_nowhere_allowed_is_530_and_not_dialled(
    path: Path, resolver: Resolver, name: str
) -> None:
    with listen(path.net.forbidden_server, SERVER_CONTROL) as victim:
        c = path.client()
        assert c.reply().code == 220
        reply = c.cmd(f"USER me@{name}.example.org:{SERVER_CONTROL}")
        assert reply.code == 530
        assert reply.text.startswith("530 N: ")
        assert f"{name}.example.org" in reply.text
        assert c.cmd("NOOP").code == 200
        assert untouched(victim)


def test_2_3_of_several_addresses_an_allowed_one_is_used_or_none(path: Path, resolver: Resolver) -> None:
    with listen(path.net.forbidden_server, SERVER_CONTROL) as victim:
        server, c = path.server, path.client()
        assert c.reply().code == 220
        c.line(f"USER me@mixed.example.org:{SERVER_CONTROL}")
        server.listener.settimeout(3)
        try:
            Session(c, server.accept())
        except TimeoutError:
            assert c.reply().code == 530
        else:
            assert c.reply().code == 331
        assert untouched(victim)


def test_2_3_a_forbidden_port_is_refused_before_any_question(path: Path, resolver: Resolver) -> None:
    c = path.client()
    assert c.reply().code == 220
    assert c.cmd("USER me@ftp.example.org:2101").code == 530
    assert c.cmd("NOOP").code == 200
    assert resolver.asked == []


@pytest.mark.parametrize(
    "name", ["-x.example.org", "a..b", "x" * 64 + ".org", "a" * 300, "ex ample.org", "\x1b[31m", "*.org"]
)
def test_2_3_what_is_no_host_name_is_not_asked(path: Path, resolver: Resolver, name: str) -> None:
    c = path.client()
    assert c.reply().code == 220
    assert c.cmd(f"USER me@{name}:{SERVER_CONTROL}").code in {501, 530}
    assert c.cmd("NOOP").code == 200
    assert resolver.asked == [] or len(name) < 64


def test_2_3_only_these_names_are_asked_for(paths: Paths) -> None:
    """`servers.names`: another name is no question, an address no way past them."""
    path = paths.own(
        1,
        servers__fixed=None,
        servers__resolvers=lambda net: [f"{net.prefix}.53"],
        servers__names=["ftp.example.org"],
    )
    names: dict[str, list[str] | None] = {
        "ftp.example.org": [path.net.server],
        "b.example.org": [path.net.server],
    }
    resolver = Resolver(f"{path.net.prefix}.53", names)
    try:
        server, c = path.server, path.client()
        assert c.reply().code == 220
        for host in ("b.example.org", path.net.server):
            reply = c.cmd(f"USER me@{host}:{SERVER_CONTROL}")
            assert reply.text == f"530 N: server {host} is not one of the allowed names."
        assert resolver.asked == []
        c.line(f"USER me@FTP.example.org:{SERVER_CONTROL}")
        x = Session(c, server.accept())
        assert c.reply().code == 331
        assert c.cmd("PASS x").code == 230
        x.in_step()
    finally:
        resolver.close()
