# SPDX-License-Identifier: GPL-3.0-or-later
"""9: clients that know of no proxy, through one hop and two, in network namespaces: with real programs, and
with a client and a server whose every move is the test's."""

from __future__ import annotations

import contextlib
import ftplib
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as File
from urllib.parse import quote

import pytest

from . import real_servers
from .fake_client import Client
from .fake_server import FakeServer, ServerSession
from .harness import WHOLE, Site, changed
from .intercepted import (
    CLIENT,
    CONTROL,
    FAKE,
    FAR,
    INTERCEPT,
    KINDS,
    LISTEN,
    NEAR,
    NOT_CONTROL,
    OUTSIDE,
    SERVER,
    SERVERS,
    UNINVOLVED,
    Way,
)
from .wire import Data, EndedError, dial, listen

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are root's to make")

CONTENT = os.urandom(1 << 20)
DIGEST = hashlib.sha256(CONTENT).hexdigest()

# what each hop is, from the client on; see intercepted.KINDS
WAYS = [("redirect",), ("tproxy",), ("client",), ("redirect", "explicit"), ("tproxy", "explicit")]
WAYS += [("client", "client"), ("tproxy", "redirect"), ("explicit", "redirect"), ("explicit", "tproxy")]
if WHOLE:
    pairs = [(f, n) for f in KINDS for n in KINDS if (f, n) != ("explicit", "explicit")]
    WAYS += [each for each in pairs if each not in WAYS]
SETUPS = [(4, "EPSV"), (4, "PASV"), (4, "EPRT"), (4, "PORT"), (6, "EPSV"), (6, "EPRT")]


@pytest.fixture(scope="module", params=WAYS, ids=" ".join)
def shared_way(request: pytest.FixtureRequest, site: Site) -> Iterator[Way]:
    way = Way(site, request.param)
    yield way
    way.close()


@pytest.fixture
def way(shared_way: Way) -> Iterator[Way]:
    yield shared_way
    shared_way.check()


class Ways:
    """Paths for one test alone."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.made: list[Way] = []

    def make(self, *kinds: str) -> Way:
        self.made.append(Way(self._site, kinds))
        return self.made[-1]


@pytest.fixture
def ways(site: Site) -> Iterator[Ways]:
    ways = Ways(site)
    try:
        yield ways
        for each in ways.made:
            each.check()
    finally:
        for each in ways.made:
            each.close()


# --- real programs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A path, and what a program of the client needs to reach the server at its end."""

    way: Way
    version: int
    root: File
    host: str
    user: str

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if self.version == 6 else self.host
        return f"ftp://{quote(self.user, safe='')}:secret@{host}"

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        with self.way.place("C").inside():
            return subprocess.run(command, capture_output=True, timeout=40, check=False)

    def stored(self, name: str) -> str:
        return hashlib.sha256((self.root / name).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def servers(shared_way: Way, site: Site) -> Iterator[dict[int, Served]]:
    """vsftpd at the end of the path, with IPv4 and with IPv6."""
    missing = [name for name in ("curl", "lftp") if shutil.which(name) is None]
    assert not missing, f"install {' and '.join(missing)} to run these tests"
    found = {}
    with contextlib.ExitStack() as stack:
        for version, address in SERVER.items():
            with shared_way.place("S").inside():
                server = real_servers.vsftpd(site, address, CONTROL)
            stack.callback(server.close)
            (server.root / "big").write_bytes(CONTENT)
            host, user = address, server.user
            if not shared_way.hops[0].intercepts:
                host = NEAR["F"][version]
                user += f"@[{address}]" if version == 6 else f"@{address}"
            found[version] = Served(shared_way, version, server.root, host, user)
        yield found


CURL = {
    (version, verb): ["--disable-epsv"] * (verb == "PASV")
    + ["--ftp-port", CLIENT[version]] * (verb in ("EPRT", "PORT"))
    + ["--disable-eprt"] * (verb == "PORT")
    for version, verb in SETUPS
}


@pytest.mark.parametrize("skip", ["--ftp-skip-pasv-ip", "--no-ftp-skip-pasv-ip"])
@pytest.mark.parametrize("setup", CURL, ids=lambda setup: f"IPv{setup[0]} {setup[1]}")
def test_9_1_and_9_3_curl_fetches_and_stores(
    way: Way,
    servers: dict[int, Served],
    tmp_path: File,
    setup: tuple[int, str],
    skip: str,
) -> None:
    served = servers[setup[0]]
    done = served.run("curl", "--silent", "--show-error", skip, *CURL[setup], f"{served.url}/big")
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).hexdigest() == DIGEST
    (tmp_path / "up").write_bytes(CONTENT)
    name = f"curl-{setup[1]}{skip}"
    up = ("--upload-file", str(tmp_path / "up"), f"{served.url}/{name}")
    done = served.run("curl", "--silent", "--show-error", skip, *CURL[setup], *up)
    assert done.returncode == 0, done.stderr
    assert served.stored(name) == DIGEST


