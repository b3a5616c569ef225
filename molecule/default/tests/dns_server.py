# SPDX-License-Identifier: GPL-3.0-or-later
"""A DNS server for one name, over UDP and TCP: `dns_server.py ADDRESS NAME ANSWER`, for S to run."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
import threading


def answer(query: bytes, name: str, address: bytes) -> bytes:
    """The reply to a query: the address for A of the name, else nothing (RFC 1035 section 4)."""
    end = query.index(b"\0", 12) + 5
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"
    known = query[12:end] == labels + struct.pack("!HH", 1, 1)
    header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, known, 0, 0)
    record = struct.pack("!HHHIH", 0xC00C, 1, 1, 5, 4) + address if known else b""
    return header + query[12:end] + record


def over_tcp(server: socket.socket, name: str, address: bytes) -> None:
    while True:
        client, _ = server.accept()
        with client:
            query = client.recv(2048)[2:]
            reply = answer(query, name, address)
            client.sendall(struct.pack("!H", len(reply)) + reply)


def main(listen: str, name: str, address: str) -> None:
    packed = ipaddress.IPv4Address(address).packed
    server = socket.create_server((listen, 53))
    threading.Thread(target=over_tcp, args=(server, name, packed), daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((listen, 53))
        while True:
            query, peer = sock.recvfrom(2048)
            sock.sendto(answer(query, name, packed), peer)


main(*sys.argv[1:])
