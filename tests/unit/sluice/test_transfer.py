# SPDX-License-Identifier: GPL-3.0-or-later
"""The truth about transfers (PROTOCOL 3.21, 4, 5, 6)."""

from __future__ import annotations

import pytest
from sluice import events
from sluice.events import Action, Leg, Timer

from tests.unit.sluice.playbook import CLIENT, SERVER, Playbook, settings


def begun(verb: bytes) -> Playbook:
    return Playbook().log_in().begin(verb)


def outcome(p: Playbook) -> str:
    (log,) = p.logs("transfer")
    return log.fields["SLUICE_OUTCOME"]


def ends(p: Playbook) -> list[Action]:
    return p.did(events.Reset, events.Finish, events.Discard, events.Release)


@pytest.mark.parametrize("verb", [b"RETR", b"STOR"])
@pytest.mark.parametrize("early", [True, False])
def test_4_3_226_when_the_data_is_delivered_and_not_before(verb: bytes, early: bool) -> None:
    p = begun(verb)
    if early:
        assert p.server(b"226-a\r\n226 b\r\n") == b""
    p.feed(events.DataEnd(p.number))
    assert events.Finish(p.number) in p.actions, "FIN at once, before any 226 (4.4)"
    if not early:
        p.server(b"226-a\r\n226 b\r\n")
        p.to_client = b"226-a\r\n226 b\r\n"
    assert p.said() == b"226-a\r\n226 b\r\n"
    assert ends(p) == [events.Finish(p.number), events.Release(p.number)]
    assert outcome(p) == "complete"


def test_4_3_really_relays_a_late_226() -> None:
    p = begun(b"RETR")
    p.feed(events.DataEnd(p.number))
    assert p.server(b"226 b\r\n") == b"226 b\r\n"


@pytest.mark.parametrize("verb", [b"RETR", b"STOR"])
@pytest.mark.parametrize("leg", [Leg.CLIENT, Leg.SERVER])
@pytest.mark.parametrize("final", [b"226 fine\r\n", b"426 broken\r\n"])
def test_6_1_and_6_3_a_reset_is_a_reset_on_both_legs_and_never_226(
    verb: bytes, leg: Leg, final: bytes
) -> None:
    p = begun(verb)
    p.feed(events.DataReset(p.number, leg))
    assert ends(p) == [events.Reset(p.number)]
    assert p.server(final)[:3] == b"426", "6.9"
    assert events.Finish(p.number) not in p.actions
    assert outcome(p) == f"reset-by-{leg.value}"
    assert p.client(b"PASV\r\n")[:3] == b"227", "the session goes on"


def test_6_3_a_held_226_becomes_426_when_the_data_breaks_after_it() -> None:
    p = begun(b"RETR")
    p.server(b"226 fine\r\n")
    p.feed(events.DataReset(p.number, Leg.SERVER))
    assert p.said()[:3] == b"426"


def test_6_9_a_client_that_resets_after_the_end_hears_426() -> None:
    p = begun(b"RETR")
    p.feed(events.DataEnd(p.number))
    p.feed(events.DataReset(p.number, Leg.CLIENT))
    assert p.server(b"226 fine\r\n")[:3] == b"426"


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("verb", [b"RETR", b"STOR"])
def test_6_2_control_lost_is_reset_and_no_quit(verb: bytes, reset: bool) -> None:
    p = begun(verb)
    p.feed(events.Ended(Leg.CLIENT, reset))
    assert ends(p)[0] == events.Reset(p.number)
    assert p.asked() == b"", "QUIT would say to the next hop that all is well"
    assert p.session.over


def test_6_2_after_its_data_fin_an_upload_is_complete() -> None:
    p = begun(b"STOR")
    p.feed(events.DataEnd(p.number))
    p.feed(events.Ended(Leg.CLIENT, reset=False))
    assert ends(p) == [events.Finish(p.number), events.Release(p.number)]


@pytest.mark.parametrize("verb", [b"RETR", b"STOR"])
def test_6_10_the_servers_death_is_reset_and_421(verb: bytes) -> None:
    p = begun(verb)
    p.feed(events.Ended(Leg.SERVER, reset=False))
    assert p.said()[:3] == b"421"
    assert ends(p)[0] == events.Reset(p.number)


