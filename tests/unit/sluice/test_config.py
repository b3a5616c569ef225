# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables of exact messages
"""The settings: every mistake names its key; logging (10.5)."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sluice import config, journal
from sluice.net.control import ControlSocket  # noqa: F401 - the net imports without a running loop

GOOD: dict[str, Any] = {
    "hop": "F",
    "host": "f1",
    "client_side": {
        "leg": "C-F",
        "neighbour": "C",
        "mode": "both",
        "peers": ["10.1.0.0/25"],
        "control_port": 21,
        "addresses": [{"address": "10.1.0.1", "public": "10.1.0.1"}],
        "listen": "50000-50999",
        "source": "20",
        "peer_ports": "1024-65535",
    },
    "server_side": {
        "leg": "F-N",
        "neighbour": "N",
        "mode": "passive",
        "addresses": [{"address": "10.2.0.1", "public": "10.2.0.1"}],
        "listen": "52000-52999",
        "source": "53000-53999",
        "peer_ports": "50000-50999",
    },
    "next_hop": {"hosts": [{"name": "n1", "addresses": ["10.2.0.2"]}], "control_port": 21},
}


def test_good_settings_and_their_defaults() -> None:
    settings = config.parse(GOOD)
    assert settings.timeouts == config.Timeouts()
    assert settings.client_side.local(6) is None


def test_15_1_the_hosts_of_the_next_hop_are_spread_where_it_is_said() -> None:
    for said, spread in (({}, False), ({"order": "in_order"}, False), ({"order": "spread"}, True)):
        hop = config.parse({**GOOD, "next_hop": {**GOOD["next_hop"], **said}}).next_hop
        assert hop is not None
        assert hop.spread is spread


SERVERS = {"networks": ["0.0.0.0/0"], "control_ports": [21]}


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("hop", None, "hop: missing, expected a name."),
        ("hop", 3, "hop: found 3, expected a name."),
        ("client_side.greeting", "x", "client_side.greeting: found 'x', expected 1 to 20 printable lines of at most 200 characters."),
        ("client_side.greeting", ["a\n230 b"], "client_side.greeting: found ['a\\n230 b'], expected 1 to 20 printable lines of at most 200 characters."),
        ("client_side.greeting", [3], "client_side.greeting: found [3], expected 1 to 20 printable lines of at most 200 characters."),
        ("client_side.data_networks", [], "client_side.data_networks: found [], expected a list of networks."),
        ("next_hop.order", "random", "next_hop.order: found 'random', expected in_order or spread."),
        ("extra", 1, "extra: unknown key."),
        ("client_side", 1, "client_side: found 1, expected a table."),
        ("client_side.mode", "bot", "client_side.mode: found 'bot', expected active, passive or both."),
        ("client_side.mod", "x", "client_side.mod: unknown key."),
        ("client_side.peers", ["10.1.0.1/24"], "client_side.peers: found ['10.1.0.1/24'], expected a list of networks."),
        ("client_side.peers", [], "client_side.peers: found [], expected a list of networks."),
        ("client_side.control_port", 0, "client_side.control_port: found 0, expected a port of 1 to 65535."),
        ("client_side.control_port", True, "client_side.control_port: found True, expected a port of 1 to 65535."),
        ("server_side.listen", "9-8", "server_side.listen: found '9-8', expected a port range such as 50000-50999."),
        ("server_side.addresses", [], "server_side.addresses: found [], expected a list of tables."),
        ("server_side.addresses", [{"address": "x"}], "server_side.addresses[0].address: found 'x', expected an IP address."),
        ("server_side.addresses", [{"address": "1.2.3.4", "public": "::1"}], "server_side.addresses[0].public: found ::1, expected an IPv4 address."),
        ("server_side.addresses", [{"address": "1.2.3.4"}, {"address": "1.2.3.5"}], "server_side.addresses[1].address: found 1.2.3.5, expected at most one IPv4 address."),
        ("server_side.addresses", [{"address": "1.2.3.4", "x": 1}], "server_side.addresses[0].x: unknown key."),
        ("next_hop", None, "next_hop, servers: exactly one of the two tables is expected."),
        ("servers", SERVERS, "next_hop, servers: exactly one of the two tables is expected."),
        ("server_side.peer_ports", [], "server_side.peer_ports: found [], expected a list of tables."),
        ("server_side.peer_ports", [{"peers": ["10.2.0.2/32"]}], "server_side.peer_ports[0].ports: missing, expected a port range such as 50000-50999."),
        ("server_side.peer_ports", [{"peers": ["10.2.0.2"], "ports": "9-8"}], "server_side.peer_ports[0].ports: found '9-8', expected a port range such as 50000-50999."),
        ("limits", {"transfers": 0}, "limits.transfers: found 0, expected a number above 0."),
        ("limits", {"sessions": "many"}, "limits.sessions: found 'many', expected a number above 0."),
        ("limits", {"session": 2}, "limits.session: unknown key."),
        ("limits", {"bandwidth": 0}, "limits.bandwidth: found 0, expected a number above 0."),
        ("limits", {"command_line": 100}, "limits.command_line: found 100, expected a length of 512 to 65536 bytes."),
        ("client_side.commands", [{"allow": [""]}], "client_side.commands[0].allow: found [''], expected a list of verbs."),
        ("client_side.commands", [{"names": ["a b"]}], "client_side.commands[0].names: found ['a b'], expected a list of names."),
        ("client_side.commands", [{"preset": "read"}], "client_side.commands[0].preset: found 'read', expected read-only or upload-only."),
        ("client_side.commands", [{"anonymous": 1}], "client_side.commands[0].anonymous: found 1, expected true or false."),
        ("server_side.commands", [{"deny": ["SITE EXEC"]}], "server_side.commands[0].deny: found ['SITE EXEC'], expected a list of verbs."),
        ("timeouts", {"idle": 0}, "timeouts.idle: found 0, expected a number of seconds above 0."),
        ("timeouts", {"idl": 1}, "timeouts.idl: unknown key."),
    ],
)  # fmt: skip
def test_every_mistake_names_its_key(path: str, value: object, problem: str) -> None:
    data = copy.deepcopy(GOOD)
    *tables, key = path.split(".")
    place = data
    for table in tables:
        place = place[table]
    if value is None:
        del place[key]
    else:
        place[key] = value
    with pytest.raises(config.ConfigError) as caught:
        config.parse(data)
    assert caught.value.problems == [problem]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fixed": "a b"}, "servers.fixed: found 'a b', expected host, host:port or [IPv6 address]:port."),
        ({"fixed": "ftp.example.org"}, "servers.fixed: found the name 'ftp.example.org', expected an address without resolvers."),
        ({"names": ["-x"]}, "servers.names: found ['-x'], expected a list of names."),
        ({"resolvers": ["x"]}, "servers.resolvers: found ['x'], expected a list of IP addresses."),
        ({"control_ports": [99999]}, "servers.control_ports: found [99999], expected a list of ports of 1 to 65535."),
    ],
)  # fmt: skip
def test_mistakes_about_servers(changes: dict[str, Any], problem: str) -> None:
    data = {k: v for k, v in GOOD.items() if k != "next_hop"} | {"servers": SERVERS | changes}
    with pytest.raises(config.ConfigError) as caught:
        config.parse(data)
    assert caught.value.problems == [problem]


METRICS = {"address": "10.9.0.1", "port": 9421, "peers": ["10.9.0.0/24"]}


def test_metrics_only_where_they_are_said() -> None:
    found = config.parse(GOOD | {"metrics": METRICS}).metrics
    assert found is not None
    assert (str(found.address), found.port, [str(each) for each in found.peers]) == tuple(METRICS.values())
    assert config.parse(GOOD).metrics is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"address": "all"}, "metrics.address: found 'all', expected an IP address."),
        ({"port": 0}, "metrics.port: found 0, expected a port of 1 to 65535."),
        ({"peers": []}, "metrics.peers: found [], expected a list of networks."),
        ({"path": "/"}, "metrics.path: unknown key."),
    ],
)
def test_mistakes_about_metrics(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.parse(GOOD | {"metrics": METRICS | changes})
    assert caught.value.problems == [problem]


def test_all_mistakes_at_once() -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.parse({"hop": ""})
    assert len(caught.value.problems) == 5


def run(toml: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    files = Path(config.__file__).parent.parent
    command = [sys.executable, "-sP", "-m", "sluice", "--config", "-", *arguments]
    environment = os.environ | {"PYTHONPATH": str(files), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, input=toml, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("toml", ["hop = 1", "hop =", "\0"])
def test_check_config_fails_in_sentences(toml: str) -> None:
    done = run(toml, "--check-config")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(("hop: ", "-: no TOML: "))
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="asks what root may not do")
def test_10_6_never_as_root() -> None:
    toml = """
