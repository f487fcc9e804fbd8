"""Counters and histograms for the thread of the event loop alone, shown through prometheus-client.

prometheus-client's own take a lock for each number: 0.35 µs for a counter and 0.84 µs for a histogram, and a prediction
needs several of each. These count in plain integers, and histograms sort their values into buckets later, many at a
time. A scrape sees the same (docs/decisions/0005-counting-without-locks.md).
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

MemberT = TypeVar("MemberT")

SLICED_SAMPLES = 200
"""How many samples one piece of a family has, at most: text is made of them in less than a millisecond."""

FEW = 64
"""Fewer values than this are sorted faster without numpy."""


class Count:
    """One number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Tally:
    """How many values fell into each bucket, and their sum. The last traced value of each bucket is kept as exemplar.

    `observe` adds one value. `fold` sorts it into the first bucket whose bound is not below it; until then the value is
    kept as it is, so `fold` has to be called again and again.
    """

    __slots__ = ("_bounds", "_unsorted", "counts", "exemplars", "observe", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}
        # Doubles take a quarter of the memory of float objects, and thousands of them wait for `fold`.
        self._unsorted = array("d")
        self.observe: Callable[[float], None] = self._unsorted.append

    def fold(self) -> None:
        """Sort what was observed into its buckets."""
        unsorted = self._unsorted
        if not unsorted:
            return
        if len(unsorted) < FEW:
            for value in unsorted:
                self.counts[bisect_left(self._bounds, value)] += 1
        else:
            places = np.bincount(np.searchsorted(self._bounds, np.array(unsorted)), minlength=len(self.counts))
            self.counts = [count + more for count, more in zip(self.counts, places.tolist(), strict=True)]
        self.total += sum(unsorted)
        del unsorted[:]

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts) + len(self._unsorted)

    @property
    def sum(self) -> float:
        """All observed values, added up."""
        return self.total + sum(self._unsorted)

    def observe_traced(self, value: float, trace_id: str) -> None:
        """Add one value, and remember the trace that it belongs to. `trace_id` has 32 hexadecimal digits."""
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

    def known(self, *values: str) -> Tally | None:
        """The tally of these label values, or `None`."""
        return self._tallies.get(values)

    def labels(self, *values: str) -> Tally:
        """The tally of these label values, made at first use."""
        return self._tallies.setdefault(values, Tally(self._bounds))

    def fold(self) -> None:
        """Sort what was observed into its buckets."""
        for tally in self._tallies.values():
            tally.fold()

    def describe(self) -> Iterable[Metric]:
        """The family without its samples, so that registering it counts nothing."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """The family with its samples."""
        family = self._family()
        self._add(family, list(self._tallies.items()))
        return [family]

    def slices(self) -> Iterator[Metric]:
        """The family with its samples, in pieces."""
        for some in _some(self._tallies, SLICED_SAMPLES // (len(self._edges) + 2)):
            family = self._family()
            self._add(family, some)
            yield family

    def _add(self, family: HistogramMetricFamily, tallies: Iterable[tuple[tuple[str, ...], Tally]]) -> None:
        for values, tally in tallies:
            tally.fold()
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for place, (edge, count) in enumerate(zip(self._edges, accumulate(tally.counts), strict=True)):
                exemplar = tally.exemplars.get(place)
                buckets.append((edge, count) if exemplar is None else (edge, count, exemplar))
            family.add_metric(values, buckets, tally.total)

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self._labels)


class CounterFamily(Collector):
    """A Prometheus counter: one `Count` per set of label values."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._counts: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The count of these label values, made at first use. From then on a scrape shows it."""
        return self._counts.setdefault(values, Count())

    def add(self, *values: str, by: int = 1) -> None:
        """Add to the count of these label values."""
        self.labels(*values).value += by

    def describe(self) -> Iterable[Metric]:
        """The family without its samples, so that registering it counts nothing."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """The family with its samples."""
        family = self._family()
        self._add(family, list(self._counts.items()))
        return [family]

    def slices(self) -> Iterator[Metric]:
        """The family with its samples, in pieces."""
        for some in _some(self._counts, SLICED_SAMPLES):
            family = self._family()
            self._add(family, some)
            yield family

    def _add(self, family: CounterMetricFamily, counts: Iterable[tuple[tuple[str, ...], Count]]) -> None:
        for values, count in counts:
            family.add_metric(values, count.value)

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self._name, self._text, labels=self._labels)


def _some(members: Mapping[tuple[str, ...], MemberT], count: int) -> Iterator[list[tuple[tuple[str, ...], MemberT]]]:
    """The members, `count` at a time; one empty list if there are none, so that the family itself is shown."""
    items = list(members.items())
    for start in range(0, max(len(items), 1), count):
        yield items[start : start + count]
