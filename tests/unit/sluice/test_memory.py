# SPDX-License-Identifier: GPL-3.0-or-later
"""What one session learns, the next one knows, for a while (PROTOCOL 3.11, 15.1)."""

from __future__ import annotations

import ipaddress

import pytest
from sluice import events
from sluice.events import Endpoint, Leg, Timer
from sluice.memory import LACK, REST, Memory

from tests.unit.sluice.playbook import PORT, Playbook, settings

HOSTS = [{"name": f"m{i}", "addresses": [f"198.51.100.{i}"]} for i in (11, 12)]
M1, M2 = (Endpoint(ipaddress.ip_address(f"198.51.100.{i}"), 21) for i in (11, 12))


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def next_hop(memory: Memory) -> Playbook:
    return Playbook(settings(next_hop={"hosts": HOSTS, "control_port": 21}), memory=memory)


def tried(p: Playbook) -> list[Endpoint]:
    """The hosts that it connects to, those of the last time."""
    return [a.to for a in p.did(events.Connect) if isinstance(a, events.Connect)]


def test_15_1_a_host_that_failed_is_rested_and_tried_again() -> None:
    clock = Clock()
    memory = Memory(clock)
    p = next_hop(memory)
    assert tried(p) == [M1]
    p.feed(events.ConnectFailed("refused the connection"))
    assert tried(p) == [M2]
    (warning,) = p.logs("warning")
    assert warning.message == (
        "next hop S (198.51.100.11:21) refused the connection, the next address is tried"
    )
    clock.now = REST - 1
    assert tried(next_hop(memory)) == [M2], "it rests"
    clock.now = REST
    assert tried(next_hop(memory)) == [M1], "its turn again"


def test_15_1_spread_over_the_hosts_that_answered() -> None:
    """Each host is the first one of some sessions; one that failed is nobody's, while it rests."""
    memory = Memory(lambda: 0.0)
    hop = {"hosts": HOSTS, "control_port": 21, "order": "spread"}

    def first_ones() -> set[Endpoint]:
        return {tried(Playbook(settings(next_hop=hop), memory=memory))[0] for _session in range(64)}

    assert first_ones() == {M1, M2}
    memory.failed(M1)
    assert first_ones() == {M2}


def test_15_1_hosts_that_all_rest_are_tried_all_the_same() -> None:
    memory = Memory(lambda: 0.0)
    for _ in range(2):
        p = next_hop(memory)
        seen = tried(p)
        for _host in HOSTS:
            p.feed(events.ConnectFailed("refused the connection"))
            seen += tried(p)
        assert seen == [M1, M2]
        assert p.said().startswith(b"421 N: next hop S (198.51.100.12:21) "), "15.3"


def test_15_1_a_host_that_answers_rests_no_more() -> None:
    memory = Memory(lambda: 0.0)
    memory.failed(M1)
    memory.failed(M2)
    p = next_hop(memory)
    p.feed(events.ConnectFailed("refused the connection"))
    p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
    assert memory.rests(M2), "not before it greets"
    p.server(b"220 ready\r\n")
    assert (memory.rests(M1), memory.rests(M2)) == (True, False)


@pytest.mark.parametrize(
    ("happens", "cause"),
    [
        ([events.Ended(Leg.SERVER, False)], "and closed the connection"),
        ([events.Ended(Leg.SERVER, True)], "and closed the connection"),
        ([events.Expired(Timer.GREETING)], "within 20 s"),
        ([events.Received(Leg.SERVER, b"SSH-2.0-OpenSSH_9.2\r\n220 x\r\n")], ": "),
        ([events.Received(Leg.SERVER, b"227 (1,2,3,4,5,6)\r\n")], ": 227 answers nothing that was asked"),
        ([events.Received(Leg.SERVER, b"120-soon\r\n"), events.Ended(Leg.SERVER, False)], "and closed"),
    ],
)
def test_15_1_a_host_that_does_not_greet_is_passed_over(happens: list[events.Event], cause: str) -> None:
    """It rests as one that did not answer does, and the last one's cause is said."""
    memory = Memory(lambda: 0.0)
    p = next_hop(memory)
    for host, others in ((M1, True), (M2, False)):
        p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
        for event in happens:
            p.feed(event)
        assert memory.rests(host)
        if others:
            assert tried(p) == [M1, M2]
            assert p.said() == b""
            assert p.did(events.Close) == [events.Close(Leg.SERVER)]
            (warning,) = [w for w in p.logs("warning") if w.message.endswith(", the next address is tried")]
            assert cause in warning.message
            p.feed(events.Received(Leg.SERVER, b"220 late\r\n"))
            p.feed(events.Ended(Leg.SERVER, False))
    assert p.said().startswith(b"421 N: next hop S (198.51.100.12:21) sent no FTP greeting")
    assert p.session.over


