"""Metrics of the connections of all doors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Connections(Protocol):
    """The counts that are shown."""

    open: int
    refused: int


class ConnectionCollector(Collector):
    """Reads at each scrape how many connections are open, and how many were refused."""

    def __init__(self, connections: Connections, registry: CollectorRegistry) -> None:
        self._connections = connections
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The families, with samples: to read them costs nothing."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """The families with their samples."""
        now = self._connections
        open_now = GaugeMetricFamily("sluice_connections", "Connections that are open, all doors together.")
        open_now.add_metric([], now.open)
        refused = CounterMetricFamily(
            "sluice_connections_refused",
            "Connections that were turned away because there were too many, or no open files for them.",
        )
        refused.add_metric([], now.refused)
        return [open_now, refused]
