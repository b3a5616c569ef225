# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scope lets a host do besides its flows: `guard` everything, `exclusive` what the user listed.

Part of the reference: written from what the three lists mean, and from nothing of the collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .probe import Protocol
from .values import ANY_PORT, ANYWHERE, Addresses, Packet, Ports


@dataclass(frozen=True)
class Opening:
    """Connections that may be opened. Without a protocol: anything between these addresses."""

    protocol: Protocol | Literal[""]
    sources: Addresses
    destinations: Addresses
    ports: Ports

    def holds(self, protocol: str, packet: Packet) -> bool:
        """Whether this opening packet is one of them."""
        return (
            self.protocol in ("", protocol)
            and packet.source in self.sources
            and packet.destination in self.destinations
            and packet.dport in self.ports
        )


@dataclass(frozen=True)
class Besides:
    """Who may open what: to this host, from it, and past it; and whom its management ports may answer."""

    inward: tuple[Opening, ...]
    outward: tuple[Opening, ...]
    past: tuple[Opening, ...]
    management: Opening

    @classmethod
    def everything(cls) -> Besides:
        """In `guard`."""
        anything = Opening("", ANYWHERE, ANYWHERE, ANY_PORT)
        return cls((anything,), (anything,), (anything,), anything)

    @classmethod
    def listed(
        cls,
        management: Mapping[str, Any],
        host: Sequence[Mapping[str, Any]],
        forward: Sequence[Mapping[str, Any]] | None,
    ) -> Besides:
        """In `exclusive`: from sluice_management, sluice_exclusive_host and sluice_exclusive_forward."""
        manages = Opening(
            "tcp",
            Addresses.read(management.get("networks")),
            ANYWHERE,
            Ports.read(management.get("ports", [22])),
        )

        def needs(direction: str) -> list[Opening]:
            found = []
            for entry in host:
                if entry["direction"] == direction:
                    networks = Addresses.read(entry["networks"]) if "networks" in entry else ANYWHERE
                    ends = (networks, ANYWHERE) if direction == "in" else (ANYWHERE, networks)
                    found.append(Opening(entry["protocol"], *ends, Ports.read(entry["ports"])))
            return found

        return cls(
            inward=(manages, *needs("in")),
            outward=tuple(needs("out")),
            past=tuple(
                Opening(
                    entry.get("protocol", ""),
                    Addresses.read(entry["from"]),
                    Addresses.read(entry["to"]),
                    Ports.read(entry["ports"]) if "ports" in entry else ANY_PORT,
                )
                for entry in forward or ()
            ),
            management=manages,
        )

    def enters(self, protocol: str, packet: Packet) -> bool:
        """Whether somebody outside may open this to the host."""
        return any(one.holds(protocol, packet) for one in self.inward)

    def leaves(self, protocol: str, packet: Packet) -> bool:
        """Whether the host may send this. What looks like an answer to management is one (F10)."""
        turned = Packet(packet.destination, packet.dport, packet.source, packet.sport)
        return self.management.holds(protocol, turned) or any(
            one.holds(protocol, packet) for one in self.outward
        )

    def passes(self, protocol: str, packet: Packet) -> bool:
        """Whether this may be opened past the host."""
        return any(one.holds(protocol, packet) for one in self.past)
