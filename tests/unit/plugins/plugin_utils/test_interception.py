# SPDX-License-Identifier: GPL-3.0-or-later
"""Hops that intercept: what the description says of them, and what follows for every reader of it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.commands import read_commands
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import DescriptionError, read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow, derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.former import read_record, record, taken_away
from ansible_collections.sluice.ftp.plugins.plugin_utils.mermaid import diagram
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Path
from ansible_collections.sluice.ftp.plugins.plugin_utils.picture import picture
from ansible_collections.sluice.ftp.plugins.plugin_utils.reasons import NOT_A_FLOW
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import ruleset
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import read_scope
from ansible_collections.sluice.ftp.plugins.plugin_utils.settings import read_timeouts, settings
from ansible_collections.sluice.ftp.plugins.plugin_utils.verification import End, plan

from tests.unit.plugins.paths import twenty_lines

SERVERS = ["198.51.100.128/25"]


def chain(f: str = "none", n: str = "none", **more: Any) -> dict[str, Any]:
    """The twenty lines with an interception on either hop; `tproxy client` has the client's source, too.

    `more` are further keys of hop N, or with `servers` of the servers.
    """
    topology = twenty_lines()
    for hop, said in zip(topology["hops"], (f, n), strict=True):
        intercept, _, source = said.partition(" ")
        hop["intercept"] = intercept
        if source:
            hop["source"] = source
    topology["servers"] = {"networks": [*SERVERS], **more.pop("servers", {})}
    topology["hops"][1].update(more)
    return topology


def of(host: str, topology: dict[str, Any]) -> dict[str, Any]:
    path = read_path(topology)
    return settings(path, path.host(host), read_timeouts(None))


def seen(path: Path, position: int) -> list[str]:
    return [str(each) for each in path.near_end(position)]


def refusal(topology: dict[str, Any]) -> str:
    with pytest.raises(DescriptionError) as caught:
        read_path(topology)
    return str(caught.value).removeprefix("sluice_topology.")


# -- what is refused


def port_of(side: str, leaf: str, ports: str) -> dict[str, Any]:
    topology = chain(n="redirect")
    topology["hops"][1]["hosts"]["n1"]["ports"] = {side: {leaf: ports}}
    return topology


def v6_clients(f: str, n: str) -> dict[str, Any]:
    topology = chain(f, n)
    topology["clients"] = {"networks": ["2001:db8:1::/64"]}
    topology["hops"][0]["hosts"]["f1"]["client_side"] = "2001:db8:1::1"
    return topology


def metrics_at_2121() -> dict[str, Any]:
    topology = chain(n="tproxy", metrics_from=["10.9.0.0/24"])
    topology["hops"][1]["hosts"]["n1"]["metrics"] = "10.9.0.1:2121"
    return topology


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        (
            chain("transparent"),
            "hops[0].intercept: found 'transparent', expected none, redirect or tproxy",
        ),
        (chain("tproxy server"), "hops[0].source: found 'server', expected own or client"),
        (
            chain("redirect client"),
            "hops[0].source: found client on hop F, expected it with intercept: tproxy only",
        ),
        (
            chain("none client"),
            "hops[0].source: found client on hop F, expected it with intercept: tproxy only",
        ),
        (
            chain(n="tproxy", servers={"fixed": "198.51.100.200"}),
            "servers.fixed: found fixed, and that hop N intercepts, expected one of them, for who is "
            "intercepted has named the server by its address",
        ),
        (
            chain(n="redirect", identity=True),
            "hops[1].identity: found true on hop N, which intercepts, expected it on a hop only that the one "
            "before addresses: a header to an intercepted server would be lost",
        ),
        (
            chain("tproxy client", identity=True),
            "hops[1].identity: found true on hop N, and source: client on hop F, expected one of them, for "
            "a header is believed of a hop's own address, not of a client's",
        ),
        (
            chain(n="redirect", order="spread"),
            "hops[1].order: found spread on hop N, which intercepts, expected it on a hop only that the one "
            "before addresses: here routing picks the host",
        ),
        (
            chain(n="redirect", resolvers=["192.0.2.53"]),
            "hops[1].resolvers: found resolvers on hop N, expected them on hop F only, where names are "
            "resolved",
        ),
        (
            chain("redirect", resolvers=["192.0.2.53"]),
            "hops[1].resolvers: found resolvers on hop N, expected them on no hop, for the first one "
            "intercepts and no client names its server",
        ),
        (
            chain("redirect", servers={"names": ["ftp.example.org"]}),
            "servers.names: found names, and that hop F intercepts, expected one of them, for no client "
            "names its server there",
        ),
        (
            chain(n="redirect", servers={"names": ["ftp.example.org"]}),
            "servers.names: found names, expected them only with resolvers on hop F",
        ),
        (
            port_of("client_side", "listen", "2100-2199"),
            "hops[1].hosts.n1: found port 2121 in client_side.listen 2100-2199, expected a range without it, "
            "for hop N intercepts and listens there",
        ),
        (
            port_of("server_side", "source", "2121"),
            "hops[1].hosts.n1: found port 2121 in server_side.source 2121, expected a range without it, "
            "for hop N intercepts and listens there",
        ),
        (
            chain("tproxy", servers={"control_ports": [21, 50021]}),
            "hops[0].hosts.f1: found port 50021 of sluice_topology.servers.control_ports in "
            "client_side.listen 50000-50999, expected a range without it, for hop F intercepts both "
            "at the servers' addresses",
        ),
        (
            metrics_at_2121(),
            "hops[1].hosts.n1.metrics: found port 2121, expected another one, for hop N listens there",
        ),
        (
            v6_clients("redirect", "none"),
            "leg C-F: found IPv6 at C, IPv6 at F, which intercepts, and IPv4 at S, expected a family that "
            "all three have",
        ),
    ],
)
def test_is_refused(topology: dict[str, Any], message: str) -> None:
    assert refusal(topology).removeprefix("sluice_topology, ") == message


def test_without_interception_2121_is_a_port_like_any_other() -> None:
    topology = port_of("client_side", "listen", "2100-2199")
    topology["hops"][1]["intercept"] = "none"
    assert read_path(topology).hops[1].control_port == 21


# -- who dials whom

F1, N1, CLIENTS = ["10.2.0.1/32"], ["198.51.100.2/32"], ["10.1.0.0/24"]


@pytest.mark.parametrize(
    ("hops", "dials_servers", "before_n", "before_s", "naming"),
    [
        (("none", "none"), [False, False, True], F1, N1, 1),
        (("redirect", "none"), [True, False, True], F1, N1, None),
        (("none", "tproxy"), [False, True, True], F1, N1, 0),
        (("tproxy", "redirect"), [True, True, True], F1, N1, None),
        (("tproxy client", "none"), [True, False, True], CLIENTS, N1, None),
        (("tproxy client", "tproxy client"), [True, True, True], CLIENTS, CLIENTS, None),
        (("none", "tproxy client"), [False, True, True], F1, F1, 0),
    ],
)
def test_9_1_who_addresses_the_servers_and_who_is_seen(
    hops: tuple[str, str],
    dials_servers: list[bool],
    before_n: list[str],
    before_s: list[str],
    naming: int | None,
) -> None:
    path = read_path(chain(*hops))
    assert [path.dials_servers(position) for position in (-1, 0, 1)] == dials_servers
    assert [seen(path, position) for position in (0, 1, 2)] == [CLIENTS, before_n, before_s]
    assert path.naming == naming


def test_9_2_a_clients_address_needs_its_family_at_the_hop_that_is_addressed() -> None:
    topology = chain("tproxy client")
    topology["clients"]["networks"].append("2001:db8:1::/64")
    topology["servers"]["networks"].append("2001:db8:9::/48")
    topology["hops"][0]["hosts"]["f1"] = {
        "client_side": ["10.1.0.1", "2001:db8:1::1"],
        "server_side": ["10.2.0.1", "2001:db8:2::1"],
    }
    assert refusal(topology) == (
        "hops[0].source: found client on hop F, and no IPv6 on client_side of hop N, expected every family "
        "there that its clients use"
    )
    topology["hops"][1]["intercept"] = "redirect"
    assert seen(read_path(topology), 1) == [*CLIENTS, "2001:db8:1::/64"], "who is intercepted dials a server"


def test_9_2_networks_of_a_family_that_the_hop_does_not_serve_are_left_out() -> None:
    topology = chain("tproxy client")
    topology["clients"]["networks"].append("2001:db8:1::/64")
    assert read_path(topology).near_end(1) == (ip_network("10.1.0.0/24"),)


# -- the proxy's settings


def test_9_1_the_settings_of_a_hop_that_intercepts_before_one_that_is_addressed() -> None:
    found = of("f1", chain("redirect"))
    assert {key: found["client_side"][key] for key in ("control_port", "intercept", "destinations")} == {
        "control_port": 2121,
        "intercept": "redirect",
        "destinations": SERVERS,
    }
    assert found["client_side"]["destination_ports"] == [21]
    assert found["server_side"]["further_hops"] == ["10.2.0.2", "198.51.100.2"]
    assert found["next_hop"] == {
        "hosts": [{"name": "n1", "addresses": ["10.2.0.2"]}],
        "control_port": 21,
        "user_at_host": True,
    }
    assert "servers" not in found
    assert "client_source" not in found["server_side"]
    behind = of("n1", chain("redirect"))
    assert behind == of("n1", chain()), "it is told the server as by any client"


def test_9_1_the_settings_of_a_hop_that_intercepts_before_the_servers() -> None:
    topology = chain(n="tproxy client", servers={"control_ports": [21, 990]})
    found = of("n1", topology)
    assert found["client_side"]["destination_ports"] == [21, 990]
    assert found["client_side"]["peers"] == F1
    assert found["server_side"]["client_source"] is True
    assert found["servers"] == {"networks": SERVERS, "control_ports": [21, 990]}
    assert "next_hop" not in found


@pytest.mark.parametrize(("kind", "data"), [("redirect", ["10.2.0.2/32", "10.2.0.12/32"]), ("tproxy", None)])
def test_the_settings_before_a_hop_that_intercepts(kind: str, data: list[str] | None) -> None:
    """9.3: only with tproxy active data comes from the server's address."""
    topology = chain(n=kind, servers={"names": ["ftp.example.org"], "data_networks": SERVERS})
    topology["hops"][0]["resolvers"] = ["192.0.2.53"]
    topology["hops"][1]["hosts"]["n2"] = {
        "client_side": "10.2.0.12",
        "server_side": "198.51.100.12",
        "ports": {"client_side": {"listen": "40000-40099"}},
    }
    found = of("f1", topology)
    assert found["servers"] == {
        "networks": SERVERS,
        "control_ports": [21],
        "names": ["ftp.example.org"],
        "resolvers": ["192.0.2.53"],
        "synch": True,
    }
    assert found["server_side"]["peer_ports"] == [
        {"peers": SERVERS, "ports": "50000-50999"},
        {"peers": SERVERS, "ports": "40000-40099"},
    ]
    assert found["server_side"].get("data_networks") == data
    last = of("n1", topology)
    assert last["server_side"]["data_networks"] == SERVERS
    assert set(last["servers"]) == {"networks", "control_ports"}, "it asks nobody for names"