hop = "F"
host = "f1"
[client_side]
leg = "C-F"
neighbour = "C"
mode = "both"
peers = ["127.0.0.0/8"]
control_port = 2121
addresses = [{ address = "127.0.0.1" }]
listen = "50000-50999"
source = "51000-51999"
peer_ports = "1024-65535"
[server_side]
leg = "F-N"
neighbour = "N"
mode = "both"
addresses = [{ address = "127.0.0.1" }]
listen = "52000-52999"
source = "53000-53999"
peer_ports = "1024-65535"
[servers]
networks = ["127.0.0.0/8"]
control_ports = [21]
"""
    assert run(toml, "--check-config").returncode == 0
    done = run(toml)
    assert (done.returncode, done.stderr) == (1, "sluice does not run as root: start it as its own user.\n")


def test_10_5_names_cannot_inject_into_a_log() -> None:
    assert journal.show(b"a\r\nb\x1b[2J\xff\xc3\xa9") == "a\\r\\nb\\x1b[2J\\xff\u00e9"


def test_journal_records_in_the_native_protocol(tmp_path: Path) -> None:
    place = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(place)
        journal.Journal(True, place).write("transfer", "a\nb", 5, SLUICE_BYTES="1")
        record = receiver.recv(4096)
    assert record.startswith(b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=5\nSLUICE_EVENT=transfer\n")


def test_a_journal_that_does_not_take_it_costs_a_record_and_no_time(tmp_path: Path) -> None:
    log = journal.Journal(True, str(tmp_path / "nobody"))
    log.write("x", "y")
    assert log.dropped == 1
