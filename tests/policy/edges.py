# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered networks, and for each the addresses at its edges: the first, the last, and the two beside it."""

from __future__ import annotations

from typing import Final

FAMILIES: Final = (4, 6)
_NETWORK: Final = {4: "172.20.{}.64/26", 6: "2001:db8:20{:02}::40/122"}
_INSIDE: Final = {
    4: ("172.20.{}.64", "172.20.{}.127"),
    6: ("2001:db8:20{:02}::40", "2001:db8:20{:02}::7f"),
}
_BESIDE: Final = {
    4: ("172.20.{}.63", "172.20.{}.128"),
    6: ("2001:db8:20{:02}::3f", "2001:db8:20{:02}::80"),
}


def network(number: int, family: int) -> str:
    """The network of that number."""
    return _NETWORK[family].format(number)


def networks(number: int) -> list[str]:
    """The networks of that number, one of each family."""
    return [network(number, family) for family in FAMILIES]


def addresses(*numbers: int) -> list[str]:
    """What stands at their edges, inside and beside."""
    return [
        template.format(number)
        for number in numbers
        for family in FAMILIES
        for template in (*_INSIDE[family], *_BESIDE[family])
    ]