def test_4_6_a_refused_transfer_leaves_nothing() -> None:
    p = Playbook().log_in().passive()
    p.client(b"RETR f\r\n")
    assert p.server(b"550 none\r\n") == b"550 none\r\n"
    assert ends(p) == [events.Reset(p.number), events.Release(p.number)]
    assert outcome(p) == "refused"
    assert p.client(b"RETR f\r\n")[:3] == b"425"


def test_10_5_a_refusal_whose_reset_came_first_is_a_refusal() -> None:
    p = Playbook().log_in().passive()
    p.incoming(Leg.CLIENT, CLIENT)
    p.client(b"RETR f\r\n")
    p.feed(events.DataReset(p.number, Leg.SERVER))
    assert p.server(b"550 none\r\n") == b"550 none\r\n"
    assert outcome(p) == "refused"


def test_4_2_every_1xx_passes_at_once() -> None:
    p = begun(b"STOR")
    assert p.server(b"125 FILE: x\r\n") == b"125 FILE: x\r\n"


def test_4_11_silence_is_timed_on_the_data_and_only_after_the_1xx() -> None:
    p = Playbook().log_in().passive()
    p.incoming(Leg.CLIENT, CLIENT)
    p.client(b"RETR f\r\n")
    p.feed(events.DataIdle(p.number))
    assert p.said() == b""
    p.server(b"150 x\r\n")
    p.feed(events.DataIdle(p.number))
    assert p.said() == b"426 N: no data for 300 s.\r\n"
    assert outcome(p) == "timeout"
    assert p.server(b"426 broken\r\n") == b"", "one final reply (3.21)"
    p.client(b"SYST\r\n")
    assert p.server(b"215 U\r\n") == b"215 U\r\n"


def test_4_11_no_other_timer_runs_while_data_moves() -> None:
    assert set(begun(b"RETR").timers) == set()


def test_4_1_an_unknown_verb_that_gets_1xx_moves_data() -> None:
    p = Playbook().log_in().passive()
    p.incoming(Leg.CLIENT, CLIENT)
    p.client(b"XPUT f\r\n")
    assert p.server(b"150 go\r\n") == b"150 go\r\n"
    (relay,) = p.did(events.Relay)
    assert isinstance(relay, events.Relay)
    assert relay.source is None
    p.feed(events.DataMoved(p.number, Leg.CLIENT))
    assert p.server(b"226 ok\r\n") == b""
    p.feed(events.DataEnd(p.number))
    assert p.said() == b"226 ok\r\n"


@pytest.mark.parametrize("here", [True, False])
def test_4_1_and_13_6_a_dial_that_fails_after_an_unknown_verbs_1xx_is_425(here: bool) -> None:
    p = Playbook().log_in()
    p.client(b"PASV\r\n")
    p.incoming(Leg.CLIENT, CLIENT)
    p.server(b"229 (|||45000|)\r\n")
    p.client(b"XFOO\r\n")
    p.server(b"150 x\r\n")
    p.said(), p.asked()
    p.feed(events.DialFailed(p.number, Leg.SERVER, "refused the connection", here))
    assert p.said() == b"425 N: %srefused the connection.\r\n" % (
        b"" if here else b"server 198.51.100.10:21 "
    )
    assert b"EPRT" not in p.asked(), "no other mode after the verb"
    assert p.server(b"200 x\r\n226 y\r\n") == b"", "one final reply"
    p.client(b"SYST\r\n")
    assert p.server(b"215 U\r\n") == b"215 U\r\n"
    assert outcome(p) == ("proxy-error" if here else "refused")


def test_2_11_a_final_reply_without_its_data_is_not_waited_for_without_end() -> None:
    p = Playbook().log_in().passive()
    p.incoming(Leg.CLIENT, CLIENT)
    p.client(b"RETR f\r\n")
    p.server(b"226 done\r\n")
    assert Timer.REPLY in p.timers


def test_2_11_an_abor_that_stops_moving_data_is_waited_for_as_any_other_command() -> None:
    p = begun(b"STOR")
    p.client(b"ABOR\r\n")
    assert Timer.REPLY in p.timers


def test_6_2_control_lost_before_an_unknown_verbs_1xx_is_no_whole_upload() -> None:
    p = Playbook().log_in().passive()
    p.incoming(Leg.CLIENT, CLIENT)
    p.client(b"XSTO f\r\n")
    p.feed(events.Ended(Leg.CLIENT, reset=False))
    p.asked()
    p.server(b"150 go\r\n")
    assert p.session.over
    assert ends(p)[0] == events.Reset(p.number)
    assert p.asked() == b"", "QUIT would say to the next hop that all is well"
    assert outcome(p) == "aborted"


