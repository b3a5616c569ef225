# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a host as data, against the shape that held (POLICY 2), and a real nft."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import Ruleset, ruleset
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import read_scope
from hypothesis import given, settings
from jinja2 import Environment, FileSystemLoader

from tests.unit.plugins.paths import changed, twenty_lines, with_metrics
from tests.unit.plugins.strategies import descriptions

ROOT = Path(__file__).parents[4]
SYN = "ct state new tcp flags syn / fin,syn,rst,ack counter accept"
EST = "ct state established counter accept"
ANSWER = f"tcp flags != syn / syn,ack {EST}"
MISSED = "tcp flags & syn == 0 ct state invalid counter accept"
HOOK = "type filter hook {} priority filter + 10; policy accept;"


def rules(
    host: str,
    topology: Any = None,
    mode: Any = "both",
    ports: Any = None,
    scope: tuple[Any, ...] = ("guard",),
) -> Ruleset:
    path = read_path(topology or twenty_lines(), mode, ports)
    return ruleset(path, path.host(host), 990, read_scope(*scope), log_refused=False)


def chain(table: Ruleset, name: str) -> list[str]:
    return next(each["rules"] for each in table["chains"] if each["name"] == name)


def elements(table: Ruleset) -> dict[str, list[str]]:
    return {each["name"]: each["elements"] for each in table["sets"]}


