# SPDX-License-Identifier: GPL-3.0-or-later
"""What a single probe cannot show of a hop that intercepts: data follows a control connection, nobody
listens, nothing is delivered, one kind comes after another."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from ansible_collections.sluice.ftp.plugins.module_utils.nft import Nft, transaction

from .edges import FAMILIES
from .network import Namespace
from .paths import HopSpec, PathSpec, leg_address
from .probe import End, Probe
from .prober import SILENCE, TRANSPARENT, Prober, as_user
from .reference import INTERCEPT
from .rules import load, rules, talking, text
from .scopes import HOST, MANAGEMENT, Scope
from .trial import Trial, trial

pytestmark = pytest.mark.usefixtures("packets")

EXCLUSIVE = Scope("exclusive", MANAGEMENT[0], HOST[0], ())
DATA = 50500
KINDS = ("redirect", "tproxy", "tproxy client")


@pytest.fixture(params=["guard", "exclusive"])
def scope(request: pytest.FixtureRequest) -> Scope:
    """Either scope."""
    return EXCLUSIVE if request.param == "exclusive" else Scope()


def one_hop(kind: str, scope: Scope) -> PathSpec:
    """C, f1 and S."""
    return PathSpec((HopSpec(intercept=kind),), ("both", "both"), servers=("all",), scope=scope)


def made(stack: ExitStack, namespace: Namespace, address: str, port: int) -> socket.socket:
    """A socket of the proxy's user."""
    with namespace.inside(), as_user("proxy"):
        one = socket.socket(socket.AF_INET if "." in address else socket.AF_INET6)
    stack.enter_context(one)
    one.settimeout(SILENCE)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with namespace.inside():
        one.bind((address, port))
    return one


def arrives_at_f1(path: Trial, client: str, server: str, port: int) -> bool:
    """Whether a client's connection to that port of a server is f1's to accept."""
    with ExitStack() as stack:
        own = leg_address(0, 4 if "." in client else 6, 2)
        listener = made(stack, path.network.namespaces["f1"], own, port)
        listener.listen()
        opener = made(stack, path.network.namespaces["C"], client, 0)
        if opener.connect_ex((server, port)):
            return False
        return accepts(stack, listener)


def accepts(stack: ExitStack, listener: socket.socket) -> bool:
    """Whether a connection waits there; it stands until the end of the stack."""
    try:
        stack.enter_context(listener.accept()[0])
    except TimeoutError:
        return False
    return True


def data_follows(path: Trial, family: int) -> bool:
    """Whether at f1 data comes to the proxy's port from who has a control connection, from nobody else."""
    client, server = leg_address(0, family, 1), leg_address(len(path.spec.hops), family, 2)
    uninvolved = leg_address(len(path.spec.hops), family, 3)
    f1 = path.network.namespaces["f1"]
    talking(f1, {4: [], 6: []})
    path.network.forget_connections()
    before = arrives_at_f1(path, client, server, DATA)
    with ExitStack() as stack:
        proxy = made(stack, f1, leg_address(0, family, 2), INTERCEPT)
        proxy.listen()
        control = made(stack, path.network.namespaces["C"], client, 0)
        if control.connect_ex((server, 21)) or not accepts(stack, proxy):
            return False
        control.sendall(b"PASV\r\n")
        found = [arrives_at_f1(path, client, one, DATA) for one in (server, uninvolved)]
    return [before, *found] == [False, True, False]


def fails_closed(path: Trial, host: str = "f1") -> bool:
    """Whether no control connection to any server passes the host, by whoever stands before it: neither
    without a proxy there, nor with nothing that takes it, which this leaves loaded."""
    namespace = path.network.namespaces[host]
    position = path.reference.position
    probes = [
        Probe(End(node.name, client, "root", 40001), End("S", server, "root", 21), server)
        for node in path.spec.nodes()
        if node.addresses and position(node.name) < position(host)
        for client in node.reached
        if client in path.reference.seen(host)
        for server in next(each for each in path.spec.nodes() if each.name == "S").reached
        if server in path.reference.servers and (":" in client) == (":" in server)
    ]
    assert probes
    prober = Prober(path.network)
    without_proxy = prober.run(probes)
    for chain in {rule.chain for rule in rules(namespace) if rule.chain.startswith("intercept_")}:
        namespace.run("nft", "flush", "chain", "inet", "sluice", chain)
    return not any(seen.passed for seen in (*without_proxy, *prober.run(probes)))


