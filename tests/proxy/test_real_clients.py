# SPDX-License-Identifier: GPL-3.0-or-later
"""curl, lftp, ftplib and aioftp with pyftpdlib, vsftpd and ProFTPD, through one proxy and two; the server
fixed, or named by user@host."""

from __future__ import annotations

import asyncio
import ftplib
import functools
import hashlib
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as File
from typing import Any
from urllib.parse import quote

import aioftp
import pytest

from . import real_servers
from .fake_client import SETUPS, Client
from .harness import SERVER_CONTROL, WHOLE, Path, Paths, Site
from .wire import eventually

CONTENT = os.urandom(3 << 20)
DIGEST = hashlib.sha256(CONTENT).hexdigest()

# server, proxies, whether the client names the server: by `make test` each server is met through two proxies
SERVED = [("pyftpdlib", 1, False), ("pyftpdlib", 2, False), ("vsftpd", 2, False), ("proftpd", 2, True)]
if WHOLE:
    SERVED += [("pyftpdlib", 2, True), ("vsftpd", 1, False), ("vsftpd", 2, True), ("proftpd", 1, False)]


class Served:
    """A path with a real server at its end, and the directory that it serves."""

    def __init__(self, path: Path, kind: str, server: real_servers.Server, *, by_user: bool) -> None:
        self.path = path
        self.kind = kind
        self.server = server
        self.root = server.root
        self.host, self.port = path.entry
        self.user = f"{server.user}@{path.net.server}:{SERVER_CONTROL}" if by_user else server.user
        self.url = f"ftp://{quote(self.user, safe='')}:secret@{self.host}:{self.port}"

    def stored(self, name: str) -> str:
        return hashlib.sha256((self.root / name).read_bytes()).hexdigest()


@pytest.fixture(
    scope="module", params=SERVED, ids=lambda param: f"{param[0]} {param[1]}{' user@host' * param[2]}"
)
def served(request: pytest.FixtureRequest, site: Site) -> Iterator[Served]:
    kind, hops, by_user = request.param
    paths = Paths(site)
    changes: dict[str, Any] = {"n__servers__fixed": None} if by_user else {}
    # aioftp does not bind: it comes from 127.0.0.1
    peers = "client_side__peers" if hops == 1 else "f__client_side__peers"
    changes[peers] = lambda net: [f"{net.prefix}.0/24", "127.0.0.1/32"]
    path = paths.own(hops, **changes)
    server = real_servers.KINDS[kind](site, path.net.server, SERVER_CONTROL)
    (server.root / "big").write_bytes(CONTENT)
    (server.root / "empty").write_bytes(b"")
    (server.root / "dir").mkdir()
    for i in range(30):
        (server.root / "dir" / f"file {i}").write_bytes(b"%d" % i * i)
    yield Served(path, kind, server, by_user=by_user)
    server.close()
    path.check()
    paths.after_test()


CURL_MODES = {
    "EPSV": [],
    "PASV": ["--disable-epsv"],
    "EPRT": ["--ftp-port", "{client}"],
    "PORT": ["--ftp-port", "{client}", "--disable-eprt"],
}


def curl(served: Served, *arguments: str, mode: str = "EPSV") -> subprocess.CompletedProcess[bytes]:
    client = served.path.net.client
    return subprocess.run(
        [
            "curl",
            "--silent",
            "--show-error",
            "--interface",
            client,
            *(word.format(client=client) for word in CURL_MODES[mode]),
            *arguments,
        ],
        capture_output=True,
        timeout=30,
        check=False,
    )


@pytest.fixture(scope="module")
def programs() -> None:
    missing = [name for name in ("curl", "lftp") if shutil.which(name) is None]
    assert not missing, f"install {' and '.join(missing)} to run these tests"


@pytest.mark.parametrize("mode", CURL_MODES)
def test_curl_fetches(served: Served, programs: None, mode: str) -> None:
    done = curl(served, f"{served.url}/big", mode=mode)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).hexdigest() == DIGEST


@pytest.mark.parametrize("mode", CURL_MODES)
def test_curl_stores(served: Served, programs: None, tmp_path: File, mode: str) -> None:
    source = tmp_path / "up"
    source.write_bytes(CONTENT)
    done = curl(served, "--upload-file", str(source), f"{served.url}/curl-{mode}", mode=mode)
    assert done.returncode == 0, done.stderr
    assert served.stored(f"curl-{mode}") == DIGEST


