# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe of the path says of what it found."""

from __future__ import annotations

import io

import pytest
from sluice import ctl
from sluice.probe import Step, leg_of, verdict


@pytest.mark.parametrize(
    ("reply", "leg"),
    [
        ("421 N: server 198.51.100.10:21 refused the connection", "N-S"),
        ("530 N: server 192.0.2.9 is not in the allowed networks", "N-S"),
        ("421 N: next hop M (10.3.0.2:21) did not answer within 10 s", "N-M"),
        ("425 N: the client (10.2.0.1:52001) did not answer within 30 s", "F-N"),
        ("425 M: the client did not open its data connection within 30 s", "before M"),
        ("530 Login incorrect", "beyond N"),
        ("425 N: no free port in 50000-50999", "beyond N"),
    ],
)
def test_a_hops_own_refusal_names_the_leg(reply: str, leg: str) -> None:
    assert leg_of(reply, "F-N", "beyond N") == leg


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([Step("F-N", "control", True)], "Every leg works."),
        ([Step("F-N", "control", True), Step("F-N", "data", None, "no user")], "What was tried works."),
        (
            [Step("F-N", "control", False, "next hop N (10.2.0.2:21) refused the connection")],
            "F-N control fails: next hop N (10.2.0.2:21) refused the connection (nothing listens there).",
        ),
        (
            [
                Step("F-N", "a", True),
                Step("N-S", "b", False, "did not answer within 10 s"),
                Step("x", "y", False),
            ],
            "N-S b fails: did not answer within 10 s "
            "(a packet filter on the way drops it, or that host is away).",
        ),
        ([Step("N-S", "login", False, "530 Login incorrect")], "N-S login fails: 530 Login incorrect."),
    ],
)
def test_the_first_leg_that_fails_is_named_with_the_probable_cause(steps: list[Step], sentence: str) -> None:
    assert verdict(steps) == sentence


@pytest.mark.parametrize(
    ("place", "user", "stdin", "asked"),
    [
        ("", "", "", {}),
        ("192.0.2.9:2121", "", "", {"server": "192.0.2.9:2121"}),
        ("a@b@192.0.2.9", "", "secret\nrest", {"server": "192.0.2.9", "user": "a@b", "password": "secret"}),
        ("", "anna", "s\n", {"user": "anna", "password": "s"}),
        ("192.0.2.9", "anonymous", "", {"server": "192.0.2.9", "user": "anonymous", "password": "sluice@"}),
    ],
)
def test_a_password_is_read_from_stdin(
    monkeypatch: pytest.MonkeyPatch, place: str, user: str, stdin: str, asked: dict[str, str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    assert ctl.errand(place, user) == asked
