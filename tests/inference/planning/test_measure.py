"""Measuring, with a fake engine and a fake clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.inference.errors import ModelFailed
from sluice.inference.planning.measure import MOST_RUNS, RUNS, Instruments, Measurement, MeasuringBounds, Stop, measure
from sluice.inference.types import STORAGE, Arrays, Datatype, Knot, Signature, TensorSpec, knot_rows

NO_BOUND = MeasuringBounds(grown_bytes=None)


class Puppet:
    """An engine whose run time and memory growth are functions of the rows."""

    def __init__(
        self, run_s: Callable[[int], float], bytes_: Callable[[int], int] = lambda rows: 0, most_rows: int = 1 << 20
    ) -> None:
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("x", Datatype.FP32, (None, 2)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("y", Datatype.FP32, (None, 2)),)
        self.axis_names: Mapping[str, str] = {}
        self.checks_integers = True
        self.seen: list[Arrays] = []
        self.now_s = 0.0
        self.peak = 1 << 30
        self._run_s = run_s
        self._bytes = bytes_
        self._most_rows = most_rows

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        assert list(outputs) == ["y"]
        self.seen.append(arrays)
        rows = arrays[0].shape[0]
        if rows > self._most_rows:
            raise ModelFailed("too many")
        self.now_s += self._run_s(rows)
        self.peak = max(self.peak, (1 << 30) + self._bytes(rows))
        return arrays

    def measured(self, most_rows: int = 8, bounds: MeasuringBounds = NO_BOUND, *, batched: bool = True) -> Measurement:
        instruments = Instruments(lambda: self.now_s, lambda: self.peak, lambda: None)
        signature = Signature(self.inputs, self.outputs, batched)
        return measure(self, signature, most_rows, 3, bounds, instruments)

    @property
    def rows_seen(self) -> list[int]:
        return [arrays[0].shape[0] for arrays in self.seen]


@given(st.integers(1, 65536))
def test_sizes_are_the_powers_of_two_and_the_most(most_rows: int) -> None:
    found = knot_rows(most_rows)
    assert found[0] == 1
    assert found[-1] == most_rows
    assert list(found) == sorted(set(found))
    assert all(size & (size - 1) == 0 for size in found[:-1])
    assert all(later <= 2 * size for size, later in pairwise(found))


def test_each_size_is_warmed_up_and_run_a_few_times() -> None:
    puppet = Puppet(lambda rows: 0.001 * rows)
    found = puppet.measured(6)
    assert (found.threads, found.grown_bytes, found.stopped) == (3, (0, 0, 0, 0), None)
    assert [knot.rows for knot in found.knots] == [1, 2, 4, 6]
    assert [knot.run_s for knot in found.knots] == pytest.approx([0.001, 0.002, 0.004, 0.006])
    assert puppet.rows_seen == [rows for rows in (1, 2, 4, 6) for _ in range(1 + RUNS)]


def test_a_run_that_was_held_up_does_not_count_and_nor_does_a_lucky_one() -> None:
    times = iter([9e-3, 1e-3, 5e-3, 2e-3, 5e-3] + [2e-3] * MOST_RUNS)
    (knot,) = Puppet(lambda rows: next(times)).measured(1).knots
    assert knot.run_s == pytest.approx(2e-3)


def test_runs_that_differ_are_repeated_more_often_but_not_without_end() -> None:
    puppet = Puppet(lambda rows: 1e-3 if len(puppet.seen) % 2 else 2e-3)
    puppet.measured(1)
    assert len(puppet.seen) == 1 + MOST_RUNS


def test_run_times_never_fall_with_the_rows() -> None:
    found = Puppet(lambda rows: {1: 5e-3, 2: 1e-3, 4: 3e-3, 8: 2e-3}[rows]).measured()
    assert [knot.run_s for knot in found.knots] == pytest.approx([1e-3, 1e-3, 2e-3, 2e-3])


@given(st.floats(1e-6, 0.4), st.floats(0.0, 0.4), st.floats(0.01, 2.0))
def test_measuring_takes_its_time_and_one_run_at_most_beyond(first_s: float, per_row_s: float, time_s: float) -> None:
    def run_s(rows: int) -> float:
        return first_s + per_row_s * rows

    puppet = Puppet(run_s)
    found = puppet.measured(256, MeasuringBounds(None, time_s))
    always_s = (2 * run_s(1)) + (2 * run_s(2))  # the two sizes that are measured however long they take
    assert puppet.now_s <= max(time_s, always_s) + run_s(puppet.rows_seen[-1])
    assert len(found.knots) >= 2
    assert (found.stopped is Stop.TIME) is (found.knots[-1].rows < 256)


def test_larger_sizes_are_reached_although_their_runs_are_long() -> None:
    found = Puppet(lambda rows: 0.010 * rows).measured(256)
    assert found.knots[-1].rows >= 16
    assert found.stopped is Stop.TIME


def test_the_process_does_not_grow_beyond_its_bound() -> None:
    puppet = Puppet(lambda rows: 1e-4, lambda rows: 1000 * rows)
    found = puppet.measured(256, MeasuringBounds(grown_bytes=10_000))
    assert [knot.rows for knot in found.knots] == [1, 2, 4, 8]
    assert found.grown_bytes == (1000, 2000, 4000, 8000)
    assert found.stopped is Stop.MEMORY
    assert max(puppet.rows_seen) == 8


def test_sizes_that_the_model_refuses_end_the_measurement() -> None:
    found = Puppet(lambda rows: 1e-4, most_rows=4).measured()
    assert [knot.rows for knot in found.knots] == [1, 2, 4]
    assert found.stopped is Stop.REFUSED


def test_a_model_that_refuses_every_input_has_no_knots() -> None:
    assert Puppet(lambda rows: 1e-4, most_rows=0).measured() == Measurement(3, (), (), Stop.REFUSED)


def test_a_model_that_is_not_batched_is_measured_with_one_request() -> None:
    puppet = Puppet(lambda rows: 1e-4)
    puppet.inputs = (TensorSpec("x", Datatype.FP32, (3, None)),)
    found = puppet.measured(64, batched=False)
    assert [knot.rows for knot in found.knots] == [1]
    assert {arrays[0].shape for arrays in puppet.seen} == {(3, 1)}


@pytest.mark.parametrize("datatype", list(Datatype))
def test_inputs_are_random_and_of_the_right_kind(datatype: Datatype) -> None:
    puppet = Puppet(lambda rows: 1e-4)
    puppet.inputs = (TensorSpec("x", datatype, (None, None, 50)),)
    puppet.measured(16)
    largest = puppet.seen[-1][0]
    assert largest.dtype == STORAGE[datatype]
    assert largest.shape == (16, 1, 50)
    if datatype is not Datatype.BYTES:
        assert np.unique(largest[:8], axis=0).shape[0] == 8


def test_a_knot_is_what_the_engine_took() -> None:
    assert Puppet(lambda rows: 0.25).measured(1).knots == (Knot(1, 0.25),)