def lftp(served: Served, tmp_path: File, *settings: str) -> subprocess.CompletedProcess[bytes]:
    """Fetch and store with verify-address and verify-port as the settings say."""
    (tmp_path / "up").write_bytes(CONTENT)
    always = ("cmd:fail-exit yes", "net:max-retries 1", "net:reconnect-interval-base 1", "net:timeout 6")
    script = "; ".join(
        [f"set {each}" for each in (*always, *settings)]
        + [f"get big -o {tmp_path}/down", f"put {tmp_path}/up -o lftp"]
    )
    return served.run("lftp", "--norc", "-e", f"{script}; bye", f"{served.url}/")


@pytest.mark.parametrize("mode", ["passive", "active"])
@pytest.mark.parametrize("version", [4, 6])
def test_9_3_lftp_that_looks_at_the_address_and_the_port_of_its_data_connections(
    way: Way, servers: dict[int, Served], tmp_path: File, version: int, mode: str
) -> None:
    """Data comes from the server's address and port 20. Where a redirect hop opens it, it cannot."""
    served = servers[version]
    passive = "yes" if mode == "passive" else "no"
    verify = ("ftp:verify-address yes", "ftp:verify-port yes")
    done = lftp(served, tmp_path, f"ftp:passive-mode {passive}", *verify)
    if way.hops[0].kind == "redirect" and mode == "active":
        assert b"invalid data connection address" in done.stderr
        assert not (tmp_path / "down").exists()
        done = lftp(served, tmp_path, f"ftp:passive-mode {passive}", "ftp:verify-address no", verify[1])
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256((tmp_path / "down").read_bytes()).hexdigest() == DIGEST
    assert served.stored("lftp") == DIGEST
    (served.root / "lftp").unlink()


@pytest.mark.parametrize("trusts", [False, True], ids=["skips 227's address", "believes 227's address"])
@pytest.mark.parametrize("passive", [True, False], ids=["passive", "active"])
@pytest.mark.parametrize("version", [4, 6])
def test_9_1_and_9_3_ftplib_fetches_and_stores(
    way: Way, servers: dict[int, Served], version: int, passive: bool, trusts: bool
) -> None:
    served, got = servers[version], io.BytesIO()
    with way.place("C").inside(), ftplib.FTP(timeout=20) as ftp:
        ftp.trust_server_pasv_ipv4_address = trusts  # type: ignore[attr-defined]  # typeshed lacks it
        ftp.connect(served.host)
        ftp.login(served.user, "secret")
        ftp.set_pasv(passive)
        ftp.retrbinary("RETR big", got.write)
        ftp.storbinary("STOR ftplib", io.BytesIO(CONTENT))
    assert hashlib.sha256(got.getvalue()).hexdigest() == DIGEST
    assert served.stored("ftplib") == DIGEST
    (served.root / "ftplib").unlink()


