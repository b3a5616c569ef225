# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.nft_rules."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nft_rules
short_description: The nftables rules of a host on an FTP path, as data
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - The sets and chains of table C(inet sluice) on one host, for a template that only loops.
  - Each rule that opens a flow bears its line of P(sluice.ftp.flow_table#filter) as its comment.

positional: _input, host, uid, mode, ports
extends_documentation_fragment:
  - sluice.ftp.description
  - sluice.ftp.description.path
  - sluice.ftp.description.host
  - sluice.ftp.description.limits
options:
  uid:
    description:
      - Number of the proxy's user.
      - Names are refused, for a recreated user would leave the old number in the rules.
      - In check mode V(<uid of NAME>) may stand for a user that does not exist yet.
    type: raw
    required: true
  log_refused:
    description: Whether the kernel's log names what is refused, at a low rate.
    type: bool
    default: true
  scope:
    description:
      - V(guard) restricts what has to do with the proxy and leaves all else alone.
      - V(exclusive) drops everything but the flows and what the following options allow.
    type: str
    choices: [guard, exclusive]
    default: guard
  management:
    description: As C(sluice_management), who may manage the host in scope V(exclusive).
    type: dict
    default: {}
  exclusive_host:
    description: As C(sluice_exclusive_host), what the host itself needs in scope V(exclusive).
    type: list
    elements: dict
    default: []
  exclusive_forward:
    description: As C(sluice_exclusive_forward), what the host still forwards in scope V(exclusive).
    type: list
    elements: dict
    default: []
  former:
    description:
      - What C(flows) of the table of before said.
      - Of those flows the ones that the path's do not carry stay open, too.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Show which ports the proxy of f1 serves
  ansible.builtin.debug:
    msg: "{{ table.sets | selectattr('name', 'equalto', 'serve') | list }}"
  vars:
    table: "{{ sluice_topology | sluice.ftp.nft_rules('f1', 990) }}"
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
#     - elements: ['21', 50000-50999, 52000-52999]
#       name: serve
#       spec: type inet_service; flags interval; auto-merge;
"""

RETURN = r"""
_value:
  description: The table.
  type: dict
  contains:
    family:
      description: Family of the table.
      type: str
      sample: inet
    name:
      description: Name of the table.
      type: str
      sample: sluice
    sets:
      description: Named sets; C(spec) is all but the elements.
      type: list
      elements: dict
    chains:
      description: Chains; C(spec) is the hook of a base chain, else empty; C(rules) are lines of nft.
      type: list
      elements: dict
    flows:
      description: The flows that the table carries, as one line of JSON, for O(former) of a later run.
      type: str
    former:
      description: Lines of the flows of before that it still carries.
      type: list
      elements: str
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import (
    DescriptionError,
    host_on_path,
    read_path,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.former import read_record
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import user_id
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import (
    Ruleset,
    ruleset,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import GUARD, read_scope


def nft_rules(
    topology: object,
    host: object,
    uid: object,
    mode: object = "both",
    ports: object = None,
    *,
    log_refused: bool = True,
    limits: object = None,
    scope: object = GUARD,
    management: object = None,
    exclusive_host: object = None,
    exclusive_forward: object = None,
    former: str = "",
) -> Ruleset:
    """Return the table of `host`; a mistake in the description is AnsibleFilterError."""
    try:
        path = read_path(topology, mode, ports, limits)
        number = user_id("uid", uid)
        how_much = read_scope(scope, management, exclusive_host, exclusive_forward)
        here = host_on_path(path, host)
        before = read_record(former)
        return ruleset(path, here, number, how_much, former=before, log_refused=log_refused)
    except DescriptionError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Rules of a host."""

    def filters(self) -> dict[str, Any]:
        return {"nft_rules": nft_rules}
