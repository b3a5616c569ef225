# SPDX-License-Identifier: GPL-3.0-or-later
"""A run puts right what drifted, and says so once."""

from __future__ import annotations

from support import converge, fetch, listing, ok


def test_changed_user_number_is_followed() -> None:
    """The rules hold the number; a recreated user would silently leave the old one in them (POLICY F18)."""
    ok("f1", "systemctl stop sluice; usermod --uid 787 sluice; groupmod --gid 787 sluice")
    try:
        play = converge()
        assert play.recap("f1")["changed"] > 0
        assert play.recap("n1")["changed"] == 0
        assert "skuid 787" in listing("f1")
        assert "skuid 999" not in listing("f1")
        assert ok("f1", "ps -o uid= -p $(systemctl show --value -p MainPID sluice)").strip() == "787"
        assert fetch()
        assert converge().recap("f1")["changed"] == 0
    finally:
        ok("f1", "systemctl stop sluice; usermod --uid 999 sluice; groupmod --gid 999 sluice")
        converge()


def test_emptied_table_and_stopped_proxy_come_back() -> None:
    before = listing("n1")
    ok("n1", "systemctl stop sluice; nft flush chain inet sluice input")
    play = converge()
    assert play.recap("n1")["changed"] > 0
    assert play.recap("f1")["changed"] == 0
    assert listing("n1") == before
    assert fetch()
