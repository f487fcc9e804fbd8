"""Counters and histograms for the event loop's thread alone, shown through prometheus-client.

prometheus-client's own take a lock per number, 0.35 µs for a counter and 0.84 µs for a histogram, which is dear where
a prediction needs several of each. These count in plain integers; what a scrape sees is the same
(docs/decisions/0005-counting-without-locks.md).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString


class Tally:
    """How many values fell into each bucket, and their sum. Of each bucket's traced values, the last is remembered."""

    __slots__ = ("_bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float) -> None:
        """Count one value, into the first bucket whose bound is not below it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def observe_traced(self, value: float, trace_id: str) -> None:
        """Count one value, and remember of which trace it was: 32 hexadecimal digits."""
        self.observe(value)
        self.exemplars[bisect_left(self._bounds, value)] = Exemplar({"trace_id": trace_id}, value, time.time())


class HistogramFamily(Collector):
    """A Prometheus histogram: one `Tally` per set of label values. `bounds` rise; the bucket above all is implied."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labels, self._bounds = name, text, labels, tuple(bounds)
        self._edges = [*map(floatToGoString, bounds), "+Inf"]
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def labels(self, *values: str) -> Tally:
        """The tally of these label values, made at first use."""
        return self._tallies.setdefault(values, Tally(self._bounds))

    def describe(self) -> Iterable[Metric]:
        """The family without its samples, so that registering it counts nothing."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """The family as a scrape sees it."""
        family = self._family()
        for values, tally in list(self._tallies.items()):
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for place, (edge, count) in enumerate(zip(self._edges, accumulate(tally.counts), strict=True)):
                exemplar = tally.exemplars.get(place)
                buckets.append((edge, count) if exemplar is None else (edge, count, exemplar))
            family.add_metric(values, buckets, tally.total)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self._labels)


class CounterFamily(Collector):
    """A Prometheus counter. `counts` is by the values of all labels, in order; a missing one is zero."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._counts: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def add(self, *values: str, by: int = 1) -> None:
        """Count so many more."""
        self._counts[values] = self._counts.get(values, 0) + by

    def describe(self) -> Iterable[Metric]:
        """The family without its samples, so that registering it counts nothing."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """The family as a scrape sees it."""
        family = self._family()
        for values, count in list(self._counts.items()):
            family.add_metric(values, count)
        return [family]

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self._name, self._text, labels=self._labels)
