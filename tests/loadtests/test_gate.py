from __future__ import annotations

from collections import Counter

import pytest

from loadtests.capacity import Ramp
from loadtests.figures import Entry, Figures
from loadtests.gate import Objective, Verdict
from loadtests.scenarios import ON_PURPOSE, refused

PROMISE = Objective(latency_ms=50, percentile=99, max_failure_ratio=0.01, max_refused_ratio=0.1)


def seen(times_ms: dict[int, int], failed: int = 0, refused: int = 0) -> Figures:
    return Figures(sum(times_ms.values()) + refused, failed, refused, Counter(times_ms))


def failing(figures: Figures, objective: Objective = PROMISE) -> list[str]:
    return [check.what for check in objective.checks(figures) if not check.passed]


def test_rows_are_added_up_by_what_they_mean() -> None:
    figures = Figures.of(
        [
            Entry("v2 digits, 1 row", 100, 3, {5: 90, 7: 10}),
            Entry(refused("v2 digits, 1 row"), 20, 20, {1: 20}),
            Entry(f"v2 digits, {ON_PURPOSE}", 10, 1, {1: 10}),
        ]
    )
    assert figures == Figures(130, 4, 20, Counter({5: 90, 7: 10}))
    assert figures.answered == 106


@pytest.mark.parametrize(("percent", "expected"), [(50, 1), (90, 1), (90.1, 2), (99, 2), (99.1, 300), (100, 300)])
def test_percentiles_are_the_smallest_time_that_so_many_keep(percent: float, expected: int) -> None:
    assert seen({1: 900, 2: 90, 300: 10}).percentile_ms(percent) == expected


def test_a_healthy_run_passes() -> None:
    figures = seen({10: 990, 50: 9, 60: 1}, failed=10, refused=100)
    verdict = Verdict(tuple(PROMISE.checks(figures)), crashes=0)
    assert failing(figures) == []
    assert verdict.passed
    assert verdict.text().endswith("gate: PASS")


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (seen({10: 980, 60: 20}), ["p99 of predictions"]),
        (seen({10: 1000}, failed=11), ["failed"]),
        (seen({10: 880}, refused=120), ["refused"]),
        (Figures(), ["calls answered", "p99 of predictions"]),
        (seen({10: 5}, failed=5), ["calls answered", "failed"]),
    ],
)
def test_each_promise_is_looked_at(figures: Figures, expected: list[str]) -> None:
    assert failing(figures) == expected
    verdict = Verdict(tuple(PROMISE.checks(figures)), crashes=0)
    assert not verdict.passed
    assert verdict.text().count(" FAIL\n") == len(expected)
    assert verdict.text().endswith("gate: FAIL")


def test_without_a_promised_latency_none_is_looked_at() -> None:
    assert failing(seen({5000: 10}), Objective(None, 99, 0, 0)) == []


def test_figures_of_a_crashing_load_test_are_worth_nothing() -> None:
    verdict = Verdict(tuple(PROMISE.checks(seen({1: 10}))), crashes=2)
    assert not verdict.passed
    assert "2 exceptions" in verdict.text()


def test_capacity_is_the_last_step_before_the_first_that_missed() -> None:
    ramp = Ramp()
    ramp.see(0, 10, Figures())
    ramp.see(5, 10, seen({10: 50}))
    ramp.see(10, 20, seen({10: 100}))
    ramp.see(20, 30, seen({10: 300}))
    ramp.see(30, 40, seen({10: 300, 90: 300}))
    ramp.see(40, None, seen({10: 1000, 90: 300}))
    assert [(step.users, step.answered_per_s) for step in ramp.steps] == [(10, 10), (20, 20), (30, 30), (40, 70)]
    assert [PROMISE.kept(step.figures) for step in ramp.steps] == [True, True, False, True]
    best = ramp.capacity(PROMISE)
    assert best is not None
    assert best.users == 20
    assert ramp.text(PROMISE).endswith("capacity: 20.0 answers/s (20 users)")


def test_a_first_step_that_misses_leaves_no_capacity() -> None:
    ramp = Ramp()
    ramp.see(0, 10, Figures())
    ramp.see(10, None, seen({90: 100}))
    assert ramp.capacity(PROMISE) is None
    assert ramp.text(PROMISE).endswith("capacity: below the first step")
