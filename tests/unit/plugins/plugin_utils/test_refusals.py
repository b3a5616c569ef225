# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad descriptions are refused in a sentence: the place, what was found, what was expected."""

# ruff: noqa: E501 (a message stands whole on its line)

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.sluice.ftp.plugins.plugin_utils.commands import read_commands
from ansible_collections.sluice.ftp.plugins.plugin_utils.description import (
    DescriptionError,
    host_on_path,
    read_path,
)
from ansible_collections.sluice.ftp.plugins.plugin_utils.reading import user_id
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import read_scope
from ansible_collections.sluice.ftp.plugins.plugin_utils.settings import read_timeouts

from tests.unit.plugins.paths import changed, twenty_lines

# place in the twenty lines, what stands there (... for nothing), the whole message
TOPOLOGIES: list[tuple[str, Any, str]] = [
    ("clients", ..., "sluice_topology: found no clients, expected the keys clients, hops, servers"),
    ("order", "x", "sluice_topology: found the unknown key 'order', expected only clients, hops, servers"),
    (
        "clients",
        [],
        "sluice_topology.clients: found an empty list, expected a mapping with the keys networks",
    ),
    (
        "clients.networks",
        "10.1.0.0/24",
        "sluice_topology.clients.networks: found '10.1.0.0/24', expected a list of networks",
    ),
    (
        "clients.networks",
        [],
        "sluice_topology.clients.networks: found an empty list, expected a list of networks",
    ),
    (
        "clients.networks",
        ["10.1.0.1/24"],
        "sluice_topology.clients.networks[0]: found '10.1.0.1/24', which has bits set beyond its length, expected 10.1.0.0/24",
    ),
    (
        "clients.networks",
        ["10.1.0.0/33"],
        "sluice_topology.clients.networks[0]: found '10.1.0.0/33', expected a network as ADDRESS/LENGTH",
    ),
    (
        "clients.networks",
        ["lan"],
        "sluice_topology.clients.networks[0]: found 'lan', expected a network as ADDRESS/LENGTH",
    ),
    (
        "clients.networks",
        [10],
        "sluice_topology.clients.networks[0]: found 10, expected a network as ADDRESS/LENGTH",
    ),
    (
        "clients.port",
        "1024-65535",
        "sluice_topology.clients: found the unknown key 'port', expected only networks, ports, data_networks",
    ),
    (
        "clients.ports",
        "65535-1024",
        "sluice_topology.clients.ports: found '65535-1024', which runs backwards, expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    (
        "clients.ports",
        "80-65535",
        "sluice_topology.clients.ports: found '80-65535', expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    (
        "clients.ports",
        True,
        "sluice_topology.clients.ports: found true, expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    (
        "clients.ports",
        "20",
        "sluice_topology.clients.ports: found '20', expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    ("hops", [], "sluice_topology.hops: found an empty list, expected a list of hops"),
    ("hops", {}, "sluice_topology.hops: found a mapping, expected a list of hops"),
    ("hops.0", "F", "sluice_topology.hops[0]: found 'F', expected a mapping with the keys name, hosts"),
    (
        "hops.0.prefer",
        "x",
        "sluice_topology.hops[0]: found the unknown key 'prefer', expected only name, hosts, resolvers, order, identity, "
        "metrics_from, intercept, source",
    ),
    (
        "hops.0.name",
        "C",
        "sluice_topology.hops[0].name: found 'C', the name of the clients, expected a name of its own",
    ),
    (
        "hops.0.name",
        "S",
        "sluice_topology.hops[0].name: found 'S', the name of the servers, expected a name of its own",
    ),
    (
        "hops.1.name",
        "F",
        "sluice_topology.hops[1].name: found 'F', which another hop has, expected a name of its own",
    ),
    (
        "hops.0.name",
        "F-1",
        "sluice_topology.hops[0].name: found 'F-1', expected 1 to 16 letters, digits and _, beginning with a letter",
    ),
    (
        "hops.0.name",
        "ABCDEFGHIJKLMNOPQ",
        "sluice_topology.hops[0].name: found 'ABCDEFGHIJKLMNOPQ', expected 1 to 16 letters, digits and _, beginning with a letter",
    ),
    (
        "hops.0.name",
        7,
        "sluice_topology.hops[0].name: found 7, expected 1 to 16 letters, digits and _, beginning with a letter",
    ),
    ("hops.0.hosts", ..., "sluice_topology.hops[0]: found no hosts, expected the keys name, hosts"),
    (
        "hops.0.hosts",
        {},
        "sluice_topology.hops[0].hosts: found no host, expected a mapping of inventory names to their addresses",
    ),
    (
        "hops.0.hosts",
        ["f1"],
        "sluice_topology.hops[0].hosts: found a list, expected a mapping of inventory names to their addresses",
    ),
    (
        "hops.0.hosts",
        {
            "f1": {"client_side": "10.1.0.1", "server_side": "10.2.0.1"},
            "f2": {"client_side": ["10.1.0.3", "2001:db8:1::3"], "server_side": "10.2.0.3"},
        },
        "sluice_topology.hops[0].hosts.f2.client_side: found IPv4 and IPv6, expected IPv4, as f1 of the same hop has",
    ),
    (
        "hops.1.hosts",
        {"f1": {"client_side": "10.1.0.3", "server_side": "10.2.0.3"}},
        "sluice_topology.hops[1].hosts.f1: found the host f1 again, which stands at sluice_topology.hops[0].hosts.f1, expected a host in one place only",
    ),
    (
        "hops.0.hosts",
        {"f 1": {"client_side": "10.1.0.1", "server_side": "10.2.0.1"}},
        "sluice_topology.hops[0].hosts: found the host 'f 1', expected an inventory name of letters, digits, _, . and -",
    ),
    (
        "clients.data_networks",
        ["10.1.0.0/25", "10.0.0.0/8"],
        "sluice_topology.clients.data_networks[1]: found 10.0.0.0/8, expected a network within those of sluice_topology.clients.networks",
    ),
    (
        "servers.data_networks",
        ["2001:db8::/48"],
        "sluice_topology.servers.data_networks[0]: found 2001:db8::/48, expected a network within those of sluice_topology.servers.networks",
    ),
    (
        "servers.data_networks",
        [],
        "sluice_topology.servers.data_networks: found an empty list, expected a list of networks",
    ),
    (
        "hops.1.order",
        "random",
        "sluice_topology.hops[1].order: found 'random', expected in_order or spread",
    ),
    (
        "hops.0.order",
        "spread",
        "sluice_topology.hops[0].order: found 'spread' on the first hop, expected it on a later one: clients pick their host themselves",
    ),
    (
        "hops.0.identity",
        True,
        "sluice_topology.hops[0].identity: found true on hop F, expected it on a later hop only, for nobody tells the first one more than it sees",
    ),
    (
        "hops.1.identity",
        "yes",
        "sluice_topology.hops[1].identity: found 'yes', expected true or false",
    ),
    (
        "hops.0.resolvers",
        ["192.0.2.53"],
        "sluice_topology.hops[0].resolvers: found resolvers on hop F, expected them on the last hop only, where names are resolved",
    ),
    (
        "hops.1.resolvers",
        "192.0.2.53",
        "sluice_topology.hops[1].resolvers: found '192.0.2.53', expected a list of addresses of name servers",
    ),
    (
        "hops.1.resolvers",
        ["dns.example.org"],
        "sluice_topology.hops[1].resolvers[0]: found 'dns.example.org', expected an IPv4 or IPv6 address",
    ),
    (
        "hops.0.name",
        "monitor",
        "sluice_topology.hops[0].name: found 'monitor', the name of who scrapes metrics, expected a name of its own",
    ),
    (
        "hops.0.name",
        "resolver",
        "sluice_topology.hops[0].name: found 'resolver', the name of the name servers, expected a name of its own",
    ),
    (
        "hops.0.metrics_from",
        "10.9.0.0/24",
        "sluice_topology.hops[0].metrics_from: found '10.9.0.0/24', expected a list of networks",
    ),
    (
        "hops.0.metrics_from",
        ["10.9.0.0/24"],
        "sluice_topology.hops[0].hosts.f1: found no metrics, expected the address that answers metrics_from of hop F",
    ),
    (
        "hops.0.hosts.f1.metrics",
        "10.9.0.1",
        "sluice_topology.hops[0].hosts.f1.metrics: found 10.9.0.1, expected metrics_from on hop F: who may scrape it",
    ),
    (
        "hops.0.hosts.f1.metrics",
        True,
        "sluice_topology.hops[0].hosts.f1.metrics: found true, expected ADDRESS, IPV4:PORT or [IPV6]:PORT",
    ),
    (
        "hops.0.hosts.f1.metrics",
        "f1.example.org",
        "sluice_topology.hops[0].hosts.f1.metrics: found 'f1.example.org', expected ADDRESS, IPV4:PORT or [IPV6]:PORT",
    ),
    (
        "hops.0.hosts.f1.metrics",
        "127.0.0.1",
        "sluice_topology.hops[0].hosts.f1.metrics: found '127.0.0.1', expected an address that those who scrape it can reach",
    ),
    (
        "hops.0.hosts.f1.metrics",
        "0.0.0.0:9100",
        "sluice_topology.hops[0].hosts.f1.metrics: found '0.0.0.0:9100', expected an address that those who scrape it can reach",
    ),
    (
        "hops.0.hosts.f1.metrics",
        "10.9.0.1:x",
        "sluice_topology.hops[0].hosts.f1.metrics: found 'x', expected a port, 1 to 65535",
    ),
    (
        "hops.0.hosts.f1.metrics",
        "10.9.0.1:80",
        "sluice_topology.hops[0].hosts.f1.metrics: found port 80, expected a port from 1024 to 65535",
    ),
    (
        "hops.0.hosts.f1.metrics",
        "[2001:db8:9::1]:53999",
        "sluice_topology.hops[0].hosts.f1.metrics: found port 53999 of server_side.source 53000-53999, expected a port outside of the host's four ranges",
    ),
    (
        "hops.0",
        {
            "name": "F",
            "metrics_from": ["2001:db8:9::/64"],
            "hosts": {"f1": {"client_side": "10.1.0.1", "server_side": "10.2.0.1", "metrics": "10.9.0.1"}},
        },
        "sluice_topology.hops[0].hosts.f1.metrics: found 10.9.0.1, expected an IPv4 network in metrics_from, or another family",
    ),
    (
        "hops.0",
        {
            "name": "F",
            "metrics_from": ["10.9.0.0/24"],
            "hosts": {"f1": {"client_side": "10.1.0.1", "server_side": "10.2.0.1", "metrics": "10.2.0.2"}},
        },
        "sluice_topology.hops[0].hosts.f1.metrics: found 10.2.0.2, which stands at sluice_topology.hops[1].hosts.n1 too, expected an address of its own",
    ),
    (
        "hops.0.hosts.f1.server_side",
        ...,
        "sluice_topology.hops[0].hosts.f1: found no server_side, expected the keys client_side, server_side",
    ),
    (
        "hops.0.hosts.f1",
        None,
        "sluice_topology.hops[0].hosts.f1: found nothing, expected a mapping with the keys client_side, server_side",
    ),
    (
        "hops.0.hosts.f1.client_side",
        "10.1.0.300",
        "sluice_topology.hops[0].hosts.f1.client_side: found '10.1.0.300', expected an IPv4 or IPv6 address",
    ),
    (
        "hops.0.hosts.f1.client_side",
        "10.1.0.1/24",
        "sluice_topology.hops[0].hosts.f1.client_side: found '10.1.0.1/24', expected an IPv4 or IPv6 address",
    ),
    (
        "hops.0.hosts.f1.client_side",
        "2001:db8:1::1%eth0",
        "sluice_topology.hops[0].hosts.f1.client_side: found '2001:db8:1::1%eth0', expected an IPv4 or IPv6 address",
    ),
    (
        "hops.0.hosts.f1.client_side",
        ["10.1.0.1", "10.1.0.2"],
        "sluice_topology.hops[0].hosts.f1.client_side: found two IPv4 addresses, expected at most one address of a family on a side",
    ),
    (
        "hops.0.hosts.f1.client_side",
        "127.0.0.1",
        "sluice_topology.hops[0].hosts.f1.client_side: found '127.0.0.1', expected an address that its neighbours can reach",
    ),
    (
        "hops.0.hosts.f1.client_side",
        "fe80::1",
        "sluice_topology.hops[0].hosts.f1.client_side: found 'fe80::1', expected an address that its neighbours can reach",
    ),
    (
        "hops.0.hosts.f1.client_side",
        True,
        "sluice_topology.hops[0].hosts.f1.client_side: found true, expected an address, or a list of one IPv4 and one IPv6 address",
    ),
    (
        "hops.0.hosts.f1.client_side",
        [],
        "sluice_topology.hops[0].hosts.f1.client_side: found an empty list, expected an address, or a list of one IPv4 and one IPv6 address",
    ),
    (
        "hops.0.hosts.f1.server_side",
        "10.1.0.1",
        (
            "sluice_topology.hops[0].hosts.f1.server_side: found 10.1.0.1, which stands at sluice_topology.hops[0].hosts.f1.client_side too"
            ", expected an address of its own"
        ),
    ),
    (
        "hops.1.hosts.n1.client_side",
        "10.2.0.1",
        (
            "sluice_topology.hops[1].hosts.n1.client_side: found 10.2.0.1, which stands at sluice_topology.hops[0].hosts.f1.server_side too"
            ", expected an address of its own"
        ),
    ),
    (
        "hops.1.hosts.n1.client_side",
        "2001:db8::2",
        "sluice_topology, leg F-N: found IPv4 at F and IPv6 at N, expected a family that both ends have",
    ),
    (
        "hops.0.hosts.f1.client_side",
        "2001:db8::1",
        "sluice_topology, leg C-F: found IPv4 at C and IPv6 at F, expected a family that both ends have",
    ),
    (
        "servers.networks",
        ["2001:db8::/32"],
        "sluice_topology, leg N-S: found IPv4 at N and IPv6 at S, expected a family that both ends have",
    ),
    (
        "hops.0.hosts.f1.public",
        {"side": "203.0.113.7"},
        "sluice_topology.hops[0].hosts.f1.public: found the unknown key 'side', expected only client_side, server_side",
    ),
    (
        "hops.0.hosts.f1.public",
        {"server_side": "2001:db8::7"},
        "sluice_topology.hops[0].hosts.f1.public.server_side: found 2001:db8::7, expected no IPv6 address, as server_side has none",
    ),
    (
        "hops.0.hosts.f1.public",
        {"server_side": "10.2.0.2"},
        (
            "sluice_topology.hops[1].hosts.n1.client_side: found 10.2.0.2, which is also what n1 sees of f1"
            ", expected another address at either end of the leg F-N"
        ),
    ),
    (
        "hops.0.hosts.f1.ports",
        {"client_side": {"listen": "50000-50999", "source": "50500-51999"}},
        (
            "sluice_topology.hops[0].hosts.f1.ports: found client_side.listen 50000-50999 and client_side.source 50500-51999, which overlap"
            ", expected four ranges that share no port"
        ),
    ),
    (
        "hops.0.hosts.f1.ports",
        {"client_side": {"listen": 20}},
        "sluice_topology.hops[0].hosts.f1.ports.client_side.listen: found 20, expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    (
        "hops.0.hosts.f1.ports",
        {"server_side": {"source": 20}},
        "sluice_topology.hops[0].hosts.f1.ports.server_side.source: found 20, expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    (
        "hops.0.hosts.f1.ports",
        {"client_side": {"listen": "50000-70000"}},
        "sluice_topology.hops[0].hosts.f1.ports.client_side.listen: found '50000-70000', expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    (
        "hops.0.hosts.f1.ports",
        {"client_side": {"listen": 50000.5}},
        "sluice_topology.hops[0].hosts.f1.ports.client_side.listen: found 50000.5, expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    (
        "hops.0.hosts.f1.ports",
        {"client_side": {"passive": "1-2"}},
        "sluice_topology.hops[0].hosts.f1.ports.client_side: found the unknown key 'passive', expected only listen, source",
    ),
    (
        "hops.0.hosts.f1.identity",
        True,
        "sluice_topology.hops[0].hosts.f1: found the unknown key 'identity', expected only client_side, server_side, public, ports, metrics",
    ),
    ("servers", ..., "sluice_topology: found no servers, expected the keys clients, hops, servers"),
    ("servers.synch", "yes", "sluice_topology.servers.synch: found 'yes', expected true or false"),
    (
        "servers.name",
        ["a"],
        "sluice_topology.servers: found the unknown key 'name', expected only networks, control_ports, ports, fixed, "
        "names, data_networks, synch",
    ),
    (
        "servers.names",
        ["a"],
        "sluice_topology.servers.names: found names, expected them only with resolvers on the last hop N",
    ),
    (
        "servers.names",
        "a.example.org",
        "sluice_topology.servers.names: found 'a.example.org', expected a list of names of servers",
    ),
    (
        "servers.names",
        ["a.example.org", "192.0.2.1"],
        "sluice_topology.servers.names[1]: found '192.0.2.1', expected the name of a server, as ftp.example.org",
    ),
    (
        "servers.names",
        ["a.example.org", "A.example.org."],
        "sluice_topology.servers.names[1]: found a.example.org again, expected each name once",
    ),
    (
        "servers",
        {"networks": ["198.51.100.0/24"], "fixed": "198.51.100.1", "names": ["a"]},
        "sluice_topology.servers: found fixed and names, expected one of them, for with fixed no client names its server",
    ),
    (
        "servers.control_ports",
        21,
        "sluice_topology.servers.control_ports: found 21, expected a list of ports",
    ),
    (
        "servers.control_ports",
        [],
        "sluice_topology.servers.control_ports: found an empty list, expected a list of ports",
    ),
    (
        "servers.control_ports",
        [0],
        "sluice_topology.servers.control_ports[0]: found 0, expected a port, 1 to 65535",
    ),
    (
        "servers.control_ports",
        [True],
        "sluice_topology.servers.control_ports[0]: found true, expected a port, 1 to 65535",
    ),
    (
        "servers.control_ports",
        [21, 21],
        "sluice_topology.servers.control_ports[1]: found 21 again, expected each port once",
    ),
    (
        "servers.control_ports",
        [1, 2, 3, 4, 5, 6, 7, 8, 9],
        "sluice_topology.servers.control_ports: found 9 ports, expected at most 8",
    ),
    (
        "servers.fixed",
        "ftp.example.org",
        "sluice_topology.servers.fixed: found the name ftp.example.org, expected an address, or resolvers on the last hop N",
    ),
    (
        "servers.fixed",
        "198.51.100.10:2121",
        "sluice_topology.servers.fixed: found port 2121, expected one of sluice_topology.servers.control_ports (21)",
    ),
    ("servers.fixed", "", "sluice_topology.servers.fixed: found '', expected HOST, HOST:PORT or [IPV6]:PORT"),
    (
        "servers.fixed",
        "[2001:db8::1]:21",
        "sluice_topology.servers.fixed: found 2001:db8::1, expected an address in sluice_topology.servers.networks",
    ),
    (
        "servers.fixed",
        "999.1.1.1",
        "sluice_topology.servers.fixed: found '999.1.1.1', expected HOST, HOST:PORT or [IPV6]:PORT",
    ),
    (
        "servers.fixed",
        "198.51.100.10:x",
        "sluice_topology.servers.fixed: found 'x', expected a port, 1 to 65535",
    ),
    (
        "servers",
        {"networks": ["198.51.100.0/24"], "fixed": "192.0.2.1"},
        "sluice_topology.servers.fixed: found 192.0.2.1, expected an address in sluice_topology.servers.networks",
    ),
    (
        "servers.fixed",
        "[10.0.0.1",
        "sluice_topology.servers.fixed: found '[10.0.0.1', expected HOST, HOST:PORT or [IPV6]:PORT",
    ),
    ("servers.fixed", 21, "sluice_topology.servers.fixed: found 21, expected HOST, HOST:PORT or [IPV6]:PORT"),
    (
        "hops.1.hosts.n1.client_side",
        "224.0.0.1",
        "sluice_topology.hops[1].hosts.n1.client_side: found '224.0.0.1', expected an address that its neighbours can reach",
    ),
]

MODES: list[tuple[Any, str]] = [
    (
        None,
        "sluice_mode: found nothing, expected active, passive or both, or one of them for each leg (C-F, F-N, N-S)",
    ),
    (
        "passiv",
        "sluice_mode: found 'passiv', expected active, passive or both, or one of them for each leg (C-F, F-N, N-S)",
    ),
    (
        True,
        "sluice_mode: found true, expected active, passive or both, or one of them for each leg (C-F, F-N, N-S)",
    ),
    (
        ["both"],
        "sluice_mode: found a list, expected active, passive or both, or one of them for each leg (C-F, F-N, N-S)",
    ),
    (
        {"C-F": "both"},
        "sluice_mode: found no mode for the leg F-N, expected a mode for each leg: C-F, F-N, N-S",
    ),
    (
        {"C-F": "both", "F-N": "both", "N-S": "both", "F-S": "both"},
        "sluice_mode: found the leg 'F-S', expected only the legs C-F, F-N, N-S",
    ),
    (
        {"C-F": "both", "F-N": "x", "N-S": "both"},
        "sluice_mode.F-N: found 'x', expected active, passive or both",
    ),
]

PORTS: list[tuple[Any, str]] = [
    (7, "sluice_ports: found 7, expected a mapping with the keys client_side, server_side"),
    ({"both": 1}, "sluice_ports: found the unknown key 'both', expected only client_side, server_side"),
    (
        {"client_side": "x"},
        "sluice_ports.client_side: found 'x', expected a mapping with the keys listen, source",
    ),
    (
        {"client_side": {"listen": "52000-52010"}},
        "sluice_ports: found client_side.listen 52000-52010 and server_side.listen 52000-52999, which overlap, expected four ranges that share no port",
    ),
    (
        {"client_side": {"listen": "1-"}},
        "sluice_ports.client_side.listen: found '1-', expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    (
        {"client_side": {"listen": None}},
        "sluice_ports.client_side.listen: found nothing, expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
    (
        {"client_side": {"listen": "1023-1100"}},
        "sluice_ports.client_side.listen: found '1023-1100', expected ports as FIRST-LAST or one port, from 1024 to 65535",
    ),
]

TIMEOUTS: list[tuple[Any, str]] = [
    (
        [],
        "sluice_timeouts: found an empty list, expected a mapping with the keys connect, greeting, data_connect, "
        "data_idle, reply, idle, drain, login, total",
    ),
    (
        {"conect": 1},
        "sluice_timeouts: found the unknown key 'conect', expected only connect, greeting, data_connect, "
        "data_idle, reply, idle, drain, login, total",
    ),
    ({"total": 0}, "sluice_timeouts.total: found 0, expected seconds, more than 0 and at most 86400"),
    ({"connect": 0}, "sluice_timeouts.connect: found 0, expected seconds, more than 0 and at most 86400"),
    (
        {"connect": True},
        "sluice_timeouts.connect: found true, expected seconds, more than 0 and at most 86400",
    ),
    ({"idle": "5m"}, "sluice_timeouts.idle: found '5m', expected seconds, more than 0 and at most 86400"),
    (
        {"idle": float("nan")},
        "sluice_timeouts.idle: found nan, expected seconds, more than 0 and at most 86400",
    ),
]


LIMITS: list[tuple[Any, str]] = [
    (
        {"transfer": 5},
        "sluice_limits: found the unknown key 'transfer', expected only transfers, sessions, sessions_per_client, "
        "sessions_per_client_per_minute, bandwidth, bandwidth_per_session, command_line",
    ),
    (
        {"sessions": 30001},
        "sluice_limits.sessions: found 30001, expected how many sessions a host may have at once, 1 to 30000",
    ),
    (
        {"sessions_per_client": None},
        "sluice_limits.sessions_per_client: found nothing, expected how many sessions one client address may have "
        "at once, 1 to 30000",
    ),
    (
        {"transfers": 0},
        "sluice_limits.transfers: found 0, expected how many transfers a host may carry at once, 1 to 64512",
    ),
    (
        {"transfers": "many"},
        "sluice_limits.transfers: found 'many', expected how many transfers a host may carry at once, 1 to 64512",
    ),
    (
        {"transfers": 1001},
        "sluice_limits.transfers: found 1001, expected at most 1000, for client_side.listen of f1 (50000-50999) "
        "carries no more",
    ),
    (
        {"sessions_per_client_per_minute": 0},
        "sluice_limits.sessions_per_client_per_minute: found 0, expected how many sessions one client may begin in a "
        "minute, 1 to 30000",
    ),
    (
        {"bandwidth": "10M"},
        "sluice_limits.bandwidth: found '10M', expected how many bytes of data a host may move in a second, "
        "1000 to 1000000000000",
    ),
    (
        {"bandwidth_per_session": 999},
        "sluice_limits.bandwidth_per_session: found 999, expected how many bytes of data a session may move in a "
        "second, 1000 to 1000000000000",
    ),
    (
        {"command_line": 511},
        "sluice_limits.command_line: found 511, expected how many bytes a command line may have, 512 to 65536",
    ),
]

COMMANDS: list[tuple[Any, str]] = [
    ({"preset": "read-only"}, "sluice_commands: found a mapping, expected a list of rules"),
    (
        [{"client": ["10.0.0.0/8"]}],
        "sluice_commands[0]: found the unknown key 'client', expected only clients, servers, preset, allow, deny",
    ),
    (
        [{"clients": ["10.0.0.0/8"]}],
        "sluice_commands[0]: found nothing that it restricts, expected one of preset, allow, deny",
    ),
    (
        [{"deny": ["SITE"]}, {"clients": ["10.0.0.0/8"], "servers": ["10.0.0.0/8"], "deny": ["SITE"]}],
        "sluice_commands[1]: found clients and servers, expected one of them, for the first hop knows the one and the "
        "last hop the other",
    ),
    (
        [{"servers": ["10.0.0.1/8"], "deny": ["SITE"]}],
        "sluice_commands[0].servers[0]: found '10.0.0.1/8', which has bits set beyond its length, expected 10.0.0.0/8",
    ),
    (
        [{"preset": "readonly"}],
        "sluice_commands[0].preset: found 'readonly', expected one or more of read-only, upload-only, anonymous-only",
    ),
    (
        [{"preset": ["anonymous-only", 7]}],
        "sluice_commands[0].preset: found 7, expected one or more of read-only, upload-only, anonymous-only",
    ),
    ([{"preset": []}], "sluice_commands[0].preset: found an empty list, expected a list of presets"),
    (
        [{"preset": ["upload-only", "read-only"]}],
        "sluice_commands[0].preset: found read-only and upload-only, expected one of them, for together they "
        "allow nothing",
    ),
    ([{"allow": "RETR"}], "sluice_commands[0].allow: found 'RETR', expected a list of verbs"),
    ([{"allow": [""]}], "sluice_commands[0].allow[0]: found '', expected a verb, as SITE"),
    (
        [{"clients": ["a.example.org"], "deny": ["SITE"]}],
        "sluice_commands[0].clients[0]: found 'a.example.org', expected a network as ADDRESS/LENGTH",
    ),
    (
        [{"servers": ["a.example.org"], "deny": ["SITE"]}],
        "sluice_commands[0].servers[0]: found the name a.example.org, expected a network, or a name that "
        "sluice_topology.servers has in names or fixed",
    ),
    ([{"deny": "SITE"}], "sluice_commands[0].deny: found 'SITE', expected a list of verbs"),
    ([{"deny": ["SITE EXEC"]}], "sluice_commands[0].deny[0]: found 'SITE EXEC', expected a verb, as SITE"),
]

# scope, management, exclusive_host, exclusive_forward
SCOPES: list[tuple[tuple[Any, ...], str]] = [
    (("strict",), "sluice_scope: found 'strict', expected guard or exclusive"),
    (
        ("exclusive",),
        "sluice_management: found no networks, expected the networks that manage this host: in scope exclusive "
        "nobody else reaches it",
    ),
    (
        ("guard", {"network": []}),
        "sluice_management: found the unknown key 'network', expected only networks, ports",
    ),
    (
        ("exclusive", {"networks": ["10.0.0.1/24"]}),
        "sluice_management.networks[0]: found '10.0.0.1/24', which has bits set beyond its length, expected 10.0.0.0/24",
    ),
    (
        ("exclusive", {"networks": ["10.0.0.0/24"], "ports": 0}),
        "sluice_management.ports: found 0, expected ports as FIRST-LAST or one port, from 1 to 65535, or a list of these",
    ),
    (("guard", {}, "dns"), "sluice_exclusive_host: found 'dns', expected a list, which may be empty"),
    (
        ("guard", {}, [{"direction": "out", "protocol": "udp"}]),
        "sluice_exclusive_host[0]: found no ports, expected the keys direction, protocol, ports",
    ),
    (
        ("guard", {}, [{"direction": "both", "protocol": "udp", "ports": 53}]),
        "sluice_exclusive_host[0].direction: found 'both', expected in or out, seen from the host",
    ),
    (
        ("guard", {}, [{"direction": "out", "protocol": "icmp", "ports": 53}]),
        "sluice_exclusive_host[0].protocol: found 'icmp', expected tcp or udp",
    ),
    (
        ("guard", {}, [{"direction": "out", "protocol": "udp", "ports": [53, "90-80"]}]),
        "sluice_exclusive_host[0].ports[1]: found '90-80', expected ports as FIRST-LAST or one port, from 1 to 65535, "
        "or a list of these",
    ),
    (
        ("guard", {}, [], [{"from": ["10.0.0.0/8"], "to": ["0.0.0.0/0"], "ports": 80}]),
        "sluice_exclusive_forward[0]: found no protocol, expected protocol and ports, or neither: then everything "
        "between the two",
    ),
    (
        ("guard", {}, [], [{"from": ["10.0.0.0/8"], "to": ["::/0"]}]),
        "sluice_exclusive_forward[0]: found no family that both from and to have, expected IPv4 networks on both "
        "sides, or IPv6",
    ),
    (
        ("guard", {}, [], {"from": ["10.0.0.0/8"]}),
        "sluice_exclusive_forward: found a mapping, expected a list, which may be empty",
    ),
]


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(DescriptionError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(("place", "value", "message"), TOPOLOGIES)
def test_topology(place: str, value: Any, message: str) -> None:
    assert refusal(read_path, changed(place, value)) == message


@pytest.mark.parametrize("value", [None, "x", ["x"], 7])
def test_topology_of_another_kind(value: Any) -> None:
    assert refusal(read_path, value).endswith(", expected a mapping with the keys clients, hops, servers")


@pytest.mark.parametrize(("mode", "message"), MODES)
def test_mode(mode: Any, message: str) -> None:
    assert refusal(read_path, twenty_lines(), mode) == message


@pytest.mark.parametrize(("ports", "message"), PORTS)
def test_ports(ports: Any, message: str) -> None:
    assert refusal(read_path, twenty_lines(), "both", ports) == message


@pytest.mark.parametrize(("timeouts", "message"), TIMEOUTS)
def test_timeouts(timeouts: Any, message: str) -> None:
    assert refusal(read_timeouts, timeouts) == message


@pytest.mark.parametrize(("limits", "message"), LIMITS)
def test_limits(limits: Any, message: str) -> None:
    assert refusal(read_path, twenty_lines(), "both", None, limits) == message


@pytest.mark.parametrize(("commands", "message"), COMMANDS)
def test_commands(commands: Any, message: str) -> None:
    assert refusal(read_commands, commands, read_path(twenty_lines()).servers) == message


def test_a_limit_counts_where_a_range_is_used() -> None:
    """With mode active nobody connects to client_side.listen: only the other range has to carry them."""
    ports = {"client_side": {"listen": "50000-50009"}}
    assert read_path(twenty_lines(), "active", ports, {"transfers": 1000}).limits.transfers == 1000
    assert "client_side.listen of f1 (50000-50009)" in refusal(
        read_path, twenty_lines(), "passive", ports, {"transfers": 1000}
    )


@pytest.mark.parametrize(("said", "message"), SCOPES)
def test_scope(said: tuple[Any, ...], message: str) -> None:
    assert refusal(read_scope, *said) == message


@pytest.mark.parametrize("name", ["web1", None, ["f1"]])
def test_a_host_on_no_hop_is_told_which_are(name: Any) -> None:
    message = refusal(host_on_path, read_path(twenty_lines()), name)
    assert message.startswith("sluice_topology.hops: found no host ")
    assert message.endswith(", expected one of f1, n1")


@pytest.mark.parametrize("uid", [0, -1, True, "sluice", "", None, 2**32 - 1, "<uid of a user>"])
def test_a_user_is_a_number_and_not_root(uid: Any) -> None:
    """F18: a name would leave the old number behind."""
    assert refusal(user_id, "uid", uid).endswith(
        ", expected the number of the proxy's user, which is not root"
    )


def test_ranges_of_a_host_are_held_against_the_common_ones() -> None:
    """A host's own leaf lies over `sluice_ports`, and the whole is checked."""
    topology = changed("hops.0.hosts.f1.ports", {"client_side": {"listen": "40000-40099"}})
    assert refusal(read_path, topology, "both", {"server_side": {"source": "40050-40060"}}) == (
        "sluice_topology.hops[0].hosts.f1.ports: found client_side.listen 40000-40099 and server_side.source "
        "40050-40060, which overlap, expected four ranges that share no port"
    )
