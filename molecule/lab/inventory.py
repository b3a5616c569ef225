# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as an Ansible inventory: group `sluice` with the hops, group `ends` with C and S."""

from __future__ import annotations

from pathlib import Path

from plan import CHECKOUT, Lab

DESCRIPTION = Path(__file__).with_name("description.yml")

HOSTS = """\
---
all:
  vars:
    ansible_user: root
    ansible_python_interpreter: /usr/bin/python3
    ansible_ssh_common_args: -F {config}
    ansible_control_path_dir: {control}
    ansible_ssh_pipelining: true
  children:
    sluice:
      hosts:
        f1:
        n1:
    ends:
      hosts:
        c1:
        s1:
"""


def write(lab: Lab) -> None:
    """Write the inventory folder: the hosts, and the path's description as the group's variables.

    That is the scenario's own, if it has one.
    """
    (lab.inventory / "group_vars").mkdir(parents=True)
    (lab.inventory / "hosts.yml").write_text(
        HOSTS.format(config=lab.ssh_config, control=lab.state / "ansible")
    )
    own = CHECKOUT / "molecule" / lab.name / DESCRIPTION.name
    description = own if own.exists() else DESCRIPTION
    (lab.inventory / "group_vars/sluice.yml").write_bytes(description.read_bytes())
