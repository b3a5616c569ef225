#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Own one nftables table: compare loaded with wanted, load without a gap, keep it for the boot."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nft_table
short_description: Owns one nftables table
version_added: 0.1.0
description:
  - Compares the rules that are loaded with those that are wanted, so a flushed or edited table is healed.
  - Checks the rules away from the live ones and loads them in one transaction without a gap.
  - Only then writes them to O(path).
  - What the table holds beyond O(content), chains and sets alike, goes in the same transaction.
  - Touches no other table.
  - Two runs at once wait for each other.
author:
  - The sluice.ftp developers (@sluice)
attributes:
  check_mode:
    description:
      - The rules are checked by nft in a network namespace of their own.
      - Where nft or the user that the rules name is not there yet, a warning says what was left out.
    support: full
  diff_mode:
    description: The difference shows rules, without the values of counters.
    support: full
options:
  family:
    description: Family of the table.
    type: str
    choices: [inet, ip, ip6, arp, bridge, netdev]
    default: inet
  name:
    description: Name of the table.
    type: str
    required: true
  content:
    description:
      - The whole file for C(nft -f).
      - It declares the table, its sets and its chains, then flushes them, then fills them.
      - Needed unless O(state=absent).
      - In check mode V(<uid of NAME>) may stand for the number of a user that does not exist yet.
    type: str
  path:
    description: Where the file is kept for the next boot, with mode 0600. Its directory has to exist.
    type: path
    required: true
  state:
    description: V(absent) removes the table and the file.
    type: str
    choices: [present, absent]
    default: present
notes:
  - Needs root, and unshare of util-linux.
"""

EXAMPLES = r"""
- name: Load the table and keep it for the next boot
  sluice.ftp.nft_table:
    name: example
    path: /etc/example.nft
    content: |
      table inet example {
        chain input { type filter hook input priority filter; policy accept; }
      }
      flush table inet example
      table inet example {
        chain input {
          tcp dport 23 counter drop
        }
      }

- name: Take it off again
  sluice.ftp.nft_table:
    name: example
    path: /etc/example.nft
    state: absent
"""

RETURN = r"""
loaded:
  description: Whether the rules were loaded (in check mode, would be).
  returned: always
  type: bool
written:
  description: Whether the file at O(path) was written (in check mode, would be).
  returned: always
  type: bool
gapless:
  description: Whether the rules are replaced without a gap; false where a hook or the type of a set changes.
  returned: when the table was there and changes
  type: bool
left_out:
  description: The checks that check mode could not make on this host, as sentences.
  returned: always
  type: list
  elements: str
