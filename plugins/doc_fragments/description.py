# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that say the description: what most filters take."""

from __future__ import annotations


class ModuleDocFragment:
    """Each attribute is a fragment, `sluice.ftp.description` or `sluice.ftp.description.NAME`."""

    DOCUMENTATION = r"""
options:
  mode:
    description:
      - As C(sluice_mode), V(active), V(passive) or V(both) for all legs.
      - A dictionary says one of them for each leg.
    type: raw
    default: both
  ports:
    description: As C(sluice_ports); a range that is not said keeps its default.
    type: dict
    default: {}
"""

    PATH = r"""
options:
  _input:
    description: The path, as C(sluice_topology).
    type: dict
    required: true
"""

    HOST = r"""
options:
  host:
    description: Inventory name of the host, which stands on the path.
    type: str
    required: true
"""

    LIMITS = r"""
options:
  limits:
    description:
      - As C(sluice_limits); C(transfers) is how many transfers a host may carry at once.
      - A range that could not carry so many is refused.
    type: dict
    default: {}
"""
