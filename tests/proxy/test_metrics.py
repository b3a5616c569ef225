# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics over HTTP: what is counted is what was done, and no scrape holds anybody up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path as File
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .harness import (
    CONTROL,
    SERVER_CONTROL,
    Net,
    NotReadyError,
    Path,
    Paths,
    Proxy,
    Session,
    changed,
    last_hop,
)
from .test_operation import versioned, versions, worker_of  # noqa: F401 - a fixture
from .test_ports import occupied
from .wire import PATIENCE, dial, eventually, refused

PORT = 9421
PART = bytes(range(256)) * 100

Samples = dict[str, float]


def metrics_at(net: Net) -> dict[str, Any]:
    """At an address of its own, for one client only."""
    return {"address": net.n_server, "port": PORT, "peers": [f"{net.client}/32"]}


@pytest.fixture
def scraped(paths: Paths) -> Path:
    """A proxy with two workers and metrics, for one test alone."""
    return paths.own(1, workers=2, metrics=metrics_at)


def connect(path: Path, source: str | None = None) -> socket.socket:
    return dial(path.net.n_server, PORT, source or path.net.client)


def answer(path: Path, request: bytes, source: str | None = None) -> tuple[int, bytes]:
    """The status and the body of one request; everything that comes until the end."""
    with connect(path, source) as sock:
        sock.sendall(request)
        raw = b""
        while piece := sock.recv(65536):
            raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    return int(head.split(b" ")[1]), body


