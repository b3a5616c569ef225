# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One nftables table through the host's own nft: what is loaded, what a file would give, the way between."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

OLDEST = (1, 0, 6)  # Debian 12's, with which the rules were tried
FILE = re.compile(r"/\S*\.nft(?=:[0-9])")  # the name of a temporary file says nothing
CANARY = "sluice_check"  # a table beside ours while a file is checked: it shows that the file spares others
# The lines of a set before its elements, where these are the packet path's; and they, in nft's text.
KEPT = re.compile(
    r"(\n\t\tflags [^\n]*(?:dynamic|timeout)[^\n]*(?:\n\t\t(?!elements)[^\n]*)*)\n\t\telements = \{[^}]*\}"
)
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
    text: str = ""  # for a person: by name
    listing: str = ""  # for nft: as it stood

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self.text)

    def _compared(self) -> tuple[Any, ...]:
        return self.table, self.sets, self.elements, self.chains, self.rules, sorted(self.others)


def read_listing(listing: str, text: str) -> Table:
    """The table of `nft -j list table` and of `nft -s list table`."""
    result = Table(text=sorted_text(text), listing=text)
    for entry in json.loads(listing)["nftables"]:
        for kind, value in entry.items():
            if kind == "metainfo":
                continue
            found = without_volatile(value)
            if kind == "table":
                result.table = found
            elif kind == "set":
                elements = found.pop("elem", [])
                # What the packet path itself keeps is no drift. nft 1.0.6 leaves `dynamic` out here.
                dynamic = not {"dynamic", "timeout"}.isdisjoint(found.get("flags", []))
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
    """A listing whose sets and chains stand by name: the kernel lists them in the order of their making.

    Without what the packet path itself keeps.
    """
    head: list[str] = []  # with the table's flags and comment
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if re.match(r"\t\S.*\{$", line):
            blocks.append([])
        if line.strip() and line != "}":
            (blocks[-1] if blocks else head).append(line)
    texts = sorted("\n".join(block) for block in blocks)
    return "\n".join([*head, *(KEPT.sub(r"\1", text) for text in texts), "}", ""])


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
        return without(table) + content
    # The content has flushed every rule by now, so nothing jumps to these any more.
    stale = [f"delete chain {table} {name}" for name in live.chains if name not in desired.chains]
    stale += [f"delete set {table} {name}" for name in live.sets if name not in desired.sets]
    return content.rstrip("\n") + "\n" + "".join(f"{each}\n" for each in stale)


def without(table: str) -> str:
    """A file that removes the table, whether it is there or not (F21: `destroy` does not exist yet)."""
    return f"table {table} {{\n}}\ndelete table {table}\n"


def former(table: str, live: Table | None) -> str:
    """The one file that brings back what is loaded now, whatever will be loaded then.

    One transaction, but not gapless (F8): a hook or a set's type may have changed meanwhile.
    """
    return without(table) + (live.listing if live else "")


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
        signal = -done.returncode if done.returncode < 0 else done.returncode - 128  # a shell's way to say it
        if signal > 0:
            raise NftError(
                f"{what}: it ended by signal {signal}, as it does on a table that a newer nft "
                "loaded; expected only this host's own nft to have loaded tables"
            )
        if done.returncode:
            reason = FILE.sub("line", done.stderr.strip()) or f"exit status {done.returncode}"
            if "Could not process rule" in reason:
                kernel = platform.release()
                what = f"{what}, or rather the kernel {kernel} does, which may lack what a rule needs"
            raise NftError(f"{what}: {reason}")
        return done.stdout

    def version(self) -> tuple[int, ...] | None:
        """Its version, or None where it does not say one."""
        found = re.search(r"v(\d+)\.(\d+)\.(\d+)", self._run([self.nft, "--version"], "nft did not start"))
        return tuple(int(each) for each in found.groups()) if found else None

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
            return Table(others=["flags"], text=sorted_text(text), listing=text)

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

    def check(self, content: str, what: str) -> None:
        """See that nft and kernel would take it here and now; nothing is loaded."""
        with temporary(content) as file:
            self._run([self.nft, "--check", "--file", file], what)

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
