# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults and argument_specs of every role say the same: the same variables, with the same values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(Path(__file__).parents[3].glob("roles/*"))


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text()) if file.exists() else {}


def options(role: Path) -> dict[str, Any]:
    """The public options of all entry points; a variable that stands in two of them is the same in both."""
    result: dict[str, Any] = {}
    for entry in read(role / "meta/argument_specs.yml")["argument_specs"].values():
        for name, option in entry.get("options", {}).items():
            if name.startswith("__"):
                continue
            assert result.setdefault(name, option).get("default") == option.get("default")
    return result


def test_there_are_roles() -> None:
    assert {role.name for role in ROLES} >= {"policy", "proxy", "user"}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_specs_agree(role: Path) -> None:
    defaults = read(role / "defaults/main.yml") or {}
    with_default = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert with_default == defaults


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_public_variables_bear_the_products_name(role: Path) -> None:
    assert all(name.startswith("sluice_") for name in options(role))


def test_the_roles_agree_with_each_other() -> None:
    """One description serves every role, so a variable has one default, one type and one set of choices."""
    seen: dict[str, Any] = {}
    for role in ROLES:
        for name, option in options(role).items():
            facts = {key: option.get(key) for key in ("type", "default", "choices", "elements")}
            assert seen.setdefault(name, facts) == facts, f"{role.name}: {name}"


def test_a_switch_is_read_as_one_however_it_is_said() -> None:
    """`-e sluice_log_refused=false` is a text, which a specification accepts and does not convert."""
    switches = {name for role in ROLES for name, option in options(role).items() if option["type"] == "bool"}
    assert switches
    for file in sorted(Path(__file__).parents[3].glob("roles/*/*/*")):
        if file.suffix in (".yml", ".j2") and file.parent.name in ("tasks", "templates", "vars"):
            for use in re.finditer(rf"\b({'|'.join(switches)})\b(?! to true)(.{{7}})", file.read_text()):
                assert use[2] == " | bool", f"{file}: {use[0]}"
