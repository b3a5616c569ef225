# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab consists of: hosts, links, addresses, routes and names. Pure data, no I/O.

    c1 --- f1 --- n1 --- s1        C, F, N and S of the design

An interface is called after the host at its other end: `to_n1` on f1.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache"
STATES = Path("/run/sluice-lab")  # one folder for each lab of this machine
MARK = hashlib.sha256(bytes(CHECKOUT)).hexdigest()[:4]  # of this checkout, in the names of its labs
NAMESPACES = Path("/run/netns")  # where ip-netns(8) keeps them

HOSTS = ("c1", "f1", "n1", "s1")
LETTERS = {"C": "c1", "F": "f1", "N": "n1", "S": "s1"}
RELEASES = ("bookworm", "trixie")

MANAGEMENT = {"c1": "192.168.250.11", "f1": "192.168.250.12", "n1": "192.168.250.13", "s1": "192.168.250.14"}
MANAGEMENT_BRIDGE = "192.168.250.1"  # bears the .deb repository; Ansible comes from here

FTP_USER = "alice"
FTP_PASSWORD = "opensesame"  # of a user who exists only inside the lab


class LabError(Exception):
    """One sentence for the person at the terminal."""


@dataclass(frozen=True)
class End:
    """One end of a link: a host, its own addresses there, and addresses that no description lists."""

    host: str
    addresses: tuple[str, ...]
    unlisted: tuple[str, ...] = ()


LINKS: tuple[tuple[End, End], ...] = (
    (
        End("c1", ("10.1.0.10/24", "2001:db8:1::10/64"), ("10.1.0.200/24", "2001:db8:1::200/64")),
        End("f1", ("10.1.0.1/24", "2001:db8:1::1/64")),
    ),
    (
        End("f1", ("10.2.0.1/24", "2001:db8:2::1/64")),
        End("n1", ("10.2.0.2/24", "2001:db8:2::2/64")),
    ),
    (
        End("n1", ("198.51.100.2/24", "2001:db8:3::2/64")),
        End("s1", ("198.51.100.10/24", "2001:db8:3::10/64"), ("198.51.100.200/24", "2001:db8:3::200/64")),
    ),
)

# S has no route back to C or F: what reaches it from there has been masqueraded, or comes from N's proxy.
# Where a proxy may show S the client's own address, it has, and nobody masquerades: RETURNING.
ROUTES: dict[str, tuple[tuple[str, str], ...]] = {
    "c1": (("default", "10.1.0.1"), ("default", "2001:db8:1::1")),
    "f1": (("default", "10.2.0.2"), ("default", "2001:db8:2::2")),
    "n1": (("10.1.0.0/24", "10.2.0.1"), ("2001:db8:1::/64", "2001:db8:2::1")),
    "s1": (),
}
RETURNING = "transparent"  # the lab's name
WAYS_BACK = tuple(
    (network, gateway)
    for gateway, networks in (
        ("198.51.100.2", ("10.1.0.0/24", "10.2.0.0/24")),
        ("2001:db8:3::2", ("2001:db8:1::/64", "2001:db8:2::/64")),
    )
    for network in networks
)
FORWARDS = ("f1", "n1")


@dataclass(frozen=True)
class Lab:
    """One lab. Its names bear a mark of the checkout, so that two checkouts never touch each other's labs."""

    name: str
    release: str = "bookworm"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", self.name):
            raise LabError(
                f"lab name {self.name!r}: expected a letter, then at most 19 letters, digits or '-'."
            )
        if self.release not in RELEASES:
            raise LabError(f"release {self.release!r}: expected one of {', '.join(RELEASES)}.")

    @property
    def id(self) -> str:
        """The lab's name on this machine, such as `demo-3f2a`."""
        return f"{self.name}-{MARK}"

    @property
    def returning(self) -> bool:
        """Whether S knows the way back to C and F, and N's administrator translates nothing."""
        return self.name == RETURNING

    def routes(self, host: str) -> tuple[tuple[str, str], ...]:
        """The host's routes beyond its links, as (destination, gateway)."""
        return WAYS_BACK if host == "s1" and self.returning else ROUTES[host]

    @property
    def state(self) -> Path:
        """Everything that the lab keeps while it is there: a tmpfs, gone with it."""
        return STATES / self.id

    @property
    def shortcut(self) -> Path:
        """The same folder under a path that others can know: .cache/lab/NAME in the checkout."""
        return CACHE / "lab" / self.name

    @property
    def management(self) -> str:
        """The network namespace of the management bridge."""
        return f"sluice-{self.id}-mgmt"

    @property
    def ssh_config(self) -> Path:
        return self.state / "ssh_config"

    @property
    def inventory(self) -> Path:
        return self.state / "inventory"

    def machine(self, host: str) -> str:
        """The host's name on this machine: its network namespace, its control group, its nspawn machine."""
        return f"sluice-{self.id}-{host}"

    def folder(self, host: str) -> Path:
        """The host's own folder: overlay, log, process ids."""
        return self.state / host
