# SPDX-License-Identifier: GPL-3.0-or-later
"""The net on loopback: ranges, ends with FIN or RST, options (PROTOCOL 1.16, 1.17, 5.2, 6, 13)."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import pathlib
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, get_args

import pytest
from sluice import events
from sluice.events import Endpoint, Event, Leg, Timer
from sluice.journal import Journal
from sluice.memory import Memory
from sluice.net import control, data
from sluice.net.places import Places
from sluice.net.relay import PipePool
from sluice.net.resolve import Resolver
from sluice.net.runner import HANDS, Runner
from sluice.ports import PortRange
from sluice.session import Session

from tests.unit.sluice.playbook import settings

# nobody else's, and of this run only, so that the ranges are free
HOST = ipaddress.ip_address(f"127.83.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}")
RANGE = PortRange(40100, 40102)
RST = struct.pack("ii", 1, 0)


class Bench:
    """A channel, and what it told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.gone = False
        self.loop = asyncio.get_running_loop()
        self.channel = data.Channel(self.loop, PipePool(), 1, self._tell, lambda _: self._end())

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, events.Incoming):
            self.channel.take(event.token)

    def _end(self) -> None:
        self.gone = True

    async def until(self, kind: type[Event]) -> Any:
        """Wait for an event of this kind; return it."""
        await self.eventually(lambda: any(isinstance(event, kind) for event in self.events))
        return next(event for event in self.events if isinstance(event, kind))

    async def eventually(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds."""
        for _ in range(500):
            if holds():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"never: {self.events}")

    async def peer(self, leg: Leg) -> socket.socket:
        """Connect a leg: somebody dials its listener."""
        self.channel.listen(events.Listen(1, leg, HOST, RANGE))
        port = next(e.port for e in self.events if isinstance(e, events.Listening) and e.leg is leg)
        sock = socket.create_connection((str(HOST), port), timeout=5)
        await self.eventually(lambda: leg in self.channel._ends)
        return sock

    async def both(self) -> tuple[socket.socket, socket.socket]:
        """Return client and server, connected."""
        return await self.peer(Leg.CLIENT), await self.peer(Leg.SERVER)


def play(scene: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench()
        try:
            await asyncio.wait_for(scene(bench), 20)
        finally:
            bench.channel.reset(None)

    asyncio.run(main())


async def read(sock: socket.socket) -> bytes:
    """Read to the end. Raises ConnectionResetError."""
    return await asyncio.to_thread(lambda: b"".join(iter(lambda: sock.recv(65536), b"")))


@pytest.fixture
def busy() -> Iterator[Callable[[int], None]]:
    """Occupy ports."""
    held: list[socket.socket] = []

    def occupy(port: int) -> None:
        sock = socket.create_server((str(HOST), port))
        held.append(sock)

    yield occupy
    for sock in held:
        sock.close()


def test_13_2_the_last_free_port_is_found_and_then_none(busy: Callable[[int], None]) -> None:
    busy(40100)
    busy(40102)
    with data.listen(HOST, RANGE) as sock:
        assert sock.getsockname() == (str(HOST), 40101)
        with pytest.raises(OSError, match=r"no free port in 40100-40102"):
            data.listen(HOST, RANGE)


def test_13_2_an_exhausted_source_range_is_told_and_never_left(busy: Callable[[int], None]) -> None:
    for port in (40100, 40101, 40102):
        busy(port)

    async def scene(b: Bench) -> None:
        with socket.create_server((str(HOST), 0)) as target:
            to = Endpoint(HOST, target.getsockname()[1])
            b.channel.dial(events.Dial(1, Leg.SERVER, HOST, RANGE, to))
            failed = await b.until(events.DialFailed)
            assert (failed.cause, failed.here) == ("no free port in 40100-40102", True)

    play(scene)


COMES_LATER = """
import asyncio, errno, ipaddress, socket, subprocess, time
from sluice import events
from sluice.events import Endpoint, Leg
from sluice.net import control, data
from sluice.net.relay import PipePool
from sluice.ports import PortRange
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
for text in ("192.0.2.7", "2001:db8::7"):
    address = ipaddress.ip_address(text)
    listener = data.listen(address, PortRange(40100, 40100))
    assert not control.on_this_host(address)

    async def dial():
        loop, told = asyncio.get_running_loop(), asyncio.Queue()
        channel = data.Channel(loop, PipePool(), 1, told.put_nowait, lambda _: None)
        to = Endpoint(ipaddress.ip_address("127.0.0.1"), 40100)
        channel.dial(events.Dial(1, Leg.SERVER, address, PortRange(40101, 40101), to))
        event = await told.get()
        channel.reset(None)
        refused = loop.create_future()
        control.Connector(loop, events.Connect(address, to), lambda _: None, refused.set_result)
        return event.cause, await refused

    if address.version == 4:  # with IPv6 the SYN goes out, and no answer comes
        assert asyncio.run(dial()) == (f"cannot be reached: {text} is not on this host",) * 2
    subprocess.run(["ip", "addr", "add", text, "dev", "lo", *(["nodad"] if ":" in text else [])], check=True)
    assert control.on_this_host(address)
    for _ in range(50):  # the way to it may come a moment later
        try:
            socket.create_connection((text, 40100), 5).close()
            break
        except OSError as error:
            if error.errno != errno.ENETUNREACH:
                raise
            time.sleep(0.1)
    else:
        raise SystemExit(f"{text} is not reached")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network namespace")
def test_15_4_an_address_may_come_to_the_host_later() -> None:
    package = str(pathlib.Path(__file__).parents[3] / "roles/proxy/files")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", COMES_LATER],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_3_17_a_port_is_busy_while_its_transfer_runs() -> None:
    async def scene(b: Bench) -> None:
        peers = [await b.peer(Leg.CLIENT)]
        port = peers[0].getpeername()[1]
        with pytest.raises(OSError, match="no free port"):
            data.listen(HOST, PortRange(port, port))
        peers[0].close()

    play(scene)


def test_6_4_death_is_a_reset_from_the_first_moment() -> None:
    async def scene(b: Bench) -> None:
        for sock in await b.both():
            sock.close()
        for end in b.channel._ends.values():
            assert struct.unpack("ii", end.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)

    play(scene)


@pytest.mark.parametrize("source", list(Leg))
def test_4_8_and_6_6_every_byte_then_fin(source: Leg) -> None:
    content = bytes(range(256)) * 20000

    async def scene(b: Bench) -> None:
        client, server = await b.both()
        sender, receiver = (client, server) if source is Leg.CLIENT else (server, client)
        b.channel.relay(source, 60)
        send = asyncio.create_task(asyncio.to_thread(sender.sendall, content))
        got = asyncio.create_task(read(receiver))
        await send
        sender.shutdown(socket.SHUT_WR)
        await b.until(events.DataEnd)
        b.channel.finish()
        assert await got == content
        assert b.channel.bytes == len(content)
        b.channel.release()
        receiver.close()
        await b.eventually(lambda: b.gone)
        sender.close()

    play(scene)


def test_4_4_a_downloads_server_sees_the_end_before_its_226() -> None:
    """vsftpd says 226 only when its own FIN is acknowledged; nothing here waits for the release."""

    async def scene(b: Bench) -> None:
        client, server = await b.both()
        b.channel.relay(Leg.SERVER, 60)
        server.shutdown(socket.SHUT_WR)
        await b.until(events.DataEnd)
        b.channel.finish()
        assert await read(server) == b""
        client.close()
        server.close()

    play(scene)


@pytest.mark.parametrize("source", list(Leg))
def test_6_1_and_6_3_a_reset_is_never_an_end(source: Leg) -> None:
    async def scene(b: Bench) -> None:
        client, server = await b.both()
        sender, receiver = (client, server) if source is Leg.CLIENT else (server, client)
        b.channel.relay(source, 60)
        sender.sendall(b"x" * 100000)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        sender.close()
        reset = await b.until(events.DataReset)
        assert reset.leg is source
        assert not [e for e in b.events if isinstance(e, events.DataEnd)]
        b.channel.reset(None)
        with pytest.raises(ConnectionResetError):
            await read(receiver)
        receiver.close()

    play(scene)


def test_6_3_a_reset_whose_error_was_read_before_is_no_end_either() -> None:
    """The kernel tells a reset once; a read after that looks like a clean end."""

    async def scene(b: Bench) -> None:
        client, server = await b.both()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        server.close()
        end = b.channel._ends[Leg.SERVER]
        await b.eventually(lambda: end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0)
        b.channel.relay(Leg.SERVER, 60)
        assert (await b.until(events.DataReset)).leg is Leg.SERVER
        client.close()

    play(scene)


def test_6_3_a_receiver_that_resets_is_noticed_without_a_byte_to_send() -> None:
    async def scene(b: Bench) -> None:
        client, server = await b.both()
        b.channel.relay(Leg.SERVER, 60)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        client.close()
        assert (await b.until(events.DataReset)).leg is Leg.CLIENT
        server.close()

    play(scene)


def test_6_6_data_in_the_wrong_direction_is_thrown_away() -> None:
    async def scene(b: Bench) -> None:
        client, server = await b.both()
        b.channel.relay(Leg.SERVER, 60)
        client.sendall(b"noise")
        client.shutdown(socket.SHUT_WR)
        server.sendall(b"content")
        server.shutdown(socket.SHUT_WR)
        await b.until(events.DataEnd)
        b.channel.finish()
        assert await read(client) == b"content"
        client.close()
        server.close()

    play(scene)


def test_4_1_the_first_to_send_decides_the_direction() -> None:
    async def scene(b: Bench) -> None:
        client, server = await b.both()
        b.channel.relay(None, 60)
        client.sendall(b"up")
        assert (await b.until(events.DataMoved)).source is Leg.CLIENT
        client.close()
        server.close()

    play(scene)


def test_4_1_a_client_that_only_ends_is_no_upload() -> None:
    async def scene(b: Bench) -> None:
        client, server = await b.both()
        b.channel.relay(None, 60)
        client.shutdown(socket.SHUT_WR)
        assert await read(server) == b"", "it may wait for just that (4.13)"
        assert not [e for e in b.events if isinstance(e, events.DataEnd)]
        server.sendall(b"down")
        assert (await b.until(events.DataMoved)).source is Leg.SERVER
        server.shutdown(socket.SHUT_WR)
        await b.until(events.DataEnd)
        b.channel.finish()
        assert await read(client) == b"down"
        client.close()
        server.close()

    play(scene)


def test_4_13_an_upload_of_nothing_by_an_unknown_verb_ends() -> None:
    async def scene(b: Bench) -> None:
        client, server = await b.both()
        b.channel.relay(None, 60)
        client.shutdown(socket.SHUT_WR)
        assert await read(server) == b""
        server.close()
        await b.until(events.DataEnd)
        client.close()

    play(scene)


def test_6_1_a_reset_before_the_first_byte_is_no_end() -> None:
    async def scene(b: Bench) -> None:
        client, server = await b.both()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        client.close()
        end = b.channel._ends[Leg.CLIENT]
        await b.eventually(lambda: end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0)
        b.channel.relay(None, 60)
        assert (await b.until(events.DataReset)).leg is Leg.CLIENT
        b.channel.reset(None)
        with pytest.raises(ConnectionResetError):
            await read(server)
        server.close()

    play(scene)


def test_6_9_a_client_that_resets_after_the_end_is_noticed() -> None:
    """Its 226 has not come yet; it will be 426."""

    async def scene(b: Bench) -> None:
        client, server = await b.both()
        b.channel.relay(Leg.SERVER, 60)
        server.close()
        await b.until(events.DataEnd)
        b.channel.finish()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        client.close()
        assert (await b.until(events.DataReset)).leg is Leg.CLIENT

    play(scene)


def test_each_action_has_its_hand() -> None:
    assert set(HANDS) == set(get_args(events.Action))


def test_a_timer_started_by_another_does_not_delay_a_third() -> None:
    """2.11: the one alarm of a session stands for whichever is next."""
    rung: list[Timer] = []

    async def main() -> None:
        with socket.create_server((str(HOST), 0)) as listener:
            client = socket.create_connection(listener.getsockname()[:2])
            session = Session(settings(), "id", Endpoint(HOST, 1), HOST, Memory(time.monotonic))
            runner = Runner(
                listener.accept()[0],
                session,
                journal=Journal(to_journal=False),
                pipes=PipePool(),
                resolver=Resolver((), 1),
                places=Places(0),
                finished=lambda _: None,
            )

            def feed(event: Event) -> None:
                assert isinstance(event, events.Expired)
                rung.append(event.timer)
                if event.timer is Timer.CONNECT:
                    session.deadlines.start(Timer.REPLY, 3600)

            runner.feed = feed  # type: ignore[method-assign]
            session.deadlines.start(Timer.CONNECT, 0.01)
            session.deadlines.start(Timer.LINE, 0.1)
            runner._work()
            for _ in range(500):
                if Timer.LINE in rung:
                    break
                await asyncio.sleep(0.01)
            runner.abandon()
            client.close()

    asyncio.run(main())
    assert rung == [Timer.CONNECT, Timer.LINE]


def test_1_16_1_17_5_2_options_of_control_sockets() -> None:
    """Also of one that is accepted: it has them from its listener."""
    with socket.socket() as listener:
        listener.bind((str(HOST), 0))
        control.prepare(listener)
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            for sock in (listener, accepted):
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 300
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4


def test_what_a_data_listener_accepts_dies_with_rst_and_does_not_wait_for_more() -> None:
    with (
        data.listen(HOST, RANGE) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == RST
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_10_7_of_a_flood_only_the_beginning_is_read_at_once() -> None:
    async def scene() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        got: list[bytes] = []
        flooded = control.ControlSocket(
            asyncio.get_running_loop(),
            ours,
            received=got.append,
            ended=lambda _reset: None,
            relieved=lambda: None,
            closed=lambda: None,
            piece=1,
        )
        flooded.read(True)
        theirs.send(b"x" * 1000)
        flooded.read_ahead()
        assert len(got) == 16
        theirs.close()
        flooded.reset()

    asyncio.run(scene())
