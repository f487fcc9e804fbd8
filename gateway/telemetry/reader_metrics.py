"""Metrics of the readers of large bodies, and of the bytes held for callers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.telemetry.labels import ReaderEnd


class ReaderStatistics(msgspec.Struct, frozen=True):
    """The state of the readers, and counts since the start. Times are sums over `bodies`; `ends` counts readers."""

    alive: int
    busy: int
    waiting: int
    bodies: int
    waited_s: float
    read_s: float
    ends: Mapping[ReaderEnd, int]


class ReaderPool(Protocol):
    """What can tell the state of the readers."""

    def statistics(self) -> ReaderStatistics:
        """The state now."""
        ...


class ReadersCollector(Collector):
    """Reads the state of the readers at each scrape."""

    def __init__(self, readers: ReaderPool, held: HeldBytes, registry: CollectorRegistry) -> None:
        self._readers = readers
        self._held = held
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The families, with samples: to read them costs nothing."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """The families with their samples."""
        now = self._readers.statistics()
        for name, text, value in (
            ("sluice_readers", "Processes that read large requests.", now.alive),
            ("sluice_readers_busy", "Readers that are at work.", now.busy),
            ("sluice_readers_waiting", "Requests that wait for a reader.", now.waiting),
            ("sluice_held_bytes", "Requests and answers held in memory for callers, in bytes.", self._held.now_bytes),
        ):
            gauge = GaugeMetricFamily(name, text)
            gauge.add_metric([], value)
            yield gauge
        for name, text, total in (
            ("sluice_reader_bodies", "Request bodies that were given to a reader.", now.bodies),
            ("sluice_reader_wait_seconds", "Time that request bodies waited for a reader, in seconds.", now.waited_s),
            ("sluice_reader_seconds", "Time that readers took for request bodies, in seconds.", now.read_s),
        ):
            counter = CounterMetricFamily(name, text)
            counter.add_metric([], total)
            yield counter
        ends = CounterMetricFamily("sluice_reader_ends", "Readers that are gone, by why.", labels=["reason"])
        for reason in ReaderEnd:
            ends.add_metric([reason.value], now.ends.get(reason, 0))
        yield ends
