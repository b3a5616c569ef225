#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Own one nftables table: compare loaded with wanted, load without a gap, confirm, keep it for the boot."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nft_table
short_description: Owns one nftables table
version_added: 0.1.0
description:
  - Compares the rules that are loaded with those that are wanted, so a flushed or edited table is healed.
  - Checks the rules away from the live ones and loads them in one transaction without a gap.
  - With O(rollback_seconds), the former rules come back by themselves unless Ansible gets in anew in time.
    A reboot before that brings them back, too.
  - Only then writes the rules to O(path).
  - What the table holds beyond O(content), chains and sets alike, goes in the same transaction.
  - Touches no other table, nor a table of that name that somebody else loaded.
  - Two runs at once wait for each other, until what the first one loaded is confirmed or taken back.
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
  rollback_seconds:
    description:
      - Loaded rules are taken back after so many seconds unless they have been confirmed.
      - The task confirms them itself, over a new connection to the host.
      - Where none comes through, it fails once the former rules are in force again.
      - What is taken back comes in one transaction, but not without a gap.
      - Without this option the rules are kept at once.
    type: int
  state:
    description:
      - V(present) loads the table and keeps it.
      - V(confirmed) ends the rollback that V(present) has armed, and keeps the file. The task runs it itself.
      - V(absent) removes the table and the file, and forgets a change that is still to be confirmed.
    type: str
    choices: [present, confirmed, absent]
    default: present
notes:
  - Needs root, nft 1.0.6 or newer, unshare of util-linux, and with O(rollback_seconds) systemd.
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

- name: Load a change that might lock us out
  sluice.ftp.nft_table:
    name: example
    path: /etc/example.nft
    content: "{{ lookup('ansible.builtin.file', 'example.nft') }}"
    rollback_seconds: 30

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
pending:
  description: Whether the rules have still to be confirmed; never so when the task has ended well.
  returned: always
  type: bool
rolled_back:
  description: Whether the former rules came back.
  returned: when rules were not confirmed in time
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
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sluice.ftp.plugins.module_utils.nft import (
    OLDEST,
    Nft,
    NftError,
    can_stay,
    former,
    transaction,
)
from ansible_collections.sluice.ftp.plugins.module_utils.rollback import Rollback, RollbackError

LOCK = "/run/sluice.ftp.nft_table.lock"
LOCK_SECONDS = 60
UNMADE_USER = re.compile(r"<uid of [^>]*>")


class RolledBackError(Exception):
    """A sentence for the user: the former rules are in force."""


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


