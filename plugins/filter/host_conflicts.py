# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.host_conflicts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_conflicts
short_description: What on a host speaks against loading its policy
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - Compares what M(sluice.ftp.packet_filter_info) found on a host with the policy that it is to get.
  - Somebody would be locked out, or the policy would not hold, because of another table for instance.

positional: _input, topology, host
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.host
options:
  _input:
    description:
      - The result of M(sluice.ftp.packet_filter_info) on that host.
      - With the C(connections) of M(sluice.ftp.listeners_info) also those of SSH through the host are judged.
    type: dict
    required: true
  topology:
    description: The path, as C(sluice_topology).
    type: dict
    required: true
  scope:
    description: As C(sluice_scope).
    type: str
    choices: [guard, exclusive]
    default: guard
  management:
    description: As C(sluice_management).
    type: dict
    default: {}
  exclusive_host:
    description: As C(sluice_exclusive_host).
    type: list
    elements: dict
    default: []
  exclusive_forward:
    description: As C(sluice_exclusive_forward); null where that is not defined.
    type: list
    elements: dict
  other_tables:
    description: As C(sluice_other_tables), what to do where another table denies by default.
    type: str
    choices: [fail, warn]
    default: fail
"""

EXAMPLES = r"""
- name: Look around
  sluice.ftp.packet_filter_info:
  register: found

- name: Refuse what speaks against the policy
  ansible.builtin.assert:
    that: conflicts.refused | length == 0
    fail_msg: "{{ conflicts.refused | join(' ') }}"
  vars:
    conflicts: "{{ found | sluice.ftp.host_conflicts(sluice_topology, inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: Sentences.
  type: dict
  contains:
    refused:
      description: What must not be there.
      type: list
      elements: str
    warned:
      description: What one should know.
      type: list
      elements: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.conflicts import FAIL, conflicts
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import (
    DescriptionError,
    host_on_path,
    read_path,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import GUARD, read_scope


def host_conflicts(
    found: dict[str, Any],
    topology: object,
    host: object,
    mode: object = "both",
    ports: object = None,
    *,
    scope: object = GUARD,
    management: object = None,
    exclusive_host: object = None,
    exclusive_forward: object = None,
    other_tables: object = FAIL,
) -> dict[str, list[str]]:
    """Return `refused` and `warned`; a mistake in the description is AnsibleFilterError."""
    try:
        path = read_path(topology, mode, ports)
        flows = derive(path, host_on_path(path, host))
        how_much = read_scope(scope, management, exclusive_host, exclusive_forward)
        judged = conflicts(
            found, flows, how_much, forward_said=exclusive_forward is not None, other_tables=other_tables
        )
        return {"refused": list(judged.refused), "warned": list(judged.warned)}
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Conflicts of a host with its policy."""

    def filters(self) -> dict[str, Any]:
        return {"host_conflicts": host_conflicts}