def scrape(path: Path) -> Samples:
    """Each sample as `name{label="value"}` with its value; read by the library's own parser."""
    status, body = answer(path, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def move(x: Session, verb: str, setup: str, size: int = len(PART)) -> None:
    """A whole transfer of so many bytes."""
    c_data, s_data = x.begin(verb, setup)
    sender, receiver = (c_data, s_data) if verb.startswith("STOR") else (s_data, c_data)
    sender.send(PART[:size])
    sender.fin()
    assert receiver.read_all() == (PART[:size], "fin")
    c_data.close()
    s_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226


def test_counts_are_what_was_done(paths: Paths) -> None:
    path = paths.own(1, workers=2, metrics=metrics_at, server_side__mode="passive")
    sessions = [path.open() for _ in range(5)]
    for i, x in enumerate(sessions):
        move(x, "RETR f", "PASV", 1000 + i)
    move(sessions[0], "RETR f", "PORT", 300)
    move(sessions[1], "STOR f", "EPRT", 20)
    move(sessions[2], "STOR f", "EPSV", 4)
    sessions[4].c.line("QUIT")
    found = scrape(path)
    assert found["sluice_sessions_total"] == 5
    assert found['sluice_transfers_total{direction="download",outcome="complete"}'] == 6
    assert found['sluice_transfers_total{direction="upload",outcome="complete"}'] == 2
    assert sum(value for key, value in found.items() if key.startswith("sluice_transfers_total")) == 8
    moved = {key: value for key, value in found.items() if key.startswith("sluice_transfer_bytes_total")}
    assert moved == {
        'sluice_transfer_bytes_total{direction="download",leg="F-N",mode="active"}': 300,
        'sluice_transfer_bytes_total{direction="download",leg="F-N",mode="passive"}': 5010,
        'sluice_transfer_bytes_total{direction="upload",leg="F-N",mode="active"}': 20,
        'sluice_transfer_bytes_total{direction="upload",leg="F-N",mode="passive"}': 4,
        'sluice_transfer_bytes_total{direction="download",leg="N-S",mode="passive"}': 5310,
        'sluice_transfer_bytes_total{direction="upload",leg="N-S",mode="passive"}': 24,
    }
    assert found['sluice_connect_seconds_count{leg="N-S"}'] == 5
    assert found['sluice_connect_seconds_bucket{le="+Inf",leg="N-S"}'] == 5
    assert found['sluice_connect_seconds_sum{leg="N-S"}'] > 0
    assert found['sluice_workers{state="serving"}'] == 2
    assert [key for key in found if key.startswith('sluice_info{hop="N",host="n1",version="')]
    assert not [key for key in found if "error_replies" in key]


def test_bytes_count_while_they_move_and_what_is_held_shows(scraped: Path) -> None:
    x = scraped.open()
    c_data, s_data = x.begin("STOR f", "PORT")
    c_data.send(PART)
    assert s_data.receive(len(PART)) == PART
    there = 'sluice_transfer_bytes_total{direction="upload",leg="F-N",mode="active"}'
    eventually("they are counted", lambda: scrape(scraped)[there] == len(PART))
    found = scrape(scraped)
    assert found['sluice_transfer_bytes_total{direction="upload",leg="N-S",mode="active"}'] == len(PART)
    assert found["sluice_sessions_active"] == 1
    assert found["sluice_transfers_active"] == 1
    assert found['sluice_ports{leg="F-N",use="source"}'] == 20
    held = {key: value for key, value in found.items() if key.startswith("sluice_ports_in_use") and value}
    assert held == {
        'sluice_ports_in_use{leg="F-N",use="source"}': 1,
        'sluice_ports_in_use{leg="N-S",use="listen"}': 1,
    }
    c_data.fin()
    s_data.close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.c.close()
    c_data.close()

    def nothing() -> bool:
        now = scrape(scraped)
        return not [key for key, value in now.items() if ("_in_use" in key or "_active" in key) and value]

    eventually("nothing is held", nothing)


@pytest.mark.parametrize("verb", ["STOR f", "RETR f"])
def test_ports_come_back_however_a_transfer_ends(scraped: Path, verb: str) -> None:
    """13.4: replaced set-ups, refused verbs, resets at either end, ABOR."""
    x = scraped.open()
    for setup in ("PASV", "EPSV", "PORT", "PASV"):
        x.c.setup(setup)
    x.c.line(verb)
    assert x.s.next() == verb.encode()
    x.s.reply(b"550 No.")
    assert x.c.reply().code == 550
    for end in ("client", "server"):
        ends = x.begin(verb, "PASV")
        ends[end == "server"].reset()
        assert ends[end == "client"].end() == "reset"
        x.s.reply(b"426 Broken.")
        assert x.c.reply().code in {426, 451}
    x.c.setup("EPSV")
    x.c.reset()

    def nothing() -> bool:
        now = scrape(scraped)
        return not [key for key, value in now.items() if ("_in_use" in key or "_active" in key) and value]

    eventually("nothing is held", nothing)
    found = scrape(scraped)
    direction = "upload" if verb == "STOR f" else "download"
    ends_at = {
        outcome: found[f'sluice_transfers_total{{direction="{direction}",outcome="{outcome}"}}']
        for outcome in ("refused", "reset-by-client", "reset-by-server", "complete")
    }
    assert ends_at == {"refused": 1, "reset-by-client": 1, "reset-by-server": 1, "complete": 0}
    assert found['sluice_error_replies_total{code="550",leg="N-S"}'] == 1
    assert found['sluice_error_replies_total{code="550",leg="F-N"}'] == 1


def test_13_2_a_full_range_is_a_metric(scraped: Path) -> None:
    """And a 425 of the proxy's own: the server said nothing of the kind."""
    x = scraped.open()
    with occupied(scraped.net.n_client, range(24000, 24020)):
        assert x.c.cmd("PASV").code == 425
    found = scrape(scraped)
    assert found['sluice_ports_exhausted_total{leg="F-N",use="listen"}'] == 1
    assert found['sluice_refusals_total{cause="no-port"}'] == 1
    assert found['sluice_error_replies_total{code="425",leg="F-N"}'] == 1
    assert not [key for key in found if "error_replies" in key and 'leg="N-S"' in key]


def test_refusals_by_cause(paths: Paths) -> None:
    limited = paths.own(
        1,
        metrics=metrics_at,
        limits={"sessions": 1},
        servers__fixed=None,
        client_side__peers=lambda net: [f"{net.client}/32", f"{net.other_client}/32"],
        client_side__commands=[{"deny": ["SITE"]}],
    )
    net, server = limited.net, limited.server
    assert limited.client(net.thief).reply().code == 421
    c = limited.client()
    assert c.reply().code == 220
    assert limited.client(net.other_client).reply().code == 421
    assert c.cmd(f"USER x@{net.forbidden_server}:{SERVER_CONTROL}").code == 530
    c.line(f"USER x@{net.server}:{SERVER_CONTROL}")
    x = Session(c, server.accept())
    assert c.reply().code == 331
    assert c.cmd("PASS y").code == 230
    assert c.cmd("SITE HELP").code == 550
    assert c.cmd(f"PORT {net.thief.replace('.', ',')},200,1").code == 504
    agreed = c.setup("PASV")
    with contextlib.suppress(ConnectionResetError):  # it may be so soon
        dial(*agreed.address, net.thief).close()
    x.in_step()

    def counted() -> bool:
        found = scrape(limited)
        causes = {key.split('"')[1]: v for key, v in found.items() if "refusals" in key and v}
        return causes == dict.fromkeys(
            ("client", "limit", "destination", "command", "port-command", "data-connection"), 1
        )

    eventually("each cause once", counted)


def test_a_server_that_is_not_to_be_had(scraped: Path) -> None:
    assert scraped.client().reply().code == 421
    found = scrape(scraped)
    assert found['sluice_connect_failures_total{cause="refused",leg="N-S"}'] == 1
    assert found['sluice_connect_seconds_count{leg="N-S"}'] == 0
    assert found['sluice_error_replies_total{code="421",leg="F-N"}'] == 1


def test_what_a_dead_worker_counted_stays_and_what_it_held_does_not(scraped: Path) -> None:
    x = scraped.open()
    move(x, "RETR f", "PASV", 777)
    x.begin("STOR f", "PASV")
    os.kill(worker_of(scraped, x), signal.SIGKILL)
    eventually("it is buried", lambda: scrape(scraped)["sluice_worker_deaths_total"] == 1)
    eventually("two workers again", lambda: scrape(scraped)['sluice_workers{state="serving"}'] == 2)
    found = scrape(scraped)
    assert found["sluice_sessions_total"] == 1
    assert found['sluice_transfer_bytes_total{direction="download",leg="F-N",mode="passive"}'] == 777
    assert not [key for key, value in found.items() if ("_in_use" in key or "_active" in key) and value]
    move(scraped.open(), "RETR f", "PASV", 3)
    found = scrape(scraped)
    assert found['sluice_transfer_bytes_total{direction="download",leg="F-N",mode="passive"}'] == 780


def test_10_4_a_reload_keeps_the_counts(scraped: Path) -> None:
    """Of old workers, too, while they finish; and when metrics are switched on by it."""
    x = scraped.open()
    move(x, "RETR f", "PASV", 500)
    on = scraped.last.settings
    for settings in (on, changed(on, {"metrics": None}), on):
        scraped.last.configure(settings)
        assert scraped.last.ask("reload").returncode == 0
        assert refused(scraped.net.n_server, PORT, scraped.net.client) == ("metrics" not in settings)
    found = scrape(scraped)
    assert found['sluice_workers{state="retiring"}'] >= 1
    move(x, "RETR f", "PASV", 50)
    move(scraped.open(), "RETR f", "PASV", 5)
    x.c.close()
    eventually("they are gone", lambda: scrape(scraped)['sluice_workers{state="retiring"}'] == 0)
    found = scrape(scraped)
    assert found["sluice_sessions_total"] == 2
    assert found['sluice_transfer_bytes_total{direction="download",leg="F-N",mode="passive"}'] == 555
    assert found["sluice_worker_deaths_total"] == 0


def test_new_code_that_counts_otherwise_begins_at_0(paths: Paths, versions: File) -> None:  # noqa: F811
    path = versioned(paths, versions)
    path.last.configure(path.last.settings | {"metrics": metrics_at(path.net)})
    assert path.last.ask("reload").returncode == 0
    x = path.open()
    assert scrape(path)["sluice_sessions_total"] == 1
    tally = versions / "2/sluice/tally.py"
    tally.write_text(tally.read_text().replace('    "other",\n', '    "other",\n    "new",\n'))
    (versions / "current").unlink()
    (versions / "current").symlink_to("2")
    assert path.last.ask("reload").returncode == 0
    assert scrape(path)["sluice_sessions_total"] == 0
    assert scrape(path)['sluice_refusals_total{cause="new"}'] == 0
    move(x, "RETR f", "PASV", 5)
    path.open().in_step()
    assert scrape(path)["sluice_sessions_total"] == 1


def test_drained_it_answers_scrapes_still(scraped: Path) -> None:
    assert scraped.last.ask("drain").returncode == 0
    assert scrape(scraped)["sluice_sessions_total"] == 0
    assert "listening on nothing: drained" in scraped.last.ask("status").stdout


def test_off_by_default(one: Path) -> None:
    assert refused(one.net.n_server, PORT, one.net.client)
    listening = {
        line.split()[9]
        for table in ("tcp", "tcp6")
        for line in File(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    held = {
        str(entry.readlink())[8:-1]
        for entry in File(f"/proc/{one.last.process.pid}/fd").iterdir()
        if str(entry.readlink()).startswith("socket:[")
    }
    assert len(listening & held) == 1, "the control port and nothing else"


# --- who asks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", 200),
        (b"GET /metrics?name=x HTTP/1.0\r\nAccept: */*\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
    ],
)
def test_only_get_metrics(scraped: Path, request_: bytes, status: int) -> None:
    found, body = answer(scraped, request_)
    assert found == status
    assert (b"# TYPE" in body) == (status == 200)


def test_a_request_in_pieces(scraped: Path) -> None:
    with connect(scraped) as sock:
        for piece in (b"GE", b"T /metrics HT", b"TP/1.1\r", b"\n\r", b"\n"):
            sock.sendall(piece)
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_head_without_end_is_cut(scraped: Path) -> None:
    """At 8 KiB, whatever else would come."""
    assert answer(scraped, b"GET /metrics HTTP/1.1\r\nA: ".ljust(8193, b"b"))[0] == 400
    assert scrape(scraped)["sluice_sessions_total"] == 0


def ended(sock: socket.socket) -> bool:
    """Whether the proxy ended the connection, however."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_whoever_is_not_listed_gets_nothing(scraped: Path) -> None:
    with connect(scraped, scraped.net.other_client) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert sock.recv(1) == b""
    assert scrape(scraped)["sluice_sessions_total"] == 0


def test_scrapers_that_say_nothing_hold_up_nobody(scraped: Path) -> None:
    """More than there is room for: sessions go on, and the others are served when their time is over."""
    x = scraped.open()
    baseline = scraped.last.descriptors()
    silent = [connect(scraped) for _ in range(40)]
    move(x, "RETR f", "PASV")
    scraped.open().in_step()
    assert scraped.last.ask("status").returncode == 0
    assert all(ended(sock) for sock in silent)
    for sock in silent:
        sock.close()

    def served() -> bool:
        try:
            return scrape(scraped)["sluice_sessions_total"] == 2
        except (ConnectionError, AssertionError):
            return False

    eventually("a scrape", served)
    eventually("no descriptor is left", lambda: scraped.last.descriptors() <= baseline + 8)


def test_a_scraper_that_does_not_read_holds_up_nobody(scraped: Path) -> None:
    lazy = [dial(scraped.net.n_server, PORT, scraped.net.client, receive_buffer=1) for _ in range(8)]
    for sock in lazy:
        sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 100)
    scraped.open().in_step()
    assert scrape(scraped)["sluice_sessions_total"] == 1
    for sock in lazy:
        sock.close()


def test_a_reload_does_not_refuse_a_scrape(scraped: Path) -> None:
    with connect(scraped) as early:
        assert scraped.last.ask("reload").returncode == 0
        assert scrape(scraped)["sluice_sessions_total"] == 0
        early.settimeout(PATIENCE)


# --- settings ------------------------------------------------------------------------------------


def test_a_port_that_somebody_holds_is_said(paths: Paths) -> None:
    net = paths.site.net()
    with occupied(net.n_server, [PORT]), pytest.raises(NotReadyError) as failure:
        Proxy(paths.site, last_hop(net) | {"metrics": metrics_at(net)})
    assert f"cannot listen on {net.n_server}:{PORT}: Address already in use." in failure.value.args[1]


def test_without_the_library_it_says_so(paths: Paths, tmp_path: File) -> None:
    """At the start; a reload changes nothing then. Without metrics nobody misses it."""
    stub = paths.site.directory / "without"
    stub.mkdir()
    stub.chmod(0o755)
    (stub / "prometheus_client.py").write_text("raise ImportError\n")
    environment = {"PYTHONPATH": f"{stub}:{paths.site.package}"}
    net = paths.site.net()
    on = last_hop(net) | {"metrics": metrics_at(net)}
    with pytest.raises(NotReadyError) as failure:
        Proxy(paths.site, on, environment)
    assert "metrics: python3-prometheus-client is not installed." in failure.value.args[1]
    proxy = Proxy(paths.site, last_hop(net), environment)
    path = paths.add(Path(net, [proxy], (net.n_client, CONTROL), (net.server, SERVER_CONTROL)))
    x = path.open()
    proxy.configure(on)
    done = proxy.ask("reload")
    assert done.returncode == 1
    assert "python3-prometheus-client is not installed." in done.stderr
    x.in_step()
    path.open().in_step()
