# SPDX-License-Identifier: GPL-3.0-or-later
"""Port ranges (PROTOCOL 13.1-13.3, 3.17). The kernel says which port is free; nobody keeps a list."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `first` to `last`, both included, each 1-65535."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """Read "50000-50999" or "20". Raises ValueError."""
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
        if not match:
            raise ValueError(f"{text!r} is no port range")
        ports = cls(int(match[1]), int(match[2] or match[1]))
        if not 1 <= ports.first <= ports.last <= 65535:
            raise ValueError(f"{text!r} is no port range")
        return ports

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def candidates(self, below: Callable[[int], int] = secrets.randbelow) -> Iterator[int]:
        """Yield each port once, from a random start (13.2, RFC 2577 section 8)."""
        start = below(len(self))
        for step in range(len(self)):
            yield self.first + (start + step) % len(self)
