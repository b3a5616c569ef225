# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the proxy's data ports out of everybody's ephemeral ports (POLICY F14).

python3 -m sluice.reserved_ports merge|remove --config FILE; as root, before the proxy starts and when
it is taken off. net.ipv4.ip_local_reserved_ports is one list for the whole host: `merge` adds to what
is there and notes what it added; `remove` takes out that and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path

from sluice import config
from sluice.ports import PortRange

SYSCTL = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
STATE = Path("/run/sluice-reserved-ports")


def parse(text: str) -> set[int]:
    """Return the ports of a list such as "8080,9000-9005". Raises ValueError."""
    ports: set[int] = set()
    for item in text.strip().split(","):
        if item:
            span = PortRange.parse(item.strip())
            ports.update(range(span.first, span.last + 1))
    return ports


def render(ports: Iterable[int]) -> str:
    """Write ports as the kernel does: ascending, in ranges."""
    spans: list[list[int]] = []
    for port in sorted(ports):
        if spans and spans[-1][1] == port - 1:
            spans[-1][1] = port
        else:
            spans.append([port, port])
    return ",".join(str(PortRange(first, last)) for first, last in spans)


def merge(present: set[int], added: set[int], wanted: set[int]) -> tuple[set[int], set[int]]:
    """Return the new list, and what of it is ours. `added`: what of `present` was ours so far."""
    others = present - added
    return others | wanted, wanted - others


def wanted_ports(settings: config.Settings) -> set[int]:
    """Return every data port of the four ranges (13.1), and that of scrapes."""
    spans = [r for side in (settings.client_side, settings.server_side) for r in (side.listen, side.source)]
    if settings.metrics:
        spans.append(PortRange(settings.metrics.port, settings.metrics.port))
    return {port for span in spans for port in range(span.first, span.last + 1)}


def apply(wanted: set[int], sysctl: Path = SYSCTL, state: Path = STATE) -> None:
    """Make `wanted` ours and leave the others' ports alone. Raises OSError, ValueError."""
    added: set[int] = set()
    with contextlib.suppress(FileNotFoundError):
        added = parse(state.read_text())
    present = parse(sysctl.read_text())
    new, ours = merge(present, added, wanted)
    # the note first: what it names in excess is not in the list, and taking it out takes nothing
    if ours or added:
        state.write_text(render(ours | added) + "\n")
    if new != present:
        sysctl.write_text(render(new) + "\n")
    if ours:
        state.write_text(render(ours) + "\n")
    else:
        state.unlink(missing_ok=True)


def main() -> int:
    """Return the exit code: 0, 1 when the kernel's list cannot be changed, 2 when the settings are wrong."""
    parser = argparse.ArgumentParser(prog="sluice.reserved_ports")
    parser.add_argument("action", choices=("merge", "remove"))
    parser.add_argument("--config", required=True, metavar="FILE")
    arguments = parser.parse_args()
    wanted: set[int] = set()
    if arguments.action == "merge":  # removal goes by the note, and works without settings
        try:
            wanted = wanted_ports(config.load(arguments.config, sys.stdin.buffer.read))
        except config.ConfigError as error:
            for problem in error.problems:
                print(problem, file=sys.stderr)
            return 2
    try:
        apply(wanted)
    except (OSError, ValueError) as error:
        print(f"net.ipv4.ip_local_reserved_ports cannot be changed: {error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
