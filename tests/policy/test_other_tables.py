# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator's own table, or an old conntrack entry, must not open (F5, F6, F11)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

import pytest

from .conftest import WHOLE, drawn
from .edges import FAMILIES
from .paths import HopSpec, PathSpec, leg_address
from .probe import End, Probe, User, probe
from .prober import SILENCE
from .probes import Around
from .rules import delete, rules
from .scopes import ANYWHERE, GUARD, HOST, MANAGEMENT, Scope
from .trial import Trial, trial

pytestmark = pytest.mark.usefixtures("packets")

PROBES = 1500 if WHOLE else 500
NOTRACK = """
    table inet admin {
      chain arriving { type filter hook prerouting priority raw; notrack; }
      chain leaving { type filter hook output priority raw; notrack; }
    }
"""
HELPED = 8021
HELPER = f"""
    table inet admin {{
      ct helper kernel_ftp {{ type "ftp" protocol tcp; }}
      chain arriving {{
        type filter hook prerouting priority filter; tcp dport {HELPED} ct helper set "kernel_ftp"
      }}
    }}
"""


# in `exclusive` half of TCP's ports are forwarded, where FTP's own rules do not stop it
EXCLUSIVE: Final = Scope(
    "exclusive",
    MANAGEMENT[1],
    HOST[2],
    forward=({"from": ANYWHERE, "to": ANYWHERE, "protocol": "tcp", "ports": "1-32767"},),
)


@pytest.fixture(params=[GUARD, EXCLUSIVE], ids=lambda scope: scope.name)
def path(request: pytest.FixtureRequest) -> Iterator[Trial]:
    """Two hops, active data to the clients from port 20; rules on f1 alone."""
    source = {"client_side": {"source": "20"}}
    spec = PathSpec((HopSpec(ports=source), HopSpec()), ("both", "both", "both"), scope=request.param)
    with trial(spec, ["f1"]) as made:
        yield made


@pytest.fixture
def around(path: Trial) -> Around:
    """Probes around f1."""
    return path.around("f1", drawn("other tables"))


def test_without_tracking_nothing_opens(path: Trial, around: Around) -> None:
    """F5: `notrack` elsewhere may stop flows, but what is refused stays refused."""
    path.network.namespaces["f1"].run("nft", "-f", "-", stdin=NOTRACK)
    refused = [one for one in around.all(PROBES) if not path.reference.judge(one, path.policed).passes]
    passed = [str(one) for one, seen in zip(refused, path.prober.run(refused), strict=True) if seen.passed]
    assert refused
    assert passed == []


HELPED_IS_SEEN = """
    table inet seen {
      chain past {
        type filter hook forward priority filter; ct helper "ftp" counter
      }
    }
"""
OTHERS: Final[tuple[tuple[int, User], ...]] = ((1024, "root"), (1025, "other"), (65535, "root"))


def helped_data_passes(path: Trial, family: int) -> bool:
    """Speak FTP from C to S past f1, on the port HELPER is for; whether the server's data comes through."""
    path.network.forget_connections()
    client, server = leg_address(0, family, 1), leg_address(len(path.spec.hops), family, 2)
    with ExitStack() as stack:

        def made(place: str, address: str, port: int) -> socket.socket:
            with path.network.namespaces[place].inside():
                one = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
            stack.enter_context(one)
            one.settimeout(SILENCE)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.bind((address, port))
            return one

        listener = made("S", server, HELPED)
        listener.listen()
        control = made("C", client, 30000)
        if control.connect_ex((server, HELPED)):
            return False
        answering, _ = listener.accept()
        stack.enter_context(answering)
        data = made("C", client, 30001)
        data.listen()
        comma = f"{client.replace('.', ',')},{30001 >> 8},{30001 & 255}"
        port = f"PORT {comma}" if family == 4 else f"EPRT |2|{client}|30001|"
        for line in ("USER somebody", port):
            control.sendall(f"{line}\r\n".encode())
            answering.recv(100)
            answering.sendall(b"200 Well.\r\n")
            control.recv(100)
        return made("S", server, 30002).connect_ex((client, 30001)) == 0