"""

import fcntl
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

LOCK = "/run/sluice.ftp.nft_table.lock"
LOCK_SECONDS = 60
UNMADE_USER = re.compile(r"<uid of [^>]*>")
FILE = re.compile(r"/\S*\.nft(?=:[0-9])")  # the name of a temporary file says nothing
CANARY = "sluice_check"  # a table beside ours while a file is checked: it shows that the file spares others
# Volatile, or not the same from one listing to the next (POLICY 5, drift).
VOLATILE = {"handle", "packets", "bytes", "expires", "index"}


class NftError(Exception):
    """A sentence for the user."""


@dataclass
class Table:
    """What nft lists of one table, comparable: rules in order, sets sorted, nothing volatile."""

    table: dict[str, Any] = field(default_factory=dict)
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    elements: dict[str, list[str]] = field(default_factory=dict)
    chains: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: dict[str, list[Any]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)  # maps, counters and what else an edit may have brought
    text: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self.text)

    def _compared(self) -> tuple[Any, ...]:
        return self.table, self.sets, self.elements, self.chains, self.rules, sorted(self.others)


def read_listing(listing: str, text: str) -> Table:
    """The table of `nft -j list table` and of `nft -s list table`."""
    result = Table(text=sorted_text(text))
    for entry in json.loads(listing)["nftables"]:
        for kind, value in entry.items():
            if kind == "metainfo":
                continue
            found = without_volatile(value)
            if kind == "table":
                result.table = found
            elif kind == "set":
                elements = found.pop("elem", [])
                # What the packet path itself keeps is no drift.
                dynamic = "dynamic" in found.get("flags", [])
                result.sets[found["name"]] = found
                result.elements[found["name"]] = [] if dynamic else sorted(json.dumps(e) for e in elements)
            elif kind == "chain":
                result.chains[found["name"]] = found
                result.rules.setdefault(found["name"], [])
            elif kind == "rule":
                result.rules.setdefault(found["chain"], []).append(found)
            else:
                result.others.append(json.dumps({kind: found}, sort_keys=True))
    return result


def without_volatile(value: Any) -> Any:
    """The same without handles, counters' values and expiry."""
    if isinstance(value, dict):
        return {key: without_volatile(each) for key, each in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [without_volatile(each) for each in value]
    return value


def sorted_text(text: str) -> str:
    """A listing whose sets and chains stand by name: the kernel lists them in the order of their making."""
    head, *rest = text.splitlines()
    blocks: list[list[str]] = []
    for line in rest:
        if line == "}":
            continue
        if re.match(r"\t\S.*\{$", line):
            blocks.append([])
        if line.strip() and blocks:
            blocks[-1].append(line)
    return "\n".join([head, *("\n".join(block) for block in sorted(blocks)), "}", ""])


def can_stay(live: Table, desired: Table) -> bool:
    """Whether the live table can be refilled without a gap (F8): no hook, priority or set type changes."""
    if live.others or desired.others or live.table != desired.table:
        return False
    if any(live.sets[name] != desired.sets[name] for name in live.sets.keys() & desired.sets.keys()):
        return False
    return all(
        _hook(live.chains[name]) == _hook(desired.chains[name])
        for name in live.chains.keys() & desired.chains.keys()
    )


def _hook(chain: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in chain.items() if key != "policy"}


def transaction(table: str, content: str, live: Table | None, desired: Table) -> str:
    """The one file that brings the live table to `content`; `table` is its family and name."""
    if live is None:
        return content
    if not can_stay(live, desired):
        return f"table {table} {{\n}}\ndelete table {table}\n{content}"
    # The content has flushed every rule by now, so nothing jumps to these any more.
    stale = [f"delete chain {table} {name}" for name in live.chains if name not in desired.chains]
    stale += [f"delete set {table} {name}" for name in live.sets if name not in desired.sets]
    return content.rstrip("\n") + "\n" + "".join(f"{each}\n" for each in stale)


class Nft:
    """The host's own nft (F17), for one table."""

    def __init__(self, nft: str, unshare: str, family: str, name: str) -> None:
        self.nft = nft
        self.unshare = unshare
        self.family = family
        self.name = name

    def _run(self, command: list[str], what: str) -> str:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(  # noqa: S603 (no shell reads what the user wrote)
            command, capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            reason = done.stderr.strip() or f"exit status {done.returncode}"
            raise NftError(f"{what}: {FILE.sub('line', reason)}")
        return done.stdout

    def live(self) -> Table | None:
        """What is loaded, or None where there is no such table."""
        # Not as JSON: for a table with flags, anybody's, nft 1.0.6 prints what is no JSON.
        tables = self._run([self.nft, "list", "tables"], "nft could not list the tables")
        if f"table {self.family} {self.name}" not in tables.splitlines():
            return None
        what = f"nft could not list the table {self.family} {self.name}"
        listing = self._run([self.nft, "-j", "list", "table", self.family, self.name], what)
        text = self._run([self.nft, "-s", "list", "table", self.family, self.name], what)
        try:
            return read_listing(listing, text)
        except ValueError:
            return Table(others=["flags"], text=sorted_text(text))

    def desired(self, content: str) -> Table:
        """What `content` gives when it is loaded in a network namespace of its own (F19)."""
        script = (
            '"$1" add table inet "$4" && "$1" -f "$5" && "$1" list tables && echo && '
            '"$1" -j list table "$2" "$3" && "$1" -s list table "$2" "$3"'
        )
        with temporary(content) as file:
            arguments = [self.nft, self.family, self.name, CANARY, file]
            command = [self.unshare, "-n", "/bin/sh", "-c", script, "sh", *arguments]
            out = self._run(command, "nft refuses the rules")
        tables, rest = out.split("\n\n", 1)
        if set(tables.splitlines()) != {f"table inet {CANARY}", f"table {self.family} {self.name}"}:
            own = f"{self.family} {self.name}"
            raise NftError(
                f"content: found rules that touch other tables too, expected the table {own} alone"
            )
        return read_listing(*rest.split("\n", 1))

    def load(self, content: str) -> None:
        """One transaction: all of it, or nothing."""
        with temporary(content) as file:
            self._run([self.nft, "-f", file], "nft could not load the rules, the former ones are in force")

    def delete(self) -> None:
        command = [self.nft, "delete", "table", self.family, self.name]
        self._run(command, f"nft could not delete the table {self.family} {self.name}")


@contextmanager
def temporary(content: str) -> Iterator[str]:
    """A file with that content, for root alone."""
    with tempfile.NamedTemporaryFile("w", suffix=".nft", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        yield file.name


@contextmanager
def locked(*, leave: bool) -> Iterator[None]:
    """Only one run at a time: the other waits, and then compares anew. Not `leave`: the lock's file goes."""
    deadline = time.monotonic() + LOCK_SECONDS
    while (descriptor := lock()) is None:
        if time.monotonic() > deadline:
            raise NftError(f"Another run has held {LOCK} for {LOCK_SECONDS} s; look for it, and try again")
        time.sleep(0.1)
    try:
        yield
        if not leave:
            Path(LOCK).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def lock() -> int | None:
    """The lock's file, locked; None where somebody else has it, or took it away meanwhile."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), Path(LOCK).lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def on_disk(path: Path, content: str) -> bool:
    """Whether the file holds just that, for root alone."""
    try:
        status = path.lstat()
        return path.is_file() and status.st_mode & 0o7777 == 0o600 and path.read_text("utf-8") == content
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def persist(path: Path, content: str) -> None:
    """Replace the file in one step that a power failure does not halve."""
    if not path.parent.is_dir():
        raise NftError(f"path: found no directory {path.parent}, expected it to be there")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def present(module: AnsibleModule, nft: Nft | None, content: str, path: Path) -> dict[str, Any]:
    """Load and keep `content`; returns the module's result."""
    table = f"{module.params['family']} {module.params['name']}"
    unmade = sorted(set(UNMADE_USER.findall(content)))
    if unmade and not module.check_mode:
        raise NftError(f"content: found {unmade[0]}, expected a number")
    left_out = []
    if nft is None:
        left_out.append("The rules were not checked by nft, which is not installed yet.")
    elif unmade:
        left_out.append("The rules were not compared, for the user that they name does not exist yet.")
    if nft is None or unmade:
        if nft is not None:
            nft.desired(UNMADE_USER.sub("4294967294", content))
        live = nft.live() if nft is not None else None
        diff = {"before": live.text if live else "", "after": content}
        return result(table, diff, loaded=True, written=True, left_out=left_out)

    desired = nft.desired(content)
    live = nft.live()
    loaded = live != desired
    written = not on_disk(path, content)
    if loaded and not module.check_mode:
        # Arming a rollback before, and confirming over a new connection after, belong around these lines.
        nft.load(transaction(table, content, live, desired))
        if nft.live() != desired:
            message = f"nft loaded the rules, but table {table} differs from them; is somebody changing it?"
            raise NftError(message)
    if written and not module.check_mode:
        persist(path, content)
    diff = {"before": live.text if live else "", "after": desired.text}
    extra = {"gapless": can_stay(live, desired)} if loaded and live is not None else {}
    return {**result(table, diff, loaded=loaded, written=written, left_out=left_out), **extra}


def absent(module: AnsibleModule, nft: Nft | None, path: Path) -> dict[str, Any]:
    """Remove table and file; returns the module's result."""
    table = f"{module.params['family']} {module.params['name']}"
    live = nft.live() if nft is not None else None  # without nft nothing of ours can be loaded
    there = os.path.lexists(path)
    if not module.check_mode:
        if nft is not None and live is not None:
            nft.delete()
        path.unlink(missing_ok=True)
    diff = {"before": live.text if live else "", "after": ""}
    return result(table, diff, loaded=live is not None, written=there, left_out=[])


def result(
    table: str, diff: dict[str, str], *, loaded: bool, written: bool, left_out: list[str]
) -> dict[str, Any]:
    headers = {"before_header": f"table {table}, loaded", "after_header": f"table {table}, wanted"}
    return {
        "changed": loaded or written,
        "loaded": loaded,
        "written": written,
        "left_out": left_out,
        "diff": {**headers, **diff},
    }


def find_nft(module: AnsibleModule) -> Nft | None:
    """The host's nft; None where check mode, or a removal, has to do without it."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", module.params["name"]):
        raise NftError(f"name: found '{module.params['name']}', expected letters, digits and _")
    if os.geteuid() != 0:
        raise NftError("This task runs as an ordinary user, expected root (become: true)")
    where = ["/usr/sbin", "/sbin", "/usr/local/sbin"]
    nft = module.get_bin_path("nft", opt_dirs=where)
    if nft is None:
        if module.check_mode or module.params["state"] == "absent":
            return None
        raise NftError("Found no nft on this host, expected the package nftables to be installed")
    unshare = module.get_bin_path("unshare", opt_dirs=where)
    if unshare is None:
        raise NftError("Found no unshare on this host, expected the package util-linux to be installed")
    return Nft(nft, unshare, module.params["family"], module.params["name"])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "family": {
                "type": "str",
                "choices": ["inet", "ip", "ip6", "arp", "bridge", "netdev"],
                "default": "inet",
            },
            "name": {"type": "str", "required": True},
            "content": {"type": "str"},
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["content"])],
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    try:
        nft = find_nft(module)
        if module.check_mode:
            outcome = run(module, nft, path)
        else:
            with locked(leave=module.params["state"] == "present"):
                outcome = run(module, nft, path)
    except (NftError, OSError) as exc:
        module.fail_json(msg=f"{exc}.".replace("..", "."))
    for each in outcome["left_out"]:
        module.warn(each)
    module.exit_json(**outcome)


def run(module: AnsibleModule, nft: Nft | None, path: Path) -> dict[str, Any]:
    if module.params["state"] == "absent":
        return absent(module, nft, path)
    content = module.params["content"]
    return present(module, nft, content if content.endswith("\n") else content + "\n", path)


if __name__ == "__main__":
    main()
