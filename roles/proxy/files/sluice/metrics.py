# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers of the tally as metrics of Prometheus, with its own library; docs/operate.md has the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sluice import __version__, tally
from sluice.config import Settings
from sluice.protocol.verbs import Mode

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # what the library writes unless asked for more


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is to tell: `numbers` of the tally over all workers, and how many there are of each now."""

    numbers: Sequence[int]
    sessions: int
    transfers: int
    serving: int
    retiring: int


class Page(Collector):
    """What a scrape gets."""

    def __init__(self, settings: Settings, figures: Callable[[], Figures]) -> None:
        self._settings = settings
        self._figures = figures
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def __call__(self) -> tuple[str, bytes]:
        """Return the content type and the text."""
        return _CONTENT_TYPE, generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        settings, now = self._settings, self._figures()
        sides = settings.client_side, settings.server_side
        legs = [side.leg for side in sides]
        numbers = now.numbers

        info = GaugeMetricFamily(
            "sluice_info", "The version that runs, its hop and its host.", labels=("version", "hop", "host")
        )
        info.add_metric((__version__, settings.hop, settings.host), 1)
        yield info

        workers = GaugeMetricFamily("sluice_workers", "Worker processes by state.", labels=("state",))
        workers.add_metric(("serving",), now.serving)
        workers.add_metric(("retiring",), now.retiring)
        yield workers
        yield _counter("sluice_worker_deaths", "Workers that died.", (), [((), numbers[tally.DEATHS])])

        yield _counter("sluice_sessions", "Sessions that were accepted.", (), [((), numbers[tally.SESSIONS])])
        yield GaugeMetricFamily("sluice_sessions_active", "Sessions now.", value=now.sessions)
        yield GaugeMetricFamily(
            "sluice_transfers_active", "Transfers that hold data sockets now.", value=now.transfers
        )
        yield _counter(
            "sluice_transfers",
            "Transfers that are over, by outcome.",
            ("direction", "outcome"),
            (
                ((direction, outcome), numbers[tally.TRANSFERS + i * len(tally.OUTCOMES) + j])
                for i, direction in enumerate(tally.DIRECTIONS)
                for j, outcome in enumerate(tally.OUTCOMES)
            ),
        )
        yield _counter(
            "sluice_transfer_bytes",
            "Bytes of data that were handed on; every byte counts once on each leg.",
            ("leg", "direction", "mode"),
            _bytes(settings, numbers),
        )
        yield _counter(
            "sluice_refusals",
            "What the proxy refused, by cause.",
            ("cause",),
            (((cause,), numbers[tally.REFUSALS + i]) for i, cause in enumerate(tally.CAUSES)),
        )
        yield _counter(
            "sluice_error_replies",
            "Replies of 400 to 599: what the client was told, and what the far end of the server's leg said.",
            ("leg", "code"),
            (
                ((leg, str(tally.FIRST_CODE + code)), count)
                for i, leg in enumerate(legs)
                for code in range(tally.CODES)
                if (count := numbers[tally.REPLIES + i * tally.CODES + code])
            ),
        )

        ranges = [
            ((side.leg, use), span)
            for side in sides
            for use, span in zip(tally.USES, (side.listen, side.source), strict=True)
        ]
        size = GaugeMetricFamily("sluice_ports", "Ports of each range.", labels=("leg", "use"))
        used = GaugeMetricFamily(
            "sluice_ports_in_use", "Ports of each range that hold sockets now.", labels=("leg", "use")
        )
        for i, (labels, span) in enumerate(ranges):
            size.add_metric(labels, len(span))
            used.add_metric(labels, numbers[tally.PORTS + i])
        yield size
        yield used
        yield _counter(
            "sluice_ports_exhausted",
            "How often a range had no free port.",
            ("leg", "use"),
            ((labels, numbers[tally.NO_PORT + i]) for i, (labels, _span) in enumerate(ranges)),
        )

        yield _connect_times(legs[1], numbers)
        yield _counter(
            "sluice_connect_failures",
            "Control connections to the next hop or server that could not be opened, by cause.",
            ("leg", "cause"),
            (((legs[1], cause), numbers[tally.FAILED + i]) for i, cause in enumerate(tally.FAILURES)),
        )


def _counter(
    name: str,
    text: str,
    labels: Sequence[str],
    values: Iterator[tuple[tuple[str, ...], int]] | Sequence[tuple[tuple[str, ...], int]],
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for each, value in values:
        family.add_metric(each, value)
    return family


def _bytes(settings: Settings, numbers: Sequence[int]) -> Iterator[tuple[tuple[str, ...], int]]:
    """For each leg, direction and mode; a mode that the leg does not allow, only where it once did."""
    for i, side in enumerate((settings.client_side, settings.server_side)):
        for upload in (False, True):
            for mode in (Mode.ACTIVE, Mode.PASSIVE):
                active = mode is Mode.ACTIVE
                moved = 0
                for other in (False, True):
                    modes = (active, other) if i == 0 else (other, active)
                    moved += numbers[
                        tally.bytes_index(upload=upload, client_active=modes[0], server_active=modes[1])
                    ]
                if moved or mode in side.modes:
                    yield (side.leg, tally.DIRECTIONS[upload], mode.value), moved


def _connect_times(leg: str, numbers: Sequence[int]) -> HistogramMetricFamily:
    buckets: list[tuple[str, float]] = []
    below = 0
    for i, bound in enumerate((*map(str, tally.BOUNDS), "+Inf")):
        below += numbers[tally.CONNECTED + i]
        buckets.append((bound, below))
    family = HistogramMetricFamily(
        "sluice_connect_seconds",
        "How long it took to open a control connection to the next hop or server.",
        labels=("leg",),
    )
    family.add_metric((leg,), buckets, numbers[tally.CONNECT_TIME] / 1e6)
    return family
