# SPDX-License-Identifier: GPL-3.0-or-later
"""PROTOCOL.md section 2: greeting, login, and which server a session goes to."""

from __future__ import annotations

import json

import pytest

from .fake_client import SETUPS, Client
from .harness import SERVER_CONTROL, Path, Paths, Session
from .wire import listen, untouched


@pytest.fixture
def any_server(paths: Paths) -> Path:
    """One proxy without a fixed server: USER user@host says where to."""
    return paths.one(servers__fixed=None)


def user(path: Path, name: str, host: str = "") -> str:
    return f"USER {name}@{host or path.net.server}:{SERVER_CONTROL}"


def log_in(path: Path, name: str = "me") -> Session:
    """Log in at the path's server by USER user@host."""
    server, c = path.server, path.client()
    assert c.reply().code == 220
    c.line(user(path, name))
    x = Session(c, server.accept())
    assert c.reply().code == 331
    assert c.cmd("PASS secret").code == 230
    return x


# 2.1 A fixed server


@pytest.mark.parametrize("greeting", [b"220 Ready.", b"220-Box\r\n220-of text\r\n220 Ready.", b"220 "])
def test_2_1_the_servers_greeting_is_relayed(path: Path, greeting: bytes) -> None:
    x = path.open(login=False, greeting=greeting)
    assert x.c.reply().code == 220
    x.in_step()


def test_2_1_the_server_is_connected_at_once(path: Path) -> None:
    """Before the client sends anything."""
    server, c = path.server, path.client()
    server.accept()
    assert c.reply().code == 220


def test_2_1_120_and_then_220(path: Path) -> None:
    x = path.open(login=False, greeting=b"120 Ready in a minute.")
    assert x.c.reply().code == 120
    x.s.reply(b"220 Ready.")
    x.c.login()
    x.in_step()


@pytest.mark.parametrize("v6_first", [True, False])
def test_2_1_the_next_hop_is_dialled_in_a_family_that_this_hop_has(paths: Paths, v6_first: bool) -> None:
    """N has an address of each family, F's server side IPv4 alone."""
    path = paths.own(
        0,
        next_hop__hosts=lambda net: [
            {"name": "n1", "addresses": ["::1", net.n_client] if v6_first else [net.n_client, "::1"]}
        ],
    )
    path.open().in_step()


@pytest.mark.parametrize("greeting", [b"421 Too many users.", b"530 Not you.", b"500-No\r\n500 service."])
def test_2_1_a_refusing_greeting_passes_and_the_session_ends(path: Path, greeting: bytes) -> None:
    x = path.open(login=False, greeting=greeting)
    assert x.c.reply().raw == greeting + b"\r\n"
    assert x.c.end() == (b"", "fin")
    x.s.end()


# 2.3 USER user@host


def test_2_3_the_greeting_of_a_proxy_without_a_fixed_server(any_server: Path) -> None:
    assert any_server.client().reply().raw == b"220 N: FTP proxy ready, log in as user@host.\r\n"


def test_2_3_the_last_at_splits(any_server: Path) -> None:
    x = log_in(any_server, "a@b")
    assert x.s.lines[:2] == [b"USER a@b", b"PASS secret"]
    x.in_step()
    c_data, s_data = x.begin("RETR f")
    s_data.send(b"content")
    s_data.close()
    assert c_data.read_all() == (b"content", "fin")


@pytest.mark.parametrize("greeting", [b"220-Welcome\r\n331 \r\n220 Ready.", b"120 Wait.\r\n220 Ready."])
def test_2_3_the_servers_greeting_is_no_reply_of_its_own(any_server: Path, greeting: bytes) -> None:
    """It may be folded into the 331, but USER gets one reply."""
    server, c = any_server.server, any_server.client()
    assert c.reply().code == 220
    c.line(user(any_server, "me"))
    x = Session(c, server.accept(greeting=greeting))
    assert c.reply().code == 331
    assert c.cmd("PASS x").code == 230
    x.in_step()