def turned(one: Probe) -> Probe:
    """The same two ends, opened by the other."""
    return Probe(one.acceptor, one.opener, one.opener.address, one.protocol)


def test_an_old_entry_opens_nothing(path: Trial, around: Around) -> None:
    """F6: a SYN that conntrack takes for a late answer is judged like any other."""
    refused = [
        one
        for one in around.all(PROBES)
        if one.protocol == "tcp" and not path.reference.judge(one, path.policed).passes
    ]
    # the very case of F6, for it is one of thousands: somebody else opens from port 20
    old = [
        probe(
            End("f1", leg_address(0, family, 2), user, 20), End("C", leg_address(0, family, 1), "root", port)
        )
        for family in FAMILIES
        for port, user in OTHERS
    ]
    refused = list(dict.fromkeys([*old, *refused]))
    # one probe to a pair of ends: a second would find the first one's entry
    pairs = {
        frozenset({(e.address, e.port) for e in (one.opener, one.acceptor)}): one for one in reversed(refused)
    }
    refused = list(pairs.values())
    path.prober.run([turned(one) for one in refused])
    again = path.prober.run(refused, forget=False)
    passed = [str(one) for one, seen in zip(refused, again, strict=True) if seen.passed]
    assert set(old) <= set(refused)
    assert passed == []


@pytest.mark.parametrize("family", FAMILIES)
def test_no_helper_past_the_proxy(path: Trial, family: int) -> None:
    """F11: FTP on a port that nobody declared, followed by the kernel's helper: its data stops at f1."""
    path.network.namespaces["f1"].run("nft", "-f", "-", stdin=HELPER)
    assert not helped_data_passes(path, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_helper_helps(path: Trial, family: int) -> None:
    """Without this the test before would prove nothing: the helper knows the data connection for its own."""
    namespace = path.network.namespaces["f1"]
    namespace.run("nft", "-f", "-", stdin=HELPER)
    for rule in rules(namespace):
        if "ct helper" in rule.text:
            delete(namespace, rule)
    namespace.run("nft", "-f", "-", stdin=HELPED_IS_SEEN)
    assert helped_data_passes(path, family)
    assert "counter packets 0 " not in namespace.run("nft", "list", "table", "inet", "seen")


SILENT = """
    table inet admin {
      chain arriving { type filter hook input priority filter; tcp flags & (syn | ack) == syn drop; }
    }
"""


def test_an_unanswered_opening_opens_nothing(path: Trial) -> None:
    """F6: where conntrack waits for an answer, a SYN back to the very same ends is none."""
    client, host = leg_address(0, 4, 1), leg_address(0, 4, 2)
    far, near = leg_address(2, 4, 2), leg_address(1, 4, 1)
    proxy = leg_address(1, 4, 2)
    # the first is the host's own need, the last is forwarded, the others are flows
    opened = [
        probe(End("f1", host, "other", 33333), End("C", client, "root", 22)),
        probe(End("f1", near, "proxy", 33334), End("n1", proxy, "proxy", 21)),
        probe(End("f1", near, "proxy", 53500), End("n1", proxy, "proxy", 50500)),
        probe(End("C", client, "root", 33335), End("S", far, "root", 80)),
    ]
    for place in ("C", "n1", "S"):
        path.network.namespaces[place].run("nft", "-f", "-", stdin=SILENT)
    assert not any(seen.passed for seen in path.prober.run(opened))
    for place in ("C", "n1", "S"):
        path.network.namespaces[place].run("nft", "delete", "table", "inet", "admin")
    back = [probe(one.acceptor, replace(one.opener, user="root")) for one in opened]  # who listens there now
    wrong = []
    for one, seen in zip(back, path.prober.run(back, forget=False), strict=True):
        verdict = path.reference.judge(one, path.policed)
        if seen.passed > verdict.passes or bool(seen.arrived) > verdict.arrives:
            wrong.append(f"{one}: {verdict.why}")
    assert wrong == []
