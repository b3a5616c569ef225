# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: --check-config and its sentences, how a start fails, and that root is refused (F2)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from .harness import (
    CONTROL,
    NotReadyError,
    Paths,
    Proxy,
    Settings,
    Site,
    changed,
    command,
    first_hop,
    last_hop,
    toml,
)
from .wire import listen


def check(site: Site, text: str) -> subprocess.CompletedProcess[str]:
    """--check-config of a text on standard input."""
    full = command(site, "--config", "-", "--check-config")
    return subprocess.run(**full, input=text, capture_output=True, text=True, timeout=20, check=False)


def base(site: Site, hop: str) -> Settings:
    net = _nets.setdefault(site, site.net())
    return first_hop(net) if hop == "F" else last_hop(net)


_nets: dict[Site, Any] = {}


GOOD: list[tuple[str, Mapping[str, Any]]] = [
    ("F", {}),
    ("N", {}),
    ("N", {"servers.fixed": None}),
    (
        "N",
        {
            "servers.fixed": "198.51.100.10",
            "servers.control_ports": [21],
            "servers.networks": ["198.51.100.0/25"],
        },
    ),
    ("N", {"client_side.listen": "20", "client_side.source": "21000"}),
    ("N", {"client_side.mode": "active", "server_side.mode": "passive"}),
    ("N", {"timeouts.connect": 0.5}),
    ("N", {"servers.fixed": None, "servers.resolvers": ["192.0.2.53", "2001:db8::53"]}),
    ("F", {"client_side.control_port": 21, "client_side.source": "20"}),
    (
        "N",
        {
            "client_side.addresses": [
                {"address": "10.2.0.2", "public": "10.2.0.2"},
                {"address": "2001:db8:2::2", "public": "2001:db8:2::2"},
            ],
            "client_side.peers": ["10.2.0.1/32", "2001:db8:2::1/128"],
        },
    ),
]


