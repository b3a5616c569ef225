# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sluice.ftp.verification_report."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verification_report
short_description: What came of a verification plan, judged
version_added: 0.1.0
author:
  - The sluice.ftp developers
description:
  - For the role P(sluice.ftp.verify#role).
  - Takes the plan and what the hosts said, and gives a report for each host.

positional: _input, said
options:
  _input:
    description: The plan, of P(sluice.ftp.verification_plan#filter).
    type: dict
    required: true
  said:
    description:
      - By inventory name what each host registered.
      - C(rules) is the result of P(sluice.ftp.nft_table#module) in check mode.
      - C(routing) is that of P(sluice.ftp.host_needs#filter).
      - C(listeners) is what P(sluice.ftp.listeners_info#module) returned.
      - C(uid) is the number of the proxy's user.
      - C(listening) and C(connecting) are lists of results of P(sluice.ftp.path_probe#module) with C(item).
      - C(counters) are texts of C(nft list table), one before the first round and one after each.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Judge what a host without any rules said
  ansible.builtin.debug:
    msg: "{{ (plan | sluice.ftp.verification_report({'f1': said})).f1.text }}"
  vars:
    plan:
      rounds: []
      hops: {f1: F}
      lines: {f1: ['C -> F: -> proxy user: to port 21']}
      untried: {f1: {'C -> F: -> proxy user: to port 21': sluice_verify_client is not set}}
      control: {f1: [[10.1.0.1, '21']]}
      data: {f1: []}
    said:
      rules: {loaded: true, written: true, left_out: [], diff: {before: '', after: ''}}
      routing: {commands: [], missing: [], difference: []}
      listeners: [{address: 10.1.0.1, port: 21, uid: 990, pid: 711, process: python3, unit: sluice.service}]
      uid: '990'
      listening: []
      connecting: []
      counters: []

# ok: [localhost] =>
#   msg:
#     - 'F on f1: 1 WRONG, 1 ok, 1 not tried'
#     - "WRONG      rules                              found no table inet sluice loaded"
#     - 'ok         listeners                          the proxy on 10.1.0.1:21, nobody else on its ports'
#     - 'not tried  C -> F: -> proxy user: to port 21  sluice_verify_client is not set'
"""

RETURN = r"""
_value:
  description:
    - By inventory name a report with C(host) and C(hop), C(wrong) (how many lines are), C(text) (to show)
      and C(failures) (sentences).
    - C(lines) are the same lines as data, each with C(kind) (V(rules), V(routing), V(listeners), V(flow),
      V(refused)), C(line), C(verdict) (V(ok), V(WRONG), V(unproven), V(not tried)), C(says) and C(more).
  type: dict
"""

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.sluice.ftp.plugins.plugin_utils.verdicts import reports


def verification_report(plan: Any, said: Any) -> dict[str, Any]:
    """Return the reports as plain types; what is no plan and no results of it is AnsibleFilterError."""
    try:
        return reports(plan, said)
    except (KeyError, TypeError, AttributeError) as exc:
        raise AnsibleFilterError(
            f"found no {exc} in what the hosts said, expected a plan and its results"
        ) from exc


class FilterModule:
    """What live hosts said, judged."""

    def filters(self) -> dict[str, Any]:
        return {"verification_report": verification_report}
