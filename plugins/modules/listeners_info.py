#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Name who listens on which TCP port of a host, and whose connections are open there."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: listeners_info
short_description: Names who listens on which TCP port of a host, and whose connections are open there
version_added: 0.1.0
description:
  - Reads C(/proc) and returns every TCP socket that listens or is connected, with its process and its unit.
  - Sees the network namespace that the module runs in.
author:
  - The sluice.ftp developers (@sluice)
attributes:
  check_mode:
    description: Can run in check mode, it changes nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
options:
  ports:
    description: The local ports to look at, each V(FIRST-LAST) or one port. Every port unless said.
    type: list
    elements: str
notes:
  - Needs root, or other users' sockets have no process.
"""

EXAMPLES = r"""
- name: Who holds port 21 or a port of the range
  sluice.ftp.listeners_info:
    ports: [21, 50000-50999]
  register: result

- name: Show them
  ansible.builtin.debug:
    msg: "{{ result.listeners }}"
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
    uid:
      description: Number of the user that made the socket.
      type: int
      sample: 0
    unit:
      description:
        - The systemd unit that the process belongs to, or an empty text.
        - Where systemd itself listens, the socket unit.
      type: str
      sample: vsftpd.service
connections:
  description: The connected TCP sockets, in the same shape, with the other end.
  returned: always
  type: list
  elements: dict
  contains:
    peer_address:
      description: The address of the other end.
      type: str
      sample: 192.0.2.80
    peer_port:
      description: The port of the other end.
      type: int
      sample: 443
    outgoing:
      description: Whether this end opened it, for nobody listens on its port.
      type: bool
"""

import ipaddress
import json
import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PROC = Path("/proc")
ESTABLISHED = "01"
LISTEN = "0A"


def parse_address(text: str) -> str:
    """An address of /proc/net/tcp or tcp6 (32-bit words in host byte order, hexadecimal) as text."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    found = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return str(getattr(found, "ipv4_mapped", None) or found)


@dataclass(frozen=True)
class Socket:
    """A line of /proc/net/tcp or tcp6."""

    state: str
    address: str
    port: int
    peer_address: str
    peer_port: int
    inode: str
    uid: int


def parse_table(table: str) -> list[Socket]:
    """The sockets of one such table that listen or are connected."""
    sockets = []
    for line in table.splitlines()[1:]:
        _number, local, peer, state, *fields = line.split()
        if state in (ESTABLISHED, LISTEN):
            address, _colon, port = local.partition(":")
            far, _colon, far_port = peer.partition(":")
            ends = parse_address(address), int(port, 16), parse_address(far), int(far_port, 16)
            sockets.append(Socket(state, *ends, fields[5], int(fields[3])))
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


def parse_sockets(listing: str) -> dict[tuple[str, int], str]:
    """The units that systemd itself listens for, of `systemctl list-sockets --output=json`."""
    units = {}
    for entry in json.loads(listing or "[]"):
        address, _colon, port = entry["listen"].rpartition(":")
        if port.isdigit():
            units[address.strip("[]").replace("*", "::"), int(port)] = entry["unit"]
    return units


def parse_ports(ports: list[str]) -> list[range]:
    """Ports as FIRST-LAST or one port; raises ValueError."""
    found = []
    for each in ports:
        first, _dash, last = each.partition("-")
        found.append(range(int(first), int(last or first) + 1))
    return found


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


def systemd_sockets() -> dict[tuple[str, int], str]:
    """The units that systemd itself listens for; none where it cannot be asked."""
    command = ["systemctl", "list-sockets", "--output=json", "--no-pager"]
    try:
        return parse_sockets(subprocess.run(command, capture_output=True, text=True, check=False).stdout)  # noqa: S603
    except (OSError, ValueError):
        return {}


def sockets(ports: list[range] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Every TCP socket on these ports, or on any: `listeners` and `connections`, as RETURN documents."""
    found: dict[str, list[dict[str, Any]]] = {"listeners": [], "connections": []}
    wanted = [
        socket
        for table in ("tcp", "tcp6")
        for socket in parse_table(read(PROC / "net" / table))
        if ports is None or any(socket.port in each for each in ports)
    ]
    pids = holders() if wanted else {}
    listening = {each.port for each in wanted if each.state == LISTEN}
    for each in wanted:
        pid = pids.get(each.inode, 0)
        unit = parse_unit(read(PROC / str(pid) / "cgroup")) if pid else ""
        entry = {
            "address": each.address,
            "port": each.port,
            "uid": each.uid,
            "pid": pid,
            "process": read(PROC / str(pid) / "comm").strip() if pid else "",
            "unit": systemd_sockets().get((each.address, each.port), unit) if pid == 1 else unit,
        }
        if each.state == LISTEN:
            found["listeners"].append(entry)
        else:
            peer = {"peer_address": each.peer_address, "peer_port": each.peer_port}
            found["connections"].append({**entry, **peer, "outgoing": each.port not in listening})
    for several in found.values():
        several.sort(key=lambda entry: (entry["port"], entry["address"]))
    return found


def main() -> None:
    """Run as an Ansible module."""
    spec = {"ports": {"type": "list", "elements": "str"}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="This task runs as an ordinary user, expected root (become: true).")
    ports = module.params["ports"]
    try:
        wanted = None if ports is None else parse_ports(ports)
    except ValueError:
        module.fail_json(msg=f"ports: found {ports}, expected ports as FIRST-LAST or one port.")
    module.exit_json(changed=False, **sockets(wanted))


if __name__ == "__main__":
    main()