def test_9_2_behind_the_clients_source_a_hop_knows_clients_and_the_ports_of_the_hop_between() -> None:
    topology = chain("tproxy client", "redirect")
    found = of("n1", topology)["client_side"]
    assert found["peers"] == CLIENTS
    assert found["peer_ports"] == "52000-52999"
    topology["hops"][0]["hosts"]["f2"] = {
        "client_side": "10.1.0.11",
        "server_side": "10.2.0.11",
        "ports": {"server_side": {"listen": "40000-40099"}},
    }
    assert of("n1", topology)["client_side"]["peer_ports"] == [
        {"peers": CLIENTS, "ports": "52000-52999"},
        {"peers": CLIENTS, "ports": "40000-40099"},
    ]


@pytest.mark.parametrize(
    ("f", "n", "host"), [("none", "none", "n1"), ("none", "tproxy", "f1"), ("tproxy", "none", "n1")]
)
def test_7_9_rules_for_servers_go_where_the_server_is_known(f: str, n: str, host: str) -> None:
    path = read_path(chain(f, n))
    rules = read_commands([{"servers": SERVERS, "deny": ["SITE"]}], path.servers)
    found = {
        each: "commands" in settings(path, path.host(each), read_timeouts(None), rules)["server_side"]
        for each in ("f1", "n1")
    }
    assert found == {"f1": host == "f1", "n1": host == "n1"}


