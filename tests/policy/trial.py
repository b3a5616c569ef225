# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes against loaded rules, compared with the reference: what passes, and what the counters say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from .network import Network
from .paths import PathSpec
from .probe import Probe
from .prober import Prober, Redirects, Seen
from .probes import Around
from .reference import INTERCEPT, Reference
from .rules import Description, Rule, counts, deliver, load, rules, talking, text

EXPLAINED = 5
AT_ONCE = 400  # probes, where the first difference is enough
ATTEMPTS = 3  # of a run in which a SYN may have been sent twice, for its counters


@dataclass(frozen=True)
class Trial:
    """A path with the rules of some of its hosts loaded."""

    spec: PathSpec
    description: Description
    network: Network
    prober: Prober
    reference: Reference
    policed: tuple[str, ...]
    former: Description | None = None  # the rules carry its flows, too

    def reload(self) -> None:
        """Load the rules (again)."""
        for host in self.policed:
            load(self.network.namespaces[host], text(self.description, host, self.former))

    def talk(self) -> None:
        """Let every pair have a control connection but with those servers that are not involved."""
        known = sorted({one for node in self.spec.nodes() for one in node.reached})
        for host in self.policed:
            if getattr(self.reference.host(host), "intercept", "") == "redirect":
                near = self.reference.seen(host)
                pairs = {
                    family: [
                        f"{source} . {to}"
                        for source in known
                        for to in known
                        if ip_address(source).version == ip_address(to).version == family
                        and source in near
                        and to in self.reference.servers
                        and to not in self.spec.uninvolved
                    ]
                    for family in (4, 6)
                }
                talking(self.network.namespaces[host], pairs)

    def around(self, host: str, random: Random) -> Around:
        """Probes around one of its hosts."""
        return Around(self.spec, self.reference, host, random)

    def complaints(self, probes: Sequence[Probe]) -> list[str]:
        """Where the rules and the reference differ on these probes; empty if nowhere."""
        different, miscounted = self._run(probes)
        found = [self._explained(probe, seen) for probe, seen in different[:EXPLAINED]]
        if len(different) > EXPLAINED:
            found.append(f"... and {len(different) - EXPLAINED} more")
        return found or miscounted

    def agrees(self, probes: Sequence[Probe]) -> bool:
        """Whether rules and reference agree on these probes; it stops where they do not."""
        some = (probes[at : at + AT_ONCE] for at in range(0, len(probes), AT_ONCE))
        return all(self._run(these) == ([], []) for these in some)

    def _run(self, probes: Sequence[Probe]) -> tuple[list[tuple[Probe, Seen]], list[str]]:
        """Probes that fared otherwise than the reference says; if none, counters that did."""
        for _ in range(ATTEMPTS):
            before = {host: counts(self._rules(host)) for host in self.policed}
            different = self._different(probes)
            late = self.prober.late
            # On a busy machine a packet may come too late to be seen. What came through and should not
            # have is never forgiven; what did not come is asked once more.
            again: list[Probe] = []
            if different and not any(self._too_much(probe, seen) for probe, seen in different):
                again = [probe for probe, _ in different]
                different = self._different(again)
            if different:
                return different, []
            if not late and not self.prober.late:
                return [], self._miscounted([*probes, *again], before)
        return [], [f"The machine is too slow to count: some probe took a second, {ATTEMPTS} times."]

    def _different(self, probes: Sequence[Probe]) -> list[tuple[Probe, Seen]]:
        self.talk()
        judged = [(probe, self.reference.judge(probe, self.policed)) for probe in probes]
        return [
            (probe, seen)
            for (probe, verdict), seen in zip(judged, self.prober.run(probes), strict=True)
            if seen.passed != verdict.passes or seen.arrived not in (None, verdict.arrives)
        ]

    def _too_much(self, probe: Probe, seen: Seen) -> bool:
        verdict = self.reference.judge(probe, self.policed)
        return seen.passed > verdict.passes or bool(seen.arrived) > verdict.arrives

    def _rules(self, host: str) -> list[Rule]:
        return rules(self.network.namespaces[host])

    def _explained(self, probe: Probe, first: Seen) -> str:
        """The probe again, alone, with the rules that counted it."""
        verdict = self.reference.judge(probe, self.policed)
        before = {host: self._rules(host) for host in self.policed}
        again = self.prober.run([probe])[0]
        lines = [
            f"{probe}",
            f"  expected to {'pass' if verdict.passes else 'be refused'}: {verdict.why}"
            + (" (the opening packet arrives)" if verdict.arrives and not verdict.passes else ""),
            f"  seen: {_words(first)}; tried again alone: {_words(again)}",
        ]
        for host, old in before.items():
            lines += [
                f"  moved at {host}: {now.packets - was.packets} x {now}"
                for was, now in zip(old, self._rules(host), strict=True)
                if was.packets is not None and now.packets is not None and was.packets != now.packets
            ]
        return "\n".join(lines)

    def _miscounted(self, probes: Sequence[Probe], before: dict[str, Counter[str]]) -> list[str]:
        """Flows whose counters moved by another number than the reference gives them opening packets."""
        expected: Counter[tuple[str, str]] = Counter()
        for probe in probes:
            expected.update(self.reference.judge(probe, self.policed).flows)
        found = []
        for host in self.policed:
            after = counts(self._rules(host))
            for flow in self.reference.policies[host].flows:
                moved = after[flow.line] - before[host][flow.line]
                given = expected[host, flow.line]
                if flow.line not in after:
                    found.append(f"{host}: no rule bears the comment '{flow.line}'")
                elif moved != given:
                    found.append(f"{host}: {given} probes belong to '{flow.line}', its rules counted {moved}")
        return found