def test_3_21_an_abor_of_ours_that_the_server_answers_together_with_the_transfer() -> None:
    p = Playbook().log_in().active()
    p.client(b"RETR f\r\n")
    p.feed(events.Dialled(p.number, Leg.CLIENT, 51001))
    p.server(b"150 x\r\n")
    p.feed(events.Expired(Timer.SERVER_DATA))
    p.client(b"SYST\r\n")
    p.asked(), p.said()
    assert p.server(b"226 both\r\n") == b""
    assert Timer.ABORT in p.timers
    p.feed(events.Expired(Timer.ABORT))
    assert p.asked() == b"SYST\r\n"


def test_3_21_a_server_that_takes_its_time_over_the_transfer_still_owes_both_replies() -> None:
    """ABOR has its time once the transfer is answered; else its reply would be the next command's."""
    p = Playbook().log_in().active()
    p.client(b"RETR f\r\n")
    p.feed(events.Dialled(p.number, Leg.CLIENT, 51001))
    p.server(b"150 x\r\n")
    p.feed(events.Expired(Timer.SERVER_DATA))
    p.asked(), p.said()
    p.feed(events.Expired(Timer.ABORT))
    p.client(b"SYST\r\n")
    assert p.server(b"426 broken\r\n") == b""
    assert Timer.ABORT in p.timers
    assert p.asked() == b""
    assert p.server(b"226 aborted\r\n") == b""
    assert p.asked() == b"SYST\r\n"


def test_1_9_no_more_than_a_few_commands_overtake_at_once() -> None:
    p = begun(b"RETR")
    p.client(b"NOOP\r\n" * 100)
    first = p.asked().count(b"NOOP")
    assert first < 20
    assert p.server(b"200 ok\r\n" * first) == b"200 ok\r\n" * first
    assert p.asked().count(b"NOOP") == first


def test_1_9_what_comes_behind_a_held_226_is_bounded() -> None:
    p = begun(b"RETR")
    assert p.server(b"226 done\r\n" + b"200 what\r\n" * 50_000) == b""
    assert not p.session.over
    assert p.server(b"200 what\r\n" * 100_000)[:3] == b"421"
    assert p.session.over
    assert ends(p)[0] == events.Reset(p.number)


def test_5_1_stat_of_a_path_waits() -> None:
    """Its 550 could not be told from the transfer's own."""
    p = begun(b"RETR")
    p.client(b"STAT nosuch\r\n")
    assert p.asked() == b""
    p.feed(events.DataEnd(p.number))
    p.server(b"226 done\r\n")
    assert p.asked() == b"STAT nosuch\r\n"


def test_3_21_an_active_client_that_does_not_answer_is_425_and_the_server_hears_nothing() -> None:
    p = Playbook().log_in().active()
    p.client(b"RETR f\r\n")
    p.feed(events.DialFailed(p.number, Leg.CLIENT, "refused the connection"))
    assert p.said() == b"425 N: the client refused the connection (10.1.0.10:45001).\r\n"
    assert p.asked() == b""


@pytest.mark.parametrize("preliminary", [b"", b"150 x\r\n"])
def test_3_21_a_client_that_never_connects_is_425_and_the_servers_word_is_swallowed(
    preliminary: bytes,
) -> None:
    p = Playbook().log_in().passive()
    p.client(b"RETR f\r\n")
    assert p.server(preliminary) == preliminary
    assert Timer.CLIENT_DATA in p.timers
    p.feed(events.Expired(Timer.CLIENT_DATA))
    assert p.said() == b"425 N: the client did not open its data connection within 30 s.\r\n"
    assert ends(p)[0] == events.Reset(p.number)
    p.client(b"SYST\r\n")
    assert p.server(b"426 broken\r\n") == b""
    assert p.server(b"215 U\r\n") == b"215 U\r\n"


