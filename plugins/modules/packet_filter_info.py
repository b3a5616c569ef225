#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what decides about packets on a host, and which SSH session has to live through a change of it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: packet_filter_info
short_description: Reads what decides about packets on a host, and how Ansible came in
version_added: 0.1.0
description:
  - Names the chains that deny by default, that translate addresses, and that assign the FTP helper.
  - Says whether the host forwards.
  - Says which SSH session the module was started from, so that nobody loads rules that cut it off.
author:
  - The sluice.ftp developers (@sluice)
attributes:
  check_mode:
    description: Can run in check mode, it changes nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
notes:
  - Needs root. Where there is no nft, RV(left_out) says what was not looked at.
"""

EXAMPLES = r"""
- name: Look around
  sluice.ftp.packet_filter_info:
  register: result

- name: Show who denies by default
  ansible.builtin.debug:
    msg: "{{ result.denies }}"
"""

RETURN = r"""
nft:
  description: The version of the host's nft, or an empty text.
  returned: always
  type: str
  sample: 1.0.6
denies:
  description: The base chains at input, output or forward that deny by default.
  returned: always
  type: list
  elements: dict
  contains:
    family:
      description: The table's family, C(ip), C(ip6) or C(inet).
      type: str
      sample: inet
    table:
      description: The table's name.
      type: str
      sample: filter
    chain:
      description: The chain's name.
      type: str
      sample: input
    hook:
      description: Where it stands.
      type: str
      choices: [input, output, forward]
    by:
      description: What denies, the policy or the last rule.
      type: str
      sample: policy drop
translates:
  description: The chains that change the source address of what is forwarded, by C(masquerade) or C(snat).
  returned: always
  type: list
  elements: dict
  sample: [{family: inet, table: admin_nat, chain: postrouting}]
ftp_helpers:
  description: The chains that assign the connection tracking helper for FTP.
  returned: always
  type: list
  elements: dict
  sample: [{family: inet, table: helpers, chain: prerouting}]
forwarding:
  description: The kernel settings that make the host forward.
  returned: always
  type: list
  elements: str
  sample: [net.ipv4.ip_forward]
ssh_session:
  description: The SSH session that the module was started from, through sudo too; empty where there is none.
  returned: always
  type: dict
  contains:
    client:
      description: Address of its client, as sshd sees it.
      type: str
      sample: 192.0.2.200
    port:
      description: Port of the host that it came to.
      type: int
      sample: 22
left_out:
  description: What could not be looked at, as sentences.
  returned: always
  type: list
  elements: str