# -- flows and their notation, for every reader of them


def lines(host: str, topology: dict[str, Any]) -> list[str]:
    path = read_path(topology)
    return [comment(flow) for flow in derive(path, path.host(host))]


def test_9_1_the_lines_of_a_redirect() -> None:
    assert lines("f1", chain("redirect")) == [
        "C -> F: -> proxy user: to port 21 of S (redirect)",
        "C <- F: <- proxy user: to port specified by C (active)",
        "C -> F: -> proxy user: to port specified by proxy user (passive, redirect)",
        "N <- F: <- proxy user: to port 21",
        "N -> F: -> proxy user: to port specified by proxy user (active)",
        "N <- F: <- proxy user: to port specified by N (passive)",
    ]


def test_9_1_the_lines_before_and_at_a_tproxy_with_the_clients_source() -> None:
    topology = chain(n="tproxy client")
    assert lines("f1", topology)[3:] == [
        "N <- F: <- proxy user: to port 21 of S (tproxy)",
        "N -> F: -> proxy user: to port specified by proxy user (active, tproxy)",
        "N <- F: <- proxy user: to port specified by N (passive, tproxy)",
    ]
    assert lines("n1", topology) == [
        "F -> N: -> proxy user: to port 21 of S (tproxy)",
        "F <- N: <- proxy user: to port specified by F (active, tproxy)",
        "F -> N: -> proxy user: to port specified by proxy user (passive, tproxy)",
        "S <- N: <- proxy user: to port 21 (source client)",
        "S -> N: -> proxy user: to port specified by proxy user (active, source client)",
        "S <- N: <- proxy user: to port specified by S (passive, source client)",
    ]


