# SPDX-License-Identifier: GPL-3.0-or-later
"""Around interception: a small MTU, loops, drift, reboots, what reports and verification say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import snapshot
from support import (
    F4,
    F_UP4,
    LAB,
    N4,
    N_UP4,
    ROOT,
    S4,
    Transfer,
    arrives,
    converge,
    fetch,
    finish,
    listing,
    ok,
    on,
    playbook,
    start_playbook,
    sum_of,
    url,
)
from support import USER as ALICE
from test_04_refused import reaches
from test_07_reboot import _await_proxy, _reboot
from test_13_verify import ENDS, lines, verify
from test_22_taken_away import Download, until
from variants import EXPLICIT, Variant

HOSTS = ("f1", "n1")
CLIENT = Variant("client", "client")  # as the lab's own description has it
REDIRECT = Variant("redirect", "redirect")
TPROXY = Variant("tproxy", "tproxy")
HIDDEN4, HIDDEN6 = "10.1.0.66", "2001:db8:1::66"


@pytest.fixture(scope="module", autouse=True)
def described() -> None:
    """F and N as the lab's own description has them: S sees C itself."""
    converge()


def state(host: str) -> dict[str, Any]:
    """All that an interception might leave behind: files, units, sysctls, tables, rules, routing, marks."""
    seen = snapshot.take(LAB, host)
    seen["rules"] = ok(host, "nft --stateless list ruleset")
    for version in (4, 6):
        for what in ("rule show", "route show table all"):
            seen[f"{version} {what}"] = sorted(ok(host, f"ip -{version} {what}").splitlines())
    return {
        key: each
        for key, each in seen.items()
        # what is written at each run, and what the kernel counts
        if not key.startswith(("/root", "sysctl net.netfilter.nf_conntrack_", "sysctl net.ipv4.tcp_"))
    }


def behind_a_router(mtu: int) -> str:
    """On C: a client behind a router, C itself, whose link to it has that MTU, and says so too late."""
    return f"""
        ip netns add hidden
        ip link add to_hidden mtu {mtu} type veth peer name to_c1 netns hidden
        sysctl --quiet --write net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        ip link set to_hidden up
        ip route add {HIDDEN4} dev to_hidden
        ip -6 address add fe80::1/64 dev to_hidden
        ip -6 route add {HIDDEN6} dev to_hidden
        ip -netns hidden link set lo up
        ip -netns hidden link set to_c1 up
        ip -netns hidden address add {HIDDEN4}/32 dev to_c1
        ip -netns hidden address add {HIDDEN6}/128 dev to_c1 nodad
        ip -netns hidden route add default dev to_c1 src {HIDDEN4} mtu {mtu} advmss 1460
        ip -netns hidden -6 route add default via fe80::1 dev to_c1 src {HIDDEN6} mtu {mtu} advmss 1440
        sysctl --quiet --write net.ipv4.conf.to_hidden.proxy_arp=1
    """


@pytest.fixture
def hidden() -> Iterator[None]:
    ok("c1", behind_a_router(1280))
    for host, via4, via6 in (("f1", "10.1.0.10", "2001:db8:1::10"),):
        ok(host, f"ip route add {HIDDEN4} via {via4}; ip -6 route add {HIDDEN6} via {via6}")
    yield
    ok("f1", f"ip route delete {HIDDEN4}; ip -6 route delete {HIDDEN6}; ip route flush cache")
    ok(
        "c1",
        "ip netns delete hidden; sysctl --quiet --write net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
    )


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("host", [S4, "[2001:db8:3::10]"])
@pytest.mark.parametrize("how", ["", "--ftp-port -"])
def test_f12_packet_too_big_reaches_a_proxy_that_has_the_servers_address(host: str, how: str) -> None:
    """The router on the way answers S; F's socket must hear it."""
    curl = f"ip netns exec hidden curl -gsS --max-time 20 {how}"
    ok("c1", f"{curl} -o /var/tmp/fetched {url(ALICE, host, 'small')}")
    assert sum_of("c1", "/var/tmp/fetched") == sum_of("s1", f"/home/{ALICE}/small")
    ok("c1", f"{curl} -T /var/tmp/to-store {url(ALICE, host, 'stored')}")
    assert sum_of("c1", "/var/tmp/to-store") == sum_of("s1", f"/home/{ALICE}/stored")


@pytest.fixture(
    params=[("c1", "to_f1", "f1", "to_c1"), ("f1", "to_n1", "n1", "to_f1"), ("n1", "to_s1", "s1", "to_n1")]
)
def small(request: pytest.FixtureRequest) -> Iterator[None]:
    """A leg with MTU 1280."""
    one, there, other, back = request.param
    for host, interface in ((one, there), (other, back)):
        ok(host, f"ip link set {interface} mtu 1280")
    yield
    for host, interface in ((one, there), (other, back)):
        ok(host, f"ip link set {interface} mtu 1500")


