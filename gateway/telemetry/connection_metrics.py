"""The connections of all doors, as a scrape sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Connections(Protocol):
    """What is shown of connections."""

    open: int
    refused: int


class ConnectionCollector(Collector):
    """Shows how many connections are open, and how many were turned away."""

    def __init__(self, connections: Connections, registry: CollectorRegistry) -> None:
        self._connections = connections
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The families."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """The families as they are now."""
        now = self._connections
        open_now = GaugeMetricFamily("sluice_connections", "Connections that are open, all doors together.")
        open_now.add_metric([], now.open)
        refused = CounterMetricFamily(
            "sluice_connections_refused",
            "Connections that were turned away because there were too many, or no open files for them.",
        )
        refused.add_metric([], now.refused)
        return [open_now, refused]