def _words(seen: Seen) -> str:
    arrived = {True: ", the opening packet arrived", False: ", the opening packet did not arrive", None: ""}
    return f"passed ({seen.how})" if seen.passed else f"refused ({seen.how}{arrived[seen.arrived]})"


def _always(
    spec: PathSpec, description: Description, policed: Sequence[str]
) -> Iterator[tuple[str, str, int]]:
    """Where the proxies of hops that intercept listen, whatever is tried."""
    for at, hop in enumerate(spec.hops):
        for host in spec.hosts_of(at) if hop.intercept else ():
            for address in description.topology["hops"][at]["hosts"][host]["client_side"]:
                if host in policed:
                    yield host, address, INTERCEPT


def _redirects(spec: PathSpec, reference: Reference, description: Description) -> Redirects:
    """Where what is dialled at a server may end."""
    return [
        (reference.servers, address)
        for at, hop in enumerate(spec.hops)
        if hop.intercept == "redirect"
        for host in spec.hosts_of(at)
        for address in description.topology["hops"][at]["hosts"][host]["client_side"]
    ]


def reference_of(spec: PathSpec) -> Reference:
    """What the rules of a path are compared with."""
    said = spec.description()
    return Reference(said.topology, said.mode, said.ports, **said.scope, uninvolved=spec.uninvolved)


@contextmanager
def trial(
    spec: PathSpec, policed: Sequence[str] | None = None, former: PathSpec | None = None
) -> Iterator[Trial]:
    """The path of `spec`, with rules on the hosts `policed` (all unless said); these carry `former`, too."""
    description = spec.description()
    on = tuple(spec.hosts if policed is None else policed)
    reference = reference_of(spec)
    redirects = _redirects(spec, reference, description)
    with Network(spec.row()) as network:
        prober = Prober(network, list(_always(spec, description, on)), redirects)
        before = former.description() if former else None
        made = Trial(spec, description, network, prober, reference, on, before)
        for host in on:
            deliver(network.namespaces[host])
        made.reload()
        yield made
