# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many transfers at once the port ranges of a host carry."""

from __future__ import annotations

from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.path import ACTIVE, PASSIVE, Host, Path


def capacity(path: Path, host: Host) -> dict[str, Any]:
    """What each of the host's four ranges carries, and each mode of its two legs, as plain types.

    A range that the host listens in carries as many transfers at once as it has ports; a port that it opens
    from serves several far ends at once, so such a range is no limit: `transfers` is None there
    (requirement 13.3). A range is `used` where its leg allows the mode that needs it.

    Returns `ranges` (each `name`, `leg`, `mode`, `ports`, `count`, `used`, `transfers`), `legs` (the
    transfers of each mode that a leg allows), `limit` (of the description, or None) and `transfers`, which
    fit whatever their modes: the smallest of all these, None where nothing limits.
    """
    position = path.positions[host.name]
    listening = path.listening(host)
    client, server = host.ports.client_side, host.ports.server_side
    ranges: list[dict[str, Any]] = []
    legs: dict[str, dict[str, int | None]] = {path.leg(position): {}, path.leg(position + 1): {}}
    for side, use, at, mode, ports in (
        ("client_side", "listen", position, PASSIVE, client.listen),
        ("client_side", "source", position, ACTIVE, client.source),
        ("server_side", "listen", position + 1, ACTIVE, server.listen),
        ("server_side", "source", position + 1, PASSIVE, server.source),
    ):
        leg, used = path.leg(at), mode in path.modes[at]
        transfers = ports.size if use == "listen" and side in listening else None
        ranges.append(
            {
                "name": f"{side}.{use}",
                "leg": leg,
                "mode": mode,
                "ports": str(ports),
                "count": ports.size,
                "used": used,
                "transfers": transfers,
            }
        )
        if used:
            legs[leg][mode] = transfers
    limits = [path.limits.transfers, *(ports.size for ports in listening.values())]
    least = min((each for each in limits if each is not None), default=None)
    return {"ranges": ranges, "legs": legs, "limit": path.limits.transfers, "transfers": least}