def test_a_comment_fits_nft_however_long_the_names_and_many_the_ports() -> None:
    topology = chain("tproxy client", "redirect", servers={"control_ports": [*range(60001, 60017, 2)]})
    for hop, name in zip(topology["hops"], ("ABCDEFGHIJKLMNOP", "QRSTUVWXYZabcdef"), strict=True):
        hop["name"] = name
    found = [each for host in ("f1", "n1") for each in lines(host, topology)]
    assert max(map(len, found)) <= 128
    assert sum("60001, 60003, 60005 and 5 more of S (" in each for each in found) == 3


@pytest.mark.parametrize(
    "case",
    [
        ("redirect", "none", "f1", None, ["10.1.0.1"], CLIENTS),
        ("tproxy", "none", "f1", None, SERVERS, CLIENTS),
        ("tproxy", "none", "f1", "active", SERVERS, CLIENTS),
        ("none", "redirect", "f1", None, ["10.2.0.1"], SERVERS),
        ("none", "redirect", "f1", "active", ["10.2.0.1"], ["10.2.0.2/32"]),
        ("none", "tproxy", "f1", "active", ["10.2.0.1"], SERVERS),
        ("tproxy client", "redirect", "f1", "active", CLIENTS, ["10.2.0.2/32"]),
        ("tproxy client", "redirect", "n1", None, ["10.2.0.2"], CLIENTS),
    ],
)
def test_9_3_where_either_end_is(case: tuple[Any, ...]) -> None:
    """Of the leg that is intercepted: F's client leg, else the leg F-N."""
    f, n, host, mode, local, peers = case
    path = read_path(chain(f, n))
    leg = "F-N" if n != "none" else "C-F"
    data = next(
        flow.as_data() for flow in derive(path, path.host(host)) if (flow.leg, flow.mode) == (leg, mode)
    )
    assert (data["local_addresses"], data["peer_addresses"]) == (local, peers)


def test_f9_a_record_of_flows_keeps_how_they_are_intercepted() -> None:
    path = read_path(chain("tproxy client", "redirect"))
    found = derive(path, path.host("f1"))
    assert set(read_record(record(found))) == set(found)
    explicit = read_path(chain())
    assert taken_away(found, derive(explicit, explicit.host("f1"))), "they are not those of an explicit hop"


# -- the rules


def rules(f: str, n: str, host: str, former: str = "", **more: Any) -> dict[str, list[str]]:
    path = read_path(chain(f, n))
    before: tuple[Flow, ...] = ()
    if former:
        of_before = read_path(chain(former, n))
        before = derive(of_before, of_before.host(host))
    table = ruleset(path, path.host(host), 990, former=before, log_refused=False, **more)
    return {each["name"]: each["rules"] for each in table["chains"]}


def test_without_interception_there_is_no_chain_at_prerouting() -> None:
    assert not {"talk", "intercept_redirect", "intercept_tproxy"} & set(rules("none", "none", "f1"))
    assert not {"talk", "intercept_redirect", "intercept_tproxy"} & set(rules("none", "redirect", "f1"))


def test_9_1_a_redirect_takes_control_and_the_data_of_who_talks() -> None:
    found = rules("redirect", "none", "f1")
    assert "intercept_tproxy" not in found
    assert found["talk"] == [
        "ip saddr @down4 ip daddr @servers4 tcp dport 21 ct direction original ct state established "
        "update @talk4 { ip saddr . ip daddr timeout 5m }"
    ]
    assert found["intercept_redirect"] == [
        "fib daddr type local return",
        "ip saddr @down4 ip daddr @servers4 tcp dport 21 dnat ip to 10.1.0.1:2121",
        "ip saddr . ip daddr @talk4 tcp dport 50000-50999 dnat ip to 10.1.0.1",
    ]
    assert any("ct status dnat tcp dport 2121" in each for each in found["in_down"])


