# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why a packet is dropped: the comments of rules, which verification expects to count."""

from __future__ import annotations

ANYTHING_ELSE = "proxy user: anything else"
NOT_A_FLOW = "not a flow: to a proxy port"
OTHER_SERVES = "other user serves on a proxy port"
OTHER_OPENS_DATA = "other user opens data as the proxy"
OTHERS_ADDRESS = "other user at an address of another host"
OTHER_SPEAKS_FTP = "other user speaks FTP upstream"
UNDELIVERED = "taken for the proxy, and not delivered"
PAST_THE_PROXY = "FTP only through the proxy"
NO_HELPER = "no FTP helper past the proxy"
TO_THE_HOST = "exclusive: anything else to this host"
FROM_THE_HOST = "exclusive: anything else from this host"
THROUGH_THE_HOST = "exclusive: anything else through this host"