@contextmanager
def staged(path: Path, content: str) -> Iterator[Callable[[], None]]:
    """Write the file beside its place; what is yielded puts it there, in a step that no power cut halves."""
    if not path.parent.is_dir():
        raise NftError(f"path: found no directory {path.parent}, expected it to be there")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)

    def put() -> None:
        Path(name).rename(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield put
    finally:
        Path(name).unlink(missing_ok=True)


class Task:
    """What the user asked for, of one table."""

    def __init__(self, module: AnsibleModule, nft: Nft | None) -> None:
        params = module.params
        self.nft = nft
        self.check_mode: bool = module.check_mode
        self.table = f"{params['family']} {params['name']}"
        self.path = Path(params["path"])
        self.content: str = (params["content"] or "").rstrip("\n") + "\n"
        self.seconds: int = params["rollback_seconds"] or 0
        self.rollback = Rollback(self.table, module.get_bin_path)

    def present(self) -> dict[str, Any]:
        """Load the content and keep it, or leave it pending where there is to be a rollback."""
        unmade = sorted(set(UNMADE_USER.findall(self.content)))
        if unmade and not self.check_mode:
            raise NftError(f"content: found {unmade[0]}, expected a number")
        if self.nft is None or unmade:
            return self._foreseen(self.nft)

        nft = self.nft
        desired = nft.desired(self.content)
        live = nft.live()
        loaded = live != desired
        written = not on_disk(self.path, self.content)
        if loaded and live is not None:
            self._refuse_foreign()
        pending = loaded and self.seconds > 0 and not self.check_mode
        if loaded and not self.check_mode:
            back = former(self.table, live)
            if pending:
                what = (
                    f"what is loaded of table {self.table} could not be brought back, so nothing was loaded"
                )
                nft.check(back, what)
                self.rollback.arm(nft.nft, back, self.content, self.seconds)
            try:
                nft.load(transaction(self.table, self.content, live, desired))
            except NftError:
                self.rollback.clear()
                raise
            if pending and not self.rollback.armed():
                nft.load(back)  # the timer was so early that the rules came after it
                raise NftError(f"Loading took longer than {self.seconds} s, so the former rules are in force")
            if nft.live() != desired:
                raise NftError(f"Loaded the rules, but table {self.table} differs; is somebody changing it?")
        if written and not self.check_mode and not pending:
            self._persist()
        if not pending and not self.check_mode:
            self.rollback.clear()  # what a killed run has left
        extra = {"gapless": can_stay(live, desired)} if loaded and live is not None else {}
        diff = {"before": live.text if live else "", "after": desired.text}
        kept = written and not pending
        return {**self._result(diff, loaded=loaded, written=kept), "pending": pending, **extra}

    def _refuse_foreign(self) -> None:
        """A table that neither a file nor a change of ours explains is somebody else's."""
        if not os.path.lexists(self.path) and self.rollback.wanted() is None:
            raise NftError(
                f"Found a live table {self.table} that no file {self.path} explains, expected none or one of "
                f"this module's own; `nft list table {self.table}` shows it, and if nobody needs it, "
                f"`nft delete table {self.table}` makes room"
            )

    def _foreseen(self, nft: Nft | None) -> dict[str, Any]:
        """What check mode can say where nft or the rules' user is not there yet (F24)."""
        live = None
        if nft is None:
            left_out = "The rules were not checked by nft, which is not installed yet."
        else:
            nft.desired(UNMADE_USER.sub("4294967294", self.content))
            live = nft.live()
            if live is not None:
                self._refuse_foreign()
            left_out = "The rules were not compared, for the user that they name does not exist yet."
        diff = {"before": live.text if live else "", "after": self.content}
        return self._result(diff, loaded=True, written=True, left_out=[left_out])

    def confirmed(self) -> dict[str, Any]:
        """Take the say from the timer, and only then keep the file."""
        nft = self.nft
        if nft is None:
            raise NftError("Found no nft on this host, expected the package nftables to be installed")
        desired = nft.desired(self.content)
        live = nft.live()
        wanted = self.rollback.wanted()
        ours = wanted == self.content
        if self.rollback.lost() if ours else live != desired:
            raise RolledBackError(self._too_late())
        if live != desired:
            raise NftError(f"Table {self.table} differs from what was loaded; is somebody changing it?")
        if wanted is not None and not ours:
            raise NftError(f"Found another run's change of table {self.table} pending, expected this run's")
        written = not on_disk(self.path, self.content)
        if not self.check_mode:
            # A full disk fails while the file is staged, the rollback still being armed.
            with staged(self.path, self.content) as put:
                if ours and not self.rollback.claim():
                    raise RolledBackError(self._too_late())
                if written:
                    put()
            self.rollback.clear()
        diff = {"before": desired.text, "after": desired.text}
        return self._result(diff, loaded=False, written=written)

    def _too_late(self) -> str:
        return (
            f"The rules of table {self.table} were not confirmed in time, so the former ones are in force "
            f"again; `journalctl --unit={self.rollback.unit}` tells when"
        )

    def absent(self) -> dict[str, Any]:
        """Remove the table and the file, and what may be pending."""
        live = self.nft.live() if self.nft is not None else None  # without nft nothing of ours can be loaded
        there = os.path.lexists(self.path)
        if not self.check_mode:
            self.rollback.clear()
            live = self.nft.live() if self.nft is not None else None  # the timer may have been at it
            if self.nft is not None and live is not None:
                self.nft.delete()
            self.path.unlink(missing_ok=True)
        diff = {"before": live.text if live else "", "after": ""}
        return self._result(diff, loaded=live is not None, written=there)

    def _persist(self) -> None:
        with staged(self.path, self.content) as put:
            put()

    def _result(
        self, diff: dict[str, str], *, loaded: bool, written: bool, left_out: list[str] | None = None
    ) -> dict[str, Any]:
        headers = {
            "before_header": f"table {self.table}, loaded",
            "after_header": f"table {self.table}, wanted",
        }
        return {
            "changed": loaded or written,
            "loaded": loaded,
            "written": written,
            "pending": False,
            "left_out": left_out or [],
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
    found = Nft(nft, unshare, module.params["family"], module.params["name"])
    version = found.version()
    if version and version < OLDEST and module.params["state"] != "absent":
        shown, expected = (".".join(map(str, each)) for each in (version, OLDEST))
        raise NftError(f"Found nft {shown}, expected {expected} or newer, as in Debian 12")
    return found


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
            "rollback_seconds": {"type": "int"},
            "state": {"type": "str", "choices": ["present", "confirmed", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["content"]), ("state", "confirmed", ["content"])],
        supports_check_mode=True,
    )
    try:
        task = Task(module, find_nft(module))
        outcome = (
            getattr(task, module.params["state"])()
            if module.check_mode
            else run(task, module.params["state"])
        )
    except RolledBackError as exc:
        module.fail_json(msg=f"{exc}.", rolled_back=True)
    except (NftError, RollbackError, OSError) as exc:
        module.fail_json(msg=f"{exc}.".replace("..", "."))
    for each in outcome["left_out"]:
        module.warn(each)
    module.exit_json(**outcome)


def run(task: Task, state: str) -> dict[str, Any]:
    """The outcome, once no other run is at it and nothing of another run is pending."""
    deadline = time.monotonic() + LOCK_SECONDS + task.seconds
    while True:
        with locked(leave=state != "absent"):
            if state == "absent":
                return task.absent()
            if state == "confirmed":
                return task.confirmed()
            if not task.rollback.pending():
                return task.present()
        if time.monotonic() > deadline:
            raise NftError(
                f"Found a change of another run pending for table {task.table}, "
                "expected it to be confirmed or taken back by now; try again later"
            )
        time.sleep(0.5)


if __name__ == "__main__":
    main()
