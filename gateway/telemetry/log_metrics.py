"""What became of log lines, as a scrape sees it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.gateway.telemetry.logs import dropped_lines


class LogCollector(Collector):
    """Shows how many log lines were dropped by this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The family without its sample."""
        return [_family()]

    def collect(self) -> Iterable[Metric]:
        """The family as it is now."""
        family = _family()
        family.add_metric([], dropped_lines())
        return [family]


def _family() -> CounterMetricFamily:
    return CounterMetricFamily(
        "sluice_log_lines_dropped", "Log lines that could not be written: nobody reads them, or the disk is full."
    )