def as_file(table: Ruleset) -> str:
    """The table as the role writes it."""
    environment = Environment(
        loader=FileSystemLoader(ROOT / "roles/policy/templates"), trim_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("policy.nft.j2").render(__sluice_policy_rules=table)


def test_the_shape_that_held_on_f() -> None:
    """POLICY 2, host F: explicit, guard, with active data from port 20."""
    table = rules("f1", ports={"client_side": {"source": 20}})
    assert elements(table) == {
        "down4": ["10.1.0.0/24"],
        "ldown4": ["10.1.0.1"],
        "up4": ["10.2.0.2"],
        "lup4": ["10.2.0.1"],
        "nearer4": ["10.1.0.0/24"],
        "further_hops4": ["10.2.0.2", "198.51.100.2"],
        "servers4": ["0.0.0.0/0"],
        "serve": ["21", "50000-50999", "52000-52999"],
    }
    control = "C -> F: -> proxy user: to port 21"
    passive = "C -> F: -> proxy user: to port specified by proxy user (passive)"
    assert chain(table, "in_down") == [
        f'ct direction original tcp dport 21 {SYN} comment "{control}"',
        f"ct direction original tcp dport 21 {EST}",
        f"tcp dport 21 {MISSED}",
        f"ct direction reply tcp sport 1024-65535 tcp dport 20 {ANSWER}",
        f"tcp sport 1024-65535 tcp dport 20 {MISSED}",
        f'ct direction original tcp dport 50000-50999 {SYN} comment "{passive}"',
        f"ct direction original tcp dport 50000-50999 {EST}",
        f"tcp dport 50000-50999 {MISSED}",
    ]
    active = "C <- F: <- proxy user: to port specified by C (active)"
    opens = "ct direction original tcp sport 20 tcp dport 1024-65535"
    assert chain(table, "out_down") == [
        "meta skuid != 990 return",
        f"ct direction reply tcp sport 21 {ANSWER}",
        f"tcp sport 21 {MISSED}",
        f'{opens} meta skuid 990 {SYN} comment "{active}"',
        f"{opens} {EST}",
        f"tcp sport 20 tcp dport 1024-65535 {MISSED}",
        f"ct direction reply tcp sport 50000-50999 {ANSWER}",
        f"tcp sport 50000-50999 {MISSED}",
    ]
    assert chain(table, "guard_in") == [
        "ct direction reply tcp flags != syn / syn,ack ct state established return",
        'counter drop comment "not a flow: to a proxy port"',
    ]
    assert chain(table, "guard_out") == [
        "ct direction original ct state { new, established } return",
        'counter drop comment "other user serves on a proxy port"',
    ]
    assert chain(table, "input") == [
        'iifname != "lo" meta l4proto tcp ip saddr @down4 ip daddr @ldown4 jump in_down',
        'iifname != "lo" meta l4proto tcp ip saddr @up4 ip daddr @lup4 jump in_up',
        "tcp dport @serve jump guard_in",
    ]
    assert chain(table, "output") == [
        'oifname != "lo" meta l4proto tcp ip daddr @down4 ip saddr @ldown4 jump out_down',
        'oifname != "lo" meta l4proto tcp ip daddr @up4 ip saddr @lup4 jump out_up',
        'meta skuid 990 counter drop comment "proxy user: anything else"',
        "tcp sport @serve meta skuid != 990 jump guard_out",
        'tcp dport 21 ip daddr @up4 oifname != "lo" meta skuid != 990 '
        'counter drop comment "other user speaks FTP upstream"',
        'tcp sport 20 meta skuid != 990 counter drop comment "other user uses port 20"',
    ]
    assert chain(table, "forward") == [
        'ct helper "ftp" counter drop comment "no FTP helper past the proxy"',
        "ip saddr @nearer4 ip daddr @further_hops4 tcp dport 21 "
        'counter drop comment "FTP only through the proxy"',
        'ip saddr @nearer4 ip daddr @servers4 tcp dport 21 counter drop comment "FTP only through the proxy"',
    ]
    assert {each["name"]: each["spec"] for each in table["chains"] if each["spec"]} == {
        hook: HOOK.format(hook) for hook in ("input", "output", "forward")
    }


def test_between_two_hops_the_source_ports_are_the_proxys_alone() -> None:
    """N lets F's source range in, so on F nobody else may use it towards N."""
    table = rules("f1")
    assert chain(table, "out_up")[0] == (
        "tcp sport 53000-53999 tcp dport 50000-50999 meta skuid != 990 "
        'counter drop comment "other user opens data as the proxy"'
    )
    assert chain(rules("n1"), "in_down")[5].startswith(
        "ct direction original tcp sport 53000-53999 tcp dport 50000-50999 ct state new"
    )


@pytest.mark.parametrize(
    ("mode", "serve"), [("active", ["21", "52000-52999"]), ("passive", ["21", "50000-50999"])]
)
def test_serve_shrinks_with_the_mode(mode: str, serve: list[str]) -> None:
    """POLICY 2: a mode is chosen by leaving lines out."""
    table = rules("f1", mode=mode)
    assert elements(table)["serve"] == serve
    other = "passive" if mode == "active" else "active"
    assert not [rule for each in table["chains"] for rule in each["rules"] if f"({other})" in rule]


def test_port_20_is_guarded_only_where_it_is_used() -> None:
    assert "sport 20 " not in " ".join(chain(rules("f1"), "output"))
    with_20 = {"client_side": {"source": 20}}
    assert "sport 20 " not in " ".join(chain(rules("f1", mode="passive", ports=with_20), "output"))


def test_adjacent_ranges_are_one_interval() -> None:
    """F21: named interval sets refuse overlaps, so ranges are merged."""
    ports = {
        "client_side": {"listen": "50000-50999", "source": "40000-40999"},
        "server_side": {"listen": "51000-51999"},
    }
    assert elements(rules("f1", ports=ports))["serve"] == ["21", "50000-51999"]


def test_overlapping_networks_are_merged() -> None:
    topology = changed("clients.networks", ["10.1.0.0/24", "10.0.0.0/8", "10.1.0.0/24"])
    assert elements(rules("f1", topology))["down4"] == ["10.0.0.0/8"]


def test_forward_closes_the_declared_control_ports_and_only_those() -> None:
    """POLICY 2: from nearer to further, on F the next hop's 21 too."""
    topology = changed("servers.control_ports", [2121, 990])
    assert "@further_hops4 tcp dport 21 counter drop" in chain(rules("f1", topology), "forward")[1]
    assert "@servers4 tcp dport { 990, 2121 } counter drop" in chain(rules("f1", topology), "forward")[2]
    assert len(chain(rules("n1", topology), "forward")) == 2
    assert elements(rules("n1", topology))["nearer4"] == ["10.1.0.0/24", "10.2.0.1"]


def test_dns_has_its_own_chain_only_where_it_is_needed() -> None:
    topology = changed("hops.1.resolvers", ["127.0.0.53", "2001:db8::53"])
    table = rules("n1", topology)
    assert elements(table)["dns4"] == ["127.0.0.53"]
    assert elements(table)["dns6"] == ["2001:db8::53"]
    output = chain(table, "output")
    drop = next(i for i, rule in enumerate(output) if rule.startswith("meta skuid 990 counter drop"))
    assert output.index("ip daddr @dns4 jump out_dns") < drop
    assert "dns" not in str(rules("f1", topology))


def test_metrics_have_their_own_chains_only_where_they_are_scraped() -> None:
    table = rules("f1", with_metrics())
    assert elements(table)["monitor4"] == ["10.9.0.0/24"]
    assert elements(table)["lmonitor4"] == ["10.9.0.1"]
    assert "9421" in elements(table)["serve"]
    scrape = 'comment "monitor -> F: -> proxy user: to port 9421"'
    assert chain(table, "in_monitor")[0] == f"ct direction original tcp dport 9421 {SYN} {scrape}"
    assert chain(table, "out_monitor")[:2] == [
        "meta skuid != 990 return",
        f"ct direction reply tcp sport 9421 {ANSWER}",
    ]
    for hook, jump, before in (
        ("input", "ip saddr @monitor4 ip daddr @lmonitor4 jump in_monitor", "tcp dport @serve jump guard_in"),
        ("output", "ip daddr @monitor4 ip saddr @lmonitor4 jump out_monitor", "meta skuid 990 counter drop"),
    ):
        found = chain(table, hook)
        at = next(i for i, rule in enumerate(found) if rule.endswith(jump))
        assert "lo" in found[at]
        assert any(rule.startswith(before) for rule in found[at + 1 :])
    for other in (rules("n1", with_metrics()), rules("f1")):
        assert "monitor" not in str(other)
        assert "9421" not in str(other)


def test_what_conntrack_missed_goes_on_but_opens_nothing() -> None:
    """F20, F9: only on a flow's ports, never with a SYN, and only what is invalid, which is never new."""
    for scope in (("guard",), EXCLUSIVE):
        for each in rules("f1", scope=scope)["chains"]:
            for before, rule in pairwise(["", *each["rules"]]):
                if "invalid" in rule:
                    assert rule.endswith(MISSED)
                    match = rule.removesuffix(MISSED).strip()
                    assert match
                    assert before.endswith((f"{match} {EST}", f"{match} {ANSWER}"))


def test_a_user_that_check_mode_did_not_make_is_shown() -> None:
    """F24."""
    path = read_path(twenty_lines())
    assert "meta skuid <uid of sluice> counter drop" in str(ruleset(path, path.host("f1"), "<uid of sluice>"))


def test_the_file_is_gapless() -> None:
    """F8: declared, flushed and filled in one file; nothing is deleted."""
    text = as_file(rules("f1"))
    table = rules("f1")
    assert "delete" not in text
    declared = text[: text.index("flush table inet sluice\n")]
    for each in table["sets"]:
        assert f"\tset {each['name']} {{ {each['spec']} }}\n" in declared
        assert text.count(f"flush set inet sluice {each['name']}\n") == 1
    for entry in table["chains"]:
        assert f"\tchain {entry['name']} {{ {entry['spec']} }}\n" in declared


def test_hosts_that_differ_stand_in_a_set_of_address_and_port() -> None:
    """Nothing is opened that no host uses, and never a rule for each pair."""
    topology = changed(
        "hops.1.hosts.n2",
        {
            "client_side": ["10.2.0.12"],
            "server_side": "198.51.100.12",
            "ports": {"client_side": {"listen": "40000-40099", "source": "41000-41099"}},
        },
    )
    table = rules("f1", topology)
    assert elements(table)["up_passive4"] == ["10.2.0.2 . 50000-50999", "10.2.0.12 . 40000-40099"]
    assert elements(table)["up_active4"] == ["10.2.0.2 . 51000-51999", "10.2.0.12 . 41000-41099"]
    out, into = "ip daddr . tcp dport @up_passive4", "ip saddr . tcp sport @up_active4"
    assert chain(table, "out_up")[0].startswith(f"{out} tcp sport 53000-53999 meta skuid != 990 counter drop")
    opening = f"ct direction original {out} tcp sport 53000-53999 meta skuid 990 {SYN}"
    assert any(rule.startswith(opening) for rule in chain(table, "out_up"))
    opened = f"ct direction original {into} tcp dport 52000-52999 {SYN}"
    assert any(rule.startswith(opened) for rule in chain(table, "in_up"))
    assert "ct direction reply ip saddr . tcp sport @up_passive4 tcp dport 53000-53999 " + ANSWER in chain(
        table, "in_up"
    )
    assert "ct direction reply ip daddr . tcp dport @up_active4 tcp sport 52000-52999 " + ANSWER in chain(
        table, "out_up"
    )
    assert not [name for name in elements(rules("n1", topology)) if "_active" in name or "_passive" in name]


EXCLUSIVE = (
    "exclusive",
    {"networks": ["192.0.2.0/28", "2001:db8:a::/64"], "ports": [22, 2222]},
    [
        {"direction": "out", "protocol": "udp", "ports": 123},
        {"direction": "in", "protocol": "tcp", "ports": "9100-9101", "networks": ["192.0.2.7/32"]},
    ],
    [
        {"from": ["10.1.0.0/24"], "to": ["198.51.100.0/24"], "protocol": "tcp", "ports": [80, 443]},
        {"from": ["2001:db8:b::/64"], "to": ["2001:db8:c::/64"]},
    ],
)


def test_exclusive_ends_in_drop() -> None:
    """POLICY 1: policy drop in all three; the guards stand before what is allowed beside the flows."""
    table = rules("f1", scope=EXCLUSIVE)
    hooks = {each["name"]: each["spec"] for each in table["chains"] if each["spec"]}
    assert set(hooks) == {"input", "output", "forward"}
    assert all(spec.endswith("policy drop;") for spec in hooks.values())
    guard = rules("f1")
    for hook in hooks:
        first = chain(guard, hook)
        assert chain(table, hook)[: len(first)] == first
        assert chain(table, hook)[-1].startswith('counter drop comment "exclusive: anything else ')
    for each in ("in_down", "in_up", "out_down", "out_up", "guard_in", "guard_out"):
        assert chain(table, each) == chain(guard, each)


def test_management_is_stateless() -> None:
    """F10: on the first load conntrack knows no open session."""
    table = rules("f1", scope=EXCLUSIVE)
    assert elements(table)["manage4"] == ["192.0.2.0/28"]
    assert 'ip saddr @manage4 tcp dport { 22, 2222 } counter accept comment "management"' in chain(
        table, "input"
    )
    assert 'ip6 daddr @manage6 tcp sport { 22, 2222 } counter accept comment "management"' in chain(
        table, "output"
    )


def test_only_icmp_errors_are_related() -> None:
    """F11, F12."""
    for each in rules("f1", scope=EXCLUSIVE)["chains"]:
        for rule in each["rules"]:
            assert ("related" in rule) == ("ICMP errors" in rule)
            assert "related" not in rule or rule.startswith(("icmp type ", "icmpv6 type "))


def test_what_exclusive_allows_beside_the_flows() -> None:
    table = rules("f1", scope=EXCLUSIVE)
    assert 'ip daddr @host0_4 udp dport 123 counter accept comment "host\'s own: udp 123 out"' in chain(
        table, "output"
    )
    assert f"ct direction reply ip6 saddr @host0_6 udp sport 123 {EST}" in chain(table, "input")
    assert (
        'ip saddr @host1_4 tcp dport 9100-9101 counter accept comment "host\'s own: tcp 9100-9101 in"'
        in chain(table, "input")
    )
    assert elements(table)["host1_4"] == ["192.0.2.7"]
    assert "host1_6" not in elements(table)
    forward = chain(table, "forward")
    web = "ip saddr @from0_4 ip daddr @to0_4 tcp dport { 80, 443 }"
    assert f'{web} counter accept comment "forwarded: tcp 80, 443"' in forward
    assert f"ct direction reply ip saddr @to0_4 ip daddr @from0_4 tcp sport {{ 80, 443 }} {ANSWER}" in forward
    reply = "ct direction reply ip6 saddr @to1_6 ip6 daddr @from1_6"
    assert f"{reply} meta l4proto != tcp {EST}" in forward
    assert f"{reply} {ANSWER}" in forward
    assert 'ip6 saddr @from1_6 ip6 daddr @to1_6 counter accept comment "forwarded: everything"' in forward


def test_a_bare_syn_is_no_answer() -> None:
    """F6: it may meet an opening that got no answer, and conntrack takes it for one."""
    for each in rules("n1", changed("hops.1.resolvers", ["192.0.2.53"]), scope=EXCLUSIVE)["chains"]:
        for rule in each["rules"]:
            if "ct direction reply" in rule and " udp " not in rule and "l4proto != tcp" not in rule:
                assert "tcp flags != syn / syn,ack ct state established" in rule


def test_exclusive_lets_the_resolvers_answers_in() -> None:
    topology = changed("hops.1.resolvers", ["192.0.2.53"])
    for protocol, state in (("udp", EST), ("tcp", ANSWER)):
        answer = f"ct direction reply ip saddr @dns4 {protocol} sport 53 {state}"
        assert answer in chain(rules("n1", topology, scope=EXCLUSIVE), "input")
        assert answer not in chain(rules("n1", topology), "input")


def load(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Load it twice in a namespace of its own; nobody's rules are touched (F19)."""
    file = tmp_path / "policy.nft"
    file.write_text(text)
    command = [
        "unshare",
        "--map-root-user",
        "--net",
        "sh",
        "-c",
        'nft -f "$1" && nft -f "$1" && nft list ruleset',
        "sh",
    ]
    return subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("scope", [("guard",), EXCLUSIVE], ids=["guard", "exclusive"])
@pytest.mark.parametrize("host", ["f1", "n1"])
def test_nft_takes_the_file_twice(host: str, scope: tuple[Any, ...], tmp_path: Path) -> None:
    topology = with_metrics()
    topology["hops"][1]["resolvers"] = ["192.0.2.53"]
    topology["servers"]["control_ports"] = [21, 2121]
    done = load(as_file(rules(host, topology, "both", {"client_side": {"source": 20}}, scope)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'comment "' in done.stdout


def test_nft_takes_every_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("nft")

    @settings(max_examples=15, deadline=None)
    @given(descriptions())
    def check(description: dict[str, Any]) -> None:
        path = read_path(description["topology"], description["mode"], description["ports"])
        for name in description["hosts"]:
            done = load(as_file(ruleset(path, path.host(name), 990)), directory)
            assert done.returncode == 0, done.stderr

    check()


def test_what_is_refused_is_logged_at_a_low_rate() -> None:
    """F22: before each drop the same match logs hop and reason; without it the rules are the same."""
    path = read_path(twenty_lines(), "both", None)
    quiet = rules("f1")
    for plain, logged in zip(quiet["chains"], ruleset(path, path.host("f1"), 990)["chains"], strict=True):
        assert [rule for rule in logged["rules"] if " log " not in f" {rule}"] == plain["rules"]
        for before, rule in zip(logged["rules"], [*logged["rules"][1:], ""], strict=True):
            if " log prefix " not in before:
                continue
            match, prefix = before.split("limit rate 6/minute burst 5 packets log prefix ")
            reason = rule.removeprefix(f"{match}counter drop comment ").strip('"')
            assert prefix == f'"sluice F: {reason}: "'
            assert len(prefix) - 2 <= 127
        drops = [rule for rule in plain["rules"] if "counter drop" in rule]
        assert len([rule for rule in logged["rules"] if " log prefix " in rule]) == len(drops)