def test_3_21_a_server_that_never_connects_is_425_and_gets_abor() -> None:
    p = Playbook().log_in().active()
    p.client(b"RETR f\r\n")
    p.feed(events.Dialled(p.number, Leg.CLIENT, 51001))
    assert Timer.SERVER_DATA not in p.timers, "a recall from tape may take minutes before the 1xx"
    p.server(b"150 x\r\n")
    p.asked()
    p.feed(events.Expired(Timer.SERVER_DATA))
    assert p.said() == b"425 N: server 198.51.100.10:21 did not open its data connection within 30 s.\r\n"
    assert p.asked() == b"ABOR\r\n"
    assert p.server(b"425 x\r\n226 y\r\n") == b""
    p.client(b"SYST\r\n")
    assert p.server(b"215 U\r\n") == b"215 U\r\n"


@pytest.mark.parametrize(
    "replies",
    [(b"426", b"226"), (b"426", b"225"), (b"225",), (b"226", b"226"), (b"451", b"226"), (b"426", b"502")],
)
@pytest.mark.parametrize("verb", [b"RETR", b"STOR"])
def test_5_4_the_replies_to_abor_are_the_servers_and_all_of_them(
    verb: bytes, replies: tuple[bytes, ...]
) -> None:
    p = begun(verb)
    p.client(b"ABOR\r\nSYST\r\n")
    assert p.asked() == b"ABOR\r\n"
    said = b"".join(p.server(code + b" x\r\n") for code in replies)
    assert said == b"".join(code + b" x\r\n" for code in replies)
    assert p.asked() == b"SYST\r\n"
    assert p.server(b"215 U\r\n") == b"215 U\r\n"
    assert outcome(p) == "aborted"


def test_5_4_an_abor_that_is_never_answered_does_not_stop_the_session() -> None:
    p = begun(b"RETR")
    p.client(b"ABOR\r\nSYST\r\n")
    assert p.server(b"226 both\r\n") == b"226 both\r\n"
    p.asked()
    p.feed(events.Expired(Timer.ABORT))
    assert p.asked() == b"SYST\r\n"


def test_5_5_abor_resets_the_client_and_drains_a_downloading_server_for_a_while() -> None:
    p = begun(b"RETR")
    p.client(b"ABOR\r\n")
    assert ends(p) == [events.Reset(p.number, Leg.CLIENT), events.Discard(p.number, Leg.SERVER)]
    p.feed(events.Expired(Timer.ABORT))
    assert ends(p) == [events.Reset(p.number, Leg.SERVER)]


def test_5_5_abor_resets_both_in_an_upload() -> None:
    p = begun(b"STOR")
    p.client(b"ABOR\r\n")
    assert ends(p) == [events.Reset(p.number)]


def test_5_3_to_the_next_hop_abor_takes_the_synch_form_and_to_a_server_it_is_plain() -> None:
    hop = {"hosts": [{"name": "n", "addresses": ["198.51.100.10"]}], "control_port": 21}
    p = Playbook(settings(next_hop=hop)).log_in().begin(b"RETR")
    p.client(b"\xff\xf4\xff\xf2ABOR\r\n")
    assert p.asked() == b"\xff\xf4\xff\xf2ABOR\r\n"
    p = begun(b"RETR")
    p.client(b"\xff\xf4\xff\xf2ABOR\r\n")
    assert p.asked() == b"ABOR\r\n"


def test_5_3_a_server_that_wants_it_gets_the_synch_form() -> None:
    servers = {
        "networks": ["198.51.100.0/25"],
        "control_ports": [21],
        "fixed": "198.51.100.10",
        "synch": True,
    }
    p = Playbook(settings(servers=servers)).log_in().begin(b"RETR")
    p.client(b"ABOR\r\n")
    assert p.asked() == b"\xff\xf4\xff\xf2ABOR\r\n"


def test_5_5_abor_after_the_end_of_the_data_takes_nothing_back() -> None:
    p = begun(b"RETR")
    p.feed(events.DataEnd(p.number))
    p.client(b"ABOR\r\n")
    assert p.server(b"226 a\r\n226 b\r\n") == b"226 a\r\n226 b\r\n"
    assert ends(p) == [events.Finish(p.number), events.Release(p.number)]


def test_5_6_abor_without_a_transfer() -> None:
    p = Playbook().log_in().passive()
    p.client(b"ABOR\r\n")
    assert ends(p) == [events.Reset(p.number), events.Release(p.number)]
    assert p.server(b"225 none\r\n") == b"225 none\r\n"


