# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy's settings: one table for each leg, the next hop or the servers, nested timeouts."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.commands import read_commands
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import DescriptionError, read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.settings import (
    read_greeting,
    read_timeouts,
    settings,
)

from tests.unit.plugins.paths import changed, twenty_lines, with_metrics


def of(host: str, topology: Any = None, mode: Any = "both", timeouts: Any = None) -> dict[str, Any]:
    path = read_path(topology or twenty_lines(), mode)
    return settings(path, path.host(host), read_timeouts(timeouts))


def test_a_hop_before_another() -> None:
    assert of("f1", mode={"C-F": "both", "F-N": "passive", "N-S": "active"}) == {
        "hop": "F",
        "host": "f1",
        "client_side": {
            "leg": "C-F",
            "neighbour": "C",
            "mode": "both",
            "peers": ["10.1.0.0/24"],
            "control_port": 21,
            "addresses": [{"address": "10.1.0.1", "public": "10.1.0.1"}],
            "listen": "50000-50999",
            "source": "51000-51999",
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
        "timeouts": {
            "connect": 10,
            "greeting": 35,
            "data_connect": 35,
            "data_idle": 305,
            "reply": 645,
            "idle": 905,
            "drain": 3600,
            "login": 125,
        },
    }


def test_15_1_the_hop_before_spreads_where_it_is_said() -> None:
    topology = changed("hops.1.order", "spread")
    assert of("f1", topology)["next_hop"]["order"] == "spread"
    assert "order" not in of("f1", changed("hops.1.order", "in_order"))["next_hop"]
    assert of("n1", topology) == of("n1"), "it is no matter of its own"


def test_3_7_and_3_14_and_3_16_data_networks_are_for_the_two_ends_and_add_no_flow() -> None:
    topology = changed("clients.data_networks", ["10.1.0.128/25"])
    topology["servers"]["data_networks"] = ["198.51.100.0/24"]
    for host, side, wanted in (
        ("f1", "client_side", ["10.1.0.128/25"]),
        ("f1", "server_side", None),
        ("n1", "client_side", None),
        ("n1", "server_side", ["198.51.100.0/24"]),
    ):
        assert of(host, topology)[side].get("data_networks") == wanted
        path, plain = read_path(topology), read_path(twenty_lines())
        assert derive(path, path.host(host)) == derive(plain, plain.host(host))


def test_2_1_only_the_first_hop_greets_in_the_admins_words() -> None:
    path = read_path(twenty_lines())
    lines = read_greeting("Property of Example.\n\nGrüß Gott.\n")
    assert lines == ["Property of Example.", "", "Grüß Gott."]
    found = {each: settings(path, path.host(each), read_timeouts({}), (), lines) for each in ("f1", "n1")}
    assert found["f1"]["client_side"]["greeting"] == lines
    assert "greeting" not in found["n1"]["client_side"]
    assert read_greeting("") == read_greeting(None) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["a"], "found a list, expected text"),
        ("a\r\n230 b", "found the character '\\r' in line 1, expected printable characters"),
        ("a\n\x1b[2J", "found the character '\\x1b' in line 2, expected printable characters"),
        ("a\u2028b", "found the character '\\u2028' in line 1, expected printable characters"),
        ("x" * 201, "found 201 characters in line 1, expected at most 200"),
        ("x\n" * 21, "found 21 lines, expected at most 20"),
    ],
)
def test_2_1_a_greeting_is_a_few_printable_lines(value: object, message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        read_greeting(value)
    assert str(caught.value) == f"sluice_greeting: {message}"


def test_the_last_hop() -> None:
    topology = changed("hops.1.resolvers", ["192.0.2.53"])
    topology["servers"] = {
        "networks": ["198.51.100.0/25"],
        "control_ports": [2121, 21],
        "ports": "40000-41000",
        "fixed": "ftp.example.org",
    }
    found = of("n1", topology)
    assert found["client_side"]["peers"] == ["10.2.0.1/32"]
    assert found["client_side"]["peer_ports"] == "52000-52999"
    assert found["server_side"]["peer_ports"] == "40000-41000"
    assert "next_hop" not in found
    assert found["servers"] == {
        "networks": ["198.51.100.0/25"],
        "control_ports": [2121, 21],
        "fixed": "ftp.example.org:2121",
        "resolvers": ["192.0.2.53"],
    }


def test_metrics_say_where_and_from_whom() -> None:
    topology = with_metrics()
    assert of("f1", topology)["metrics"] == {"address": "10.9.0.1", "port": 9421, "peers": ["10.9.0.0/24"]}
    assert "metrics" not in of("n1", topology)
    for said in ("[2001:db8:9::1]:9100", "2001:db8:9::1"):
        topology["hops"][0]["hosts"]["f1"]["metrics"] = said
        port = 9100 if said.endswith("9100") else 9421
        found = {"address": "2001:db8:9::1", "port": port, "peers": ["2001:db8:9::/64"]}
        assert of("f1", topology)["metrics"] == found


def test_a_fixed_server_always_has_a_port() -> None:
    for said, kept in {
        "198.51.100.10": "198.51.100.10:21",
        "198.51.100.10:21": "198.51.100.10:21",
        "2001:db8:9::1": "[2001:db8:9::1]:21",
        "[2001:DB8:9::1]:21": "[2001:db8:9::1]:21",
    }.items():
        topology = changed("servers", {"networks": ["198.51.100.0/24", "2001:db8:9::/48"], "fixed": said})
        topology["hops"][1]["hosts"]["n1"]["server_side"] = ["198.51.100.2", "2001:db8:3::2"]
        assert of("n1", topology)["servers"]["fixed"] == kept


def test_public_addresses_are_the_neighbours_business() -> None:
    """DESIGN: neighbours use `public`; the host's own sockets its real address."""
    topology = changed("hops.0.hosts.f1.public", {"server_side": "203.0.113.7"})
    topology["hops"][1]["hosts"]["n1"]["public"] = {"client_side": "203.0.113.9"}
    pair = [{"address": "10.2.0.1", "public": "203.0.113.7"}]
    assert of("f1", topology)["server_side"]["addresses"] == pair
    assert of("n1", topology)["client_side"]["peers"] == ["203.0.113.7/32"]
    assert of("f1", topology)["next_hop"]["hosts"][0]["addresses"] == ["203.0.113.9"]


def test_10_2_timeouts_grow_towards_the_client() -> None:
    """The hop that knows the cause answers before those in front of it give up."""
    hosts = [f"h{i}" for i in range(3)]
    topology = twenty_lines()
    topology["hops"] = [
        {"name": f"H{i}", "hosts": {h: {"client_side": f"10.{i}.0.1", "server_side": f"10.{i}.1.1"}}}
        for i, h in enumerate(hosts)
    ]
    found = [of(host, topology, timeouts={"reply": 100, "connect": 2.5})["timeouts"] for host in hosts]
    assert [each["reply"] for each in found] == [160, 130, 100], (
        "USER may wait for a connection and a greeting"
    )
    assert [each["greeting"] for each in found] == [35, 27.5, 20], "it may wait for a connection"
    assert [each["data_connect"] for each in found] == [40, 35, 30]
    assert {each["connect"] for each in found} == {2.5}, "to the neighbour"
    for key in ("data_idle", "idle", "login"):
        assert [each[key] - found[2][key] for each in found] == [10, 5, 0]
    assert "total" not in found[0]
    found = [of(host, topology, timeouts={"total": 3600})["timeouts"] for host in hosts]
    assert [each["total"] for each in found] == [3610, 3605, 3600]


def test_10_2_a_name_takes_its_time_too() -> None:
    topology = twenty_lines()
    topology["hops"][1]["resolvers"] = ["192.0.2.53"]
    assert [of(host, topology)["timeouts"]["greeting"] for host in ("f1", "n1")] == [45, 20]


def test_several_hosts_in_a_hop_know_all_hosts_of_their_neighbours() -> None:
    topology = changed("hops.0.hosts.f2", {"client_side": "10.1.0.11", "server_side": "10.2.0.11"})
    topology["hops"][1]["hosts"]["n2"] = {"client_side": "10.2.0.12", "server_side": "198.51.100.12"}
    for host in ("f1", "f2"):
        found = of(host, topology)
        assert found["next_hop"]["hosts"] == [
            {"name": "n1", "addresses": ["10.2.0.2"]},
            {"name": "n2", "addresses": ["10.2.0.12"]},
        ]
        assert found["server_side"]["peer_ports"] == "50000-50999"
    assert of("n2", topology)["client_side"]["peers"] == ["10.2.0.1/32", "10.2.0.11/32"]


def test_hosts_that_differ_in_their_ranges_are_told_apart() -> None:
    topology = changed(
        "hops.1.hosts.n2",
        {
            "client_side": "10.2.0.12",
            "server_side": "198.51.100.12",
            "ports": {"client_side": {"listen": "40000-40099"}},
        },
    )
    assert of("f1", topology)["server_side"]["peer_ports"] == [
        {"peers": ["10.2.0.2/32"], "ports": "50000-50999"},
        {"peers": ["10.2.0.12/32"], "ports": "40000-40099"},
    ]


def test_the_limit_of_transfers() -> None:
    path = read_path(twenty_lines(), limits={"transfers": 500})
    assert settings(path, path.host("f1"), read_timeouts(None))["limits"] == {"transfers": 500}
    assert "limits" not in of("f1")


def test_7_9_rules_of_commands_go_to_the_hop_that_knows_the_end() -> None:
    path = read_path(twenty_lines())
    rules = read_commands(
        [
            {"clients": ["10.1.0.128/25"], "preset": "read-only"},
            {"servers": ["198.51.100.0/24"], "deny": ["site"], "preset": "anonymous-only"},
            {"preset": ["anonymous-only", "upload-only"], "allow": ["mkd"]},
        ],
        path.servers,
    )
    f, n = (settings(path, path.host(host), read_timeouts(None), rules) for host in ("f1", "n1"))
    assert f["client_side"]["commands"] == [
        {"networks": ["10.1.0.128/25"], "preset": "read-only"},
        {"preset": "upload-only", "anonymous": True, "allow": ["MKD"]},
    ]
    assert n["server_side"]["commands"] == [
        {"networks": ["198.51.100.0/24"], "anonymous": True, "deny": ["SITE"]},
        {"preset": "upload-only", "anonymous": True, "allow": ["MKD"]},
    ]
    assert "commands" not in f["server_side"] | n["client_side"], "they do not know"
    assert "commands" not in of("f1")["client_side"]


def test_2_12_the_limits_of_sessions() -> None:
    path = read_path(twenty_lines(), limits={"sessions": 100, "sessions_per_client": 5})
    found = [settings(path, path.host(host), read_timeouts(None))["limits"] for host in ("f1", "n1")]
    assert found == [{"sessions": 100, "sessions_per_client": 5}, {"sessions": 100}], "F is N's only client"
    path = read_path(twenty_lines(), limits={"sessions_per_client": 5})
    assert "limits" not in settings(path, path.host("n1"), read_timeouts(None))


def test_2_12_and_1_4_the_other_limits() -> None:
    limits = {
        "sessions_per_client_per_minute": 30,
        "bandwidth": 12_500_000,
        "bandwidth_per_session": "1000000",
        "command_line": 1024,
    }
    path = read_path(twenty_lines(), limits=limits)
    found = [settings(path, path.host(host), read_timeouts(None))["limits"] for host in ("f1", "n1")]
    assert found[0] == limits | {"bandwidth_per_session": 1_000_000}
    assert found[1] == {"bandwidth": 12_500_000, "command_line": 1024}, "a session passes one first hop"


def with_names(**servers: Any) -> Any:
    topology = changed("hops.1.resolvers", ["192.0.2.53"])
    topology["servers"] |= servers
    return topology


def test_2_3_names_of_servers() -> None:
    names = ["FTP.example.org.", "b.example.org"]
    assert of("n1", with_names(names=names))["servers"]["names"] == ["ftp.example.org", "b.example.org"]
    assert "names" not in of("n1")["servers"]


@pytest.mark.parametrize("servers", [{"names": ["ftp.example.org"]}, {"fixed": "ftp.example.org"}])
def test_7_9_a_rule_may_name_a_server(servers: Any) -> None:
    path = read_path(with_names(**servers))
    rules = read_commands([{"servers": ["192.0.2.0/24", "Ftp.Example.Org"], "deny": ["SITE"]}], path.servers)
    found = settings(path, path.host("n1"), read_timeouts(None), rules)["server_side"]["commands"]
    assert found == [{"networks": ["192.0.2.0/24"], "names": ["ftp.example.org"], "deny": ["SITE"]}]


def test_14_1_and_14_3_a_hop_and_the_one_before_agree_on_identity() -> None:
    topology = twenty_lines()
    topology["hops"].insert(
        1, {"name": "M", "hosts": {"m1": {"client_side": "10.9.0.1", "server_side": "10.9.1.1"}}}
    )
    for asks in (set[str](), {"M"}, {"N"}, {"M", "N"}):
        for hop in topology["hops"][1:]:
            hop["identity"] = hop["name"] in asks
        f, m, n = (of(host, topology) for host in ("f1", "m1", "n1"))
        for name, near, far in (("M", f, m), ("N", m, n)):
            assert near["next_hop"].get("identity", False) is (name in asks)
            assert far["client_side"].get("identity", False) is (name in asks)
        assert "identity" not in f["client_side"]


def test_14_1_per_client_rules_and_limits_stay_with_the_first_hop() -> None:
    """What N learns of the client is for its log."""
    path = read_path(changed("hops.1.identity", True), limits={"sessions": 9, "sessions_per_client": 5})
    rules = read_commands([{"clients": ["10.1.0.128/25"], "preset": "read-only"}], path.servers)
    found = settings(path, path.host("n1"), read_timeouts(None), rules)
    assert found["limits"] == {"sessions": 9}
    assert "commands" not in found["client_side"]
    assert found["client_side"]["peers"] == ["10.2.0.1/32"]


def test_2_1_the_settings_file_takes_any_printable_character() -> None:
    """JSON may write one as two halves, which TOML refuses."""
    template = Path(__file__).parents[4] / "roles/proxy/templates/sluice.toml.j2"
    environment = jinja2.Environment(trim_blocks=True)
    environment.filters["to_json"] = json.dumps
    said = {"client_side": {"greeting": read_greeting('Welcome \N{ROCKET}, "Grüß Gott"')}}
    written = environment.from_string(template.read_text()).render(__sluice_settings=said)
    assert tomllib.loads(written) == said
