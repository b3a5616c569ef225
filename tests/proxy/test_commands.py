# SPDX-License-Identifier: GPL-3.0-or-later
"""7.9: what the policy denies is answered here and never reaches the server, through one proxy and two."""

from __future__ import annotations

import pytest

from .fake_client import SETUPS
from .harness import Paths


def test_7_9_and_7_1_only_what_a_list_allows(paths: Paths) -> None:
    """Of another client network, another list; FEAT shows each what will work for it."""
    verbs = ["FEAT", "TYPE", "PASV", "EPSV", "RETR", "SYST"]
    path = paths.own(
        1,
        client_side__commands=lambda net: [
            {"networks": [f"{net.other_client}/32"], "preset": "upload-only", "allow": ["MKD"]},
            {"allow": verbs},
        ],
    )
    feat = b"211-Features:\r\n SIZE\r\n MDTM\r\n EPRT\r\n EPSV\r\n UTF8\r\n211 End"
    x, y = path.open({"FEAT": feat}), path.open({"FEAT": feat, "MKD": b"257 x"}, source=path.net.other_client)
    assert x.c.cmd("FEAT").raw == b"211-Features:\r\n EPSV\r\n UTF8\r\n PASV\r\n211 End\r\n"
    assert y.c.cmd("FEAT").raw == b"211-Features:\r\n EPRT\r\n EPSV\r\n UTF8\r\n PASV\r\n211 End\r\n"
    assert x.c.cmd("MKD d").text == "550 N: the policy does not allow MKD."
    assert y.c.cmd("MKD d").code == 257
    assert x.c.cmd("PORT 1,2,3,4,5,6").text == "550 N: the policy does not allow PORT."
    c_data, s_data = x.begin("RETR f")
    s_data.send(b"content")
    s_data.close()
    assert c_data.read_all() == (b"content", "fin")
    x.s.reply(b"226 Done.")
    assert x.c.reply().code == 226
    x.in_step()


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
