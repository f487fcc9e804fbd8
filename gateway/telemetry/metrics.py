"""The Prometheus metrics of the process, all of them, and the only place that writes them.

Label values come from the model repository and from fixed tables, never from a caller, so their number is bounded:
a call for an unknown model counts under the empty model name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from prometheus_client.exposition import choose_encoder

from sluice.gateway.telemetry import families as table
from sluice.gateway.telemetry.exposition import Exposition
from sluice.gateway.telemetry.families import Families
from sluice.gateway.telemetry.model_metrics import CallMetrics, Loads, ModelMetrics
from sluice.gateway.telemetry.tally import Count

DOORS = ("http", "grpc", "management")
"""The doors that there may be."""


@dataclass(frozen=True, slots=True)
class TracedCalls:
    """How many traced calls' spans were handed to the collector, not taken by it, or dropped to make no caller wait."""

    exported: Count
    failed: Count
    dropped: Count


class Metrics:
    """All metrics of the process.

    `engines` has the version of each engine by its name.

    Of each model version that is known, the counts that alerts are about begin at zero, for each of `dialects`.
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
        """Read from here how many models and versions cannot be served."""
        self._families[table.BROKEN].set_function(count)

    def door_reopened(self, door: str) -> None:
        """Count a door that was shut and is open again."""
        self._families[table.DOORS_REOPENED].labels(door).inc()

    def traced_calls(self) -> TracedCalls:
        """What to count traced calls with; from now on a scrape shows it."""
        traced = self._families[table.TRACED]
        return TracedCalls(*[traced.labels(outcome) for outcome in ("exported", "failed", "dropped")])

    def tick(self, lag_s: float) -> None:
        """Count one look at the event loop, which came to it `lag_s` late, and sort what was observed since the last.

        To be called many times a second: what calls observe is kept one by one until then.
        """
        self._lag.observe(lag_s)
        self._families.fold()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their content type, made at once: a page for callers is `pages.page`."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
