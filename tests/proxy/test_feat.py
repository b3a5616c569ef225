# SPDX-License-Identifier: GPL-3.0-or-later
"""PROTOCOL.md sections 7 and 8.1: what FEAT offers through the proxy, and what it does not carry."""

from __future__ import annotations

import pytest

from .harness import Path, Paths, Session

OF_THE_SERVER = [
    b" AUTH TLS",
    b" AUTH SSL;TLS-C;TLS-P",
    b" CCC",
    b" CLNT",
    b" CPSV",
    b" EPRT",
    b" EPSV",
    b" ESTA",
    b" ESTP",
    b" HOST",
    b" LANG EN*;FR;DE",
    b" LPRT",
    b" LPSV",
    b" MDTM",
    b" MFMT",
    b" MLST type*;size*;modify*;UNIX.mode;UNIX.owner;unique*;",
    b" PBSZ",
    b" PROT",
    b" REST STREAM",
    b" SIZE",
    b" SPSV",
    b" SSCN",
    b" TVFS",
    b" UTF8",
    b' XCRC "filename" SP EP',
    b" xSHA512 filename",
]
NOT_CARRIED = {"AUTH", "CCC", "CPSV", "ESTA", "ESTP", "LPRT", "LPSV", "PBSZ", "PROT", "SPSV", "SSCN"}


def feat(x: Session, *lines: bytes) -> list[bytes]:
    """The lines of the client's FEAT when the server answers so."""
    x.c.line("FEAT")
    assert x.s.next() == b"FEAT"
    x.s.reply(*lines)
    return x.c.reply().raw.split(b"\r\n")[:-1]


def test_7_1_7_2_and_7_3_feat_is_filtered_and_well_formed(path: Path) -> None:
    """7.1, 7.2 kept as the server sends it, 7.3 removed."""
    x = path.open()
    first, *features, last = feat(x, b"211-Extensions supported:", *OF_THE_SERVER, b"211 END")
    assert first.startswith(b"211-")
    assert last.startswith(b"211 ")
    assert all(line.startswith(b" ") and not line.startswith(b"  ") for line in features)
    kept = [line for line in OF_THE_SERVER if line.split()[0].decode() not in NOT_CARRIED]
    assert [line for line in features if line in OF_THE_SERVER] == kept
    assert not {line.split()[0].decode().upper() for line in features} & NOT_CARRIED
    x.in_step()


def test_7_1_odd_shapes_of_feat_come_out_well_formed(path: Path) -> None:
    """No indentation, a tab, lower case, the code on every line."""
    x = path.open()
    lines = feat(x, b"211-Features", b"SIZE", b"\tMDTM", b" auth tls", b"211-TVFS", b"  Pbsz", b"211 End")
    features = [line.strip().upper() for line in lines[1:-1]]
    assert not {line.split()[0].decode() for line in features if line} & NOT_CARRIED
    assert any(line.endswith(b"SIZE") for line in features)
    assert lines[0].startswith(b"211-")
    assert lines[-1].startswith(b"211 ")
    x.in_step()


@pytest.mark.parametrize("code", [b"500", b"502", b"530"])
def test_7_1_a_server_without_feat(path: Path, code: bytes) -> None:
    x = path.open()
    x.c.line("FEAT")
    assert x.s.next() == b"FEAT"
    x.s.reply(code + b" Not understood.")
    assert x.c.reply().code == int(code)
    x.in_step()


def test_7_1_and_7_3_nothing_left_after_filtering_is_still_a_reply(path: Path) -> None:
    """`211 no features` or what the proxy itself offers."""
    x = path.open()
    lines = feat(x, b"211-Features", b" AUTH TLS", b" PBSZ", b" PROT", b"211 End")
    assert lines[-1].startswith(b"211 ")
    assert not {line.split()[0].decode() for line in lines[1:-1]} & NOT_CARRIED
    x.in_step()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"OPTS UTF8 ON", b"200 On."),
        (b"OPTS UTF8 OFF", b"500 What?"),
        (b"OPTS MLST Type*;Size*;", b"200 MLST OPTS type;size;"),
        (b"opts utf8 on", b"501 No."),
        (b"CLNT NcFTP 3.2.6", b"200 Noted."),
        (b"LANG FR-CA", b"504 Not that one."),
    ],
)
def test_7_6_opts_clnt_and_lang_are_the_servers(path: Path, line: bytes, answer: bytes) -> None:
    _passes(path.open(), line, answer)


