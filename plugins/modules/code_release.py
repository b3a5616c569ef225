#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install one release of a program's code beside the others: whole, or not at all."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: code_release
short_description: Installs one release of a program beside the others
version_added: 0.1.0
description:
  - Installs the files as a directory of O(root) whose name is the version and a digest of the files.
  - That directory appears whole or not at all.
  - It belongs to root and holds nothing else. Whatever differs, it is replaced as a whole.
  - Nothing points at the release afterwards that did not before; that is the next task's matter.
  - Two runs at once wait for each other.
author:
  - The sluice.ftp developers (@sluice)
attributes:
  check_mode:
    description: Compares, and installs nothing.
    support: full
  diff_mode:
    description: Names the files that differ, without their text.
    support: full
options:
  root:
    description: The directory of all releases. It is made where it is missing.
    type: path
    required: true
  version:
    description: The version, with which the name of the release begins.
    type: str
    required: true
  files:
    description:
      - The whole release, each file's path in it and its text.
      - They are no secret, but too long for logs.
    type: dict
    required: true
notes:
  - Needs root.
"""

EXAMPLES = r"""
- name: Install the code of this version
  sluice.ftp.code_release:
    root: /usr/local/lib/example
    version: 1.2.0
    files:
      example/__init__.py: |
        print("hello")
  register: result

- name: Point at it
  ansible.builtin.file:
    path: /usr/local/lib/example/current
    src: "{{ result.name }}"
    state: link
    force: "{{ ansible_check_mode }}"
    follow: false
"""

RETURN = r"""
name:
  description: The name of the release, a directory of O(root).
  returned: always
  type: str
  sample: 0.1.0-1f2e3d4c5b6a
complete:
  description: Whether the release is there now, whole. In check mode it may not be.
  returned: always
  type: bool
others:
  description: The names of the other directories in O(root), former releases.
  returned: always
  type: list
  elements: str
