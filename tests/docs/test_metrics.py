"""`docs/metrics.md` lists what a scrape shows: every family, with its type, its labels and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from sluice.cache.cache import Cache, CacheOptions
from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.reading.pool import Readers
from sluice.gateway.telemetry.cache_metrics import CacheCollector
from sluice.gateway.telemetry.connection_metrics import ConnectionCollector
from sluice.gateway.telemetry.log_metrics import LogCollector
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.reader_metrics import ReadersCollector

ROOT = Path(__file__).parents[2]


class Family(msgspec.Struct, frozen=True):
    """One metric family of Sluice's own, as Prometheus names it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def row(self) -> str:
        """Its row in the table."""
        labels = ", ".join(self.labels)
        return f"| `{self.name}` | {self.kind} | {labels} | {self.text} |"


def families() -> list[Family]:
    """Every family that the gateway shows, but for those about the process, which prometheus-client describes."""
    metrics = Metrics("0")
    CacheCollector(Cache(CacheOptions(0), on_change=lambda *_: None), metrics.registry)
    LogCollector(metrics.registry)
    ReadersCollector(Readers(1), HeldBytes(1), metrics.registry)
    ConnectionCollector(ConnectionBudget(1), metrics.registry)
    found: dict[str, Family] = {}
    for collector in list(metrics.registry._collector_to_names):
        for metric in collector.describe() if hasattr(collector, "describe") else collector.collect():
            if metric.name.startswith("sluice_"):
                labels: Any = getattr(metric, "_labelnames", None) or getattr(collector, "_labelnames", ())
                name = metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
                found[name] = Family(name, metric.type, tuple(labels), metric.documentation)
    return list(found.values())


def test_the_table_is_what_a_scrape_shows() -> None:
    rows = [line for line in (ROOT / "docs" / "metrics.md").read_text().splitlines() if line.startswith("| `sluice_")]
    assert sorted(rows) == sorted(family.row for family in families())
