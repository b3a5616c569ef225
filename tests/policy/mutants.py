# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of rules that differ from the right one in one value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from .probe import Probe
from .values import NO_ADDRESS, Addresses, Ports

_RANGE: Final = re.compile(r"\b\d+-\d+\b")
_NETWORK: Final = re.compile(r"[\da-f:.]+/\d+")
_ELEMENTS: Final = re.compile(r"\t\telements = \{ (.*) \}\n")


@dataclass(frozen=True)
class Mutant:
    """What is wrong, the whole file, and where it should show first."""

    what: str
    ruleset: str
    ports: frozenset[int] = frozenset()
    addresses: Addresses = NO_ADDRESS

    def touches(self, probe: Probe) -> bool:
        """Whether the probe stands where the value is wrong."""
        ends = (probe.opener, probe.acceptor)
        near = {end.address for end in ends} | {probe.dialled}
        return (not self.ports or any(end.port in self.ports for end in ends)) and (
            not self.addresses.networks or any(address in self.addresses for address in near)
        )


def mutants(ruleset: str) -> Iterator[Mutant]:
    """One value wrong in each; the record of the flows at the end is a comment, and no rule."""
    ruleset = ruleset.partition("# flows:")[0]
    first_rule = ruleset.index("flush table")
    yield from _longer_ranges(ruleset, first_rule)
    yield from _larger_networks(ruleset, first_rule)
    yield from _changed_elements(ruleset, first_rule)


def _longer(found: str) -> Iterator[tuple[str, int]]:
    """A range one port longer at either end, and that port."""
    first, last = map(int, found.split("-"))
    yield f"{first - 1}-{last}", first - 1
    if last < 65535:
        yield f"{first}-{last + 1}", last + 1


def _longer_ranges(ruleset: str, start: int) -> Iterator[Mutant]:
    for found in dict.fromkeys(_RANGE.findall(ruleset, start)):
        for longer, port in _longer(found):
            changed = re.sub(rf"\b{found}\b", longer, ruleset)
            yield Mutant(f"{found} is {longer}", changed, frozenset({port}))


def _larger_networks(ruleset: str, start: int) -> Iterator[Mutant]:
    """Twice as large; everywhere is large enough."""
    for found in dict.fromkeys(_NETWORK.findall(ruleset, start)):
        right = ip_network(found)
        if right.prefixlen:
            larger = right.supernet()
            beside = Addresses.read([str(net) for net in larger.subnets() if net != right])
            yield Mutant(f"{found} is {larger}", ruleset.replace(found, str(larger)), addresses=beside)


def _changed_elements(ruleset: str, start: int) -> Iterator[Mutant]:
    """Each element missing from its set; a range in one element of several longer than it is."""
    for line in _ELEMENTS.finditer(ruleset, start):
        elements = line[1].split(", ")
        name = ruleset[: line.start()].rpartition("set ")[2].split()[0]
        for at, element in enumerate(elements):
            address, _, ports = element.rpartition(" . ")
            others = [*elements[:at], *elements[at + 1 :]]
            kept = f"\t\telements = {{ {', '.join(others)} }}\n" if others else ""
            changed = ruleset[: line.start()] + kept + ruleset[line.end() :]
            yield Mutant(f"{name} without {element}", changed, _ports(element), _addresses(element))
            for longer, port in _longer(ports) if address else ():
                wrong = line[0].replace(element, f"{address} . {longer}")
                changed = ruleset[: line.start()] + wrong + ruleset[line.end() :]
                what = f"{name}: {element} is {longer}"
                yield Mutant(what, changed, frozenset({port}), _addresses(address))


def _addresses(element: str) -> Addresses:
    """Those that an element of a set names."""
    named = element.partition(" . ")[0]
    return Addresses.read(named) if "." in named or ":" in named else NO_ADDRESS


def _ports(element: str) -> frozenset[int]:
    """The first and last of those that an element of a set names."""
    named = element.rpartition(" . ")[2]
    return frozenset(Ports.read(named).ranges[0]) if "." not in named and ":" not in named else frozenset()
