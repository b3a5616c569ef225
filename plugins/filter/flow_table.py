# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.flow_table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: flow_table
short_description: The connections that a host on an FTP path must allow, as text
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - The flows of P(sluice.ftp.allowed_flows#filter) as a table of text, one line for each flow.
  - The neighbour stands on the left, the host on the right, and the arrow shows who opens the connection.

positional: _input, host, mode, ports
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
  - sluice.ftp.description.host
"""

EXAMPLES = r"""
- name: Show the flow table of this host
  ansible.builtin.debug:
    msg: "{{ (sluice_topology | sluice.ftp.flow_table('f1', mode='active')).splitlines() }}"
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
#     - 'F   C -> F: -> proxy user: to port 21'
#     - '    C <- F: <- proxy user: to port specified by C            (active)'
#     - '    N <- F: <- proxy user: to port 21'
#     - '    N -> F: -> proxy user: to port specified by proxy user   (active)'
"""

RETURN = r"""
_value:
  description: The table, its lines separated by newlines.
  type: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import (
    DescriptionError,
    host_on_path,
    read_path,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import table


def flow_table(topology: object, host: object, mode: object = "both", ports: object = None) -> str:
    """Return the flow table of `host`; a mistake in the description is AnsibleFilterError."""
    try:
        path = read_path(topology, mode, ports)
        return table(derive(path, host_on_path(path, host)))
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Flow table of a host."""

    def filters(self) -> dict[str, Any]:
        return {"flow_table": flow_table}
