# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Single values of the description: each reader takes a value and its place, and returns it typed or raises.

Ansible hands over lazy mappings and tagged strings, so values are told apart by Mapping, Sequence and str.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, NoReturn

from ansible_collections.sluice.ftp.plugins.plugin_utils.path import (
    ANY_PORT,
    UNPRIVILEGED,
    Address,
    Network,
    PortRange,
)

UNMADE_USER = re.compile(r"<uid of [a-z_][a-z0-9_-]*>")
DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
RANGE = re.compile(r"([0-9]{1,5})(?: ?- ?([0-9]{1,5}))?")


class DescriptionError(ValueError):
    """A mistake in the description, as one sentence: `PLACE: found X, expected Y`."""


def wrong(place: str, found: str, expected: str) -> NoReturn:
    """Raise the error of `place`."""
    raise DescriptionError(f"{place}: found {found}, expected {expected}")


def shown(value: object) -> str:
    """A value as an error shows it: text in quotes, collections by their kind, long text cut."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list" if value else "an empty list"
    return str(value)


def listed(names: Sequence[str]) -> str:
    """Names as an error lists them."""
    return ", ".join(names)


def mapping(
    place: str, value: object, required: Sequence[str], optional: Sequence[str] = ()
) -> Mapping[str, Any]:
    """A mapping that has all `required` keys, perhaps `optional` ones, and no others."""
    known = [*required, *optional]
    if not isinstance(value, Mapping):
        wrong(place, shown(value), f"a mapping with the keys {listed(required or known)}")
    for key in value:
        if not isinstance(key, str) or key not in known:
            wrong(place, f"the unknown key {shown(key)}", f"only {listed(known)}")
    for key in required:
        if key not in value:
            wrong(place, f"no {key}", f"the keys {listed(required)}")
    return value


def sequence(place: str, value: object, what: str) -> Sequence[Any]:
    """A list with at least one element; `what` names its elements."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        wrong(place, shown(value), f"a list of {what}")
    return value


def number(place: str, value: object, what: str) -> int:
    """An integer, as a number or as digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    # isdigit() alone lets other scripts' digits through
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    wrong(place, shown(value), what)


def flag(place: str, value: object) -> bool:
    """A boolean, as YAML has it."""
    if not isinstance(value, bool):
        wrong(place, shown(value), "true or false")
    return bool(value)


def port(place: str, value: object) -> int:
    """A port, 1 to 65535."""
    what = f"a port, {ANY_PORT.first} to {ANY_PORT.last}"
    result = number(place, value, what)
    if not ANY_PORT.first <= result <= ANY_PORT.last:
        wrong(place, shown(value), what)
    return result


def port_range(place: str, value: object, *, also: int | None = None) -> PortRange:
    """Unprivileged ports `FIRST-LAST`, or one port; `also` is a privileged port that may stand alone."""
    what = "ports as FIRST-LAST or one port, from 1024 to 65535" + (f", or {also}" if also else "")
    found = (
        RANGE.fullmatch(str(value)) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    )
    if not found:
        wrong(place, shown(value), what)
    low = int(found[1])
    high = int(found[2] or low)
    if low > high:
        wrong(place, f"{shown(value)}, which runs backwards", what)
    if not (low >= UNPRIVILEGED.first and high <= UNPRIVILEGED.last) and not low == high == also:
        wrong(place, shown(value), what)
    return PortRange(low, high)


def any_ports(place: str, value: object) -> tuple[PortRange, ...]:
    """Ports of any kind: one, `FIRST-LAST`, or a list of these; as written."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        every = sequence(place, value, "ports")
        return tuple(each for i, one in enumerate(every) for each in any_ports(f"{place}[{i}]", one))
    what = f"ports as FIRST-LAST or one port, from {ANY_PORT.first} to {ANY_PORT.last}, or a list of these"
    if (
        not isinstance(value, (str, int))
        or isinstance(value, bool)
        or not (found := RANGE.fullmatch(str(value)))
    ):
        wrong(place, shown(value), what)
    low = int(found[1])
    high = int(found[2] or low)
    if low > high or not ANY_PORT.first <= low <= high <= ANY_PORT.last:
        wrong(place, shown(value), what)
    return (PortRange(low, high),)


def address(place: str, value: object) -> Address:
    """An IPv4 or IPv6 address."""
    what = "an IPv4 or IPv6 address"
    if not isinstance(value, str) or "%" in value:  # a zone is one host's own word for an interface
        wrong(place, shown(value), what)
    try:
        return ip_address(str(value))
    except ValueError:
        wrong(place, shown(value), what)


def dns_name(value: object) -> str | None:
    """A DNS name in lower case, without the dot at its end; None for what is none."""
    if not isinstance(value, str):
        return None
    name = str(value).lower().removesuffix(".")
    labels = name.split(".")
    if not all(DNS_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit() or len(name) > 253:
        return None
    return name


def network(place: str, value: object) -> Network:
    """An IPv4 or IPv6 network; an address alone is a network of one."""
    what = "a network as ADDRESS/LENGTH"
    if not isinstance(value, str) or "%" in value:
        wrong(place, shown(value), what)
    try:
        return ip_network(str(value))
    except ValueError:
        pass
    try:
        whole = ip_network(str(value), strict=False)
    except ValueError:
        wrong(place, shown(value), what)
    wrong(place, f"{shown(value)}, which has bits set beyond its length", str(whole))


def networks(place: str, value: object) -> tuple[Network, ...]:
    """A list of networks, in the order written."""
    return tuple(network(f"{place}[{i}]", each) for i, each in enumerate(sequence(place, value, "networks")))


def user_id(place: str, value: object) -> int | str:
    """A user's number; `<uid of NAME>` may stand for a user that check mode did not make (F24)."""
    if isinstance(value, str) and UNMADE_USER.fullmatch(value):
        return str(value)
    what = "the number of the proxy's user, which is not root"
    found = number(place, value, what)
    if not 0 < found < 2**32 - 1:
        wrong(place, shown(value), what)
    return found