"""

import ipaddress
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PROC = Path("/proc")
FAMILIES = ("ip", "ip6", "inet")  # the others do not see what the host itself sends and receives
HOOKS = ("input", "output", "forward")
FORWARDING = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
QUOTED = re.compile(r'"[^"]*"')
# What a rule may say beside its verdict without being a condition.
ASIDE = re.compile(
    r'counter(?: packets \d+ bytes \d+| name "[^"]*")?|comment "[^"]*"'
    r'|log(?: (?:prefix "[^"]*"|level \w+|flags [\w ,]+?|group \d+|snaplen \d+|queue-threshold \d+)(?= |$))*'
)
DENIAL = re.compile(r'drop|reject( with .*)?|xt target "(DROP|REJECT)"')
CALL = re.compile(r"(?:jump|goto) (\S+)")
TRANSLATION = re.compile(r'\b(masquerade|snat)\b|xt target "(MASQUERADE|SNAT)"')


@dataclass
class Chain:
    """A chain; `hook` is empty where it is no base chain."""

    hook: str = ""
    policy: str = ""
    rules: list[str] = field(default_factory=list)


@dataclass
class Table:
    """A table; `helpers` are the names of its objects that stand for the FTP helper."""

    family: str
    name: str
    dormant: bool = False
    chains: dict[str, Chain] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)


def parse_ruleset(listing: str) -> list[Table]:
    """The tables of `nft -s -t list ruleset`.

    Not of its JSON: for a ruleset that has a table with flags, nft 1.0.6 prints what is no JSON.
    """
    tables: list[Table] = []
    kind = name = ""
    for line in listing.splitlines():
        words = line.split()
        depth = len(line) - len(line.lstrip("\t"))
        if not words or words[0].startswith("#"):
            continue
        if depth == 0 and words[0] == "table":
            tables.append(Table(words[1], words[2]))
        elif depth == 1 and words[0] == "flags":
            tables[-1].dormant = "dormant" in line
        elif depth == 1 and words[-1] == "{":
            kind, name = " ".join(words[:-2]), words[-2]
            if kind == "chain":
                tables[-1].chains[name] = Chain()
        elif depth == 2 and kind == "ct helper" and words[:2] == ["type", '"ftp"']:
            tables[-1].helpers.add(name)
        elif depth == 2 and kind == "chain":
            _parse_chain_line(tables[-1].chains[name], line.strip())
    return tables


def _parse_chain_line(chain: Chain, line: str) -> None:
    base = re.match(r"type \w+ hook (\w+) .*?(?:policy (\w+);)?$", line)
    if base:
        chain.hook, chain.policy = base[1], base[2] or "accept"
    elif not re.match(r"(comment|flags) \S+$|comment \"", line):
        chain.rules.append(line)


def denial(table: Table, chain: Chain, calls: int = 0) -> str:
    """What denies at the end of the chain, `policy drop` or the last rule; an empty text for nothing."""
    if chain.policy == "drop":
        return "policy drop"
    if not chain.rules or calls > 16:
        return ""
    verdict = " ".join(ASIDE.sub("", chain.rules[-1]).split())
    if DENIAL.fullmatch(verdict):
        return f"last rule {verdict}"
    called = CALL.fullmatch(verdict)
    return denial(table, table.chains.get(called[1], Chain()), calls + 1) if called else ""


def assigns_ftp_helper(table: Table, rule: str) -> bool:
    """Whether the rule has connection tracking read FTP (F11)."""
    found = re.search(r'ct helper set "([^"]*)"', rule)
    return bool(found and found[1] in table.helpers)


def findings(tables: list[Table]) -> dict[str, list[dict[str, str]]]:
    """`denies`, `translates` and `ftp_helpers` in the shape that RETURN documents."""
    denies, translates, ftp_helpers = [], [], []
    for table, name, chain in _chains(tables):
        place = {"family": table.family, "table": table.name, "chain": name}
        if chain.hook in HOOKS and (by := denial(table, chain)):
            denies.append({**place, "hook": chain.hook, "by": by})
        if any(
            TRANSLATION.search(rule if "xt target" in rule else QUOTED.sub("", rule)) for rule in chain.rules
        ):
            translates.append(place)
        if any(assigns_ftp_helper(table, rule) for rule in chain.rules):
            ftp_helpers.append(place)
    return {"denies": denies, "translates": translates, "ftp_helpers": ftp_helpers}


def _chains(tables: list[Table]) -> Iterator[tuple[Table, str, Chain]]:
    for table in tables:
        if table.family in FAMILIES and not table.dormant:
            for name, chain in table.chains.items():
                yield table, name, chain


def ssh_session(pid: int | None = None) -> dict[str, Any]:
    """The SSH session of this process or of the nearest of its parents that has one (sudo leaves it out)."""
    current = os.getpid() if pid is None else pid
    while current > 1:
        for each in read(PROC / str(current) / "environ").split("\0"):
            name, _equals, value = each.partition("=")
            parts = value.split()  # client's address and port, ours
            if name == "SSH_CONNECTION" and len(parts) == 4 and parts[3].isdigit():
                client = parts[0].partition("%")[0]
                # of one that came by no network sshd says UNKNOWN
                return {"client": client, "port": int(parts[3])} if is_address(client) else {}
        found = re.search(r"^PPid:\s*(\d+)", read(PROC / str(current) / "status"), re.MULTILINE)
        current = int(found[1]) if found else 0
    return {}


def is_address(text: str) -> bool:
    """Whether the text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def read(path: Path) -> str:
    """The text of a file of /proc, empty where it is not there or may not be seen."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def run_nft(nft: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(  # noqa: S603
        [nft, *arguments], capture_output=True, text=True, check=False, env=environment
    )


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="This task runs as an ordinary user, expected root (become: true).")
    left_out, version, tables = [], "", list[Table]()
    nft = module.get_bin_path("nft", opt_dirs=["/usr/sbin", "/sbin", "/usr/local/sbin"])
    if nft is None:
        left_out.append("The tables of the packet filter were not looked at, for nft is not installed yet.")
    else:
        found = re.search(r"v([0-9.]+)", run_nft(nft, "--version").stdout)
        version = found[1] if found else "unknown"
        listing = run_nft(nft, "-s", "-t", "list", "ruleset")
        tables = parse_ruleset(listing.stdout)
        if listing.returncode:
            reason = listing.stderr.strip() or f"exit status {listing.returncode}"
            left_out.append(
                f"Not every table of the packet filter was looked at, for nft ended early: {reason}."
            )
    if "filter" in (read(PROC / "net/ip_tables_names") + read(PROC / "net/ip6_tables_names")).split():
        left_out.append("The rules of iptables-legacy were not looked at.")
    module.exit_json(
        changed=False,
        nft=version,
        forwarding=[
            name for name in FORWARDING if read(PROC / "sys" / name.replace(".", "/")).strip() == "1"
        ],
        ssh_session=ssh_session(),
        left_out=left_out,
        **findings(tables),
    )


if __name__ == "__main__":
    main()