@pytest.mark.parametrize("family", FAMILIES)
def test_9_1_data_follows_a_control_connection(scope: Scope, family: int) -> None:
    """Policy 2: of a client and a server that have one; other people's traffic is left alone."""
    with trial(one_hop("redirect", scope)) as path:
        assert data_follows(path, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_uninvolved_servers_port_is_reached_through_a_redirect_hop(family: int) -> None:
    """In `guard`: the same port, the same client, another server; and the one it talks to is not reached."""
    with trial(one_hop("redirect", Scope())) as path:
        path.talk()
        client = leg_address(0, family, 1)
        opener = End("C", client, "root", 40001)
        servers = [leg_address(1, family, number) for number in (3, 2)]
        probes = [Probe(opener, End("S", server, "root", DATA), server) for server in servers]
        assert [seen.passed for seen in path.prober.run(probes)] == [True, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_openings_alone_fill_no_set(family: int) -> None:
    """A connection that nobody finished opening makes no pair, so a flood of forged ones does not."""
    with trial(one_hop("redirect", Scope())) as path:
        f1 = path.network.namespaces["f1"]
        talking(f1, {4: [], 6: []})
        f1.run("nft", "insert", "rule", "inet", "sluice", "out_down", "tcp", "sport", "2121", "drop")
        with ExitStack() as stack:
            made(stack, f1, leg_address(0, family, 2), INTERCEPT).listen()
            control = made(stack, path.network.namespaces["C"], leg_address(0, family, 1), 0)
            assert control.connect_ex((leg_address(1, family, 2), 21))
        assert "elements" not in f1.run("nft", "list", "set", "inet", "sluice", f"talk{family}")


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_proxy_no_control_connection_passes(kind: str, scope: Scope) -> None:
    """It fails closed, whatever the network; who listens in the proxy's place is among the probes of the
    combinations."""
    with trial(one_hop(kind, scope)) as path:
        assert fails_closed(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_taken_and_not_delivered_does_not_reach_the_server(family: int) -> None:
    """Without the routing rule for a moment: the server would reset what it knows nothing of. A kernel that
    looks for the socket early drops it by itself, so here it does not look."""
    with trial(one_hop("tproxy", Scope())) as path:
        f1 = path.network.namespaces["f1"]
        f1.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/tcp_early_demux")
        client, server = leg_address(0, family, 1), leg_address(1, family, 2)
        with ExitStack() as stack:
            with f1.inside(), as_user("proxy"):
                listener = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
            stack.enter_context(listener)
            listener.setsockopt(*TRANSPARENT[family], 1)
            with f1.inside():
                listener.bind((server, DATA))
            listener.listen()
            listener.settimeout(SILENCE)
            opener = made(stack, path.network.namespaces["C"], client, 0)
            opener.connect((server, DATA))
            accepted = stack.enter_context(listener.accept()[0])
            accepted.settimeout(SILENCE)
            while f"fwmark {0x51CE:#x}" in f1.run("ip", f"-{family}", "rule"):
                f1.run("ip", f"-{family}", "rule", "del", "priority", "21021")
            opener.sendall(b"x")
            with pytest.raises(TimeoutError):
                accepted.recv(1)
            opener.settimeout(SILENCE)
            with pytest.raises(TimeoutError):  # and no reset
                opener.recv(1)
        assert any("not delivered" in rule.text and rule.packets for rule in rules(f1))


@pytest.fixture
def empty() -> Iterator[Namespace]:
    """A namespace without any rule."""
    namespace = Namespace("empty")
    try:
        yield namespace
    finally:
        namespace.close()


@pytest.mark.parametrize("after", ["", *KINDS])
@pytest.mark.parametrize("before", ["", *KINDS])
def test_one_kind_after_another_leaves_nothing_behind(before: str, after: str, empty: Namespace) -> None:
    """F8: by the gapless way, for no chain changes its hook; and a second load changes nothing."""
    nft = Nft("nft", "unshare", "inet", "sluice")
    files = [text(one_hop(kind, Scope()).description(), "f1") for kind in (before, after)]
    load(empty, files[0])
    with empty.inside():
        live, desired = nft.live(), nft.desired(files[1])
        change = transaction("inet sluice", files[1], live, desired)
        assert "delete table" not in change
        nft.load(change)
        assert nft.live() == desired