@pytest.mark.parametrize(
    "destination",
    ["{forbidden}:2100", "{forbidden}", "{server}:2101", "{server}:22", "127.0.0.1:2100", "[::1]:2100"],
)
def test_2_3_a_destination_that_is_not_allowed_is_530_and_not_dialled(
    any_server: Path, destination: str
) -> None:
    net = any_server.net
    with listen(net.forbidden_server, SERVER_CONTROL) as one, listen(net.server, SERVER_CONTROL + 1) as two:
        c = any_server.client()
        assert c.reply().code == 220
        host = destination.format(forbidden=net.forbidden_server, server=net.server)
        reply = c.cmd(f"USER me@{host}")
        assert reply.code == 530
        assert reply.text.startswith("530 N: ")
        if destination == "{forbidden}:2100":
            assert reply.text == f"530 N: server {net.forbidden_server} is not in the allowed networks."
        assert c.cmd("NOOP").code == 200
        assert untouched(one)
        assert untouched(two)


def test_2_3_after_a_refusal_another_host_may_be_named(any_server: Path) -> None:
    server, c = any_server.server, any_server.client()
    assert c.reply().code == 220
    assert c.cmd(f"USER me@{any_server.net.forbidden_server}").code == 530
    c.line(user(any_server, "me"))
    x = Session(c, server.accept())
    assert c.reply().code == 331
    assert c.cmd("PASS x").code == 230
    x.in_step()


@pytest.mark.parametrize("name", ["ftp.example.org", "localhost", "ftp.example.org:2100"])
def test_2_3_a_name_without_resolvers_is_530(any_server: Path, name: str) -> None:
    """Nor does the system's own resolver get to see it."""
    c = any_server.client()
    assert c.reply().code == 220
    reply = c.cmd(f"USER me@{name}")
    assert reply.code == 530
    assert reply.text.startswith("530 N: ")


@pytest.mark.parametrize("name", ["127.1", "0x7f000001", "2130706433", "127.0.0.1.", "0127.0.0.1"])
def test_2_3_odd_spellings_of_an_address_are_none(any_server: Path, name: str) -> None:
    c = any_server.client()
    assert c.reply().code == 220
    assert c.cmd(f"USER me@{name}:2100").code in {501, 530}
    assert c.cmd("NOOP").code == 200


@pytest.mark.parametrize("argument", ["me", "", " ", "@"])
def test_2_3_no_host_is_501(any_server: Path, argument: str) -> None:
    c = any_server.client()
    assert c.reply().code == 220
    assert c.cmd(f"USER {argument}").code == 501
    assert c.cmd("NOOP").code == 200


@pytest.mark.parametrize(
    "port", ["0", "65536", "99999999999", "x", "", "-21", "+2100", "2100 ", "\uff12\uff11\uff10\uff10"]
)
def test_2_3_a_bad_port_is_refused(any_server: Path, port: str) -> None:
    server, c = any_server.server, any_server.client()
    assert c.reply().code == 220
    assert c.cmd(f"USER me@{any_server.net.server}:{port}").code in {501, 530}
    assert c.cmd("NOOP").code == 200
    assert untouched(server.listener)


def test_2_3_a_server_that_refuses_the_connection(any_server: Path) -> None:
    c = any_server.client()
    assert c.reply().code == 220
    reply = c.cmd(user(any_server, "me", any_server.net.other_server))
    assert reply.code in {421, 425, 530}
    assert reply.text.split(" ", 1)[1].startswith("N: ")
    assert f"{any_server.net.other_server}:{SERVER_CONTROL}" in reply.text