@pytest.mark.usefixtures("small")
def test_f12_a_leg_with_a_small_mtu_works() -> None:
    for family, command in ((4, "PASV"), (6, "EPRT")):
        for direction in ("down", "up"):
            arrives(Transfer("curl", direction, command, family, transparent=True))


def test_a_rule_that_somebody_flushed_comes_back_and_is_said() -> None:
    rules = {host: ok(host, "ip rule show; ip -6 rule show") for host in HOSTS}
    ok("f1", "ip rule delete priority 21021; ip -6 route flush table 21021")
    ok("n1", "ip rule add priority 21021 fwmark 0x51ce iif to_nowhere lookup 21021")
    found = playbook(*ENDS, playbook=ROOT / "playbooks/verify.yml")
    assert found.code != 0
    assert any("WRONG      routing" in each for each in lines(found, "f1"))
    assert any("- ip -4 rule" in each and "to_nowhere" in each for each in lines(found, "n1"))
    foreseen = playbook("--check")
    assert "+ ip -4 rule add priority 21021" in foreseen.output
    assert foreseen.recap("f1")["changed"] > 0
    play = converge()
    assert [play.recap(host)["changed"] > 0 for host in HOSTS] == [True, True]
    assert {host: ok(host, "ip rule show; ip -6 rule show") for host in HOSTS} == rules
    assert [converge().recap(host)["changed"] for host in HOSTS] == [0, 0]
    assert fetch(transparent=True)
    assert fetch(transparent=True, family=6)


def test_mid_transfer_packets_without_their_routing_are_not_forwarded() -> None:
    """Marked, but not routed: dropped and sent again. S, which knows nothing of them, would reset."""
    ok("c1", "rm -f /var/tmp/fetched")
    words = f"curl -sS --max-time 40 --limit-rate 20M -o /var/tmp/fetched {url(ALICE, S4, 'large')}"
    ok("c1", f"systemd-run --quiet --unit=slow-fetch {words}")
    ok("f1", "sleep 0.5; ip rule delete priority 21021; sleep 0.5; systemctl restart sluice-routes")
    ok("c1", "timeout 50 sh -c 'while systemctl --quiet is-active slow-fetch; do sleep 0.2; done'")
    assert sum_of("c1", "/var/tmp/fetched") == sum_of("s1", f"/home/{ALICE}/large")
    converge()


@pytest.mark.parametrize("sysctls", [{"rp_filter": 1}, {"rp_filter": 1, "src_valid_mark": 1}])
def test_f7_reverse_path_filters_let_it_pass(sysctls: dict[str, int]) -> None:
    """A strict one, also one that looks at marks, as wg-quick sets it."""
    names = [f"net.ipv4.conf.{which}.{name}" for which in ("all", "default") for name in sysctls]
    before = {host: ok(host, f"sysctl {' '.join(names)}") for host in HOSTS}
    try:
        for host in HOSTS:
            for name, value in sysctls.items():
                ok(host, f"for each in /proc/sys/net/ipv4/conf/*/{name}; do echo {value} >$each; done")
        assert fetch(transparent=True)
        assert fetch(transparent=True, command="EPRT")
    finally:
        for host in HOSTS:
            for name in sysctls:
                ok(host, f"for each in /proc/sys/net/ipv4/conf/*/{name}; do echo 0 >$each; done")
            ok(host, "sysctl -p - >/dev/null", stdin=before[host])


def test_everything_is_back_after_a_reboot() -> None:
    before = listing("f1"), ok("f1", "ip rule show; ip -6 rule show; ip route show table 21021")
    _reboot("f1")
    assert (listing("f1"), ok("f1", "ip rule show; ip -6 rule show; ip route show table 21021")) == before
    _await_proxy("f1")
    for family in (4, 6):
        assert fetch(transparent=True, family=family)
        assert fetch(transparent=True, family=family, command="EPRT")


def test_verification_finds_all_right() -> None:
    play = verify(*ENDS)
    assert play.code == 0, play.output
    for host in HOSTS:
        report = lines(play, host)
        assert all(line.startswith(("ok ", "not tried ")) for line in report[1:]), report
        right = {line.split()[1] for line in report if line.startswith("ok ")}
        assert {"rules", "routing", "listeners", "another"} <= right, report


def test_the_report_shows_interception(tmp_path: Path) -> None:
    converge(playbook=ROOT / "playbooks/report.yml", cwd=tmp_path)
    page = (tmp_path / "sluice-report.html").read_text()
    assert "to port 21 of S" in page
    assert "tproxy" in page
    assert "as described" in page
    assert "not as described" not in page
    assert "differs" not in page


