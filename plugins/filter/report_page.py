# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.report_page."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report_page
short_description: What the page of role report shows
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - The data of the page that role P(sluice.ftp.report#role) writes, so that its template only loops.
  - Its shape follows the page and may change with any version.
  - For pages of your own use P(sluice.ftp.flow_table#filter), P(sluice.ftp.flow_diagram#filter),
    P(sluice.ftp.path_picture#filter) and P(sluice.ftp.capacity#filter).

positional: _input, found, mode, ports
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
  - sluice.ftp.description.limits
options:
  found:
    description:
      - For each host that was asked what the role registered, as C(reach), C(answers) and C(drift), its
        C(routing) and its C(scope).
      - A host that is missing, or whose answers are, is shown as one that was not asked, or did not answer.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show of which hosts nothing is known
  ansible.builtin.debug:
    msg: "{{ (sluice_topology | sluice.ftp.report_page({})).not_reached }}"
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
#   msg: [f1, n1]
"""

RETURN = r"""
_value:
  description: The page's data.
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import DescriptionError, read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.page import page
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import shown, wrong


def report_page(
    topology: object,
    found: object,
    mode: object = "both",
    ports: object = None,
    *,
    limits: object = None,
) -> dict[str, Any]:
    """Return the data of the report's page; a mistake in the description is AnsibleFilterError."""
    try:
        if not isinstance(found, Mapping):
            wrong("found", shown(found), "a mapping of inventory names to what the hosts said")
        return page(read_path(topology, mode, ports, limits), found)
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Data of the report's page."""

    def filters(self) -> dict[str, Any]:
        return {"report_page": report_page}
