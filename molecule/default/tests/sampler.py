# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a hop until its stdin ends: does the proxy listen on a port that its loaded rules do not serve?

Prints how often it looked, and each port that was found outside the rules of before and after.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path

UID = subprocess.run(["id", "-u", "sluice"], capture_output=True, text=True, check=True).stdout.strip()
LISTEN = "0A"


def listening() -> set[int]:
    """The TCP ports on which the proxy's user listens."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    return {int(line[1].rpartition(":")[2], 16) for line in lines if line[3] == LISTEN and line[7] == UID}


def served() -> set[int]:
    """The ports that the loaded rules serve."""
    command = ["nft", "-j", "list", "set", "inet", "sluice", "serve"]
    listing = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (elements,) = [entry["set"]["elem"] for entry in listing["nftables"] if "set" in entry]
    found: set[int] = set()
    for each in elements:
        first, last = each["range"] if isinstance(each, dict) else (each, each)
        found.update(range(first, last + 1))
    return found


looks, outside = 0, set[int]()
before = served()
while not select.select([sys.stdin], [], [], 0.02)[0]:
    ports = listening()
    after = served()
    outside |= ports - before - after
    looks, before = looks + 1, after
print(json.dumps({"looks": looks, "outside": sorted(outside)}))
