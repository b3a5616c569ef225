# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.capacity."""

from __future__ import annotations

DOCUMENTATION = r"""
name: capacity
short_description: How many transfers at once the port ranges of a host carry
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - A range that the host listens in carries as many transfers at once as it has ports.
  - A port that is opened from serves several far ends at once, so that such a range is no limit.

positional: _input, host, mode, ports
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
  - sluice.ftp.description.host
  - sluice.ftp.description.limits
"""

EXAMPLES = r"""
- name: Show how many transfers fit through f1, whatever their modes
  ansible.builtin.debug:
    msg: "{{ (sluice_topology | sluice.ftp.capacity('f1', ports=sluice_ports)).legs }}"
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
    sluice_ports:
      client_side: {listen: 40000-40199}

# ok: [localhost] =>
#   msg:
#     C-F: {active: null, passive: 200}
#     F-N: {active: 1000, passive: null}
"""

RETURN = r"""
_value:
  description: What fits at once; null always means that nothing limits it.
  type: dict
  contains:
    transfers:
      description: Transfers whatever their modes, the smallest of all limits.
      type: int
      sample: 1000
    limit:
      description: The limit that the description sets, else null.
      type: int
      sample: 500
    legs:
      description: For each leg of the host the modes that it allows, and the transfers of each.
      type: dict
      sample: {C-F: {active: null, passive: 1000}}
    ranges:
      description:
        - The four ranges, each with C(name), C(leg), C(mode), C(ports), their C(count) and C(transfers).
        - C(used) says whether the leg allows the mode that needs the range.
      type: list
      elements: dict
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.capacity import capacity as capacity_of
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import (
    DescriptionError,
    host_on_path,
    read_path,
)


def capacity(
    topology: object, host: object, mode: object = "both", ports: object = None, *, limits: object = None
) -> dict[str, Any]:
    """Return what the ranges of `host` carry; a mistake in the description is AnsibleFilterError."""
    try:
        path = read_path(topology, mode, ports, limits)
        return capacity_of(path, host_on_path(path, host))
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Capacity of a host."""

    def filters(self) -> dict[str, Any]:
        return {"capacity": capacity}
