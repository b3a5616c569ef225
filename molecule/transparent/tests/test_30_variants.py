# SPDX-License-Identifier: GPL-3.0-or-later
"""Every chain of hops that are addressed and hops that intercept, with real clients (POLICY 2, 9.3)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support import C4, F4, F6, N4, N6, S4, S6, Transfer, arrives, converge, counters, fetch, ok, on
from test_04_refused import reaches, served
from variants import CHOSEN, WAYS, WHOLE, Variant, verify

HOSTS = ("f1", "n1")
WEB = "curl -gsS --max-time 5 -o /dev/null http://{}/"
OTHER_S4, OTHER_C4 = "198.51.100.11", "10.1.0.11"  # in the description's networks, and nobody else's
OWN = {"f1": ("c1", F4, F6), "n1": ("f1", N4, N6)}  # who stands before the host, and its own addresses there


@pytest.fixture(scope="module", params=CHOSEN, ids=str, autouse=True)
def variant(request: pytest.FixtureRequest) -> Variant:
    """F and N as the variant has them."""
    found: Variant = request.param
    converge(*found.variables())
    return found


def transparently(variant: Variant, **how: object) -> Transfer:
    """A download by a client of this variant."""
    way = Transfer(**{"client": "curl", "direction": "down", "command": "EPSV", "family": 4, **how})  # type: ignore[arg-type]
    return replace(way, transparent=variant.f != "none")


@pytest.mark.parametrize("number", range(len(WAYS)), ids=lambda number: str(WAYS[number]))
def test_file_arrives_whole(variant: Variant, number: int) -> None:
    arrives(variant.of(WAYS[number], number))


def test_9_3_redirect_and_an_active_client_that_checks_fails_and_passive_serves_it(variant: Variant) -> None:
    """Under REDIRECT active data comes from F's own address: lftp with ftp:verify-address takes none."""
    if variant.f != "redirect":
        pytest.skip("active data comes from the address that the client dialled")
    options = verify(address=True, port=False)
    ok("c1", "rm -f /var/tmp/fetched")
    done = transparently(variant, client="lftp", command="PORT", options=options).run(
        "/var/tmp/fetched", "small"
    )
    assert done.returncode != 0
    assert "data connection" in done.stdout + done.stderr, done
    arrives(transparently(variant, client="lftp", command="PASV", options=options))


def test_a_second_run_changes_nothing(variant: Variant) -> None:
    if WHOLE and variant.f != variant.n:
        pytest.skip("of the whole, one with each kind on each hop")
    again = converge(*variant.variables())
    assert [again.recap(host)["changed"] for host in HOSTS] == [0, 0]


@pytest.mark.parametrize("family", [4, 6])
def test_server_logs_whom_it_should_see(variant: Variant, family: int) -> None:
    """For control and data: vsftpd takes data from the control connection's address alone."""
    ok("s1", "truncate -s 0 /var/log/vsftpd.log")
    for command in ("EPSV", "EPRT"):
        assert fetch(command=command, family=family, transparent=variant.f != "none")
    found = re.findall(r'DOWNLOAD: Client "(?:::ffff:)?([0-9a-f.:]+)"', ok("s1", "cat /var/log/vsftpd.log"))
    assert found == [variant.seen(family)] * 2


@pytest.mark.parametrize("host", HOSTS)
def test_process_may_do_what_it_needs_and_no_more(variant: Variant, host: str) -> None:
    """POLICY F4: CAP_NET_RAW only for TPROXY, CAP_NET_BIND_SERVICE only for a port below 1024."""
    status = ok(host, "cat /proc/$(systemctl show --value --property=MainPID sluice)/status")
    for which in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        found = re.findall(rf"^{which}:\s+(\w+)", status, re.MULTILINE)
        assert int(found[0], 16) == variant.capabilities(host), which


@pytest.mark.parametrize("host", HOSTS)
def test_f7_routing_is_there_for_tproxy_alone(variant: Variant, host: str) -> None:
    for version in (4, 6):
        rules = json.loads(ok(host, f"ip -json -{version} rule show table 21021"))
        assert {(each["priority"], each["fwmark"], each["iif"]) for each in rules} == {
            (21021, "0x51ce", interface) for interface in variant.routed(host)
        }
        assert len(rules) == len(variant.routed(host))
        routes = on(host, f"ip -{version} route show table 21021").stdout.splitlines()
        assert [each.split(" metric")[0].split(" scope")[0] for each in routes] == (
            ["local default dev lo"] if rules else []
        )
    there = on(host, "systemctl is-enabled sluice-routes.service").returncode == 0
    assert there == variant.tproxy(host)


