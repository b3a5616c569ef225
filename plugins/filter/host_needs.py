# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.host_needs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_needs
short_description: What a host needs beside the proxy's settings and its rules
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - The capabilities of the proxy's unit, the ports that it alone may serve, and the policy routing of a host
    that intercepts with TPROXY.

positional: _input, host, mode, ports
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
  - sluice.ftp.description.host
options:
  found:
    description:
      - What the host printed, as lines of a word and JSON text.
      - The words are C(addresses), C(rules4), C(rules6), C(routes4) and C(routes6), each for one listing of
        C(ip -json).
    type: list
    elements: str
    default: []
  keep:
    description: What former settings of the proxy routed, and is there, stays beside the new.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what f1 needs in order to intercept
  ansible.builtin.debug:
    msg: "{{ sluice_topology | sluice.ftp.host_needs('f1', found=found) }}"
  vars:
    sluice_topology:
      clients: {networks: [10.1.0.0/24]}
      hops:
        - name: F
          intercept: tproxy
          hosts:
            f1: {client_side: 10.1.0.1, server_side: 10.2.0.1}
      servers: {networks: [192.0.2.0/24]}
    found:
      - 'addresses [{"ifname": "eth0", "addr_info": [{"local": "10.1.0.1", "prefixlen": 24}]}]'

# ok: [localhost] =>
#   msg:
#     capabilities: [CAP_NET_RAW]
#     routing:
#       commands:
#         - -4 rule add priority 21021 fwmark 0x51ce iif eth0 protocol kernel lookup 21021
#         - -4 route replace local default dev lo table 21021
#       difference:
#         - + ip -4 rule add priority 21021 fwmark 0x51ce iif eth0 protocol kernel lookup 21021
#         - + ip -4 route replace local default dev lo table 21021
#       missing: []
#     serves: ['21', '2121', 50000-50999, 52000-52999]
"""

RETURN = r"""
_value:
  description: What the host needs.
  type: dict
  contains:
    capabilities:
      description: Of the proxy's unit; none where it binds no port below 1024 and no address of others.
      type: list
      elements: str
      sample: [CAP_NET_BIND_SERVICE]
    routing:
      description:
        - C(commands) are arguments of C(ip), none without TPROXY.
        - C(missing) says of which addresses no interface is known.
        - C(difference) is what is there and should not be, and the reverse.
      type: dict
    serves:
      description: Ports, each a number or a range, which the rules refuse to everybody but the proxy.
      type: list
      elements: str
      sample: ['21', 50000-50999]
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import (
    DescriptionError,
    host_on_path,
    read_path,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive, served
from ansible_collections.sluice.ftp.plugins.plugin_utils.needs import capabilities, routing


def host_needs(
    topology: object,
    host: object,
    mode: object = "both",
    ports: object = None,
    *,
    found: list[str] | None = None,
    keep: bool = False,
) -> dict[str, Any]:
    """Return what `host` needs; a mistake in the description is AnsibleFilterError."""
    try:
        path = read_path(topology, mode, ports)
        here = host_on_path(path, host)
        return {
            "capabilities": capabilities(path, here),
            "routing": routing(path, here, found or [], keep=keep),
            "serves": [str(each) for each in served(derive(path, here))],
        }
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Capabilities, ports and routing of a host."""

    def filters(self) -> dict[str, Any]:
        return {"host_needs": host_needs}
