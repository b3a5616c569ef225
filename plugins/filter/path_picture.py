# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.path_picture."""

from __future__ import annotations

DOCUMENTATION = r"""
name: path_picture
short_description: The connections of an FTP path as a picture
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - An SVG document of the whole path, with hosts and addresses, and an arrow for each connection.
  - An arrow runs from the end that opens to the end that accepts and bears the ports that each of them uses.
  - The flows are those of P(sluice.ftp.allowed_flows#filter) of all hosts, each of a leg drawn once.
  - The document refers to nothing beside it and follows the reader's choice of light or dark.

positional: _input, mode, ports, direction
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
options:
  direction:
    description: Where the servers lie, seen from the clients. V(down) suits a narrow page.
    type: str
    choices: [right, down]
    default: right
"""

EXAMPLES = r"""
- name: Show what the picture of a path says to those who cannot see it
  ansible.builtin.debug:
    msg: "{{ sluice_topology | sluice.ftp.path_picture | regex_search('FTP path[-A-Z ]+') }}"
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
#   msg: FTP path C - F - N - S
"""

RETURN = r"""
_value:
  description: The SVG document.
  type: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import DescriptionError, read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.picture import DIRECTIONS, picture
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import listed, shown, wrong


def path_picture(
    topology: object, mode: object = "both", ports: object = None, direction: object = "right"
) -> str:
    """Return the path as SVG; a mistake in the description is AnsibleFilterError."""
    try:
        if direction not in DIRECTIONS:
            wrong("direction", shown(direction), f"one of {listed(DIRECTIONS)}")
        return picture(read_path(topology, mode, ports), "down" if direction == "down" else "right").svg
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Picture of a path."""

    def filters(self) -> dict[str, Any]:
        return {"path_picture": path_picture}
