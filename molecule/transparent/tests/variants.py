# SPDX-License-Identifier: GPL-3.0-or-later
"""How F and N can take part: `none` is addressed, the others intercept, `client` with C's address."""

from __future__ import annotations

import copy
import json
import os
import random
from dataclasses import dataclass, replace
from typing import Any

import yaml
from support import C4, C6, F_UP4, LAB, N_UP4, Transfer

KINDS = ("none", "redirect", "tproxy", "client")
F_UP6, N_UP6 = "2001:db8:2::1", "2001:db8:3::2"
WHOLE = bool(os.environ.get("SLUICE_TEST_ALL"))
SEED = int(os.environ.get("SLUICE_SEED") or random.SystemRandom().randrange(1_000_000))
DESCRIPTION: dict[str, Any] = yaml.safe_load((LAB.inventory / "group_vars/sluice.yml").read_text())
BIND, RAW = 1 << 10, 1 << 13  # CAP_NET_BIND_SERVICE, CAP_NET_RAW of capabilities(7)


@dataclass(frozen=True)
class Variant:
    """What F and N are."""

    f: str
    n: str

    def __str__(self) -> str:
        return f"F-{self.f}-N-{self.n}"

    def kind(self, host: str) -> str:
        return {"f1": self.f, "n1": self.n}[host]

    def topology(self) -> dict[str, Any]:
        """The lab's path so. F opens active data from port 20 where it does so from S's address."""
        topology: dict[str, Any] = copy.deepcopy(DESCRIPTION["sluice_topology"])
        f, n = topology["hops"]
        for hop, kind in ((f, self.f), (n, self.n)):
            hop["intercept"] = "tproxy" if kind == "client" else kind
            hop["source"] = "client" if kind == "client" else "own"
        n["identity"] = self.n == "none" and self.f != "client"
        if not self.tproxy("f1"):
            del f["hosts"]["f1"]["ports"]
        return topology

    def variables(self) -> tuple[str, str]:
        """For ansible-playbook."""
        return "-e", json.dumps({"sluice_topology": self.topology()})

    def tproxy(self, host: str) -> bool:
        return self.kind(host) in ("tproxy", "client")

    def routed(self, host: str) -> set[str]:
        """The interfaces whose packets the host routes to its proxy where they are marked."""
        interfaces = {"f1": ("to_c1", "to_n1"), "n1": ("to_f1", "to_s1")}[host]
        return set(interfaces[: {"tproxy": 1, "client": 2}.get(self.kind(host), 0)])

    def capabilities(self, host: str) -> int:
        """Of the proxy's process: port 21 or 20, and addresses of others."""
        low = self.kind(host) == "none" or (host == "f1" and self.tproxy(host))
        return (BIND if low else 0) | (RAW if self.tproxy(host) else 0)

    def seen(self, family: int) -> str:
        """The address that S sees."""
        if self.n != "client":
            return N_UP4 if family == 4 else N_UP6
        if self.f != "client":
            return F_UP4 if family == 4 else F_UP6
        return C4 if family == 4 else C6

    def of(self, way: Transfer, number: int) -> Transfer:
        """The transfer as this variant's clients do it: half of them up, the others in the next variant."""
        up = (number + ALL.index(self)) % 2
        found = replace(way, transparent=self.f != "none", direction="up" if up else "down")
        if way.client != "lftp":
            return found
        port = self.tproxy("f1")  # from which the data comes from port 20
        address = way.passive or self.f != "redirect"
        return replace(found, options=verify(address=address, port=port))


def verify(*, address: bool, port: bool) -> str:
    """What lftp checks of a data connection: that it belongs to the server, and comes from its port 20."""
    word = {True: "yes", False: "no"}
    return f"set ftp:verify-address {word[address]}; set ftp:verify-port {word[port]}"


ALL = [Variant(f, n) for f in KINDS for n in KINDS if (f, n) != ("none", "none")]
CHOSEN = ALL if WHOLE else [random.Random(SEED).choice(ALL)]
EXPLICIT = Variant("none", "none")

WAYS = [
    Transfer(client, "", command, family, options)
    for client, family, commands, options in (
        ("curl", 4, ("PASV",), "--ftp-skip-pasv-ip"),
        ("curl", 4, ("PASV",), "--no-ftp-skip-pasv-ip"),
        ("curl", 4, ("EPSV", "PORT", "EPRT"), ""),
        ("curl", 6, ("EPSV", "EPRT"), ""),
        ("lftp", 4, ("PASV", "EPSV", "PORT"), ""),
        ("lftp", 6, ("EPSV", "EPRT"), ""),
        ("ftplib", 4, ("PASV", "EPSV", "PORT", "EPRT"), ""),
        ("ftplib", 6, ("EPSV", "EPRT"), ""),
    )
    for command in commands
]
