# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a host as the role loads them, and what nft says of them afterwards.

The only door between these tests and the collection: `text` returns what the role's template makes of the
filter."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jinja2
from ansible_collections.sluice.ftp.plugins.filter.nft_rules import nft_rules
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import Ruleset

from .network import Namespace
from .prober import UIDS

TEMPLATE: Final = Path(__file__).parents[2] / "roles/policy/templates/policy.nft.j2"
_CHAIN: Final = re.compile(r"^\tchain (\S+) \{")
_RULE: Final = re.compile(r"^\t\t(.*) # handle (\d+)$")
_COUNTER: Final = re.compile(r"counter packets (\d+) bytes \d+")
_WORDS: Final = "active|passive|redirect|tproxy|source client"
_SUFFIX: Final = re.compile(rf" \((?:{_WORDS})(?:, (?:{_WORDS}))*\)$")
_COMMENT: Final = re.compile(r'comment "([^"]*)"')


@dataclass(frozen=True)
class Description:
    """The variables of a user: the path's three, and those of the scope as the filter's keywords."""

    topology: Mapping[str, Any]
    mode: Any = "both"
    ports: Mapping[str, Any] | None = None
    scope: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """A loaded rule. `text` is without counts; `packets` is None where it counts nothing."""

    chain: str
    handle: int
    text: str
    packets: int | None

    @property
    def comment(self) -> str:
        """Its comment, without what stands in brackets at the end of a flow's."""
        found = _COMMENT.search(self.text)
        return _SUFFIX.sub("", found[1]) if found else ""

    def __str__(self) -> str:
        return f"{self.chain}: {self.text}"


def text(description: Description, host: str, former: Description | None = None) -> str:
    """The file that role policy writes on `host`; after `former` the one that carries the flows of both."""
    return _file(_table(description, host, _table(former, host)["flows"] if former else ""))


def _table(description: Description, host: str, former: str = "") -> Ruleset:
    return nft_rules(
        description.topology,
        host,
        UIDS["proxy"],
        mode=description.mode,
        ports=description.ports,
        former=former,
        **description.scope,
    )


def _file(table: Ruleset) -> str:
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(TEMPLATE.read_text()).render({"__sluice_policy_rules": table})


def load(namespace: Namespace, ruleset: str) -> None:
    """As the role does, in one call."""
    namespace.run("nft", "-f", "-", stdin=ruleset)


def deliver(namespace: Namespace) -> None:
    """As the role's unit does: what bears the mark comes to a socket here, whichever link it came by (F7)."""
    for device in re.findall(r"^\d+: ((?:left|right)\d+)[@:]", namespace.run("ip", "link"), re.MULTILINE):
        for family in ("-4", "-6"):
            namespace.run(
                "ip", family, "rule", "add", "priority", "21021", "fwmark", "0x51ce",
                "iif", device, "lookup", "21021",
            )  # fmt: skip
    for family in ("-4", "-6"):
        namespace.run(
            "ip", family, "route", "replace", "local", "default", "dev", "lo", "table", "21021"
        )  # fmt: skip


def talking(namespace: Namespace, pairs: Mapping[int, Sequence[str]]) -> None:
    """These pairs alone, by family, have a control connection, as far as the rules know."""
    listing = namespace.run("nft", "list", "table", "inet", "sluice")
    lines = []
    for family, several in pairs.items():
        if f"set talk{family} " in listing:
            lines.append(f"flush set inet sluice talk{family}")
            if several:
                elements = ", ".join(f"{each} timeout 1h" for each in several)
                lines.append(f"add element inet sluice talk{family} {{ {elements} }}")
    namespace.run("nft", "-f", "-", stdin="\n".join(lines) + "\n")


def rules(namespace: Namespace) -> list[Rule]:
    """The rules of our table, in their order."""
    found, chain = [], ""
    for line in namespace.run("nft", "-a", "list", "table", "inet", "sluice").splitlines():
        if match := _CHAIN.match(line):
            chain = match[1]
        elif chain and (match := _RULE.match(line)) and not match[1].startswith(("type ", "elements")):
            counter = _COUNTER.search(match[1])
            rule = _COUNTER.sub("counter", match[1])
            found.append(Rule(chain, int(match[2]), rule, int(counter[1]) if counter else None))
    return found


def delete(namespace: Namespace, rule: Rule) -> None:
    """Take one rule out."""
    namespace.run("nft", "delete", "rule", "inet", "sluice", rule.chain, "handle", str(rule.handle))


def counts(found: list[Rule]) -> Counter[str]:
    """Packets by comment, for the rules that bear one."""
    total: Counter[str] = Counter()
    for rule in found:
        if rule.comment and rule.packets is not None:
            total[rule.comment] += rule.packets
    return total