# --- a client and a server whose every move is the test's ---------------------------------------------


class Talk:
    """A session to the server FAKE, logged in."""

    def __init__(self, way: Way, version: int, user: str = "anna") -> None:
        self._way = way
        self._places = way.place("C"), way.place("S")
        told = any(each.kind == "explicit" for each in way.hops)  # then USER has the server dialled
        explicit = way.hops[0].kind == "explicit"
        self.greeting = b""
        with self._places[1].inside():
            self.server = FakeServer(FAKE[version], CONTROL)
        try:
            with self._places[0].inside():
                to = NEAR["F"][version] if explicit else FAKE[version]
                self.c = Client(to, CONTROL, CLIENT[version])
            if explicit:
                user += f"@[{FAKE[version]}]" if version == 6 else f"@{FAKE[version]}"
            if told:
                self.greeting = self.c.reply().raw
                self.c.line(f"USER {user}")
            with self._places[1].inside():  # its thread opens connections
                self.s: ServerSession = self.server.accept()
            if not told:
                self.greeting = self.c.reply().raw
                self.c.line(f"USER {user}")
            assert self.c.reply().code == 331
            assert self.c.cmd("PASS secret").code == 230
        except BaseException:
            self.server.close()
            raise

    def begin(self, setup: str, verb: str = "RETR f") -> tuple[Data, Data]:
        """Start a transfer; the client's and the server's end of its data connections."""
        with self._places[0].inside():
            agreed = self.c.setup(setup)
            self.c.line(verb)
            early = agreed.open() if agreed.listener is None else None
        assert self.s.next() == verb.encode()
        self.s.reply(b"150 Opening data connection.")
        with self._places[1].inside():
            server_data = self.s.data()
        client_data = early or agreed.open()
        assert self.c.reply().code == 150
        return client_data, server_data

    def close(self) -> None:
        self.c.close()
        self.server.close()


@contextlib.contextmanager
def talk(way: Way, version: int, user: str = "anna") -> Iterator[Talk]:
    x = Talk(way, version, user)
    try:
        yield x
    finally:
        x.close()


def seen_by_server(way: Way, version: int) -> str:
    """The address that a session has at the server."""
    last = len(way.hops) - 1
    if way.hops[last].kind != "client":
        return FAR[way.hops[last].name][version]
    return next(each for each in way.near(last) if (":" in each) == (version == 6))


@pytest.mark.parametrize(("version", "setup"), SETUPS)
def test_9_1_and_9_2_and_9_3_each_end_sees_the_other_where_it_expects_it(
    way: Way, version: int, setup: str
) -> None:
    """C: all of it at the server's address, but active data of a redirect hop. S: at one address, the proxy's
    own or with `source: client` the client's."""
    first = way.hops[0].kind
    with talk(way, version) as x:
        server = NEAR["F"][version] if first == "explicit" else FAKE[version]
        assert x.c.peer[0] == server
        assert x.s.peer[0] == seen_by_server(way, version)
        c_data, s_data = x.begin(setup)
        expected = NEAR["F"][version] if first == "redirect" and setup in ("PORT", "EPRT") else server
        assert c_data.peer[0] == expected
        if setup in ("PORT", "EPRT"):
            assert c_data.peer[1] == 20
        assert s_data.peer[0] == seen_by_server(way, version)
        s_data.send(b"whole")
        s_data.close()
        assert c_data.read_all() == (b"whole", "fin")
        x.s.reply(b"226 Done.")
        assert x.c.reply().code == 226


def test_9_1_the_greeting_is_the_servers_where_the_proxy_dials_it(way: Way) -> None:
    """Behind an explicit hop there is no server yet; its invitation to user@host is not for such a client."""
    with talk(way, 4) as x:
        if any(each.kind == "explicit" for each in way.hops):
            assert x.greeting.startswith(b"220 F: FTP proxy ready")
            assert (b"user@host" in x.greeting) == (way.hops[0].kind == "explicit")
        else:
            assert x.greeting == b"220 Fake server ready.\r\n"