def test_5_6_abor_before_the_verb_left() -> None:
    p = Playbook().log_in()
    said = p.client(b"PASV\r\nRETR f\r\nABOR\r\n").split(b"\r\n")
    assert [line[:3] for line in said] == [b"227", b""]
    assert p.server(b"229 (|||45000|)\r\n")[:3] == b"426"
    assert p.asked() == b"EPSV\r\nABOR\r\n"
    assert p.server(b"226 x\r\n") == b"226 x\r\n"
    p.client(b"SYST\r\n")
    assert p.server(b"215 U\r\n") == b"215 U\r\n"


def test_5_6_abor_while_the_other_mode_is_tried_makes_its_late_answer_void() -> None:
    p = Playbook().log_in()
    p.client(b"PASV\r\nRETR f\r\n")
    p.server(b"229 (|||45000|)\r\n")
    p.feed(events.DialFailed(p.number, Leg.SERVER, "refused the connection"))
    assert p.client(b"ABOR\r\n")[:3] == b"426"
    assert p.server(b"500 no EPRT\r\n226 x\r\n") == b"226 x\r\n"
    assert p.asked() == b"EPSV\r\nEPRT |1|198.51.100.2|52001|\r\nABOR\r\n", "and no PORT"


def test_1_8_nothing_gets_into_the_middle_of_a_streamed_reply() -> None:
    p = begun(b"RETR")
    p.client(b"STAT\r\n")
    assert p.server(b"211-s\r\n") == b"211-s\r\n"
    p.feed(events.DataIdle(p.number))
    assert p.said() == b""
    assert p.server(b"211 e\r\n") == b"211 e\r\n426 N: no data for 300 s.\r\n"


def test_5_1_noop_and_stat_overtake_and_other_commands_wait() -> None:
    p = begun(b"RETR")
    p.client(b"NOOP\r\nSTAT\r\nPWD\r\n")
    assert p.asked() == b"NOOP\r\nSTAT\r\n"
    assert (
        p.server(b"200 ok\r\n211-s\r\n226 trap\r\n211 e\r\n") == b"200 ok\r\n211-s\r\n226 trap\r\n211 e\r\n"
    )
    p.feed(events.DataEnd(p.number))
    assert p.server(b"226 done\r\n") == b"226 done\r\n"
    assert p.asked() == b"PWD\r\n"


def test_5_1_what_comes_behind_a_held_226_stays_behind_it() -> None:
    p = begun(b"RETR")
    p.client(b"NOOP\r\n")
    assert p.server(b"226 done\r\n200 ok\r\n") == b""
    p.feed(events.DataEnd(p.number))
    assert p.said() == b"226 done\r\n200 ok\r\n"


def test_1_13_an_unsolicited_reply_behind_a_held_226_stays_behind_it() -> None:
    p = begun(b"RETR")
    assert p.server(b"226 done\r\n200 what\r\n") == b""
    p.feed(events.DataEnd(p.number))
    assert p.said() == b"226 done\r\n200 what\r\n"


def test_6_2_a_client_that_said_quit_and_went_does_not_hold_a_broken_transfer() -> None:
    p = begun(b"STOR")
    p.client(b"QUIT\r\n")
    p.feed(events.Ended(Leg.CLIENT, reset=False))
    assert not p.session.over
    p.feed(events.DataReset(p.number, Leg.CLIENT))
    assert p.session.over
    assert outcome(p) == "reset-by-client"


def test_1_11_noop_in_the_segment_of_the_verb_waits_for_the_1xx() -> None:
    p = Playbook().log_in().passive()
    p.incoming(Leg.CLIENT, CLIENT)
    p.client(b"RETR f\r\nNOOP\r\nSYST\r\n")
    assert p.asked() == b"RETR f\r\n"
    p.server(b"150 x\r\n")
    assert p.asked() == b"NOOP\r\n"


def test_5_7_quit_waits_for_the_transfer() -> None:
    p = begun(b"RETR")
    p.client(b"QUIT\r\n")
    p.feed(events.Ended(Leg.CLIENT, reset=False))
    assert p.asked() == b""
    p.server(b"226 done\r\n")
    p.feed(events.DataEnd(p.number))
    assert p.said() == b"226 done\r\n"
    assert p.asked() == b"QUIT\r\n"
    assert p.server(b"221 Bye\r\n") == b"221 Bye\r\n"
    assert p.session.over


