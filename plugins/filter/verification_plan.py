# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.verification_plan."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verification_plan
short_description: The connections to try on the hosts of an FTP path
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - For the role P(sluice.ftp.verify#role).
  - Each flow between two hops, the flows at the path's ends where a host is there to try them with,
    and a sample of what must be refused.
  - In one round no rule is expected to count two connections, so its counter tells which one it counted.

positional: _input, scopes, mode, ports, ends
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
options:
  scopes:
    description:
      - By inventory name the hosts on the path that take part.
      - Of each, C(scope), C(management) and C(exclusive_host), as C(sluice_scope), C(sluice_management) and
        C(sluice_exclusive_host).
    type: dict
    required: true
  ends:
    description:
      - A client C(C) and a server C(S) that may be used.
      - Each has C(host) and C(addresses), its own towards the path.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show who would open a connection to whom in the first round, in IPv4
  ansible.builtin.debug:
    msg: "{{ plan.rounds[0] | selectattr('passes') | map(attribute='rules') | list }}"
  vars:
    plan: "{{ sluice_topology | sluice.ftp.verification_plan({'f1': {}, 'n1': {}}, mode='passive') }}"
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
#     - - [f1, 'N <- F: <- proxy user: to port 21']
#       - [n1, 'F -> N: -> proxy user: to port 21']
#     - - [f1, 'N <- F: <- proxy user: to port specified by N (passive)']
#       - [n1, 'F -> N: -> proxy user: to port specified by proxy user (passive)']
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    rounds:
      description:
        - Lists of probes, as the module P(sluice.ftp.path_probe#module) takes them.
        - Each bears the rules that have to count it.
      type: list
      elements: list
    hops:
      description: The hop of each host.
      type: dict
    lines:
      description: The flows of each host, in the notation of this collection.
      type: dict
    untried:
      description: Of each host, why a flow is not tried.
      type: dict
    control:
      description: Of each host, the address and port where its proxy listens for control connections.
      type: dict
    data:
      description: Of each host, the addresses and ranges where its proxy may listen for data.
      type: dict
    towards:
      description: The addresses at which a client C(C) and a server C(S) reach the path.
      type: dict
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import DescriptionError, read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.verification import plan, read_ends, read_scopes


def verification_plan(
    topology: object, scopes: object, mode: object = "both", ports: object = None, ends: object = None
) -> dict[str, Any]:
    """Return what to try as plain types; a mistake in the description is AnsibleFilterError."""
    try:
        path = read_path(topology, mode, ports)
        taking_part = read_scopes("scopes", scopes, path)
        return plan(path, taking_part, read_ends("ends", {} if ends is None else ends)).as_data()
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """What to try on live hosts."""

    def filters(self) -> dict[str, Any]:
        return {"verification_plan": verification_plan}