"""

import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from ansible.module_utils.basic import AnsibleModule

OWNER = (0, 0)
DIRECTORY = 0o755
FILE = 0o644
LOCK = ".lock"
UNFINISHED = ".unfinished."  # under the lock only what a killed run has left is called so


class ReleaseError(Exception):
    """A sentence for the user."""


def release_name(version: str, files: Mapping[str, str]) -> str:
    """The version and a digest of all paths and texts; raises ReleaseError."""
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+~-]*", version):
        raise ReleaseError(f"version: found '{version}', expected letters, digits and any of . + ~ -")
    digest = hashlib.sha256()
    for path, text in sorted(files.items()):
        parts = PurePosixPath(path).parts
        if not parts or path != "/".join(parts) or parts[0] == "/" or ".." in parts:
            raise ReleaseError(f"files: found the path '{path}', expected one below the release")
        if not isinstance(text, str):
            raise ReleaseError(f"files: found {type(text).__name__} as '{path}', expected its text")
        for part in (path.encode(), text.encode()):
            digest.update(f"{len(part)}:".encode() + part)
    return f"{version}-{digest.hexdigest()[:12]}"


def directories(files: Mapping[str, str]) -> set[str]:
    """The directories that the files need below the release, and `.` itself."""
    return {str(folder) for path in files for folder in PurePosixPath(path).parents}


def differences(release: Path, files: Mapping[str, str]) -> list[str]:
    """What is not as it should be in the release, as `PATH: WHAT`; empty where all is."""
    wanted = {**dict.fromkeys(directories(files)), **files}
    there = [Path(folder, name) for folder, below, names in os.walk(release) for name in (*below, *names)]
    found = {}
    for path in (release, *there):
        place = str(path.relative_to(release))
        found[place] = difference(path, wanted[place]) if place in wanted else "not of this release"
    found |= dict.fromkeys(wanted.keys() - found.keys(), "missing")
    return [f"{place}: {what}" for place, what in sorted(found.items()) if what]


def difference(path: Path, text: str | None) -> str:
    """What is wrong with one file of that text, or with a directory where there is none; empty if nothing."""
    status = path.lstat()
    kind, mode = (stat.S_IFDIR, DIRECTORY) if text is None else (stat.S_IFREG, FILE)
    if stat.S_IFMT(status.st_mode) != kind:
        return "another kind of file"
    if (status.st_uid, status.st_gid) != OWNER or stat.S_IMODE(status.st_mode) != mode:
        return "another owner or mode"
    if text is not None and path.read_bytes() != text.encode():
        return "another text"
    return ""


def install(root: Path, name: str, files: Mapping[str, str]) -> None:
    """Put the release in its place, written to the disk before; what stood there goes."""
    with unfinished(root) as new:
        for folder in sorted(directories(files) - {"."}):
            (new / folder).mkdir()
            own(new / folder, DIRECTORY)
        for path, text in files.items():
            with (new / path).open("xb") as file:
                file.write(text.encode())
                own(new / path, FILE)
                file.flush()
                os.fsync(file.fileno())
        own(new, DIRECTORY)
        for folder in directories(files):
            sync(new / folder)
        if os.path.lexists(root / name):
            with unfinished(root) as old:
                (root / name).rename(old / name)
                new.rename(root / name)
        else:
            new.rename(root / name)
        sync(root)


@contextmanager
def unfinished(root: Path) -> Iterator[Path]:
    """A directory beside the releases that is gone afterwards, unless it was renamed."""
    directory = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=root))
    try:
        yield directory
    finally:
        remove(directory)


def own(path: Path, mode: int) -> None:
    os.chown(path, *OWNER)
    path.chmod(mode)


def sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove what is there, a directory or not."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Only one run at a time in this directory; the other waits, and then compares anew."""
    # For root alone, so that nobody else can hold it.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(root / LOCK, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def run(root: Path, name: str, files: Mapping[str, str], *, check_mode: bool) -> dict[str, Any]:
    """Compare, and install what differs; returns the module's result."""
    wrong = difference(root, None) if os.path.lexists(root) else "missing"
    if wrong == "another kind of file":
        raise ReleaseError(f"root: found no directory at {root}, expected one, or nothing")
    if check_mode:
        return result(root, name, files, wrong)
    if wrong:
        root.mkdir(parents=True, exist_ok=True)
        own(root, DIRECTORY)
    with locked(root):
        for left in root.glob(f"{UNFINISHED}*"):
            remove(left)
        found = result(root, name, files, wrong)
        if not found["complete"]:
            install(root, name, files)
        return {**found, "complete": True}


def result(root: Path, name: str, files: Mapping[str, str], root_wrong: str) -> dict[str, Any]:
    """The module's result as it stands before anything is installed."""
    there = os.path.lexists(root / name)
    wrong = differences(root / name, files) if there else ["missing"]
    before = [f"{root}: {root_wrong}"] if root_wrong else []
    before += [f"{root / name}: {each}" for each in wrong]
    entries = root.iterdir() if root.is_dir() else ()
    others = [each.name for each in entries if each.is_dir() and not each.is_symlink()]
    return {
        "changed": bool(before),
        "name": name,
        "complete": not wrong,
        "others": sorted(each for each in others if each != name and not each.startswith(".")),
        "diff": {
            "before_header": "the code's differences",
            "after_header": "none",
            "before": "".join(f"{each}\n" for each in before),
            "after": "",
        },
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "files": {"type": "dict", "required": True, "no_log": True},  # 170 KB in the log of each run
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(msg="This task runs as an ordinary user, expected root (become: true).")
    files = module.params["files"]
    try:
        name = release_name(module.params["version"], files)
        outcome = run(Path(module.params["root"]), name, files, check_mode=module.check_mode)
    except (ReleaseError, OSError) as exc:
        module.fail_json(msg=f"{exc}.".replace("..", "."))
    module.exit_json(**outcome)


if __name__ == "__main__":
    main()
