"""The Prometheus metrics of the process.

Label values come from the model repository and from fixed tables, never from a caller, so that their number is bounded.
A call for an unknown model counts under the empty model name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sluice.gateway.telemetry import families as table
from sluice.gateway.telemetry.exposition import Exposition
from sluice.gateway.telemetry.families import Families
from sluice.gateway.telemetry.model_metrics import CallMetrics, Loads, ModelMetrics
from sluice.gateway.telemetry.tally import Count

DOORS = ("http", "grpc", "management")
"""The values of the label `door`."""


@dataclass(frozen=True, slots=True)
class TracedCalls:
    """How many traced calls were exported, were not taken by the collector, or were dropped before they were sent."""

    exported: Count
    failed: Count
    dropped: Count


class Metrics:
    """All metrics of the process.

    `engines` has the version of each engine by its name.

    The counts that alerts use begin at zero for each known model version and each of `dialects`.
    """

    def __init__(
        self, sluice_version: str, engines: Mapping[str, str] = MappingProxyType({}), dialects: Sequence[str] = ()
    ) -> None:
        self._families = families = Families(sluice_version, engines)
        self._dialects = tuple(dialects)
        self._loads: dict[tuple[str, int], Loads] = {}
        self._lag = families[table.LOOP_LAG].labels()
        self.registry = families.registry
        self.unknown_model = CallMetrics(families, "", "")
        self.pages = Exposition(families.registry)
        for door in DOORS:
            families[table.DOORS_REOPENED].labels(door)

    def of_model(self, model: str, version: int) -> ModelMetrics:
        """The metrics of one version that the repository holds."""
        loads = self._loads.setdefault((model, version), Loads())
        return ModelMetrics(self._families, model, str(version), self._dialects, loads)

    def watch_broken(self, count: Callable[[], float]) -> None:
        """Let scrapes read how many models and versions cannot be served."""
        self._families[table.BROKEN].set_function(count)

    def door_reopened(self, door: str) -> None:
        """Count a door that was opened again after it had stopped accepting connections."""
        self._families[table.DOORS_REOPENED].labels(door).inc()

    def traced_calls(self) -> TracedCalls:
        """The counts of traced calls. From now on a scrape shows them."""
        traced = self._families[table.TRACED]
        return TracedCalls(*[traced.labels(outcome) for outcome in ("exported", "failed", "dropped")])

    def tick(self, lag_s: float) -> None:
        """Observe that the event loop is `lag_s` late, and sort what histograms observed into their buckets.

        To be called many times a second: observed values are kept one by one until then.
        """
        self._lag.observe(lag_s)
        self._families.fold()
