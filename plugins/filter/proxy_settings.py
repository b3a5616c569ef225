# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.proxy_settings."""

from __future__ import annotations

DOCUMENTATION = r"""
name: proxy_settings
short_description: The settings of the FTP proxy on a host
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - What the proxy on one host has to know of the path, as the tables and keys of its settings file.
  - Timeouts are nested, so that the hop that knows a cause answers before those in front of it give up.

positional: _input, host, mode, ports, timeouts
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
  - sluice.ftp.description.host
options:
  timeouts:
    description: As C(sluice_timeouts), in seconds; a timeout that is not said keeps its default.
    type: dict
    default: {}
  limits:
    description:
      - As C(sluice_limits); C(transfers) is how many transfers a host may carry at once.
      - A range that could not carry so many is refused.
      - C(sessions) is how many sessions a host may have at once.
      - C(sessions_per_client) is how many of them one client address may have, on the first hop.
      - C(sessions_per_client_per_minute) is how many one client may begin in a minute, on the first hop.
      - C(bandwidth) is how many bytes of data a host may move in a second.
      - C(bandwidth_per_session) is how many of them a session may, on the first hop.
      - C(command_line) is how many bytes a command line may have.
    type: dict
    default: {}
  commands:
    description:
      - As C(sluice_commands), rules of what C(clients) may ask for and C(servers) may be asked.
    type: list
    elements: dict
    default: []
  greeting:
    description: As C(sluice_greeting), the text of the first hop's 220, of one line or more.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Show where the proxy of f1 connects to
  ansible.builtin.debug:
    msg: "{{ (sluice_topology | sluice.ftp.proxy_settings('f1')).next_hop.hosts }}"
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
#     - addresses: [10.2.0.2]
#       name: n1
"""

RETURN = r"""
_value:
  description:
    - The settings. C(next_hop) stands on every hop but the last, which has C(servers) instead.
  type: dict
  contains:
    hop:
      description: Name of the hop.
      type: str
      sample: F
    host:
      description: Inventory name of the host.
      type: str
      sample: f1
    client_side:
      description: The leg towards the clients, with its peers, addresses and ports.
      type: dict
    server_side:
      description: The leg towards the servers, with its addresses and ports.
      type: dict
    next_hop:
      description: The hosts of the next hop and their control port.
      type: dict
    servers:
      description:
        - The servers' networks and control ports, perhaps C(names), C(fixed), C(resolvers).
      type: dict
    metrics:
      description: Where the proxy answers scrapes, and who may scrape it; missing where nobody may.
      type: dict
    timeouts:
      description: Timeouts in seconds.
      type: dict
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.commands import read_commands
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import (
    DescriptionError,
    host_on_path,
    read_path,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.settings import (
    read_greeting,
    read_timeouts,
    settings,
)


def proxy_settings(
    topology: object,
    host: object,
    mode: object = "both",
    ports: object = None,
    timeouts: object = None,
    *,
    limits: object = None,
    commands: object = None,
    greeting: object = None,
) -> dict[str, Any]:
    """Return the settings of `host`; a mistake in the description is AnsibleFilterError."""
    try:
        path = read_path(topology, mode, ports, limits)
        said = read_timeouts(timeouts), read_commands(commands, path.servers), read_greeting(greeting)
        return settings(path, host_on_path(path, host), *said)
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Settings of a host's proxy."""

    def filters(self) -> dict[str, Any]:
        return {"proxy_settings": proxy_settings}