@pytest.mark.parametrize("version", [4, 6])
def test_9_5_an_at_sign_in_the_users_name_is_the_servers_to_read(way: Way, version: int) -> None:
    """Also where the hop itself writes USER user@host for the next one; its log has the client's own."""
    marks = {name: len(proxy.log) for name, proxy in way.proxies.items()}
    with talk(way, version, "anna@example.org") as x:
        assert x.s.lines[0] == b"USER anna@example.org"
        x.c.line("QUIT")
        assert x.c.reply().code == 221
    for name, proxy in way.proxies.items():
        record = proxy.record("session-end", marks[name], USER="anna@example.org")
        intercepts = way.settings([hop.name for hop in way.hops].index(name))["client_side"].get("intercept")
        shown = f"[{FAKE[6]}]:21" if version == 6 else f"{FAKE[4]}:21"
        assert record.get("SLUICE_DESTINATION") == (shown if intercepts else None)


# --- what is refused, and what is not touched ---------------------------------------------------------

FIRSTS = [("redirect",), ("tproxy",)]


@pytest.fixture(scope="module", params=FIRSTS, ids=" ".join)
def shared_first(request: pytest.FixtureRequest, site: Site) -> Iterator[Way]:
    way = Way(site, request.param)
    yield way
    way.close()


@pytest.fixture
def first(shared_first: Way) -> Iterator[Way]:
    """C - F - S, each interception once."""
    yield shared_first
    shared_first.check()


def refusal(way: Way, to: tuple[str, int], source: str) -> str:
    """What is said to a client that connects there, after which the connection ends."""
    with way.place("C").inside():
        client = Client(*to, source)
    try:
        text = client.reply().text
        with pytest.raises(EndedError):
            client.reply()
    finally:
        client.close()
    return text


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("what", ["the proxy itself", "another server", "another port"])
def test_9_1_what_is_no_server_is_refused_with_one_record(first: Way, what: str, version: int) -> None:
    to, words = {
        "the proxy itself": ((NEAR["F"][version], INTERCEPT), "was not intercepted"),
        "another server": ((OUTSIDE[version], CONTROL), f"{OUTSIDE[version]} is not in the allowed networks"),
        "another port": ((FAKE[version], NOT_CONTROL), "port 2100 is not one of the allowed control ports"),
    }[what]
    mark = len(first.first.log)
    text = refusal(first, to, CLIENT[version])
    assert text.startswith("421 F: ")
    assert words in text
    record = first.first.record("refused", mark)
    assert words in record["SLUICE_REASON"]
    assert not first.first.records("session-start", mark)


@pytest.mark.parametrize("version", [4, 6])
def test_9_1_an_uninvolved_server_is_reached_past_the_hop(first: Way, version: int) -> None:
    """Its port lies in the range on which this client's data for another server comes in."""
    port = int(LISTEN["F"].partition("-")[0]) + 3
    with talk(first, version) as x, first.place("S").inside():
        x.begin("EPSV")
        with listen(UNINVOLVED[version], port) as listener:
            with first.place("C").inside():
                mine = dial(UNINVOLVED[version], port, CLIENT[version])
            theirs, name = listener.accept()
            assert name[0] == CLIENT[version]
            theirs.sendall(b"here")
            assert mine.recv(4) == b"here"
            mine.close()
            theirs.close()


