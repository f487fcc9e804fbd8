from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.batching.drain_rate import DrainRate


def test_one_second_before_anything_was_measured() -> None:
    assert DrainRate().retry_after_s(1_000_000) == 1
    assert DrainRate().rows_per_s == 0


def test_a_batch_that_took_no_time_measures_nothing() -> None:
    rate = DrainRate()
    rate.batch_ended(5, 1.0, 1.0)
    assert rate.retry_after_s(5) == 1


def test_overlapping_batches_count_their_time_once() -> None:
    rate = DrainRate()
    for end_s in range(1, 200):
        rate.batch_ended(10, end_s - 2, end_s)
    assert rate.rows_per_s == pytest.approx(10, rel=1e-3)


def test_quiet_time_does_not_count() -> None:
    rate = DrainRate()
    rate.batch_ended(10, 0, 1)
    rate.batch_ended(10, 1000, 1001)
    assert rate.rows_per_s == pytest.approx(10)


def test_the_rate_follows_a_change_within_some_tens_of_batches() -> None:
    rate = DrainRate()
    for end_s in range(100):
        rate.batch_ended(100, end_s, end_s + 1)
    for end_s in range(100, 140):
        rate.batch_ended(10, end_s, end_s + 1)
    assert rate.rows_per_s == pytest.approx(10, rel=0.2)


@given(st.lists(st.tuples(st.integers(0, 64), st.floats(0, 100), st.floats(0, 100))), st.integers(0, 10**9))
def test_the_answer_is_between_a_second_and_a_minute(
    batches: list[tuple[int, float, float]], waiting_rows: int
) -> None:
    rate, now_s = DrainRate(), 0.0
    for rows, pause_s, run_s in batches:
        rate.batch_ended(rows, now_s + pause_s, now_s + pause_s + run_s)
        now_s += pause_s + run_s
    assert 1 <= rate.retry_after_s(waiting_rows) <= 60