def test_2_3_through_two_hops_the_last_one_splits(paths: Paths) -> None:
    """F passes everything on; N greets, refuses, chooses the server; then files move in every way."""
    path = paths.two(n__servers__fixed=None)
    server, c = path.server, path.client()
    assert c.reply().raw == b"220 N: FTP proxy ready, log in as user@host.\r\n"
    assert c.cmd("FEAT").code == 211
    assert c.cmd("OPTS UTF8 ON").code == 200
    assert c.cmd("AUTH TLS").code == 502
    net = path.net
    reply = c.cmd(f"USER me@{net.forbidden_server}:2100")
    assert reply.text == f"530 N: server {net.forbidden_server} is not in the allowed networks."
    c.line(user(path, "a@b"))
    x = Session(c, server.accept())
    assert c.reply().code == 331
    assert c.cmd("PASS secret").code == 230
    assert x.s.lines == [b"USER a@b", b"PASS secret"]
    for setup in SETUPS:
        for verb in ("RETR f", "STOR f"):
            c_data, s_data = x.begin(verb, setup)
            sender, receiver = (s_data, c_data) if verb == "RETR f" else (c_data, s_data)
            sender.send(b"content")
            sender.fin()
            assert receiver.read_all() == (b"content", "fin")
            s_data.close()
            x.s.reply(b"226 Done.")
            assert c.reply().code == 226
    x.in_step()


# 2.4 OPEN and SITE


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("line", ["OPEN {}:2100", "SITE {} 2100"])
def test_2_4_open_and_then_a_plain_login(paths: Paths, hops: int, line: str) -> None:
    """As ncftp and lftp do it; through two hops the last one opens."""
    path = paths.one(servers__fixed=None) if hops == 1 else paths.two(n__servers__fixed=None)
    server, c = path.server, path.client()
    assert c.reply().code == 220
    assert c.cmd(line.format(path.net.forbidden_server)).code == 530
    c.line(line.format(path.net.server))
    x = Session(c, server.accept(greeting=b"220 The server itself."))
    c.login()
    assert x.s.lines == [b"USER anonymous", b"PASS guest@example.org"]
    x.in_step()


# 2.5 Before login


ANSWERED_HERE = [
    ("FEAT", 211),
    ("NOOP", 200),
    ("SYST", 215),
    ("OPTS UTF8 ON", 200),
    ("CLNT x", 200),
    ("HELP", 214),
    ("HOST ftp.example.org", 502),
    ("PASS x", 530),
    ("ACCT x", 530),
    ("PASV", 530),
    ("EPSV", 530),
    ("PORT 127,0,0,1,99,99", 530),
    ("RETR f", 530),
    ("CWD /", 530),
    ("XFOO", 530),
    ("AUTH TLS", 502),
    ("PBSZ 0", 502),
]


@pytest.mark.parametrize(("line", "code"), ANSWERED_HERE)
def test_2_5_before_user_at_host_the_proxy_answers_itself(any_server: Path, line: str, code: int) -> None:
    server, c = any_server.server, any_server.client()
    assert c.reply().code == 220
    assert c.cmd(line).code == code
    assert c.cmd("NOOP").code == 200
    assert untouched(server.listener)


def test_2_5_quit_before_user_at_host(any_server: Path) -> None:
    c = any_server.client()
    assert c.reply().code == 220
    assert c.cmd("QUIT").code == 221
    assert c.end() == (b"", "fin")


def test_2_5_pipelined_before_user_at_host(any_server: Path) -> None:
    server, c = any_server.server, any_server.client()
    assert c.reply().code == 220
    c.line("HOST a", "OPTS UTF8 ON", user(any_server, "me"), "PASS x", "SYST")
    x = Session(c, server.accept())
    assert x.s.next() == b"SYST"
    x.s.reply(b"215 UNIX")
    assert c.replies(5) == [502, 200, 331, 230, 215]


@pytest.mark.parametrize("line", [b"FEAT", b"CLNT x", b"OPTS UTF8 ON", b"SYST", b"HELP", b"NOOP"])
def test_2_5_with_a_fixed_server_they_are_forwarded(path: Path, line: bytes) -> None:
    x = path.open(login=False)
    assert x.c.reply().code == 220
    x.c.line(line)
    assert x.s.next() == line
    x.s.reply(b"211 Reply of the server.")
    assert x.c.reply().code == 211
    x.c.line("USER me")
    assert x.c.reply().code == 331


