#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Name who listens on which TCP port of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: listeners_info
short_description: Names who listens on which TCP port of a host
version_added: 0.1.0
description:
  - Reads C(/proc) and returns every listening TCP socket with its process and its systemd unit.
  - Sees the network namespace that the module runs in.
  - Other users' sockets have a process only when it runs as root.
author:
  - The sluice.ftp developers (@sluice)
attributes:
  check_mode:
    description: Can run in check mode, it changes nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
options: {}
"""

EXAMPLES = r"""
- name: Who listens here
  sluice.ftp.listeners_info:
  register: result

- name: Show who holds port 21
  ansible.builtin.debug:
    msg: "{{ result.listeners | selectattr('port', 'equalto', 21) | list }}"
"""

RETURN = r"""
listeners:
  description: The listening TCP sockets, ordered by port and address.
  returned: always
  type: list
  elements: dict
  contains:
    address:
      description: The local address, C(0.0.0.0) or C(::) for every one.
      type: str
      sample: 192.0.2.1
    port:
      description: The local port.
      type: int
      sample: 21
    pid:
      description: Number of a process that holds the socket; 0 where it could not be seen.
      type: int
      sample: 711
    process:
      description: The name of that process, or an empty text.
      type: str
      sample: vsftpd
    unit:
      description: The systemd unit that the process belongs to, or an empty text.
      type: str
      sample: vsftpd.service
"""

import ipaddress
import struct
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PROC = Path("/proc")
LISTEN = "0A"


def parse_address(text: str) -> str:
    """An address of /proc/net/tcp or tcp6 (32-bit words in host byte order, hexadecimal) as text."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def parse_table(table: str) -> list[tuple[str, int, str]]:
    """The listening sockets of one /proc/net/tcp table: (address, port, inode)."""
    sockets = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTEN:
            address, _colon, port = fields[1].partition(":")
            sockets.append((parse_address(address), int(port, 16), fields[9]))
    return sockets


def parse_unit(cgroup: str) -> str:
    """The innermost systemd unit in the text of /proc/PID/cgroup (either version), or an empty text."""
    for line in reversed(cgroup.splitlines()):
        for part in reversed(line.split(":", 2)[2].split("/")):
            if part.endswith((".service", ".scope", ".socket")):
                return part
    return ""


def read(path: Path) -> str:
    """The text of a file of /proc, empty where the process went away or may not be seen."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def holders() -> dict[str, int]:
    """For each socket inode the lowest process number that holds it."""
    found: dict[str, int] = {}
    for pid in sorted(int(name.name) for name in PROC.iterdir() if name.name.isdigit()):
        try:
            descriptors = list((PROC / str(pid) / "fd").iterdir())
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                found.setdefault(target[8:-1], pid)
    return found


def listeners() -> list[dict[str, Any]]:
    """Every listening TCP socket, in the shape that RETURN documents."""
    pids = holders()
    found = []
    for table in ("tcp", "tcp6"):
        for address, port, inode in parse_table(read(PROC / "net" / table)):
            pid = pids.get(inode, 0)
            found.append(
                {
                    "address": address,
                    "port": port,
                    "pid": pid,
                    "process": read(PROC / str(pid) / "comm").strip() if pid else "",
                    "unit": parse_unit(read(PROC / str(pid) / "cgroup")) if pid else "",
                }
            )
    return sorted(found, key=lambda entry: (entry["port"], entry["address"]))


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, listeners=listeners())


if __name__ == "__main__":
    main()
