# SPDX-License-Identifier: GPL-3.0-or-later
"""7.9: what the policy denies is answered here and never reaches the server, through one proxy and two."""

from __future__ import annotations

import pytest

from .fake_client import SETUPS
from .harness import Paths


@pytest.mark.parametrize("hops", [1, 2])
def test_7_9_a_read_only_path(paths: Paths, hops: int) -> None:
    """The rule stands on the first hop; fetching goes on as ever after a denial."""
    rules = [{"preset": "read-only"}]
    path = paths.one(client_side__commands=rules) if hops == 1 else paths.two(f__client_side__commands=rules)
    x = path.open()
    hop = path.first.name
    for line in ("DELE f", "dele f", "SITE CHMOD 600 f", "XFOO"):
        assert x.c.cmd(line).text == f"550 {hop}: the policy does not allow {line.split()[0].upper()}."
    for setup in SETUPS:
        x.c.setup(setup)
        assert x.c.cmd("STOR f").text == f"550 {hop}: the policy does not allow STOR."
        c_data, s_data = x.begin("RETR f", setup)
        s_data.send(b"content")
        s_data.close()
        assert c_data.read_all() == (b"content", "fin")
        x.s.reply(b"226 Done.")
        assert x.c.reply().code == 226
    assert not {line.split()[0].upper() for line in x.s.lines} & {b"DELE", b"SITE", b"XFOO", b"STOR"}
    x.in_step()
