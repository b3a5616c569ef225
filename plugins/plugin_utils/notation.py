# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The product's own notation: the neighbour on the left, the host on the right, the arrow shows who opens."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import SERVERS

MOST_PORTS = 3  # of servers behind an interception: more would not fit a comment of nft's, which holds 128


def line(flow: Flow) -> str:
    """A flow's line alone, as `C -> F: -> proxy user: to port 21`."""
    arrow = "->" if flow.direction == "in" else "<-"
    if flow.specified_by:
        port = f"specified by {flow.specified_by}"
    else:
        ports = [str(each) for each in flow.acceptor_ports]
        if flow.intercept and len(ports) > MOST_PORTS:
            ports[MOST_PORTS - 1 :] = [f"{ports[MOST_PORTS - 1]} and {len(ports) - MOST_PORTS} more"]
        port = ", ".join(ports) + (f" of {SERVERS}" if flow.intercept else "")
    return f"{flow.peer} {arrow} {flow.host}: {arrow} {flow.user}: to port {port}"


def suffix(flow: Flow) -> str:
    """What tells lines apart that read alike: the mode of data, the protocol of DNS; else nothing but how a
    hop intercepts, and whether this host opens with its client's address."""
    words: list[str] = [flow.mode or flow.protocol] if flow.channel in ("data", "dns") else []
    words += [flow.intercept] if flow.intercept else []
    words += ["source client"] if flow.foreign and flow.side == "up" else []
    return f"({', '.join(words)})" if words else ""


def comment(flow: Flow) -> str:
    """The line with its suffix: at most 128 characters, as nft holds."""
    return f"{line(flow)} {suffix(flow)}".rstrip()


def table(flows: Sequence[Flow]) -> str:
    """The flows of one host as text: the hop's name, a line for each flow, its suffix in a column."""
    name = flows[0].host
    width = max(len(line(flow)) for flow in flows)
    rows = [f"{line(flow):{width}}   {suffix(flow)}".rstrip() for flow in flows]
    return "\n".join(f"{'' if i else name:{len(name)}}   {row}" for i, row in enumerate(rows))
