# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules are replaced while connections are tried without pause: not one that the rules refuse gets through in
between, and not one that they allow is refused (F8)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from ansible_collections.sluice.ftp.plugins.module_utils.nft import Nft, can_stay, transaction

from tests.policy.network import Namespace, Network, Node
from tests.policy.rules import Description, load, text
from tests.unit.plugins.paths import twenty_lines

# an address that no network of the description lists, a client's, and F's own
STRANGER, CLIENT, OWN = "10.1.9.9", "10.1.0.10", "10.1.0.1"
FLOOD = f"""
import socket
print("up", flush=True)
while True:
    made = [socket.socket() for each in range(100)]
    for number, sock in enumerate(made):
        sock.setblocking(False)
        sock.bind((("{STRANGER}", "{CLIENT}")[number % 2], 0))
        sock.connect_ex(("{OWN}", (50000, 21)[number % 2]))
    for sock in made:
        sock.close()
"""
# what arrives, and what gets past our table
WITNESS = """
table inet witness {
    chain before {
        type filter hook input priority filter;
        tcp dport 50000 counter comment "refused"
        tcp dport 21 counter comment "allowed"
    }
    chain after {
        type filter hook input priority filter + 20;
        tcp dport 50000 counter comment "refused"
        tcp dport 21 counter comment "allowed"
    }
}
"""


def counted(host: Namespace, chain: str) -> dict[str, int]:
    found = re.findall(r'packets (\d+) .*"(\w+)"', host.run("nft", "list", "chain", "inet", "witness", chain))
    return {what: int(packets) for packets, what in found}


@pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces, which needs root")
def test_no_packet_slips_through_or_is_lost_in_a_reload() -> None:
    nft, unshare = shutil.which("nft", path="/usr/sbin"), shutil.which("unshare")
    assert nft
    assert unshare
    mine = Nft(nft, unshare, "inet", "sluice")
    first = text(Description(twenty_lines()), "f1")
    # The other one has a chain of another name, so that each reload also removes one.
    contents = [first, text(Description(twenty_lines(), mode="passive"), "f1").replace("in_up", "in_former")]
    with Network([Node("c1", (STRANGER, CLIENT)), Node("f1", (OWN,))]) as network:
        host = network.namespaces["f1"]
        load(host, first)
        load(host, WITNESS)
        with network.namespaces["c1"].inside():
            flood = subprocess.Popen([sys.executable, "-c", FLOOD], stdout=subprocess.PIPE)
        try:
            assert flood.stdout is not None
            flood.stdout.readline()
            for i in range(40):
                content = contents[(i + 1) % 2]
                with host.inside():
                    live, desired = mine.live(), mine.desired(content)
                    assert live is not None
                    assert can_stay(live, desired)
                    mine.load(transaction("inet sluice", content, live, desired))
                    assert mine.live() == desired
        finally:
            flood.terminate()
            flood.wait()
        before, after = counted(host, "before"), counted(host, "after")
        assert min(before.values()) > 1000
        assert after == before | {"refused": 0}