@pytest.mark.parametrize("mode", CURL_MODES)
def test_curl_lists_fetches_a_range_and_goes_on(served: Served, programs: None, mode: str) -> None:
    """A listing, a part (curl closes early), three files in one session with an empty one, a resume."""
    done = curl(served, f"{served.url}/dir/", mode=mode)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 30
    done = curl(served, "--range", "100-299", f"{served.url}/big", mode=mode)
    assert done.returncode == 0, done.stderr
    assert done.stdout == CONTENT[100:300]
    done = curl(
        served, f"{served.url}/empty", f"{served.url}/dir/file%201", f"{served.url}/dir/file%2012", mode=mode
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"1" + b"12" * 12
    done = curl(served, "--continue-at", str(len(CONTENT) - 10), f"{served.url}/big", mode=mode)
    assert done.returncode == 0, done.stderr
    assert done.stdout == CONTENT[-10:]


def test_curl_is_told_of_a_missing_file_and_a_wrong_password(served: Served, programs: None) -> None:
    assert curl(served, f"{served.url}/missing").returncode == 78  # CURLE_REMOTE_FILE_NOT_FOUND
    if served.kind == "vsftpd":  # anonymous: any word will do
        return
    url = served.url.replace("secret", "wrong")
    assert curl(served, f"{url}/big").returncode == 67  # CURLE_LOGIN_DENIED


LFTP_MODES = {
    "EPSV": "set ftp:prefer-epsv true; set ftp:passive-mode true",
    "PASV": "set ftp:prefer-epsv false; set ftp:passive-mode true",
    "PORT": "set ftp:passive-mode false",
}


def lftp(served: Served, script: str, mode: str) -> subprocess.CompletedProcess[bytes]:
    client = served.path.net.client
    settings = (
        "set net:max-retries 1; set net:timeout 8; set ftp:ssl-allow false; set cmd:fail-exit true;"
        f"set net:socket-bind-ipv4 {client}; {LFTP_MODES[mode]};"
    )
    return subprocess.run(
        [
            "lftp",
            "--norc",
            "-c",
            f"{settings} open -u {served.user},secret -p {served.port} {served.host}; {script}",
        ],
        capture_output=True,
        timeout=40,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"},
    )


@pytest.mark.parametrize("sync", ["true", "false"])
@pytest.mark.parametrize("mode", LFTP_MODES)
def test_lftp_fetches_and_stores(
    served: Served, programs: None, tmp_path: File, mode: str, sync: str
) -> None:
    """sync-mode off: commands in batches (1.11, 1.12)."""
    name = f"lftp-{mode}-{sync}"
    script = (
        f"set ftp:sync-mode {sync}; get big -o {tmp_path}/down; put {tmp_path}/down -o {name}; cls -1 dir"
    )
    done = lftp(served, script, mode)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256((tmp_path / "down").read_bytes()).hexdigest() == DIGEST
    assert served.stored(name) == DIGEST
    assert len(done.stdout.splitlines()) == 30


@pytest.mark.parametrize("mode", LFTP_MODES)
def test_lftp_mirrors_a_directory_and_fetches_in_pieces(
    served: Served, programs: None, tmp_path: File, mode: str
) -> None:
    script = f"mirror --no-perms --parallel=3 dir {tmp_path}/mirror; pget -n 3 big -o {tmp_path}/pieces"
    done = lftp(served, script, mode)
    assert done.returncode == 0, done.stderr
    for i in range(30):
        assert (tmp_path / "mirror" / f"file {i}").read_bytes() == b"%d" % i * i
    assert hashlib.sha256((tmp_path / "pieces").read_bytes()).hexdigest() == DIGEST


@pytest.fixture(params=[True, False], ids=["passive", "active"])
def client(served: Served, request: pytest.FixtureRequest) -> Iterator[ftplib.FTP]:
    with ftplib.FTP(timeout=8) as client:
        client.connect(served.host, served.port, source_address=(served.path.net.client, 0))
        client.login(served.user, "secret")
        client.set_pasv(request.param)
        yield client


def test_ftplib_fetches_and_stores(served: Served, client: ftplib.FTP) -> None:
    got = hashlib.sha256()
    client.retrbinary("RETR big", got.update)
    assert got.hexdigest() == DIGEST
    name = f"ftplib-{client.passiveserver}"
    assert client.storbinary(f"STOR {name}", io.BytesIO(CONTENT)).startswith("226")
    assert served.stored(name) == DIGEST
    assert len(client.nlst("dir")) == 30
    if served.kind != "vsftpd":  # it has no MLSD
        assert sum(1 for name, _ in client.mlsd("dir") if name.startswith("file")) == 30
    lines: list[str] = []
    client.storlines(f"STOR {name}", io.BytesIO(b"one\r\ntwo\r\n"))
    client.retrlines(f"RETR {name}", lines.append)
    assert lines == ["one", "two"]
    client.voidcmd("TYPE I")
    assert client.size(name) == (10 if served.kind == "vsftpd" else 8)  # the others keep text with bare LF
    with pytest.raises(ftplib.error_perm, match=r"^550"):
        client.retrbinary("RETR missing", got.update)
    client.delete(name)
    assert client.quit().startswith("221")


def test_ftplib_aborts_and_goes_on(served: Served, client: ftplib.FTP) -> None:
    """ABOR sent urgent as a whole (5.2); the session is in step afterwards."""
    data = client.transfercmd("RETR big")
    assert data.recv(1000)
    client.abort()
    data.close()
    # abort() has read one reply; where the transfer was still running the server has sent two, 426 and 226.
    client.putcmd("PWD")
    while not (reply := client.getline()).startswith("257"):
        assert reply[:3] in {"225", "226"}
    got = hashlib.sha256()
    client.retrbinary("RETR big", got.update)
    assert got.hexdigest() == DIGEST


def _holds_data(path: File) -> bool:
    return path.exists() and path.stat().st_size > 0


@pytest.mark.parametrize("mode", SETUPS)
def test_6_1_an_upload_that_the_client_resets_is_no_success(served: Served, mode: str) -> None:
    """6.7: and a real server says so in its own words; the session goes on."""
    c = Client(served.host, served.port, served.path.net.client)
    c.login(served.user, "secret")
    assert c.cmd("TYPE I").code == 200
    for number in range(2):
        stored = served.root / f"broken-{mode}-{number}"
        agreed = c.setup(mode)
        c.line(f"STOR {stored.name}")
        data = agreed.open()
        assert c.reply().code in {125, 150}
        data.send(CONTENT[: 1 << 16])
        # pyftpdlib never answers where the reset is there before it looks at the connection
        eventually("the server has read data", functools.partial(_holds_data, stored))
        data.reset()
        assert 400 <= c.reply().code <= 599
    assert c.cmd("PWD").code == 257
    agreed = c.setup(mode)
    c.line("RETR big")
    assert hashlib.sha256(agreed.open().read_all()[0]).hexdigest() == DIGEST
    assert c.replies(2) in ([150, 226], [125, 226])
    c.close()


def test_4_12_ftplib_resumes_and_appends(served: Served, client: ftplib.FTP) -> None:
    half = len(CONTENT) // 2
    got = bytearray(CONTENT[:half])
    client.retrbinary("RETR big", got.extend, rest=half)
    assert bytes(got) == CONTENT
    name = f"resumed-{client.passiveserver}"
    client.storbinary(f"STOR {name}", io.BytesIO(CONTENT[:half]))
    client.storbinary(f"APPE {name}", io.BytesIO(CONTENT[half:]))
    assert served.stored(name) == DIGEST
    client.delete(name)


def test_aioftp_fetches_stores_and_lists(served: Served) -> None:
    async def work() -> None:
        async with aioftp.Client.context(served.host, served.port, served.user, "secret") as client:
            got = hashlib.sha256()
            async with client.download_stream("big") as stream:
                async for block in stream.iter_by_block(1 << 16):
                    got.update(block)
            assert got.hexdigest() == DIGEST
            async with client.upload_stream("aioftp") as stream:
                await stream.write(CONTENT)
            assert served.stored("aioftp") == DIGEST
            assert len(await client.list("dir")) == 30
            await client.remove("aioftp")
            assert not await client.exists("aioftp")

    asyncio.run(asyncio.wait_for(work(), 30))


def test_ftplib_names_in_utf_8(served: Served, client: ftplib.FTP) -> None:
    client.storbinary("STOR grüße  mit blank", io.BytesIO(b"x"))
    assert (served.root / "grüße  mit blank").read_bytes() == b"x"
    assert "grüße  mit blank" in client.nlst()
    client.delete("grüße  mit blank")


def test_twelve_clients_at_once(served: Served) -> None:
    """Each in a mode of its own, fetching and storing several times."""

    def work(number: int) -> list[str]:
        results = []
        with ftplib.FTP(timeout=20) as client:
            client.connect(served.host, served.port, source_address=(served.path.net.client, 0))
            client.login(served.user, "secret")
            client.set_pasv(number % 2 == 0)
            for i in range(3):
                got = hashlib.sha256()
                client.retrbinary("RETR big", got.update)
                name = f"at-once-{number}-{i}"
                client.storbinary(f"STOR {name}", io.BytesIO(CONTENT))
                results += [got.hexdigest(), served.stored(name)]
                client.delete(name)
            client.quit()
        return results

    with ThreadPoolExecutor(12) as pool:
        for results in pool.map(work, range(12)):
            assert results == [DIGEST] * 6
