# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.allowed_flows."""

from __future__ import annotations

DOCUMENTATION = r"""
name: allowed_flows
short_description: The connections that a host on an FTP path must allow
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - Derives, for one host, the flows of its two legs from the path and the transfer mode.
  - Flows stand in the order of the legs, and in a leg control, active data, passive data.
  - DNS follows where the host resolves names.
  - The rules of role P(sluice.ftp.policy#role) come from the same flows.
  - Use this filter to feed a firewall of your own.

positional: _input, host, mode, ports
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
  - sluice.ftp.description.host
"""

EXAMPLES = r"""
# What must f1 allow, as sentences?
- name: Show the flows of this host
  ansible.builtin.debug:
    msg: "{{ flows | map(attribute='text') | list }}"
  vars:
    flows: "{{ sluice_topology | sluice.ftp.allowed_flows('f1', mode='active') }}"
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
#     - 'C -> F: -> proxy user: to port 21'
#     - 'C <- F: <- proxy user: to port specified by C'
#     - 'N <- F: <- proxy user: to port 21'
#     - 'N -> F: -> proxy user: to port specified by proxy user'
"""

RETURN = r"""
_value:
  description: The flows of the host, in order.
  type: list
  elements: dict
  contains:
    leg:
      description: The leg, its client end first; V(HOP-resolver) for DNS, V(monitor-HOP) for metrics.
      type: str
      sample: C-F
    channel:
      description: What the connection carries.
      type: str
      choices: [control, data, dns, metrics]
    mode:
      description: V(active) or V(passive) for data, else null.
      type: str
      sample: active
    direction:
      description: Who opens, seen from the host.
      type: str
      choices: [in, out]
    host:
      description: Name of the host's hop.
      type: str
      sample: F
    peer:
      description: Name of the neighbour.
      type: str
      sample: C
    opener:
      description: Name of the end that opens the connection.
      type: str
      sample: F
    acceptor:
      description: Name of the end that listens.
      type: str
      sample: C
    peer_addresses:
      description: The neighbour's networks as the host sees them.
      type: list
      elements: str
      sample: [10.1.0.0/24]
    local_addresses:
      description:
        - The host's own addresses; empty where the route decides (DNS).
        - Networks where C(foreign) is true.
      type: list
      elements: str
      sample: [10.1.0.1]
    protocol:
      description: V(tcp), or V(udp) for DNS.
      type: str
      sample: tcp
    opener_ports:
      description: Ports that the opener uses; V(1-65535) means any.
      type: list
      elements: str
      sample: [51000-51999]
    acceptor_ports:
      description: Ports that the acceptor listens on.
      type: list
      elements: str
      sample: [1024-65535]
    peer_ports:
      description:
        - For each address of the neighbouring hop the ports at its end, where its hosts differ in them.
        - Else empty.
        - The ports at that end are then those of all its hosts together.
      type: list
      elements: dict
      sample: [{address: 10.2.0.1/32, ports: [52000-52999]}]
    specified_by:
      description: Who chose the acceptor's port; null for well-known ports.
      type: str
      sample: C
    peer_is_hop:
      description: Whether the neighbour runs the proxy, too.
      type: bool
    user:
      description: Who holds the local end.
      type: str
      sample: proxy user
    why:
      description: What the flow is for.
      type: str
      sample: 'active data: F opens it to the port that C specified'
    intercept:
      description:
        - How a hop takes the connection, V(redirect) or V(tproxy), else empty.
        - It goes to an address of the servers'.
        - With V(tproxy) active data comes from such an address.
        - With V(redirect) the rules of the hop's host see its own address instead, and port 2121 for control.
      type: str
      sample: ''
    foreign:
      description: Whether the host's end has addresses that are not its own.
      type: bool
    text:
      description: The flow in the notation of this collection.
      type: str
      sample: 'C <- F: <- proxy user: to port specified by C'
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import (
    DescriptionError,
    host_on_path,
    read_path,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import line


def allowed_flows(
    topology: object, host: object, mode: object = "both", ports: object = None
) -> list[dict[str, Any]]:
    """Return the flows of `host` as plain types; a mistake in the description is AnsibleFilterError."""
    try:
        path = read_path(topology, mode, ports)
        return [{**flow.as_data(), "text": line(flow)} for flow in derive(path, host_on_path(path, host))]
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Flows of a host."""

    def filters(self) -> dict[str, Any]:
        return {"allowed_flows": allowed_flows}
