#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to read a description, and to derive the flows and the rules of all its hosts.

    make bench-derivation
    tests/benchmarks/derivation.py --hosts 1000 --hops 50 --networks 20000

The path is read once; then each host's flows are derived, and each host's rules. Half of the networks are the
clients', half the servers', and half of either IPv4. Two curves: more hosts, and more networks. Nothing is
asserted: the figures are for people."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path as File
from typing import Any

sys.path.insert(0, str(File(__file__).parents[2] / "playbooks/collections"))

from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import ruleset

UID = 990
STEPS = (20, 10, 5, 2, 1)  # a curve's points: the whole divided by these
CLIENTS, SERVERS = (0x14000000, 0xFC00 << 112), (0x3C000000, 0xFD00 << 112)


def addresses() -> Iterator[list[str]]:
    """An IPv4 and an IPv6 address, each time others."""
    for number in range(1, 2**24):
        yield [str(IPv4Address((10 << 24) + number)), str(IPv6Address((0x20010DB8 << 96) + number))]


def networks(first: tuple[int, int], count: int) -> list[str]:
    """So many networks, IPv4 and IPv6 in turn; no two of them are one."""
    found = []
    for number in range(count):
        if number % 2 == 0:
            found.append(f"{IPv4Address(first[0] + (number << 9))}/24")
        else:
            found.append(f"{IPv6Address(first[1] + (number << 65))}/64")
    return found


def topology(hosts: int, hops: int, count: int) -> dict[str, Any]:
    """A path of so many hosts, dealt out to its hops, with so many networks at its two ends."""
    own = addresses()
    members: list[dict[str, Any]] = [{} for _ in range(hops)]
    for number in range(hosts):
        sides = {"client_side": next(own), "server_side": next(own)}
        members[number * hops // hosts][f"h{number}"] = sides
    return {
        "clients": {"networks": networks(CLIENTS, count // 2)},
        "hops": [{"name": f"H{i}", "hosts": each} for i, each in enumerate(members)],
        "servers": {"networks": networks(SERVERS, count - count // 2)},
    }


def measured(hosts: int, hops: int, count: int) -> str:
    """A row of the table."""
    said = topology(hosts, hops, count)
    began = time.perf_counter()
    path = read_path(said)
    read = time.perf_counter()
    every = [host for hop in path.hops for host in hop.hosts]
    for host in every:
        derive(path, host)
    flows = time.perf_counter()
    for host in every:
        ruleset(path, host, UID)
    rules = time.perf_counter()
    return (
        f"{hosts:6} {hops:5} {count:9} {read - began:9.2f} {flows - read:9.3f} {(flows - read) / hosts * 1e3:9.3f}"
        f" {rules - flows:9.2f} {(rules - flows) / hosts * 1e3:9.2f}"
    )


def main() -> None:
    """Print the curves."""
    parser = argparse.ArgumentParser(description="Seconds to derive the flows and the rules of all hosts.")
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--hops", type=int, default=50)
    parser.add_argument("--networks", type=int, default=20000)
    said = parser.parse_args()
    print("                         read      flows of all hosts  rules of all hosts")
    print(" hosts  hops  networks    s             s   ms each         s   ms each")
    for step in STEPS:
        hosts = max(said.hosts // step, 1)
        print(measured(hosts, min(said.hops, hosts), said.networks), flush=True)
    print()
    for step in STEPS:
        print(measured(said.hosts, min(said.hops, said.hosts), max(said.networks // step, 2)), flush=True)


if __name__ == "__main__":
    main()
