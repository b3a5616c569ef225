# SPDX-License-Identifier: GPL-3.0-or-later
"""What must pass on host F, from the twelve lines and `guard` (POLICY 1, 2). Imports nothing of the core."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

PROXY, OTHER, ROOT = 990, 1001, 0
LISTED = {"C": ["10.1.0.0/25", "2001:db8:1::/120"], "N": ["10.2.0.2/32", "2001:db8:2::2/128"]}
OWN = {"C": ["10.1.0.1", "2001:db8:1::1"], "N": ["10.2.0.1", "2001:db8:2::1"]}
CLIENT_LISTEN = range(50000, 51000)
CLIENT_SOURCE = range(51000, 52000)
SERVER_LISTEN = range(52000, 53000)
SERVER_SOURCE = range(53000, 54000)
N_LISTEN = range(50000, 51000)  # N's client side
N_SOURCE = range(51000, 52000)
UNPRIVILEGED = range(1024, 65536)


@dataclass(frozen=True)
class Setting:
    """The modes of F's two legs, and whether active data to the clients comes from port 20."""

    client_leg: str
    server_leg: str
    port_20: bool

    @property
    def client_source(self) -> range:
        return range(20, 21) if self.port_20 else CLIENT_SOURCE


def listed(side: str, address: str) -> bool:
    return any(ip_address(address) in ip_network(each) for each in LISTED[side])


def allows(mode: str, word: str) -> bool:
    return mode in (word, "both")


def inbound(setting: Setting, peer: tuple[str, int], own: tuple[str, int], user: int) -> bool:
    """Whether a peer may connect to `user` of F at `own`."""
    address, port = own
    serve = {21}
    if allows(setting.client_leg, "passive"):
        serve.update(CLIENT_LISTEN)
    if allows(setting.server_leg, "active"):
        serve.update(SERVER_LISTEN)
    if user != PROXY:
        return port not in serve and not the_proxys_alone(setting, own, peer)
    from_client = listed("C", peer[0]) and address in OWN["C"]
    from_n = listed("N", peer[0]) and address in OWN["N"]
    return (
        (from_client and port == 21)
        or (from_client and allows(setting.client_leg, "passive") and port in CLIENT_LISTEN)
        or (from_n and allows(setting.server_leg, "active") and port in SERVER_LISTEN and peer[1] in N_SOURCE)
    )


def outbound(setting: Setting, own: tuple[str, int], peer: tuple[str, int], user: int) -> bool:
    """Whether `user` of F may connect from `own` to a peer."""
    if user != PROXY:
        return not the_proxys_alone(setting, own, peer)
    to_client = listed("C", peer[0]) and own[0] in OWN["C"]
    to_n = listed("N", peer[0]) and own[0] in OWN["N"]
    return (
        (to_n and peer[1] == 21)
        or passive_data_to_n(setting, own, peer)
        or (
            to_client
            and allows(setting.client_leg, "active")
            and own[1] in setting.client_source
            and peer[1] in UNPRIVILEGED
        )
    )


def passive_data_to_n(setting: Setting, own: tuple[str, int], peer: tuple[str, int]) -> bool:
    to_n = listed("N", peer[0]) and own[0] in OWN["N"]
    return to_n and allows(setting.server_leg, "passive") and own[1] in SERVER_SOURCE and peer[1] in N_LISTEN


def the_proxys_alone(setting: Setting, own: tuple[str, int], peer: tuple[str, int]) -> bool:
    """Pairs of ends that no other user may have, whoever opened: these drops ask no conntrack (F5, F6)."""
    speaks_ftp = listed("N", peer[0]) and peer[1] == 21
    takes_port_20 = setting.port_20 and allows(setting.client_leg, "active") and own[1] == 20
    return speaks_ftp or takes_port_20 or passive_data_to_n(setting, own, peer)