def test_2_10_host_is_forwarded_or_502(path: Path) -> None:
    x = path.open({"HOST": b"220 Virtual."}, login=False)
    assert x.c.reply().code == 220
    assert x.c.cmd("HOST ftp.example.org").code in {220, 502}
    assert x.c.cmd("USER me").code == 331
    assert x.c.cmd("PASS secret").code == 230
    assert x.c.cmd("HOST ftp.example.org").code == 503
    x.in_step()


# 2.6 to 2.9 Login


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize(
    ("user_reply", "pass_reply", "acct_reply"),
    [
        (b"230 No password needed.", None, None),
        (b"230 No password needed.", b"202 Superfluous.", None),
        (b"331 Word.", b"202 Good enough.", None),
        (b"331 Word.", b"230 In.", None),
        (b"331 Word.", b"332 Account.", b"230 In."),
        (b"332 Account.", None, b"230 In."),
    ],
)
def test_2_6_every_way_to_be_logged_in(
    paths: Paths, user_reply: bytes, pass_reply: bytes | None, acct_reply: bytes | None, hops: int
) -> None:
    path = paths.one() if hops == 1 else paths.two()
    x = path.open({"USER": user_reply, "PASS": pass_reply, "ACCT": acct_reply}, login=False)
    assert x.c.reply().code == 220
    for line, reply in (("USER me", user_reply), ("PASS x", pass_reply), ("ACCT y", acct_reply)):
        if reply is not None:
            assert x.c.cmd(line).raw == reply + b"\r\n"
    c_data, s_data = x.begin("RETR f")
    s_data.send(b"content")
    s_data.close()
    assert c_data.read_all() == (b"content", "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.in_step()


def test_2_6_user_answered_230_with_user_at_host(any_server: Path) -> None:
    server, c = any_server.server, any_server.client()
    assert c.reply().code == 220
    c.line(user(any_server, "anonymous"))
    x = Session(c, server.accept({"USER": b"230 Anonymous is in."}))
    assert c.reply().code == 230
    c_data, s_data = x.begin("RETR f")
    s_data.send(b"content")
    s_data.close()
    assert c_data.read_all() == (b"content", "fin")


def test_2_6_refused_logins_are_relayed_and_may_be_tried_again(path: Path) -> None:
    answers = iter([b"530 Wrong.", b"530 Wrong again.", b"230 In."])
    x = path.open({"PASS": lambda *_: next(answers)}, login=False)
    assert x.c.reply().code == 220
    for expected in (b"530 Wrong.\r\n", b"530 Wrong again.\r\n", b"230 In.\r\n"):
        assert x.c.cmd("USER me").code == 331
        assert x.c.cmd("PASS x").raw == expected
    x.in_step()


@pytest.mark.parametrize("where", ["USER", "PASS"])
def test_2_6_421_at_login_ends_the_session(path: Path, where: str) -> None:
    x = path.open({where: b"421 Go away."}, login=False)
    assert x.c.reply().code == 220
    if where == "PASS":
        assert x.c.cmd("USER me").code == 331
    assert x.c.cmd(f"{where} x").raw == b"421 Go away.\r\n"
    assert x.c.end() == (b"", "fin")


@pytest.mark.parametrize(
    "password",
    [b"", b" ", b" lead and trail ", b"p@ss:wo rd", b"\xe4\xf6\xfc\x80", b"%s%n", b"top-secret-word-1959"],
)
def test_2_7_passwords_are_opaque_bytes_and_not_logged(path: Path, password: bytes) -> None:
    x = path.open(login=False)
    x.c.login("me", password)
    assert x.s.lines[:2] == [b"USER me", b"PASS " + password]
    x.in_step()
    if len(password.strip()) > 2:
        x.c.close()
        x.s.end()
        for proxy in path.proxies:
            text = json.dumps(proxy.log, ensure_ascii=False)
            assert password.decode("latin-1") not in text


def test_2_8_a_second_user_with_a_fixed_server_is_forwarded(path: Path) -> None:
    x = path.open()
    assert x.c.cmd("USER other").code == 331
    assert x.c.cmd("PASS y").code == 230
    assert x.s.lines[-2:] == [b"USER other", b"PASS y"]
    x.in_step()


def test_2_8_a_second_user_of_the_same_host_is_forwarded(any_server: Path) -> None:
    x = log_in(any_server)
    assert x.c.cmd(user(any_server, "other")).code == 331
    assert x.s.lines[-1] == b"USER other"
    x.in_step()


def test_2_8_a_second_user_of_another_host_never_goes_to_the_old_one(any_server: Path) -> None:
    x = log_in(any_server)
    before = list(x.s.lines)
    other = listen(any_server.net.other_server, SERVER_CONTROL)
    x.c.line(user(any_server, "other", any_server.net.other_server))
    try:
        other.settimeout(1)
        sock, _ = other.accept()
    except TimeoutError:
        assert x.c.reply().code == 530
    else:
        sock.sendall(b"220 Other.\r\n")
        assert sock.recv(100) == b"USER other\r\n"
        sock.sendall(b"331 Word.\r\n")
        assert x.c.reply().code == 331
        sock.close()
    other.close()
    assert [line for line in x.s.lines if line not in before] in ([], [b"QUIT"])


def test_2_9_rein_forgets_the_set_up_and_epsv_all(path: Path) -> None:
    x = path.open({"REIN": b"220 Anew."})
    assert x.c.cmd("EPSV ALL").code == 200
    x.c.setup("EPSV")
    assert x.c.cmd("REIN").code == 220
    assert x.c.cmd("USER me").code == 331
    assert x.c.cmd("PASS x").code == 230
    assert x.c.cmd("RETR f").code == 425
    c_data, s_data = x.begin("RETR f", "PASV")
    s_data.close()
    assert c_data.end() == "fin"


def test_2_9_a_server_without_rein(path: Path) -> None:
    x = path.open({"REIN": b"502 No."})
    assert x.c.cmd("REIN").raw == b"502 No.\r\n"
    x.in_step()


def test_peers_that_are_not_named_get_no_session(one: Path) -> None:
    """client_side.peers: another address gets no greeting, and no connection to the server is made for it."""
    server = one.server
    try:
        c = Client(*one.entry, one.net.stranger)
    except ConnectionError:
        pass
    else:
        text, _ = c.end()
        c.close()
        assert b"220" not in text
    assert untouched(server.listener)


# 2.1 in the admin's own words

OWN = ["Property of Example.", "220 is no end", "Gr\u00fc\u00df Gott."]
OWN_220 = "220-Property of Example.\r\n220-220 is no end\r\n220 Gr\u00fc\u00df Gott.\r\n".encode()


def test_2_1_the_text_of_the_greeting_may_be_the_admins(paths: Paths) -> None:
    """It takes the place of the server's, through two hops, and is one reply."""
    path = paths.two(f__client_side__greeting=OWN)
    x = path.open(login=False, greeting=b"220-Secretd 1.2.3\r\n220 ready")
    assert x.c.reply().raw == OWN_220
    x.c.cmd("USER anna")
    x.c.cmd("PASS secret")
    x.in_step()


def test_2_1_the_code_of_the_greeting_stays_the_servers(paths: Paths) -> None:
    path = paths.two(f__client_side__greeting=OWN)
    x = path.open(login=False, greeting=b"421 Too many users.")
    assert x.c.reply().raw == b"421 Too many users.\r\n"


def test_2_1_a_proxy_that_lets_the_client_choose_greets_so_too(paths: Paths) -> None:
    path = paths.one(client_side__greeting=OWN[:1], servers__fixed=None)
    assert path.client().reply().raw == b"220 Property of Example.\r\n"
