# SPDX-License-Identifier: GPL-3.0-or-later
"""Names to addresses, with dnspython and exactly the nameservers of the settings."""

from __future__ import annotations

import asyncio
import ipaddress

from sluice.events import Resolved
from sluice.protocol.addresses import Address


class Resolver:
    """Asks `nameservers`; `timeout` seconds bound one lookup."""

    def __init__(self, nameservers: tuple[Address, ...], timeout: float) -> None:
        """Raises ImportError where resolvers are set and dnspython is not there."""
        self._timeout = timeout
        self._nameservers = nameservers
        if nameservers:
            import dns.asyncresolver  # noqa: F401, PLC0415 - only where it is used

    async def resolve(self, name: str) -> Resolved:
        """Return the IPv4 and IPv6 addresses of a name."""
        import dns.asyncresolver  # noqa: PLC0415
        import dns.exception  # noqa: PLC0415
        import dns.resolver  # noqa: PLC0415

        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [str(n) for n in self._nameservers]
        resolver.lifetime = self._timeout
        answers = await asyncio.gather(
            *(resolver.resolve(name.rstrip(".") + ".", kind) for kind in ("A", "AAAA")),
            return_exceptions=True,
        )
        found: list[Address] = []
        cause = ""
        for answer in answers:
            if isinstance(answer, dns.resolver.NXDOMAIN):
                cause = "no such name"
            elif isinstance(answer, dns.resolver.NoAnswer):
                cause = cause or "the name has no address"
            elif isinstance(answer, BaseException):
                cause = cause or "the resolvers do not answer"
            else:
                found += [ipaddress.ip_address(str(record)) for record in answer]
        return Resolved(name, tuple(found), cause)