def test_5_7_a_server_that_leaves_after_its_226_does_not_cut_the_data() -> None:
    p = begun(b"RETR")
    p.server(b"226 done\r\n")
    p.feed(events.Ended(Leg.SERVER, reset=False))
    assert ends(p) == []
    p.feed(events.DataEnd(p.number))
    assert p.said().startswith(b"226 done\r\n421 ")


@pytest.mark.parametrize("client", ["active", "passive"])
@pytest.mark.parametrize("server", ["active", "passive"])
@pytest.mark.parametrize("verb", [b"RETR", b"STOR"])
def test_3_2_any_pair_of_modes(client: str, server: str, verb: bytes) -> None:
    p = Playbook(settings(server_mode=server)).log_in()
    p.client(b"PASV\r\n" if client == "passive" else b"EPRT |1|10.1.0.10|45001|\r\n")
    p.server(b"229 (|||45000|)\r\n" if server == "passive" else b"200 ok\r\n")
    if server == "passive":
        p.feed(events.Dialled(p.number, Leg.SERVER, 53001))
    p.client(verb + b" f\r\n")
    if client == "active":
        p.feed(events.Dialled(p.number, Leg.CLIENT, 51001))
    assert p.asked().endswith(verb + b" f\r\n")
    p.server(b"150 x\r\n")
    if client == "passive":
        p.incoming(Leg.CLIENT, CLIENT)
    if server == "active":
        p.incoming(Leg.SERVER, SERVER)
    (relay,) = p.did(events.Relay)
    assert isinstance(relay, events.Relay)
    assert relay.source is (Leg.CLIENT if verb == b"STOR" else Leg.SERVER)
    p.feed(events.DataEnd(p.number))
    assert p.server(b"226 y\r\n") == b"150 x\r\n226 y\r\n" or outcome(p) == "complete"
    (log,) = p.logs("transfer")
    assert (log.fields["SLUICE_CLIENT_MODE"], log.fields["SLUICE_SERVER_MODE"]) == (client, server)


def test_5_4_an_answer_to_abor_may_straddle_the_time_in_which_it_must_come() -> None:
    p = begun(b"RETR")
    p.client(b"ABOR\r\n")
    p.server(b"426 x\r\n226-first\r\n")
    p.feed(events.Expired(Timer.ABORT))
    assert p.server(b"226 done\r\n") == b"226-first\r\n226 done\r\n"
    assert not p.session.over
    p.asked()
    p.client(b"SYST\r\n")
    assert p.asked() == b"SYST\r\n"


def test_10_7_one_abor_at_a_time() -> None:
    """A server that never answers is owed nothing more, however many a client sends."""
    p = begun(b"RETR")
    for _ in range(100):
        p.client(b"ABOR\r\n")
    assert p.asked() == b"ABOR\r\n"


def test_5_8_a_quit_that_waits_is_answered_221_when_the_server_leaves_after_its_226() -> None:
    p = begun(b"RETR")
    p.client(b"QUIT\r\n")
    p.server(b"226 done\r\n")
    p.feed(events.Ended(Leg.SERVER, reset=False))
    p.feed(events.DataEnd(p.number))
    assert p.said() == b"226 done\r\n221 Goodbye.\r\n"
    assert p.session.over


def test_13_6_the_other_mode_is_not_tried_where_settings_of_now_forbid_it() -> None:
    """F9: its data would be dropped without a word."""
    p = Playbook().log_in()
    p.client(b"PASV\r\nRETR f\r\n")
    p.server(b"229 (|||45000|)\r\n")
    p.asked()
    p.feed(events.Enforce(settings(server_mode="passive"), "", now=False))
    p.feed(events.DialFailed(p.number, Leg.SERVER, "refused the connection"))
    assert p.asked() == b""
    assert b"425 N: server 198.51.100.10:21 refused the connection" in p.said()


@pytest.mark.parametrize(("codes", "word"), [((500, 200), "refused"), ((200, 226), "complete")])
def test_6_9_beside_another_command_only_226_and_250_mean_complete(codes: tuple[int, int], word: str) -> None:
    p = begun(b"STOR")
    p.server(b"150 go\r\n")
    p.client(b"NOOP\r\n")
    p.feed(events.DataEnd(p.number))
    for code in codes:
        p.server(b"%d x\r\n" % code)
    assert outcome(p) == word
