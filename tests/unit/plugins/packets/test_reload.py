# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules are replaced while connections are tried without pause: not one gets through in between (F8)."""

from __future__ import annotations

import re
import subprocess
import sys

from ansible_collections.sluice.ftp.plugins.modules.nft_table import Nft, can_stay, transaction

from tests.unit.plugins.packets.prober import Network, being
from tests.unit.plugins.packets.test_packets import SETTINGS, network, pytestmark, rules_file

__all__ = ["network", "pytestmark"]

# Connection attempts from a client that no network lists, as fast as one process makes them.
FLOOD = """
import socket
print("up", flush=True)
while True:
    made = [socket.socket() for _ in range(100)]
    for sock in made:
        sock.setblocking(False)
        sock.bind(("10.1.0.200", 0))
        sock.connect_ex(("10.1.0.1", 50000))
    for sock in made:
        sock.close()
"""
COUNTERS = """
table inet witness {
    chain before { type filter hook input priority filter; tcp dport 50000 counter; }
    chain after { type filter hook input priority filter + 20; tcp dport 50000 counter; }
}
"""


def counted(network: Network, chain: str) -> int:
    found = re.search(r"packets (\d+)", network.run("F", "nft", "list", "chain", "inet", "witness", chain))
    assert found
    return int(found[1])


def test_no_packet_slips_through_a_reload(network: Network) -> None:
    nft = Nft("/usr/sbin/nft", "/usr/bin/unshare", "inet", "sluice")
    contents = [rules_file(SETTINGS[1]), rules_file(SETTINGS[0]).replace("in_up", "in_former")]
    network.run("F", "nft", "-f", "-", text=contents[0])
    network.run("F", "nft", "-f", "-", text=COUNTERS)
    flood = ["ip", "netns", "exec", network.name("C"), sys.executable, "-c", FLOOD]
    process = subprocess.Popen(flood, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        for i in range(40):
            content = contents[(i + 1) % 2]
            with being(network.name("F"), 0):
                live, desired = nft.live(), nft.desired(content)
                assert live is not None
                assert can_stay(live, desired)
                nft.load(transaction("inet sluice", content, live, desired))
                assert nft.live() == desired
    finally:
        process.terminate()
        process.wait()
    assert counted(network, "before") > 1000
    assert counted(network, "after") == 0