def test_9_1_a_tproxy_marks_what_is_for_its_sockets_alone() -> None:
    found = rules("none", "tproxy", "n1")
    ends, mark = "ip saddr @down4 ip daddr @ldown4", "meta mark set 0x51ce accept"
    assert found["intercept_tproxy"] == [
        "fib daddr type local return",
        f"meta l4proto {{ icmp, ipv6-icmp }} socket transparent 1 {mark}",
        f"{ends} tcp dport {{ 21, 50000-50999 }} socket transparent 1 {mark}",
        f"{ends} tcp dport 51000-51999 tcp flags != syn / syn,ack socket transparent 1 {mark}",
        f"{ends} tcp dport 21 tproxy ip to 10.2.0.2:2121 {mark}",
    ]
    assert found["forward"][0].startswith("meta mark 0x51ce counter drop")


def test_f9_what_was_transparent_goes_on_until_it_is_given_up() -> None:
    found = rules("none", "none", "f1", former="tproxy")
    assert any("socket transparent 1" in each for each in found["intercept_tproxy"])
    assert not any(" tproxy ip to" in each for each in found["intercept_tproxy"]), "but nothing new is taken"
    assert rules("none", "none", "f1", former="redirect")["intercept_redirect"] == [], (
        "for what is translated"
    )


@pytest.mark.parametrize("mode", ["both", "active"])
def test_f9_data_of_former_ranges_is_redirected_until_they_are_given_up(mode: str) -> None:
    of_before = read_path(chain("redirect"))
    ports = {"client_side": {"listen": "60000-60099"}}
    path = read_path(chain("redirect"), mode, ports)
    host = path.host("f1")
    meanwhile, then = (
        {each["name"]: each["rules"] for each in ruleset(path, host, 990, former=former)["chains"]}
        for former in (derive(of_before, of_before.host("f1")), ())
    )
    both = mode == "both"
    assert _redirected_data(meanwhile) == ["{ 50000-50999, 60000-60099 }" if both else "50000-50999"]
    assert _redirected_data(then) == (["60000-60099"] if both else [])


def _redirected_data(found: dict[str, list[str]]) -> list[str]:
    """The ports at which data follows."""
    data = [each for each in found["intercept_redirect"] if "@talk4" in each]
    return [each.partition("tcp dport ")[2].partition(" dnat")[0] for each in data]


# -- what people see, and what verification does


def test_the_picture_and_the_diagram_name_the_interception() -> None:
    path = read_path(chain("tproxy client"))
    assert "FTP proxy, tproxy, source client" in picture(path).svg
    assert "F<br/>tproxy<br/>source client<br/>f1" in diagram(path)
    assert "tproxy" not in diagram(read_path(chain()))


def test_verification_says_which_legs_it_does_not_try() -> None:
    path = read_path(chain("tproxy client", "none"))
    found = plan(path, {host: read_scope() for host in ("f1", "n1")}, {})
    assert set(found.untried["f1"].values()) == {
        "hop F intercepts: who dials it dials a server",
        "hop F intercepts: who dials it dials a server, and sluice_verify_server is not set",
        "hop F opens with its client's address",
    }
    assert found.control["f1"] == [("10.1.0.1", "2121")]
    assert found.data["f1"] == [(SERVERS[0], "50000-50999"), (CLIENTS[0], "52000-52999")]
    assert found.control["n1"] == [("10.2.0.2", "21")]


def test_verification_dials_a_server_where_a_hop_intercepts_and_the_hop_itself_in_vain() -> None:
    path = read_path(chain("redirect", "none"))
    server, client = "198.51.100.130", "10.1.0.9"
    ends = {"C": End("c1", (ip_address(client),)), "S": End("s1", (ip_address(server),))}
    found = plan(path, {host: read_scope() for host in ("f1", "n1")}, ends)
    probes = [each for one in found.rounds for each in one if each.opener == "c1" and each.acceptor == "f1"]
    assert [(each.passes, each.target, each.ports, each.rules[-1][1]) for each in probes] == [
        (True, server, "21", "C -> F: -> proxy user: to port 21 of S (redirect)"),
        (False, "10.1.0.1", "2121", NOT_A_FLOW),
    ]
