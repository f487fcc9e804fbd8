"""Who is let in: predictions against a worker that does exactly what is predicted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.batching.admission import Admission, QueuedWork, alone_s, verdict
from sluice.batching.curve import TAIL_DEFAULT, LatencyCurve
from sluice.batching.queue import Ahead
from sluice.inference.types import Knot
from tests.batching.fakes import knots_of, linear

NOTHING = QueuedWork(0.0, Ahead(0, 0.0), 1, 0.0)

curves = st.builds(
    lambda fixed_s, row_s, max_rows, budget: LatencyCurve(
        max_rows, knots_of(linear(fixed_s, row_s), max_rows), budget * (fixed_s + row_s)
    ),
    st.floats(1e-4, 0.1),
    st.floats(1e-5, 0.01),
    st.integers(1, 64),
    st.sampled_from([2.0, 10.0, math.inf]),
)
loads = st.builds(
    QueuedWork,
    st.floats(0, 2),
    st.builds(Ahead, st.integers(0, 500), st.floats(0, 2)),
    st.integers(1, 4),
    st.just(0.0),
)


def finish_in_s(curve: LatencyCurve, rows: int, load: QueuedWork) -> float:
    """The earliest due time with which a request is let in without reserve."""
    too_early_s, early_enough_s = 0.0, 1e4
    assert verdict(curve, rows, math.inf, early_enough_s, load) is Admission.ADMIT
    for _ in range(60):
        middle_s = (too_early_s + early_enough_s) / 2
        if verdict(curve, rows, math.inf, middle_s, load) is Admission.ADMIT:
            early_enough_s = middle_s
        else:
            too_early_s = middle_s
    return early_enough_s


def simulated_s(curve: LatencyCurve, rows: int, busy_s: float, rows_ahead: int, work_s: float) -> float:
    """One worker without noise: what is out, other keys, single rows in full batches, and ours with the rest of them.

    Where it does not fit in with the rest, it goes in the batch behind.
    """
    clock_s = busy_s + work_s
    while rows_ahead + rows > curve.full_rows and rows_ahead:
        travel = min(rows_ahead, curve.full_rows)
        clock_s += curve.typical_s(travel)
        rows_ahead -= travel
    return clock_s + curve.p95_s(rows_ahead + rows)


@settings(deadline=None)
@given(curves, st.data(), st.floats(0, 2), st.integers(0, 500), st.floats(0, 2))
def test_the_finish_is_that_of_one_worker_without_noise(
    curve: LatencyCurve, data: st.DataObject, busy_s: float, rows_ahead: int, work_s: float
) -> None:
    rows = data.draw(st.integers(1, curve.max_rows))
    load = QueuedWork(busy_s, Ahead(rows_ahead, work_s), 1, 0.0)
    assert finish_in_s(curve, rows, load) == pytest.approx(simulated_s(curve, rows, busy_s, rows_ahead, work_s))


@given(curves, st.data())
def test_alone_it_takes_its_own_p95(curve: LatencyCurve, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, curve.max_rows))
    assert alone_s(curve, rows) == curve.p95_s(rows) == pytest.approx(finish_in_s(curve, rows, NOTHING))


def test_a_request_larger_than_a_full_batch_but_not_than_the_largest_runs_in_one() -> None:
    curve = LatencyCurve(64, knots_of(linear(0.010, 0.001)), budget_s=1.0001 * TAIL_DEFAULT * 0.026)
    assert curve.full_rows == 16
    assert alone_s(curve, 48) == pytest.approx(curve.p95_s(48))
    assert finish_in_s(curve, 48, NOTHING) == pytest.approx(curve.p95_s(48))


def test_a_request_larger_than_any_batch_runs_in_several() -> None:
    curve = LatencyCurve(16, knots_of(linear(0.010, 0.001), 16))
    three_and_a_half_s = 3 * curve.typical_s(16) + curve.p95_s(8)
    assert alone_s(curve, 56) == pytest.approx(three_and_a_half_s)
    assert finish_in_s(curve, 56, NOTHING) == pytest.approx(three_and_a_half_s)
    assert alone_s(curve, 48) == pytest.approx(2 * curve.typical_s(16) + curve.p95_s(16))


@settings(deadline=None)
@given(curves, st.integers(1, 64), loads)
def test_more_to_do_ends_later_and_more_workers_earlier(curve: LatencyCurve, rows: int, load: QueuedWork) -> None:
    finish_s = finish_in_s(curve, rows, load)
    busier = QueuedWork(load.busy_s + 1, load.ahead, load.workers, 0.0)
    assert finish_in_s(curve, rows, busier) == pytest.approx(finish_s + 1 / load.workers)
    others = QueuedWork(load.busy_s, Ahead(load.ahead.rows, load.ahead.work_s + 1), load.workers, 0.0)
    assert finish_in_s(curve, rows, others) == pytest.approx(finish_s + 1 / load.workers)
    helped = QueuedWork(load.busy_s, load.ahead, load.workers + 1, 0.0)
    assert finish_in_s(curve, rows, helped) <= finish_s * (1 + 1e-9)


@settings(deadline=None)
@given(curves, st.data(), loads, st.floats(0, 1e5))
def test_what_comes_meanwhile_makes_its_batch_larger_but_never_more_than_full(
    curve: LatencyCurve, data: st.DataObject, load: QueuedWork, rows_per_s: float
) -> None:
    rows = data.draw(st.integers(1, curve.full_rows))
    quiet_s = finish_in_s(curve, rows, load)
    busy_s = finish_in_s(curve, rows, QueuedWork(load.busy_s, load.ahead, load.workers, rows_per_s))
    assert quiet_s <= busy_s * (1 + 1e-9)
    assert busy_s <= quiet_s + curve.full_p95_s + 1e-9


CURVE = LatencyCurve(16, knots_of(linear(0.010, 0.001), 16))
FULL_S, ONE_S = CURVE.typical_s(16), CURVE.p95_s(1)


def judged(
    load: QueuedWork, own_s: float = math.inf, due_s: float = math.inf, curve: LatencyCurve = CURVE
) -> Admission:
    return verdict(curve, 1, own_s, due_s, load)


def test_there_is_room_in_an_empty_house() -> None:
    assert judged(NOTHING) is Admission.ADMIT
    assert judged(NOTHING, own_s=1.001 * ONE_S, due_s=1.001 * ONE_S) is Admission.ADMIT


def test_what_would_be_late_even_alone_is_infeasible() -> None:
    assert judged(NOTHING, own_s=0.999 * ONE_S, due_s=0.999 * ONE_S) is Admission.INFEASIBLE


@pytest.mark.parametrize("load", [QueuedWork(1.0, Ahead(0, 0.0), 1, 0.0), QueuedWork(0.0, Ahead(0, 1.0), 1, 0.0)])
def test_what_would_be_late_for_what_is_before_it_is_overloaded(load: QueuedWork) -> None:
    assert judged(load, due_s=1.0 + 1.001 * ONE_S) is Admission.ADMIT
    assert judged(load, due_s=1.0 + 0.999 * ONE_S) is Admission.OVERLOADED
    assert judged(load, own_s=0.5 + ONE_S, due_s=0.5 + ONE_S) is Admission.OVERLOADED


def test_rows_ahead_count_in_full_batches() -> None:
    load = QueuedWork(0.0, Ahead(32, 0.0), 1, 0.0)
    assert judged(load, due_s=2 * FULL_S + 1.001 * ONE_S) is Admission.ADMIT
    assert judged(load, due_s=2 * FULL_S + 0.999 * ONE_S) is Admission.OVERLOADED


def test_without_deadlines_nobody_is_refused() -> None:
    assert judged(QueuedWork(1e6, Ahead(10**6, 1e6), 1, 1e6)) is Admission.ADMIT


def test_nothing_is_refused_before_anything_is_known() -> None:
    curve = LatencyCurve(16)
    assert judged(QueuedWork(0.0, Ahead(100, 0.0), 1, 0.0), 1e-6, 1e-6, curve) is Admission.ADMIT


def test_a_seed_of_one_knot_is_enough_to_judge_by() -> None:
    curve = LatencyCurve(1, [Knot(1, 0.010)])
    assert judged(NOTHING, 0.001, 0.001, curve) is Admission.INFEASIBLE
