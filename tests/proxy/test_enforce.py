# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reload took away (POLICY F9): once the proxy is asked, old sessions are held to the settings, too.

A transfer that the new settings do not carry may finish within the drain's time; then both its legs end with
RST (6.4).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from .harness import Path, Paths, changed
from .test_operation import PART, finish

MOVED = "28000-28019"
CHANGES: dict[str, dict[str, Any]] = {
    "listening range of the client side": {"client_side.listen": MOVED},
    "source range of the server side": {"server_side.source": MOVED},
    "ports that the neighbour may name": {"server_side.peer_ports": "40000-40001"},
    "mode of the client's leg": {"client_side.mode": "active"},
    "mode of the server's leg": {"server_side.mode": "active"},
}


def reload(path: Path, changes: dict[str, Any], hop: int = -1) -> None:
    proxy = path.proxies[hop]
    proxy.configure(changed(proxy.settings, changes))
    done = proxy.ask("reload")
    assert done.returncode == 0, done.stderr


def enforce(path: Path, *words: str) -> dict[str, int]:
    """The last proxy's answer."""
    return answer(path, -1, *words)


def answer(path: Path, hop: int, *words: str) -> dict[str, int]:
    done = path.proxies[hop].ask("--json", "enforce", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def in_background(what: Callable[[], dict[str, int]]) -> Callable[[], dict[str, int]]:
    """What is asked meanwhile; the result is waited for."""
    found: list[dict[str, int]] = []
    thread = threading.Thread(target=lambda: found.append(what()))
    thread.start()

    def result() -> dict[str, int]:
        thread.join()
        return found[0]

    return result


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
def test_10_4_a_transfer_on_what_is_gone_may_finish(paths: Paths, verb: str, what: str) -> None:
    """The session goes on, under the new settings."""
    path = paths.own(1)
    x = path.open()
    ends = x.begin(verb)
    reload(path, CHANGES[what])
    assert enforce(path, "--no-wait")["transfers"] == 1
    waits = in_background(lambda: enforce(path))
    finish(x, verb, ends)
    ends[0].close()
    assert waits()["reset"] == 0
    x.in_step()
    if "mode of the client" in what:
        assert x.c.cmd("PASV").code == 502
    elif "client side" in what:
        assert 28000 <= x.c.setup("PASV").address[1] <= 28019


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("verb", ["RETR f", "STOR f"])
def test_6_4_what_does_not_finish_in_time_is_reset_on_both_legs(paths: Paths, verb: str, what: str) -> None:
    path = paths.own(1)
    x, other = path.open(), path.open()
    ends = x.begin(verb)
    ends[verb == "RETR f"].send(PART)
    reload(path, {**CHANGES[what], "timeouts.drain": 2.5})
    done = enforce(path)
    assert (done["transfers"], done["reset"]) == (1, 1)
    assert ends[0].end() == "reset"
    assert ends[1].end() == "reset"
    reply = x.c.reply()
    assert reply.code == 426
    assert "the settings have changed: " in reply.text
    assert path.last.record("transfer")["SLUICE_OUTCOME"] == "proxy-error"
    said = path.last.record("enforced")["MESSAGE"]
    assert said == "1 transfers on what the settings took away: 0 finished, 1 reset"
    other.in_step()


@pytest.mark.parametrize("setup", ["PASV", "PORT"])
def test_transfers_that_the_settings_carry_go_on(paths: Paths, setup: str) -> None:
    """In both modes, whatever else has changed."""
    path = paths.own(1)
    x = path.open()
    ends = x.begin("RETR f", setup)
    wider = {
        "client_side.listen": "24000-24100",
        "client_side.source": "25000-25100",
        "server_side.listen": "26000-26100",
        "server_side.source": "27000-27100",
        "timeouts.idle": 50,
    }
    reload(path, wider)
    assert enforce(path)["transfers"] == 0
    finish(x, "RETR f", ends)
    x.in_step()


def test_an_active_transfer_ends_with_its_mode(paths: Paths) -> None:
    path = paths.own(1)
    x = path.open()
    ends = x.begin("RETR f", "PORT")
    reload(path, {"client_side.mode": "passive", "timeouts.drain": 2})
    assert enforce(path)["reset"] == 1
    assert ends[0].end() == "reset"
    assert x.c.reply().code == 426


def test_what_the_end_of_the_drains_time_has_reset_already_counts(paths: Paths) -> None:
    path = paths.own(1)
    x = path.open()
    ends = x.begin("RETR f")
    reload(path, {"client_side.listen": MOVED, "timeouts.drain": 0.2})
    assert ends[0].end() == "reset"
    done = enforce(path)
    assert (done["transfers"], done["left"], done["reset"]) == (1, 0, 1)


def test_an_idle_session_whose_client_may_not_come_any_more_ends_with_421(paths: Paths) -> None:
    """And the others never notice."""
    path = paths.own(1)
    net = path.net
    x, other = path.open(), path.open(source=net.other_client)
    reload(path, {"client_side.peers": [f"{net.other_client}/32"]})
    assert enforce(path)["transfers"] == 0
    reply = x.c.reply()
    assert reply.code == 421
    assert f"{net.client} is not in the allowed networks" in reply.text
    other.in_step()


def test_a_client_that_may_not_come_any_more_finishes_its_transfer(paths: Paths) -> None:
    """And nothing after it, though it has sent it already."""
    path = paths.own(1)
    net = path.net
    x = path.open()
    ends = x.begin("RETR f")
    reload(path, {"client_side.peers": [f"{net.other_client}/32"]})
    assert enforce(path, "--no-wait")["transfers"] == 1
    waits = in_background(lambda: enforce(path))
    x.c.send(b"PASV\r\n")
    ends[1].send(PART)
    ends[1].fin()
    assert ends[0].read_all() == (PART, "fin")
    ends[0].close()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    assert x.c.reply().code == 421
    assert waits()["reset"] == 0


def test_a_session_whose_server_is_gone_ends(paths: Paths) -> None:
    path = paths.own(1)
    net = path.net
    x = path.open()
    ends = x.begin("STOR f")
    servers = {"servers.networks": [f"{net.other_server}/32"], "servers.fixed": f"{net.other_server}:2100"}
    reload(path, {**servers, "timeouts.drain": 2})
    assert enforce(path)["reset"] == 1
    assert ends[1].end() == "reset"
    assert ends[0].end() == "reset"
    reply = x.c.reply()
    assert reply.code == 421
    assert f"server {net.server} is not in the allowed networks" in reply.text


def test_a_set_up_without_a_transfer_is_dropped(paths: Paths) -> None:
    """Nothing listens outside the settings once the proxy was asked; the client may ask anew."""
    path = paths.own(1)
    x = path.open()
    old = x.c.setup("PASV").address[1]
    assert 24000 <= old <= 24019
    reload(path, {"client_side.listen": MOVED})
    assert enforce(path)["transfers"] == 0
    assert x.c.cmd("RETR f").code == 425
    assert 28000 <= x.c.setup("PASV").address[1] <= 28019


def test_6_8_what_a_client_has_still_to_read_counts(paths: Paths) -> None:
    """226 may be out while the kernel still holds the rest for a slow reader."""
    path = paths.own(1)
    x = path.open()
    c_data, s_data = x.begin("RETR f", receive_buffer=4096)
    s_data.send(PART)
    s_data.fin()
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    reload(path, {"client_side.listen": MOVED})
    assert enforce(path, "--no-wait")["transfers"] == 1
    waits = in_background(lambda: enforce(path))
    assert c_data.read_all() == (PART, "fin")
    c_data.close()
    assert waits()["reset"] == 0


def test_6_5_a_reset_crosses_the_hops(paths: Paths) -> None:
    """The range between F and N goes; the client and the server learn of it."""
    path = paths.own(2)
    x = path.open()
    ends = x.begin("STOR f")
    reload(path, {"server_side.source": MOVED, "timeouts.drain": 2}, hop=0)
    assert answer(path, 0)["reset"] == 1
    assert ends[1].end() == "reset"
    assert ends[0].end() == "reset"
    assert x.c.reply().code == 426


def test_6_5_hops_that_reset_the_same_transfer_both_say_so(paths: Paths) -> None:
    """Whichever of them is first: to the other one the transfer has not finished."""
    path = paths.own(2)
    x = path.open()
    ends = x.begin("RETR f")
    for hop, changes in enumerate(({"server_side.mode": "active"}, {"client_side.mode": "active"})):
        reload(path, {**changes, "timeouts.drain": 3}, hop)
    asked = [in_background(lambda hop=hop: answer(path, hop)) for hop in (0, 1)]  # type: ignore[misc]
    assert [each()["reset"] for each in asked] == [1, 1]
    assert ends[0].end() == "reset"
    assert x.c.reply().code == 426


def test_6_5_a_reply_of_the_other_hop_that_comes_before_its_reset_is_no_end_of_the_transfer(
    paths: Paths,
) -> None:
    """A client that halts: its hop reads no data, and sees the 426 first."""
    path = paths.own(1)
    x = path.open()
    c_data, s_data = x.begin("RETR f", receive_buffer=4096)
    s_data.send_until_blocked()
    assert c_data.receive(1)
    reload(path, {"client_side.listen": MOVED})
    assert enforce(path, "--no-wait")["left"] == 1
    x.s.reply(b"426 The settings have changed.")
    assert x.c.reply().code == 426
    done = enforce(path)
    assert (done["transfers"], done["reset"]) == (1, 1)


def test_a_person_is_told_in_a_sentence(paths: Paths) -> None:
    path = paths.own(1)
    assert path.last.ask("enforce").stdout == "0 transfers on what the settings took away, 0 reset\n"