@pytest.mark.parametrize("kind", ["redirect", "tproxy", "client"])
def test_9_1_a_route_that_leads_back_makes_no_circle(ways: Ways, kind: str) -> None:
    """What the hop opens comes back to it: one session, which ends, and no other."""
    way, lost = ways.make(kind), "192.0.2.77"
    way.place("C").run("ip", "route", "add", lost, "via", "inet6", "fe80::2", "dev", "right0")
    way.place("F").run("ip", "route", "add", lost, "via", "inet6", "fe80::2", "dev", "right0")
    way.place("S").run("ip", "route", "add", lost, "via", "inet6", "fe80::1", "dev", "left0")
    back = f'iifname "right0" ip daddr {lost} counter'
    seen = f"table inet seen {{ chain seen {{ type filter hook prerouting priority raw; {back}; }}; }}"
    way.place("F").run("nft", seen)
    text = refusal(way, (lost, CONTROL), CLIENT[4])
    assert "packets 0 " not in way.place("F").run("nft", "list", "table", "inet", "seen")
    assert text.startswith(f"421 F: server {lost}:21 ")
    way.first.record("session-end")
    assert len(way.first.records("session-start")) == 1


@pytest.mark.parametrize("kind", ["redirect", "tproxy"])
def test_9_1_without_the_proxy_no_control_connection_passes(ways: Ways, kind: str) -> None:
    """Nothing listens any more, and past it nothing goes."""
    way = ways.make(kind)
    assert way.first.ask("drain").returncode == 0
    for version in (4, 6):
        with way.place("S").inside(), listen(FAKE[version], CONTROL) as listener:
            with way.place("C").inside(), socket.socket(listener.family) as sock:
                sock.settimeout(0.5)
                with pytest.raises((ConnectionRefusedError, TimeoutError)):
                    sock.connect((FAKE[version], CONTROL))
            listener.settimeout(0.1)
            with pytest.raises(TimeoutError):
                listener.accept()


# --- for the operator ----------------------------------------------------------------------------------


def test_9_1_status_and_sessions_show_what_is_intercepted(first: Way) -> None:
    kind = first.hops[0].kind
    networks = ", ".join(SERVERS.values())
    expected = f"intercepting connections to {networks} port 21, by {kind}\n"
    assert expected in first.first.ask("status").stdout
    with talk(first, 4) as x:
        (session,) = json.loads(first.first.ask("--json", "sessions").stdout)
        assert session["destination"] == session["server"] == f"{FAKE[4]}:21"
        assert "destination" in first.first.ask("sessions").stdout.splitlines()[0]
        x.c.line("QUIT")
        assert x.c.reply().code == 221


def test_9_2_a_probe_goes_as_sessions_go_or_says_why_not(ways: Ways) -> None:
    """To an explicit next hop as ever; not from the address of a client that is not there."""
    way = ways.make("tproxy", "explicit")
    done = way.first.ask("--json", "probe", FAKE[4])
    (step, *_rest) = json.loads(done.stdout)[0]["steps"]
    assert (step["leg"], step["what"], step["ok"]) == ("F-N", "control", True)
    done = ways.make("client").first.ask("probe", FAKE[4])
    assert done.returncode
    assert "sessions of this hop are at their clients' addresses" in done.stderr


def test_10_4_a_reload_to_tproxy_without_its_capability_changes_nothing(ways: Ways) -> None:
    way = ways.make("redirect")
    way.first.configure(changed(way.first.settings, {"client_side.intercept": "tproxy"}))
    done = way.first.ask("reload")
    assert done.returncode
    assert "It takes CAP_NET_RAW, which a start gives and no reload." in done.stderr
    with talk(way, 4) as x:
        x.begin("EPSV")


def test_10_4_a_reload_to_another_interception_ends_the_sessions_of_before(ways: Ways) -> None:
    """Their addresses are others than the new settings give (POLICY F9)."""
    way = ways.make("tproxy")
    with talk(way, 4) as x:
        way.first.configure(changed(way.first.settings, {"client_side.intercept": "redirect"}))
        assert way.first.ask("reload").returncode == 0
        assert way.first.ask("enforce", "--no-wait").returncode == 0
        assert "421 F: the settings have changed" in x.c.reply().text
