# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of nft_table, against a host that answers as told (POLICY 5)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.sluice.ftp.plugins.action import nft_table

ARGUMENTS = {"name": "t", "content": "...", "path": "/etc/t.nft", "rollback_seconds": 30}
LOADED = {"changed": True, "pending": True, "written": False, "loaded": True, "diff": {"after": "the rules"}}
CONFIRMED = {"changed": True, "pending": False, "written": True, "loaded": False}
ROLLED_BACK = {"failed": True, "rolled_back": True, "msg": "Too late."}
CUT = AnsibleConnectionFailure("ssh: connect to host f1 port 22: Connection timed out")


class Host:
    """What the host answers, one after the other; `said` is what it was asked, `new` a new connection."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.said: list[str] = []

    def reset(self) -> None:
        self.said.append("new")

    def execute(self, module_args: dict[str, Any] | None = None, **_: Any) -> dict[str, Any]:
        self.said.append((module_args or {}).get("state", "load"))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


def run(monkeypatch: pytest.MonkeyPatch, host: Host, *, check: bool = False, **more: Any) -> dict[str, Any]:
    """The task's result on that host, in a time of its own that passes with every sleep."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    action = nft_table.ActionModule.__new__(nft_table.ActionModule)
    action._task = SimpleNamespace(args=ARGUMENTS | more, check_mode=check)
    action._connection = host
    action._execute_module = host.execute
    result: dict[str, Any] = action.run(task_vars={"inventory_hostname": "f1"})
    return result


def test_what_is_loaded_is_confirmed_over_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(LOADED, CONFIRMED)
    result = run(monkeypatch, host)
    assert host.said == ["load", "new", "confirmed"]
    assert (result["changed"], result["pending"], result["written"], result["loaded"]) == (
        True,
        False,
        True,
        True,
    )
    assert result["diff"] == LOADED["diff"]


@pytest.mark.parametrize(
    "answer", [CONFIRMED, {"changed": False, "pending": False}, {"failed": True, "msg": "no"}]
)
def test_where_nothing_is_pending_nothing_more_happens(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    host = Host(answer)
    assert run(monkeypatch, host) == answer
    assert host.said == ["load"]


def test_every_try_is_a_new_connection_until_one_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(LOADED, CUT, CUT, CONFIRMED)
    assert run(monkeypatch, host)["written"] is True
    assert host.said == ["load", *["new", "confirmed"] * 3]


def test_a_slow_sudo_is_waited_for_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """ansible-core 2.16 says that with a plain AnsibleError."""
    host = Host(LOADED, AnsibleError("Timeout (12s) waiting for privilege escalation prompt"), CONFIRMED)
    assert run(monkeypatch, host)["written"] is True


def test_a_reset_that_connects_at_once_is_one_of_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """paramiko's does."""
    host = Host(LOADED, CONFIRMED)
    resets = iter([CUT, None])

    def reset() -> None:
        host.said.append("new")
        if error := next(resets):
            raise error

    monkeypatch.setattr(host, "reset", reset)
    assert run(monkeypatch, host)["written"] is True
    assert host.said == ["load", "new", "new", "confirmed"]


@pytest.mark.parametrize("first", [LOADED, CUT])
def test_a_rollback_fails_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, first: dict[str, Any] | Exception
) -> None:
    """Also where the new rules cut the connection that loaded them."""
    result = run(monkeypatch, Host(first, *[CUT] * 20, ROLLED_BACK))
    assert result["failed"] is True
    assert result["msg"] == (
        "f1: the new rules of table inet t could not be confirmed over a new connection within 30 s of "
        "loading them, so the former rules are in force again, now and at the next boot; "
        "expected the new rules to let Ansible in."
    )


def test_a_confirmation_that_fails_says_that_the_rules_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Host(LOADED, {"failed": True, "msg": "No space left on device."}))
    assert result["msg"] == "No space left on device. Unless confirmed, the rules go back within 30 s."


def test_a_host_that_stays_away_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        AnsibleConnectionFailure, match=r"^No answer for 45 s since new rules were to be loaded"
    ):
        run(monkeypatch, Host(LOADED, CUT))


@pytest.mark.parametrize("how", [{"check": True}, {"rollback_seconds": None}, {"state": "absent"}])
def test_a_lost_connection_is_waited_for_only_where_something_goes_back(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    host = Host(CUT)
    with pytest.raises(AnsibleConnectionFailure, match=r"^ssh: connect"):
        run(monkeypatch, host, **how)
    assert host.said == ["load"]
