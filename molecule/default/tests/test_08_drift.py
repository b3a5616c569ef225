# SPDX-License-Identifier: GPL-3.0-or-later
"""A run puts right what drifted, and says so once."""

from __future__ import annotations

from support import converge, fetch, listing, ok


def test_changed_user_number_is_followed() -> None:
    """The rules hold the number; a recreated user would silently leave the old one in them (POLICY F18)."""
    old = ok("f1", "id -u sluice; id -g sluice").split()
    _renumber("787", "787")
    try:
        play = converge()
        assert play.recap("f1")["changed"] > 0
        assert play.recap("n1")["changed"] == 0
        assert "skuid 787" in listing("f1")
        assert f"skuid {old[0]}" not in listing("f1")
        assert ok("f1", "ps -o uid= -p $(systemctl show --value -p MainPID sluice)").strip() == "787"
        assert fetch()
        assert converge().recap("f1")["changed"] == 0
    finally:
        _renumber(*old)
        converge()


def _renumber(user: str, group: str) -> None:
    ok(
        "f1",
        f"systemctl stop sluice; groupmod --gid {group} sluice; usermod --uid {user} --gid {group} sluice",
    )


def test_emptied_table_and_stopped_proxy_come_back() -> None:
    before = listing("n1")
    ok("n1", "systemctl stop sluice; nft flush chain inet sluice input")
    play = converge()
    assert play.recap("n1")["changed"] > 0
    assert play.recap("f1")["changed"] == 0
    assert listing("n1") == before
    assert fetch()
