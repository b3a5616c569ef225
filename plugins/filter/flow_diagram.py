# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.flow_diagram."""

from __future__ import annotations

DOCUMENTATION = r"""
name: flow_diagram
short_description: The connections of an FTP path as a Mermaid diagram
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - A sequence diagram of the whole path. Each arrow runs from the end that opens to the end that accepts.
  - Control connections stand from the clients to the servers, then data connections the other way, first
    active, then passive.
  - The flows are those of P(sluice.ftp.allowed_flows#filter) of all hosts, each of a leg shown once.
  - It is for pages that render Mermaid; P(sluice.ftp.path_picture#filter) can be shown anywhere.

positional: _input, mode, ports
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
"""

EXAMPLES = r"""
- name: Show the diagram of a path
  ansible.builtin.debug:
    msg: "{{ (sluice_topology | sluice.ftp.flow_diagram(mode='active')).splitlines() }}"
  vars:
    sluice_topology:
      clients: {networks: [10.1.0.0/24]}
      hops:
        - name: F
          hosts:
            f1: {client_side: 10.1.0.1, server_side: 10.2.0.1}
        - name: N
          hosts:
            n1: {client_side: 10.2.0.2, server_side: 198.51.100.2}
      servers: {networks: [0.0.0.0/0]}

# ok: [localhost] =>
#   msg:
#     - 'sequenceDiagram'
#     - '    participant P0 as C<br/>10.1.0.0/24'
#     - '    participant P1 as F<br/>f1'
#     - '    participant P2 as N<br/>n1'
#     - '    participant P3 as S<br/>0.0.0.0/0'
#     - '    Note over P0,P3: control'
#     - '    P0->>P1: to port 21'
#     - '    P1->>P2: to port 21'
#     - '    P2->>P3: to port 21'
#     - '    Note over P0,P3: active data'
#     - '    P3-->>P2: to port specified by N, 52000-52999'
#     - '    P2-->>P1: to port specified by F, 52000-52999'
#     - '    P1-->>P0: to port specified by C, 1024-65535'
"""

RETURN = r"""
_value:
  description: The diagram, its lines separated by newlines.
  type: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import DescriptionError, read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.mermaid import diagram


def flow_diagram(topology: object, mode: object = "both", ports: object = None) -> str:
    """Return the path as Mermaid; a mistake in the description is AnsibleFilterError."""
    try:
        return diagram(read_path(topology, mode, ports))
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Diagram of a path."""

    def filters(self) -> dict[str, Any]:
        return {"flow_diagram": flow_diagram}
