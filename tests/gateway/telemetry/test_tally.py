"""What these count is shown exactly as prometheus-client's own classes show it."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from sluice.gateway.telemetry.tally import FEW, CounterFamily, HistogramFamily, Tally

BOUNDS = (0.001, 0.25, 1.0, 10.0)
names = st.sampled_from(["digits", "linear"])


def _shown(registry: CollectorRegistry) -> set[str]:
    """Without `_created`, the time at which prometheus-client's own made a series."""
    lines = generate_latest(registry).decode().splitlines()
    return {line for line in lines if "_created" not in line}


@given(st.lists(st.tuples(names, st.sampled_from([0.0, 0.001, 0.0010001, 0.25, 0.5, 1.0, 9.9, 10.0, 10.5, 1e9]))))
def test_a_histogram_is_shown_as_ever(values: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = HistogramFamily("wait_seconds", "How long.", ["model"], BOUNDS, ours)
    histogram = Histogram("wait_seconds", "How long.", ["model"], buckets=BOUNDS, registry=theirs)
    for model, value in values:
        tally.labels(model).observe(value)
        histogram.labels(model).observe(value)
    assert _shown(ours) == _shown(theirs)


@given(st.lists(st.tuples(names, st.sampled_from(["success", "invalid"]))))
def test_a_counter_is_shown_as_ever(calls: list[tuple[str, str]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    family = CounterFamily("calls", "How many.", ["model", "outcome"], ours)
    counter = Counter("calls", "How many.", ["model", "outcome"], registry=theirs)
    for number, (model, outcome) in enumerate(calls):
        family.add(model, outcome)
        family.add(model, outcome, by=number)
        counter.labels(model, outcome).inc(1 + number)
    assert _shown(ours) == _shown(theirs)


def test_two_families_of_one_name_are_refused() -> None:
    registry = CollectorRegistry()
    CounterFamily("calls", "How many.", [], registry)
    with pytest.raises(ValueError, match="calls"):
        CounterFamily("calls", "How many.", [], registry)


@given(st.lists(st.floats(-1.0, 100.0), max_size=3 * FEW), st.lists(st.floats(-1.0, 100.0), max_size=5))
def test_values_fall_into_the_same_buckets_however_many_are_sorted_at_once(
    first: list[float], more: list[float]
) -> None:
    bounds = (0.0, 0.5, 1.0, 50.0)
    tally = Tally(bounds)
    for values in (first, more):
        for value in values:
            tally.observe(value)
        tally.fold()
    every = [*first, *more]
    edges = [-math.inf, *bounds, math.inf]
    assert tally.counts == [sum(low < value <= high for value in every) for low, high in pairwise(edges)]
    assert tally.total == pytest.approx(sum(every))
    assert all(type(count) is int for count in tally.counts)
