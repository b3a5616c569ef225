# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens: the parsers with plain values, and the whole against sockets of our own."""

from __future__ import annotations

import os
import socket

from ansible_collections.sluice.ftp.plugins.modules.listeners_info import (
    Socket,
    parse_address,
    parse_ports,
    parse_sockets,
    parse_table,
    parse_unit,
    sockets,
)

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0015 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242
   1: 0100007F:9C40 0100007F:0015 01 00000000:00000000 00:00000000 00000000     0        0 4243
   2: 0100007F:9C41 0100007F:0015 06 00000000:00000000 00:00000000 00000000     0        0 4244
"""


def test_sockets_of_a_table_that_listen_or_are_connected() -> None:
    assert parse_table(TABLE) == [
        Socket("0A", "127.0.0.1", 21, "0.0.0.0", 0, "4242", 0),
        Socket("01", "127.0.0.1", 40000, "127.0.0.1", 21, "4243", 0),
    ]


def test_addresses_of_both_families() -> None:
    assert parse_address("0100000A") == "10.0.0.1"
    assert parse_address("B80D0120000000000000000001000000") == "2001:db8::1"
    assert parse_address("0000000000000000FFFF00000100000A") == "10.0.0.1"


def test_unit_in_both_versions_of_cgroups() -> None:
    assert parse_unit("0::/system.slice/vsftpd.service\n") == "vsftpd.service"
    hybrid = "2:cpu:/\n1:name=systemd:/system.slice/system-x.slice/x@1.service/sub\n0::/\n"
    assert parse_unit(hybrid) == "x@1.service"
    assert parse_unit("0::/\n") == ""


def test_units_that_systemd_listens_for() -> None:
    listing = '[{"listen":"[::]:22","unit":"ssh.socket"},{"listen":"/run/x","unit":"x.socket"}]'
    assert parse_sockets(listing) == {("::", 22): "ssh.socket"}
    assert parse_sockets("") == {}


def test_ports_of_interest() -> None:
    assert parse_ports(["21", "50000-50999"]) == [range(21, 22), range(50000, 51000)]


def test_a_socket_of_ours_is_named_with_its_process() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as sock:
            sock.bind((address, 0))
            sock.listen()
            port = sock.getsockname()[1]
            # Somebody else may listen on the same port of another address.
            mine = [
                each for each in sockets()["listeners"] if (each["address"], each["port"]) == (address, port)
            ]
            assert [(entry["address"], entry["pid"]) for entry in mine] == [(address, os.getpid())]
            assert mine[0]["process"]
            assert mine[0]["uid"] == os.geteuid()
        assert not [
            each for each in sockets()["listeners"] if (each["address"], each["port"]) == (address, port)
        ]


def test_a_connection_of_ours_is_named_with_its_other_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        to = server.getsockname()
        with socket.create_connection(to) as sock:
            own = sock.getsockname()[1]
            (mine,) = sockets([range(own, own + 1)])["connections"]
            (theirs,) = sockets([range(to[1], to[1] + 1)])["connections"]
    assert (mine["peer_address"], mine["peer_port"], mine["pid"]) == (*to, os.getpid())
    assert mine["outgoing"]
    assert not theirs["outgoing"]