@pytest.mark.parametrize(
    "verb", [b"XPWD", b"XCWD d", b"XCUP", b"XMKD d", b"XRMD d", b"XSEM u", b"XSEN u", b"MAIL u"]
)
def test_7_7_the_x_verbs_and_what_nobody_knows_pass(path: Path, verb: bytes) -> None:
    _passes(path.open(), verb, b'257 "/d" is what it is.' if verb[:1] == b"X" else b"502 No mail here.")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"SITE CHMOD 600 a b", b"200 Done."),
        (b"SITE HELP", b"214-Site\r\n CHMOD\r\n214 End"),
        (b"SMNT /disk", b"202 Superfluous."),
        (b"ACCT bin", b"202 Superfluous."),
        (b"HELP", b"214-Help\r\n USER\r\n214 End"),
        (b"HELP SITE", b"214 SITE"),
        (b"STAT", b"211 Fine."),
        (b"STAT /a b", b"213-Status\r\n-rw a\r\n213 End"),
        (b"MLST /a b", b"250-Listing\r\n type=file; /a b\r\n250 End"),
    ],
)
def test_7_8_what_answers_on_the_control_connection_passes(path: Path, line: bytes, answer: bytes) -> None:
    _passes(path.open(), line, answer)


def test_7_8_stou_passes_with_its_name(path: Path) -> None:
    """4.2: the name stands in the preliminary reply (RFC 1123 4.1.2.9)."""
    x = path.open()
    agreed = x.c.setup("PASV")
    x.c.line("STOU")
    c_data = agreed.open()
    assert x.s.next() == b"STOU"
    x.s.reply(b"150 FILE: unique.1")
    s_data = x.s.data()
    assert x.c.reply().raw == b"150 FILE: unique.1\r\n"
    c_data.send(b"content")
    c_data.fin()
    assert s_data.read_all() == (b"content", "fin")
    s_data.close()
    x.s.reply(b"226 Stored.")
    assert x.c.reply().code == 226


def _passes(x: Session, line: bytes, answer: bytes) -> None:
    """The line reaches the server, and its answer the client, as they are."""
    x.c.line(line)
    assert x.s.next() == line
    x.s.reply(answer)
    assert x.c.reply().raw == answer + b"\r\n"
    x.in_step()


def test_7_1_the_single_line_form(path: Path) -> None:
    x = path.open()
    lines = feat(x, b"211 No features.")
    assert lines[-1].startswith(b"211 ")
    x.in_step()


def test_7_4_what_the_proxy_offers_itself_is_added(path: Path) -> None:
    x = path.open()
    features = [line.strip() for line in feat(x, b"211-Features", b" SIZE", b"211 End")[1:-1]]
    for verb in (b"SIZE", b"EPSV", b"EPRT"):
        assert features.count(verb) == 1


def test_7_4_what_the_server_offers_too_stands_once(path: Path) -> None:
    x = path.open()
    features = [
        line.strip() for line in feat(x, b"211-F", b" EPSV", b" EPRT", b" PASV", b" SIZE", b"211 End")[1:-1]
    ]
    for verb in (b"EPSV", b"EPRT", b"PASV", b"SIZE"):
        assert features.count(verb) <= 1
    assert b"EPSV" in features


def test_7_5_feat_before_login_with_user_at_host_is_minimal(paths: Paths) -> None:
    c = paths.one(servers__fixed=None).client()
    assert c.reply().code == 220
    reply = c.cmd("FEAT")
    assert reply.code == 211
    verbs = {line.split()[0].decode() for line in reply.raw.split(b"\r\n")[1:-2] if line.strip()}
    assert not verbs & NOT_CARRIED


def test_7_5_feat_after_login_with_user_at_host_is_the_servers(paths: Paths) -> None:
    path = paths.one(servers__fixed=None)
    server, c = path.server, path.client()
    assert c.reply().code == 220
    assert c.cmd("FEAT").code == 211
    c.line(f"USER me@{path.net.server}:{server.port}")
    x = Session(c, server.accept())
    assert c.reply().code == 331
    assert c.cmd("PASS x").code == 230
    assert b" XCRC" in feat(x, b"211-Features", b" XCRC", b" AUTH TLS", b"211 End")


@pytest.mark.parametrize(
    "line",
    ["AUTH TLS", "AUTH SSL", "auth tls", "PBSZ 0", "PROT P", "CCC", "ADAT x", "MIC x", "ENC x", "CONF x"],
)
@pytest.mark.parametrize("login", [True, False], ids=["after login", "before login"])
def test_8_1_tls_is_502_and_does_not_reach_the_server(path: Path, login: bool, line: str) -> None:
    x = path.open(login=login)
    if not login:
        assert x.c.reply().code == 220
    assert x.c.cmd(line).code == 502
    x.in_step()
    assert not any(line.split(maxsplit=1)[0].upper().encode() in received.upper() for received in x.s.lines)
