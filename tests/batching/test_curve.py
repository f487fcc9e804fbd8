"""What is known of run times: right where it was measured, sane elsewhere, quick to follow and slow to be fooled."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.batching.curve import (
    FLAT,
    SPEED_WINDOW,
    STALE_S,
    TAIL_DEFAULT,
    TAIL_LARGEST,
    TAIL_WINDOW,
    LatencyCurve,
)
from sluice.batching.curves import MAX_CURVES, Curves
from sluice.inference.types import Knot, knot_rows
from tests.batching.fakes import knots_of, linear

FEW_PERCENT = 0.05
FOLLOWED = SPEED_WINDOW // 2 + 1

times_s = st.floats(1e-5, 10.0)
seeds = st.lists(st.builds(Knot, st.integers(1, 200), times_s), max_size=10)
observations = st.lists(st.tuples(st.integers(0, 100), st.one_of(times_s, st.just(0.0))), max_size=60)
most_rows = st.integers(1, 100)


def run(curve: LatencyCurve, rows: int, run_s: float, times: int) -> None:
    for _ in range(times):
        curve.observe(rows, run_s, 0.0)


def made(max_rows: int, seed: list[Knot], seen: list[tuple[int, float]], budget_s: float = math.inf) -> LatencyCurve:
    curve = LatencyCurve(max_rows, seed, budget_s)
    for rows, run_s in seen:
        curve.observe(rows, run_s, 0.0)
    return curve


@pytest.mark.parametrize(
    ("max_rows", "expected"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9)), (64, (1, 2, 4, 8, 16, 32, 64))],
)
def test_the_knots_double_up_to_the_largest_batch(max_rows: int, expected: tuple[int, ...]) -> None:
    assert knot_rows(max_rows) == expected


@settings(max_examples=300)
@given(most_rows, seeds, observations)
def test_more_rows_never_take_less_and_the_p95_is_never_below_the_typical(
    max_rows: int, seed: list[Knot], seen: list[tuple[int, float]]
) -> None:
    curve = made(max_rows, seed, seen)
    typical = [curve.typical_s(rows) for rows in range(max_rows + 2)]
    p95 = [curve.p95_s(rows) for rows in range(max_rows + 2)]
    assert all(less <= more * (1 + 1e-12) for less, more in pairwise(typical))
    assert all(less <= more * (1 + 1e-12) for less, more in pairwise(p95))
    assert all(usual <= rare <= TAIL_LARGEST * usual for usual, rare in zip(typical, p95, strict=True))
    assert all(math.isfinite(value) for value in p95)
    assert curve.known == (bool(seed) or any(rows and run_s for rows, run_s in seen))
    assert (typical[0] > 0) == curve.known


@settings(max_examples=300)
@given(most_rows, seeds, observations, times_s)
def test_rows_within_a_time_is_the_inverse(
    max_rows: int, seed: list[Knot], seen: list[tuple[int, float]], limit_s: float
) -> None:
    curve = made(max_rows, seed, seen)
    rows = curve.rows_within(limit_s)
    assert 0 <= rows <= max_rows
    if rows:
        assert curve.p95_s(rows) <= limit_s * (1 + 1e-9)
    if rows < max_rows:
        assert curve.p95_s(rows + 1) > limit_s * (1 - 1e-9)


@settings(max_examples=200)
@given(most_rows, seeds, observations, times_s)
def test_a_full_batch_is_the_largest_within_the_budget(
    max_rows: int, seed: list[Knot], seen: list[tuple[int, float]], budget_s: float
) -> None:
    curve = made(max_rows, seed, seen, budget_s)
    full = curve.full_rows
    assert 1 <= full <= max_rows
    stretched_s = max(budget_s, FLAT * curve.p95_s(1))
    if full > 1:
        assert curve.p95_s(full) <= stretched_s * (1 + 1e-9)
    if full < max_rows:
        assert curve.p95_s(full + 1) > stretched_s * (1 - 1e-9)
    assert curve.row_s == pytest.approx(curve.typical_s(full) / full)
    assert curve.full_p95_s == pytest.approx(curve.p95_s(full))


@settings(max_examples=200)
@given(most_rows, seeds, observations, times_s, st.floats(0, 1e5))
def test_the_rows_to_keep_up_are_those_of_the_first_knot_that_does(
    max_rows: int, seed: list[Knot], seen: list[tuple[int, float]], budget_s: float, rows_per_s: float
) -> None:
    curve = made(max_rows, seed, seen, budget_s)
    smaller = [rows for rows in knot_rows(max_rows) if rows < curve.full_rows]
    enough = [rows for rows in smaller if rows_per_s * curve.typical_s(rows) <= rows]
    assert curve.rows_to_keep_up(rows_per_s) == min(enough, default=curve.full_rows)


def test_little_traffic_is_kept_up_with_by_single_rows_and_too_much_by_full_batches() -> None:
    curve = LatencyCurve(64, knots_of(linear(0.008, 0.0005)))
    assert curve.rows_to_keep_up(0.0) == curve.rows_to_keep_up(117.0) == 1
    assert curve.rows_to_keep_up(118.0) == 2
    assert curve.rows_to_keep_up(1e6) == curve.full_rows == 64


def test_between_knots_it_is_a_straight_line() -> None:
    curve = LatencyCurve(8, [Knot(1, 0.010), Knot(2, 0.012), Knot(4, 0.020), Knot(8, 0.060)])
    for rows, expected_s in (1, 0.010), (2, 0.012), (3, 0.016), (4, 0.020), (5, 0.030), (6, 0.040), (8, 0.060):
        assert curve.typical_s(rows) == pytest.approx(expected_s)
        assert curve.p95_s(rows) == pytest.approx(TAIL_DEFAULT * expected_s)


def test_beyond_its_ends_it_stands_still() -> None:
    curve = LatencyCurve(8, [Knot(1, 0.010), Knot(8, 0.060)])
    assert curve.typical_s(9) == curve.typical_s(1000) == curve.typical_s(8)
    assert curve.typical_s(0) == curve.typical_s(1)


def test_beyond_what_was_measured_time_grows_with_the_rows() -> None:
    curve = LatencyCurve(64, [Knot(4, 0.010), Knot(16, 0.020)])
    assert curve.typical_s(64) == pytest.approx(0.080)
    assert curve.typical_s(1) == pytest.approx(0.010)


def test_a_seed_in_any_order_and_with_noise_is_made_monotone() -> None:
    curve = LatencyCurve(4, [Knot(4, 0.011), Knot(1, 0.010), Knot(2, 0.012)])
    assert [curve.typical_s(rows) for rows in (1, 2, 4)] == [0.010, 0.012, 0.012]


def test_nothing_is_known_before_the_first_batch() -> None:
    curve = LatencyCurve(64)
    assert not curve.known
    assert curve.typical_s(64) == curve.p95_s(1) == 0.0
    assert curve.full_rows == curve.rows_within(1e-9) == 64
    curve.observe(8, 0.008, 0.0)
    assert curve.known
    assert curve.typical_s(8) == pytest.approx(0.008)
    assert 0 < curve.typical_s(1) < 0.008 < curve.typical_s(64) < 64 * 0.008


@pytest.mark.parametrize(("rows", "run_s"), [(0, 1.0), (4, 0.0), (4, -1.0)])
def test_what_measures_nothing_teaches_nothing(rows: int, run_s: float) -> None:
    curve = LatencyCurve(8, knots_of(linear(0.01, 0.001), 8))
    before = curve.predictions()
    curve.observe(rows, run_s, 5.0)
    assert curve.predictions() == before
    assert curve.probe(5.0)


def test_one_unlucky_first_batch_is_not_believed_against_the_seed() -> None:
    curve = LatencyCurve(64, knots_of(linear(0.01, 0.001)))
    before = curve.predictions()
    curve.observe(64, 10 * curve.typical_s(64), 0.0)
    for now, was in zip(curve.predictions(), before, strict=True):
        assert now.run_s == pytest.approx(was.run_s, rel=FEW_PERCENT)


@pytest.mark.parametrize("factor", [0.1, 10.0, 1000.0])
@pytest.mark.parametrize("rows", [1, 3, 17, 32, 64])
def test_an_outlier_moves_nothing_by_more_than_a_few_percent(rows: int, factor: float) -> None:
    curve = LatencyCurve(64, knots_of(engine := linear(0.01, 0.001)))
    random = Random(1)
    for _ in range(200):
        each = random.choice([1, 3, 17, 32, 64])
        curve.observe(each, engine(each) * random.lognormvariate(0, 0.05), 0.0)
    before = [(curve.typical_s(each), curve.p95_s(each)) for each in range(1, 65)]
    curve.observe(rows, engine(rows) * factor, 0.0)
    after = [(curve.typical_s(each), curve.p95_s(each)) for each in range(1, 65)]
    for was, now in zip(before, after, strict=True):
        assert now == pytest.approx(was, rel=FEW_PERCENT)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("seen", [(1,), (64,), (3,), (1, 64), (2, 17, 33)])
@pytest.mark.parametrize("history", [0, 200])
def test_a_lasting_change_is_followed_for_every_size(factor: float, seen: tuple[int, ...], history: int) -> None:
    curve = LatencyCurve(64, knots_of(engine := linear(0.01, 0.001)))
    for batch in range(history):
        rows = seen[batch % len(seen)]
        curve.observe(rows, engine(rows), 0.0)
    for batch in range(FOLLOWED):
        rows = seen[batch % len(seen)]
        curve.observe(rows, factor * engine(rows), 0.0)
    for rows in range(1, 65):
        assert curve.typical_s(rows) == pytest.approx(factor * engine(rows), rel=0.15)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_change_that_passes_leaves_no_trace(factor: float) -> None:
    curve = LatencyCurve(64, knots_of(engine := linear(0.01, 0.001)))
    run(curve, 64, engine(64), 50)
    run(curve, 64, factor * engine(64), 50)
    run(curve, 64, engine(64), 50)
    for rows in range(1, 65):
        assert curve.typical_s(rows) == pytest.approx(engine(rows), rel=0.15)


@pytest.mark.parametrize("seeded", [True, False])
def test_it_learns_a_shape_that_differs_from_the_seed(seeded: bool) -> None:
    truth = linear(0.020, 0.0001)
    curve = LatencyCurve(64, knots_of(linear(0.001, 0.002)) if seeded else ())
    random = Random(2)
    for _ in range(3000):
        rows = round(2 ** random.uniform(0, 6))
        curve.observe(rows, truth(rows), 0.0)
    for rows in range(1, 65):
        assert curve.typical_s(rows) == pytest.approx(truth(rows), rel=0.10)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
def test_the_p95_covers_95_of_100_noisy_batches(sigma: float) -> None:
    curve = LatencyCurve(64, knots_of(engine := linear(0.01, 0.001)))
    random = Random(3)
    covered = total = 0
    for batch in range(4000):
        rows = random.randint(1, 64)
        run_s = engine(rows) * random.lognormvariate(0, sigma)
        if batch >= 2 * TAIL_WINDOW:
            total += 1
            covered += run_s <= curve.p95_s(rows)
        curve.observe(rows, run_s, 0.0)
    assert 0.92 <= covered / total <= 0.98


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_change_of_speed_is_not_taken_for_a_tail(factor: float) -> None:
    curve = LatencyCurve(64, knots_of(engine := linear(0.01, 0.001)))
    run(curve, 64, engine(64), TAIL_WINDOW)
    assert curve.p95_s(64) == pytest.approx(engine(64))
    run(curve, 64, factor * engine(64), FOLLOWED)
    for _ in range(2 * TAIL_WINDOW):
        assert curve.p95_s(64) <= TAIL_DEFAULT * factor * engine(64) * 1.15
        run(curve, 64, factor * engine(64), 1)


def test_it_is_confirmed_by_a_window_of_batches() -> None:
    curve = LatencyCurve(8, knots_of(linear(0.01, 0.001), 8))
    for batch in range(SPEED_WINDOW):
        assert not curve.confirmed
        curve.observe(8, 0.018, 100.0 + batch)
    assert curve.confirmed


def test_what_nothing_confirmed_lately_is_probed_now_and_then() -> None:
    curve = LatencyCurve(8, knots_of(linear(0.01, 0.001), 8))
    assert curve.probe(0.0)
    assert not curve.probe(STALE_S)
    assert curve.probe(STALE_S + 0.001)
    curve.observe(8, 0.018, 10.0)
    assert not curve.probe(10.0 + STALE_S)
    assert curve.probe(10.0 + STALE_S + 0.001)


def test_the_curve_that_is_used_is_not_the_one_to_be_forgotten() -> None:
    curves = Curves(64, knots_of(linear(0.01, 0.001)))
    hot = curves.of("hot")
    for number in range(2 * MAX_CURVES):
        curves.of(number)
        assert curves.used("hot") is hot
    assert len(curves.snapshot()) == MAX_CURVES


def test_there_is_a_curve_for_each_key_and_it_stays() -> None:
    curves = Curves(64, knots_of(linear(0.01, 0.001)))
    first, second = curves.of("first"), curves.of("second")
    run(first, 64, 1.0, 50)
    assert curves.of("first") is first
    assert second.typical_s(64) == pytest.approx(0.074)
    assert set(curves.snapshot()) == {"first", "second"}
    assert [knot.rows for knot in curves.snapshot()["first"]] == list(knot_rows(64))


def test_callers_cannot_make_the_number_of_curves_grow() -> None:
    curves = Curves(64, ())
    for key in range(3 * MAX_CURVES):
        curves.of(key)
    assert len(curves.snapshot()) == MAX_CURVES
    assert str(3 * MAX_CURVES - 1) in curves.snapshot()


def test_load_that_comes_and_goes_leaves_a_curve_where_it_belongs() -> None:
    """Single rows for a while, whose times are skewed one way, then large batches, skewed another. Fixed seed."""
    draw = random.Random(1)
    truth = [Knot(rows, 1e-4 + 1e-6 * rows) for rows in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
    curve = LatencyCurve(256, truth)
    for number in range(60_000):
        if number // 1000 % 2:
            rows, noise = 1, 3.0 if draw.random() < 0.3 else draw.lognormvariate(0, 0.1)
        else:
            rows, noise = draw.randrange(10, 200), 0.3 if draw.random() < 0.3 else draw.lognormvariate(0, 0.1)
        curve.observe(rows, (1e-4 + 1e-6 * rows) * noise, number * 1e-3)
    ratios = [curve.typical_s(knot.rows) / knot.run_s for knot in truth]
    assert max(ratios) < 3 * min(ratios)


@pytest.mark.parametrize("sizes", [[1], [26], [8, 26, 60], [1, 1, 1, 1, 1, 1, 200]])
def test_a_curve_stays_where_it_belongs_however_long_it_learns(sizes: Sequence[int]) -> None:
    """Run times have long tails: most are a little below their mean, and a few far above. Fixed seed."""
    draw = random.Random(1)
    truth = [Knot(rows, 1e-4 + 1e-6 * rows) for rows in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
    curve = LatencyCurve(256, truth)
    for number in range(60_000):
        rows = draw.choice(sizes)
        noise = draw.lognormvariate(0, 0.3) * (5 if draw.random() < 0.1 else 1)
        curve.observe(rows, (1e-4 + 1e-6 * rows) * noise, number * 1e-3)
    for knot in truth:
        assert 0.5 * knot.run_s < curve.typical_s(knot.rows) < 2 * knot.run_s