@pytest.mark.parametrize("host", HOSTS)
def test_rules_say_what_is_intercepted_and_count_it(variant: Variant, host: str) -> None:
    before = counters(host)
    for command in ("EPSV", "EPRT"):
        assert fetch(command=command, transparent=variant.f != "none")
    new = {name: count - before.get(name, 0) for name, count in counters(host).items()}
    kind = {"none": "", "client": "tproxy"}.get(variant.kind(host), variant.kind(host))
    near, own = ("C", "F") if host == "f1" else ("F", "N")
    control = [name for name in new if name.startswith(f"{near} -> {own}: -> proxy user: to port 21")]
    assert control == [f"{near} -> {own}: -> proxy user: to port 21" + (f" of S ({kind})" if kind else "")], (
        sorted(new)
    )
    assert new[control[0]] >= 2  # a SYN that was sent again counts again
    for mode in ("passive", "active"):
        # Under REDIRECT the proxy's active data is its own.
        words = f"({mode}, {kind})" if kind and (mode, kind) != ("active", "redirect") else f"({mode})"
        flows = [name for name in new if name.startswith(f"{near} ") and f"({mode}" in name]
        assert [name.endswith(words) for name in flows] == [True], flows
        assert new[flows[0]] >= 1, flows


@pytest.mark.parametrize("host", HOSTS)
def test_a_direct_connection_to_a_hop_that_intercepts_is_refused(variant: Variant, host: str) -> None:
    """To its internal port, to port 21, and to its range (POLICY 2)."""
    if variant.kind(host) == "none":
        pytest.skip("it is addressed")
    near, own4, own6 = OWN[host]
    for address, port in ((own4, 2121), (own6, 2121), (own4, 21), (own4, 50500)):
        assert not reaches(near, address, port)
    assert ok(host, "ss --no-header --listening --numeric --tcp").count(":2121 ") == 2
    assert counters(host)["not a flow: to a proxy port"] > 0


def test_past_the_proxy_nothing_is_forwarded_and_other_ports_follow_the_scope(variant: Variant) -> None:
    """Scope guard: what is not FTP control between the two ends is forwarded (POLICY 2)."""
    for address in (S4, S6):
        assert reaches("c1", address, 21) == (variant.f != "none")
        assert reaches("c1", address, 22)
    for address in (S4, f"[{S6}]"):
        assert on("c1", WEB.format(address)).returncode == 0


@pytest.fixture
def stopped(variant: Variant) -> Iterator[str]:
    """The first hop that intercepts, without its proxy."""
    host = "f1" if variant.f != "none" else "n1"
    ok(host, "systemctl stop sluice")
    yield host
    ok(host, "systemctl start sluice")
    assert fetch(transparent=variant.f != "none")


def test_without_a_proxy_no_control_connection_passes(stopped: str) -> None:
    """It fails closed; what is no FTP goes on."""
    near = OWN[stopped][0]
    for address in (S4, S6):
        assert not reaches(near, address, 21, user="sluice" if near == "f1" else "root")
        assert reaches("c1", address, 22)


@pytest.fixture
def uninvolved() -> Iterator[None]:
    """Another server and another client, in the description's networks, with the port of a passive range."""
    ok("s1", f"ip address add {OTHER_S4}/24 dev to_n1")
    ok("c1", f"ip address add {OTHER_C4}/24 dev to_f1")
    with served("s1", "0.0.0.0", 50500, "root"):
        yield
    ok("s1", f"ip address delete {OTHER_S4}/24 dev to_n1")
    ok("c1", f"ip address delete {OTHER_C4}/24 dev to_f1")


@pytest.mark.usefixtures("uninvolved")
def test_only_clients_and_servers_with_a_control_connection_are_intercepted_in_the_range(
    variant: Variant,
) -> None:
    """Who has nothing to do with the proxy arrives at an uninvolved server's port (POLICY 2)."""
    if variant.f == "none":
        pytest.skip("F is addressed itself")
    assert fetch(transparent=True)
    assert reaches("c1", OTHER_S4, 50500)
    assert reaches("c1", S4, 50500, source=OTHER_C4)
    # A client with a control connection to S is a proxy's affair under REDIRECT, with nobody listening now;
    # N's, too, where F comes to it as that client.
    taken = variant.f == "redirect" or (variant.f == "client" and variant.n == "redirect")
    assert reaches("c1", S4, 50500, source=C4) != taken