@pytest.mark.parametrize(("hop", "changes"), GOOD)
def test_a_good_configuration_is_silent(site: Site, hop: str, changes: Mapping[str, Any]) -> None:
    done = check(site, toml(changed(base(site, hop), changes)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_good_configuration_in_a_file_is_silent(site: Site) -> None:
    file = site.directory / "good.toml"
    file.write_text(toml(base(site, "F")))
    done = subprocess.run(
        **command(site, "--config", str(file), "--check-config"),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


BAD: list[tuple[str, Mapping[str, Any], str]] = [
    ("F", {"hop": None}, "hop"),
    ("F", {"hop": ""}, "hop"),
    ("F", {"hop": 7}, "hop"),
    ("F", {"host": None}, "host"),
    ("F", {"colour": "red"}, "colour"),
    ("F", {"client_side.colour": "red"}, "client_side.colour"),
    ("F", {"client_side": None}, "client_side"),
    ("F", {"server_side": None}, "server_side"),
    ("F", {"client_side.mode": "sideways"}, "client_side.mode"),
    ("F", {"client_side.mode": None}, "client_side.mode"),
    ("F", {"client_side.control_port": 0}, "client_side.control_port"),
    ("F", {"client_side.control_port": 65536}, "client_side.control_port"),
    ("F", {"client_side.control_port": "21"}, "client_side.control_port"),
    ("F", {"client_side.control_port": True}, "client_side.control_port"),
    ("F", {"client_side.listen": "50999-50000"}, "client_side.listen"),
    ("F", {"client_side.listen": "fifty"}, "client_side.listen"),
    ("F", {"client_side.listen": "0-10"}, "client_side.listen"),
    ("F", {"client_side.listen": "65000-65536"}, "client_side.listen"),
    ("F", {"client_side.listen": 50000}, "client_side.listen"),
    ("F", {"client_side.source": ""}, "client_side.source"),
    ("F", {"client_side.peer_ports": None}, "client_side.peer_ports"),
    ("F", {"client_side.peers": []}, "client_side.peers"),
    ("F", {"client_side.peers": ["10.1.0.0/33"]}, "client_side.peers"),
    ("F", {"client_side.peers": ["ten"]}, "client_side.peers"),
    ("F", {"client_side.peers": "10.1.0.0/25"}, "client_side.peers"),
    ("F", {"client_side.addresses": []}, "client_side.addresses"),
    ("F", {"client_side.addresses": [{"address": "x", "public": "10.1.0.1"}]}, "client_side.addresses"),
    ("F", {"client_side.addresses": [{"address": "::1", "public": "10.1.0.1"}]}, "client_side.addresses"),
    ("F", {"server_side.listen": "1-2-3"}, "server_side.listen"),
    ("F", {"server_side.mode": "Both"}, "server_side.mode"),
    ("F", {"next_hop": None}, "next_hop"),
    ("F", {"next_hop.hosts": []}, "next_hop.hosts"),
    ("F", {"next_hop.hosts": [{"name": "n1", "addresses": []}]}, "next_hop.hosts"),
    ("F", {"next_hop.hosts": [{"name": "n1", "addresses": ["n1.example.org"]}]}, "next_hop.hosts"),
    ("F", {"next_hop.control_port": -1}, "next_hop.control_port"),
    ("F", {"servers": {"networks": ["192.0.2.0/24"], "control_ports": [21]}}, "servers"),
    ("N", {"servers.networks": []}, "servers.networks"),
    ("N", {"servers.networks": ["192.0.2.1/24"]}, "servers.networks"),
    ("N", {"servers.control_ports": []}, "servers.control_ports"),
    ("N", {"servers.control_ports": [21, 99999]}, "servers.control_ports"),
    ("N", {"servers.fixed": "[::1"}, "servers.fixed"),
    ("N", {"servers.fixed": "192.0.2.1:port"}, "servers.fixed"),
    ("N", {"servers.fixed": ""}, "servers.fixed"),
    ("N", {"servers.resolvers": ["resolver.example.org"]}, "servers.resolvers"),
    ("N", {"servers.resolvers": "192.0.2.53"}, "servers.resolvers"),
    ("N", {"timeouts.connect": 0}, "timeouts.connect"),
    ("N", {"timeouts.greeting": -5}, "timeouts.greeting"),
    ("N", {"timeouts.reply": "600"}, "timeouts.reply"),
    ("N", {"timeouts.idle": True}, "timeouts.idle"),
    ("N", {"timeouts.lunch": 3600}, "timeouts.lunch"),
]


@pytest.mark.parametrize(("hop", "changes", "key"), BAD)
def test_a_bad_configuration_is_one_sentence_that_names_the_key(
    site: Site, hop: str, changes: Mapping[str, Any], key: str
) -> None:
    done = check(site, toml(changed(base(site, hop), changes)))
    assert done.returncode == 2, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert key in lines[0]
    assert lines[0].endswith(".")
    assert "Traceback" not in done.stderr


def test_each_mistake_has_its_sentence(site: Site) -> None:
    text = toml(
        changed(
            base(site, "N"),
            {"client_side.mode": "x", "server_side.listen": "y", "timeouts.idle": -1, "hop": 9, "zoo": 1},
        )
    )
    done = check(site, text)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 5, lines
    for key in ("hop", "zoo", "client_side.mode", "server_side.listen", "timeouts.idle"):
        assert sum(key in line for line in lines) == 1, (key, lines)


@pytest.mark.parametrize("text", ["hop = ", "\0", "[client_side", "= 1\n", "", "hop = 'a'\nhop = 'b'\n"])
def test_what_is_no_toml_is_said_without_a_traceback(site: Site, text: str) -> None:
    done = check(site, text)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_utf_8(site: Site) -> None:
    full = command(site, "--config", "-", "--check-config")
    done = subprocess.run(**full, input=b'hop = "\xff"\n', capture_output=True, timeout=20, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert done.stderr.strip()


def test_a_file_that_is_not_there(site: Site) -> None:
    full = command(site, "--config", "/nonexistent/sluice.toml", "--check-config")
    done = subprocess.run(**full, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "/nonexistent/sluice.toml" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_bad_configuration_does_not_start(site: Site) -> None:
    with pytest.raises(NotReadyError) as failure:
        Proxy(site, changed(base(site, "F"), {"client_side.mode": "sideways"}))
    code, text = failure.value.args
    assert code == 2
    assert "client_side.mode" in text
    assert "Traceback" not in text


def test_a_port_that_is_taken_is_one_sentence_and_exit_1(site: Site) -> None:
    net = site.net()
    with listen(net.n_client, CONTROL), pytest.raises(NotReadyError) as failure:
        Proxy(site, last_hop(net))
    code, text = failure.value.args
    assert code == 1
    assert f"{net.n_client}:{CONTROL}" in text
    assert "Traceback" not in text


def test_15_4_an_address_that_is_not_on_the_host_yet_is_a_warning(site: Site) -> None:
    settings = changed(
        last_hop(site.net()), {"client_side.addresses": [{"address": "192.0.2.1", "public": "192.0.2.1"}]}
    )
    proxy = Proxy(site, settings)
    proxy.stop()
    assert proxy.record("warning")["MESSAGE"] == "192.0.2.1 is not on this host yet."


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try to start it as root")
def test_10_6_it_does_not_start_as_root(site: Site) -> None:
    file = site.directory / "root.toml"
    file.write_text(toml(base(site, "N")))
    full = {**command(site, "--config", str(file)), "user": 0, "group": 0}
    done = subprocess.run(**full, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode not in (0, None)
    assert "root" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_listens_only_where_the_description_says(paths: Paths) -> None:
    """No listening socket but the control port on the client side's address."""
    path = paths.own(1)
    inodes = set()
    for pid in path.last.pids():
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            target = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    listening = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as lines:  # noqa: PTH123
            for line in list(lines)[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:
                    listening.append(fields[1])
    expected = bytes(reversed([int(x) for x in path.net.n_client.split(".")])).hex().upper()
    assert listening == [f"{expected}:{CONTROL:04X}"]
