# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Single connections to try, and the places between which they are tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.sluice.ftp.plugins.plugin_utils.flows import Flow
from ansible_collections.sluice.ftp.plugins.plugin_utils.notation import comment
from ansible_collections.sluice.ftp.plugins.plugin_utils.path import Host, PortRange, SideAddress, SidePorts
from ansible_collections.sluice.ftp.plugins.plugin_utils.scope import Scope

# Who makes a socket: the proxy's user, another one, or whoever runs the module (at the path's ends).
PROXY, OTHER, OWN = "proxy", "other", "own"

Rule = tuple[str, str]  # inventory name of a host, and the comment of a rule on it


@dataclass(frozen=True, slots=True)
class Probe:
    """One connection to try.

    `opener` and `acceptor` are inventory names. `source` is the opener's own address, `source_ports` where
    it opens from (empty: any). `target` is the address that it dials, `ports` where the acceptor listens: a
    temporary listener of user `listener` on its own address `bind`, at a free one of them, or, with an empty
    `listener`, whoever listens there already. `greets`: that is an FTP server; `identity`: to one who sends a
    PROXY header first. `passes` is what must come of
    it, and `rules` are those that count it then, as (host, comment). `about` says of a probe that must not
    pass how it differs from a flow.
    """

    id: str
    passes: bool
    about: str
    opener: str
    user: str
    source: str
    source_ports: str
    acceptor: str
    target: str
    ports: str
    listener: str
    bind: str
    greets: bool
    identity: bool
    rules: tuple[Rule, ...]

    def as_data(self) -> dict[str, Any]:
        """The probe as plain types."""
        return {**asdict(self), "rules": [list(each) for each in self.rules]}


@dataclass(frozen=True, slots=True)
class Place:
    """A host on one leg: its addresses there by version, where it listens for data, its control port.

    A host of a hop (`whole`) has also its ports on this leg, all its flows, those of this leg by mode (None
    is control), and its scope. A client or a server has none of these, and opens from anywhere.
    """

    host: str
    addresses: Mapping[int, SideAddress]
    listen: PortRange
    control: int
    whole: Host | None = None
    ports: SidePorts | None = None
    flows: tuple[Flow, ...] = ()
    on_leg: Mapping[str | None, Flow] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)
    identity: bool = False  # it asks who connects to its control port for whom

    @property
    def source(self) -> str:
        """Where it opens data from; empty: anywhere."""
        return str(self.ports.source) if self.ports else ""

    @property
    def user(self) -> str:
        """Who holds its end of a flow."""
        return PROXY if self.whole else OWN

    def counts(self, mode: str | None) -> Iterator[Rule]:
        """The rule that counts this leg's flow of that mode here; none at the path's ends."""
        if mode in self.on_leg:
            yield self.host, comment(self.on_leg[mode])


def versions(one: Place, other: Place) -> list[int]:
    """The IP versions that both have."""
    return sorted(one.addresses.keys() & other.addresses.keys())
