# SPDX-License-Identifier: GPL-3.0-or-later
"""The module code_release in directories of its own: whole or not at all, and exactly what was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.modules import code_release
from ansible_collections.sluice.ftp.plugins.modules.code_release import ReleaseError, release_name

FILES = {"p/__init__.py": "", "p/__main__.py": "print('grüße')\n", "p/net/a.py": "a = 1\n"}
NAME = release_name("1.0", FILES)


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root's, so that everybody can run this."""
    monkeypatch.setattr(code_release, "OWNER", (os.getuid(), os.getgid()))


def run(root: Path, files: dict[str, str] = FILES, *, check_mode: bool = False) -> dict[str, Any]:
    return code_release.run(root, release_name("1.0", files), files, check_mode=check_mode)


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Each path below with its mode, and its text if it is a file."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode & 0o7777,
            path.read_text() if path.is_file() else "",
        )
        for path in root.rglob("*")
        if path.name != code_release.LOCK
    }


def test_installs_once(tmp_path: Path) -> None:
    root = tmp_path / "a/b"
    umask = os.umask(0o077)
    try:
        first = run(root)
    finally:
        os.umask(umask)
    assert (first["changed"], first["complete"], first["name"]) == (True, True, NAME)
    assert root.stat().st_mode & 0o7777 == 0o755
    directories = {NAME: (0o755, ""), f"{NAME}/p": (0o755, ""), f"{NAME}/p/net": (0o755, "")}
    assert tree(root) == directories | {f"{NAME}/{path}": (0o644, text) for path, text in FILES.items()}
    second = run(root)
    assert (second["changed"], second["diff"]["before"]) == (False, "")


def test_check_mode_says_the_same_and_does_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    check = run(root, check_mode=True)
    assert (check["changed"], check["complete"], check["name"]) == (True, False, NAME)
    assert not root.exists()
    real = run(root)
    assert real["diff"] == check["diff"]
    assert run(root, check_mode=True)["changed"] is False
    assert run(root, check_mode=True)["complete"] is True


def _link(release: Path) -> None:
    (release / "p/net/a.py").rename(release.parent / "moved")
    (release / "p/net/a.py").symlink_to(release.parent / "moved")


TAMPERED: dict[str, Callable[[Path], object]] = {
    "p/net/a.py: another text": lambda release: (release / "p/net/a.py").write_text("a = 2\n"),
    "p/net/a.py: missing": lambda release: (release / "p/net/a.py").unlink(),
    "p/net/a.py: another owner or mode": lambda release: (release / "p/net/a.py").chmod(0o664),
    "p/net: another owner or mode": lambda release: (release / "p/net").chmod(0o777),
    ".: another owner or mode": lambda release: release.chmod(0o775),
    "p/net/a.py: another kind of file": _link,
    # Python would take it for its own module: the release stands before the library.
    "json.py: not of this release": lambda release: (release / "json.py").write_text(""),
    "p/__pycache__: not of this release": lambda release: (release / "p/__pycache__").mkdir(),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_differs_is_named_and_healed(tmp_path: Path, what: str) -> None:
    run(tmp_path)
    before = tree(tmp_path)
    TAMPERED[what](tmp_path / NAME)
    check = run(tmp_path, check_mode=True)
    assert check["diff"]["before"] == f"{tmp_path / NAME}: {what}\n"
    assert run(tmp_path)["changed"] is True
    (tmp_path / "moved").unlink(missing_ok=True)
    assert tree(tmp_path) == before
    assert run(tmp_path)["changed"] is False


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_directory_is_replaced(tmp_path: Path, kind: str) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    run(elsewhere)
    root.mkdir()
    if kind == "file":
        (root / NAME).touch()
    else:
        (root / NAME).symlink_to(elsewhere / NAME)
    assert run(root)["changed"] is True
    assert not (root / NAME).is_symlink()
    assert tree(root) == tree(elsewhere)


def test_nothing_is_half_there_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full: neither a new release, nor a change of one that was there, nor anything beside it."""
    run(tmp_path)
    before = tree(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path, {**FILES, "p/b.py": "b = 1\n"})
    assert tree(tmp_path) == before


def test_what_a_killed_run_left_goes(tmp_path: Path) -> None:
    run(tmp_path)
    before = tree(tmp_path)
    (tmp_path / f"{code_release.UNFINISHED}x/p").mkdir(parents=True)
    assert run(tmp_path)["changed"] is False
    assert tree(tmp_path) == before


def test_other_releases_are_named_and_left_alone(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "current").symlink_to(NAME)
    other = {**FILES, "p/net/a.py": "a = 2\n"}
    assert run(tmp_path, other, check_mode=True)["others"] == [NAME]
    assert run(tmp_path, other)["others"] == [NAME]
    assert {each.name for each in tmp_path.iterdir()} - {code_release.LOCK} == {
        NAME,
        release_name("1.0", other),
        "current",
    }


def test_the_name_tells_releases_apart() -> None:
    assert release_name("1.0", dict(reversed(FILES.items()))) == NAME
    others = [{"p/a": "bc"}, {"p/ab": "c"}, {"p/a": "b", "p/c": ""}, {"p/a": "", "p/bc": ""}]
    assert len({release_name("1.0", files) for files in others}) == len(others)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "", "."])
def test_a_path_stays_below_the_release(path: str) -> None:
    with pytest.raises(ReleaseError, match=r"files: found the path '.*', expected one below the release"):
        release_name("1.0", {path: ""})


@pytest.mark.parametrize("version", ["", "../1", ".1", "1/2", "1 2"])
def test_a_version_is_part_of_a_name(version: str) -> None:
    with pytest.raises(ReleaseError, match=r"version: found '.*', expected letters"):
        release_name(version, FILES)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    with pytest.raises(ReleaseError, match=r"root: found no directory at .*, expected one, or nothing"):
        run(tmp_path / "root")
