"""The metric of log lines that were dropped."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.gateway.telemetry.logs import dropped_lines


class LogCollector(Collector):
    """Reads at each scrape how many log lines this process has dropped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The family without its sample."""
        return [_family()]

    def collect(self) -> Iterable[Metric]:
        """The family with its sample."""
        family = _family()
        family.add_metric([], dropped_lines())
        return [family]


def _family() -> CounterMetricFamily:
    return CounterMetricFamily(
        "sluice_log_lines_dropped", "Log lines that could not be written: nobody reads them, or the disk is full."
    )