def test_15_1_the_host_after_one_that_did_not_greet_serves() -> None:
    p = next_hop(Memory(lambda: 0.0))
    p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
    p.server(b"220-not whole\r\n")
    p.feed(events.Ended(Leg.SERVER, False))
    p.feed(events.Connected(ipaddress.ip_address("198.51.100.2")))
    assert p.server(b"220 ready\r\n") == b"220 ready\r\n"
    p.client(b"USER x\r\n")
    assert p.asked() == b"USER x\r\n"


def test_15_3_when_no_host_answers_421_names_the_hop() -> None:
    p = next_hop(Memory(lambda: 0.0))
    p.feed(events.ConnectFailed("refused the connection"))
    p.feed(events.ConnectFailed("refused the connection"))
    assert p.said() == b"421 N: next hop S (198.51.100.12:21) refused the connection.\r\n"
    assert p.session.over


def test_15_2_data_goes_to_the_host_that_has_the_control_connection() -> None:
    p = next_hop(Memory(lambda: 0.0))
    p.feed(events.ConnectFailed("refused the connection"))
    p.log_in()
    assert p.session.server_peer == M2
    p.memory.refused(M2, b"EPSV")
    p.client(b"PASV\r\n")
    assert p.asked() == b"PASV\r\n"
    p.server(b"227 Entering Passive Mode (198,51,100,11,175,200)\r\n")  # the other host's address
    (dial,) = p.did(events.Dial)
    assert isinstance(dial, events.Dial)
    assert dial.to == Endpoint(M2.address, 45000)


@pytest.mark.parametrize(
    ("set_up", "granted", "verb", "plain"),
    [(b"PASV\r\n", b"227 (1,2,3,4,175,200)\r\n", b"EPSV", b"PASV"), (PORT, b"200 ok\r\n", b"EPRT", b"PORT")],
)
def test_3_11_what_a_server_lacks_is_known_to_the_next_session(
    set_up: bytes, granted: bytes, verb: bytes, plain: bytes
) -> None:
    clock = Clock()
    memory = Memory(clock)

    def asked(*answers: bytes) -> list[bytes]:
        p = Playbook(memory=memory).log_in()
        p.client(set_up)
        seen = []
        for answer in answers:
            seen.append(p.asked()[:4])
            p.server(answer)
        return seen

    assert asked(b"502 no\r\n", b"502 no\r\n") == [verb, plain], "it refuses the mode, and"
    assert asked(b"502 no\r\n", granted) == [verb, plain], "nothing was learned; but now"
    assert asked(granted) == [plain]
    clock.now = LACK
    assert asked(b"502 no\r\n", granted) == [verb, plain], "it may have learned"
    extended = granted if plain == b"PORT" else b"229 (|||45000|)\r\n"
    assert asked(b"500 what\r\n", extended) == [plain, verb], "and forgotten the other"
    assert asked(extended) == [verb]


def test_memory_is_bounded() -> None:
    memory = Memory(lambda: 0.0)
    first = Endpoint(M1.address, 1)
    for port in range(1, 3000):
        memory.failed(Endpoint(M1.address, port))
    assert not memory.rests(first)
    assert len(memory._until) == 1024
