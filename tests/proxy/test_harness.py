# SPDX-License-Identifier: GPL-3.0-or-later
"""The harness by itself, the client straight at the fake server: it can tell what the tests ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .fake_client import SETUPS
from .harness import SERVER_CONTROL, Path, Site, changed, toml


@pytest.fixture
def direct(site: Site) -> Iterator[Path]:
    """C - S, no proxy."""
    net = site.net()
    path = Path(net, [], (net.server, SERVER_CONTROL), (net.server, SERVER_CONTROL))
    yield path
    path.stop()


@pytest.mark.parametrize("setup", SETUPS)
def test_a_fin_is_told_from_a_reset(direct: Path, setup: str) -> None:
    x = direct.open()
    for end in ("fin", "reset"):
        c_data, s_data = x.begin("RETR f", setup)
        s_data.send(b"some")
        assert c_data.receive(4) == b"some"
        if end == "fin":
            s_data.fin()
        else:
            s_data.reset()
        assert c_data.read_all() == (b"", end)
        x.s.reply(b"226 Done.")
        assert x.c.reply().code == 226
    x.in_step()


def test_a_control_fin_is_told_from_a_reset(direct: Path) -> None:
    x = direct.open()
    x.c.close()
    assert x.s.end() == "fin"
    y = direct.open()
    y.c.reset()
    assert y.s.end() == "reset"
    z = direct.open()
    z.s.reset()
    assert z.c.end()[1] == "reset"


def test_settings_are_toml_with_changes() -> None:
    settings = {"a": "x", "t": {"n": 1, "l": [{"k": "v"}], "gone": 2}}
    text = toml(changed(settings, {"t.n": 2.5, "t.gone": None}))
    assert text == 'a = "x"\n\n[t]\nn = 2.5\nl = [{ k = "v" }]\n'
