# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to read a description, and to derive the flows and the rules of its hosts.

    make bench-flows

The path is read once; then the flows of all hosts are derived, and the rules of a few. Half of the networks
are the clients', half the servers', and half of either IPv4. Three curves end in the same whole: longer
paths, more hosts in a hop, more networks. Nothing is asserted: the figures are for people.

A host's flows are to cost what its own two legs cost: its neighbours' hosts and, at an end of the path, the
networks there. Its rules hold the whole path in sets, so that FTP goes past no proxy: they cost what the
path costs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path as File
from typing import Any

sys.path.insert(0, str(File(__file__).parents[2] / "playbooks/collections"))

from ansible_collections.sluice.ftp.plugins.plugin_utils.description import read_path
from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import derive
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Host
from ansible_collections.sluice.ftp.plugins.plugin_utils.ruleset import ruleset

UID = 990
HOPS, EACH, NETWORKS = 50, 20, 20000  # the whole: 1,000 hosts
RULES = 10  # of so many hosts, from the first to the last: of all it takes minutes
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


def milliseconds(work: Callable[[Host], object], hosts: Sequence[Host]) -> float:
    """What the work costs, for each of these hosts."""
    began = time.perf_counter()
    for host in hosts:
        work(host)
    return (time.perf_counter() - began) / len(hosts) * 1e3


def measured(hops: int, each: int, count: int) -> str:
    """A row of the table: `each` hosts in every hop."""
    said = topology(hops * each, hops, count)
    began = time.perf_counter()
    path = read_path(said)
    read = time.perf_counter() - began
    every = [host for hop in path.hops for host in hop.hosts]
    flows = milliseconds(lambda host: derive(path, host), every)
    end = milliseconds(lambda host: derive(path, host), path.hops[0].hosts)
    middle = milliseconds(lambda host: derive(path, host), path.hops[hops // 2].hosts)
    rules = milliseconds(lambda host: ruleset(path, host, UID), every[:: max(len(every) // RULES, 1)])
    return (
        f"{hops:5} {each:9} {len(every):6} {count:9} | {read:6.2f} | {flows * len(every) / 1e3:8.3f}"
        f" {end:9.3f} {middle:9.3f} | {rules:7.1f}"
    )


def main() -> None:
    """Print the curves."""
    print("                                 |   read |     flows of ... hosts      |   rules")
    print("                                 |        |   all     first    middle   |")
    print(" hops hosts/hop  hosts  networks |      s |        s   ms each   ms each | ms each")
    for rows in (
        [(hops, EACH, NETWORKS) for hops in (5, 10, 20, HOPS)],
        [(HOPS, each, NETWORKS) for each in (1, 5, 10, EACH)],
        [(HOPS, EACH, count) for count in (20, 2000, 10000, NETWORKS)],
    ):
        print()
        for row in rows:
            print(measured(*row), flush=True)


if __name__ == "__main__":
    main()