LOOPS = {
    "sluice_topology": {
        **REDIRECT.topology(),
        "servers": {"networks": ["0.0.0.0/0", "::/0"], "control_ports": [21, 2121]},
    }
}


@pytest.fixture
def anywhere() -> Iterator[None]:
    """Servers wherever they are, on ports 21 and 2121: hosts of the path are among them."""
    converge("-e", json.dumps(LOOPS))
    yield
    converge()


@pytest.mark.usefixtures("anywhere")
def test_9_1_a_destination_on_the_path_is_refused_and_no_loop_comes_of_it() -> None:
    since = {host: ok(host, "date +%s.%N").strip() for host in HOSTS}
    for address in (F4, F_UP4, N4, N_UP4):
        for port in (21, 2121):
            done = on("c1", f"curl -sS --max-time 15 {url(ALICE, f'{address}:{port}')}")
            assert done.returncode != 0, (address, port)
    said = {
        host: ok(host, f"journalctl -u sluice --since @{since[host]} -o json SLUICE_EVENT=refused --no-pager")
        for host in HOSTS
    }
    refused = [json.loads(line) for each in said.values() for line in each.splitlines()]
    assert any(N4 in json.dumps(each) for each in refused), said
    assert len(refused) < 20
    assert fetch(transparent=True)


@pytest.mark.usefixtures("anywhere")
def test_9_1_what_the_rules_did_not_intercept_the_proxy_refuses() -> None:
    """Without the guards of its rules: a direct connection is closed, with a record."""
    since = ok("f1", "date +%s.%N").strip()
    ok("f1", "nft insert rule inet sluice input tcp dport 2121 accept")
    ok("f1", "nft insert rule inet sluice output tcp sport 2121 accept")
    done = on("c1", f"nc -w 5 {F4} 2121 </dev/null")
    assert not done.stdout.startswith("220"), done.stdout
    text = ok("f1", f"journalctl -u sluice --since @{since} -o json SLUICE_EVENT=refused --no-pager")
    assert len(text.splitlines()) == 1
    converge("-e", json.dumps(LOOPS))


def test_there_and_back_leaves_nothing_behind() -> None:
    """From addressed hops over both kinds of interception, each in one run, and back (POLICY F8)."""
    converge(*EXPLICIT.variables())
    before = {host: state(host) for host in HOSTS}
    for variant in (REDIRECT, CLIENT, REDIRECT, EXPLICIT):
        play = converge(*variant.variables())
        assert all(play.recap(host)["changed"] > 0 for host in HOSTS)
        assert fetch(transparent=variant != EXPLICIT)
        assert fetch(transparent=variant != EXPLICIT, command="EPRT", family=6)
    for host in HOSTS:
        after = state(host)
        assert {key for key in before[host] | after if before[host].get(key) != after.get(key)} == set()
        assert not reaches("c1", F4, 2121)


def test_f9_a_transfer_at_the_clients_address_outlives_the_change_to_the_hops_own() -> None:
    """While its rules stay open, so does the routing of the servers' side, which is then taken away."""
    converge(*CLIENT.variables())
    download = Download(S4, ALICE)
    run = start_playbook(*TPROXY.variables())
    said = until(run, "1 transfers run on what this run takes away")
    for version in (4, 6):
        assert interfaces("f1", version) == {"to_c1", "to_n1"}
    lines = download.go_on()
    play = finish(run)
    assert play.code == 0, said + play.output
    assert lines[0] == sum_of("s1", f"/home/{ALICE}/large")
    for version in (4, 6):
        assert interfaces("f1", version) == {"to_c1"}
    assert [converge(*TPROXY.variables()).recap(host)["changed"] for host in HOSTS] == [0, 0]
    converge()


def interfaces(host: str, version: int) -> set[str]:
    """Whose packets the host routes to its proxy where they are marked."""
    rules = json.loads(ok(host, f"ip -{version} -json rule show table 21021"))
    return {each["iif"] for each in rules}


def test_taken_off_it_leaves_nothing_behind() -> None:
    ok("c1", "truncate -s 0 /var/tmp/not-ftp.log")  # until now a reboot and links that went down are in it
    converge()
    converge("-e", "sluice_state=absent")
    for host in HOSTS:
        virgin, now = snapshot.load(LAB, "virgin", host), snapshot.take(LAB, host)
        assert snapshot.difference(virgin, now) == {}
        for version in (4, 6):
            assert ok(host, f"ip -{version} rule show table 21021") == ""
            assert on(host, f"ip -{version} route show table 21021").stdout == ""
    log = ok("c1", "cat /var/tmp/not-ftp.log").splitlines()
    assert {line for line in log if line not in ("http4", "http6", "ssh4")} == set(), (
        "what is no FTP passed on"
    )
