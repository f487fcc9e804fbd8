"""Runs that must not be believed do not enter the figures, and what was not measured holds no bound."""

from __future__ import annotations

import math

import pytest

from benchmarks.promises import HEADINGS, Kept, Row, Setting, checks, goodput_share
from sluice.loadgen.figures import Counts, Figures, Spread


def kept(goodput_per_s: float, ok_p99_ms: float = 40.0, refused_p50_ms: float | None = 1.0, fault: str = "") -> Kept:
    seen = Figures(
        counts=Counts(100, 0, 0, 0, 0, {200: 100}),
        offered_per_s=200,
        answered_per_s=200,
        ok_per_s=100,
        goodput_per_s=goodput_per_s,
        good_share=goodput_per_s / 200,
        refused_share=0.5,
        ok=_spread(ok_p99_ms),
        refused=None if refused_p50_ms is None else _spread(refused_p50_ms),
        lag=_spread(0.5),
        faults=(),
    )
    return Kept(seen, (fault,) if fault else (), capacity_per_s=100, attainable_per_s=100, cpu_s_per_1000=1.0, late=0.0)


def _spread(ms: float) -> Spread:
    return Spread(100, ms, ms, ms, ms, ms, ms, ms)


def held(*runs: Kept) -> dict[str, bool]:
    rows = {
        Setting(0.5, "bursts", "ours"): Row([kept(50, refused_p50_ms=None)]),
        Setting(2, "bursts", "ours"): Row(runs),
    }
    return {check.what: check.holds for check in checks(rows, "ours", objective_ms=50)}


def test_the_median_is_of_the_valid_runs() -> None:
    row = Row([kept(90), kept(94), kept(10, fault="late"), kept(92)])

    assert row.median(goodput_share) == pytest.approx(0.92)
    assert row.valid_share == 0.75
    assert row.cells()[-1] == "3 of 4"


def test_a_figure_that_no_run_has_is_left_blank() -> None:
    cells = dict(zip(HEADINGS[3:], Row([kept(90, refused_p50_ms=None)]).cells(), strict=True))

    assert cells["refused p50 ms"] == ""
    assert cells["goodput/s"] == 90


def test_a_promise_that_was_kept_holds() -> None:
    assert all(held(kept(91, ok_p99_ms=59, refused_p50_ms=4.9)).values())


@pytest.mark.parametrize(
    ("run", "broken"),
    [
        (kept(89), "bursts: goodput at 2 times capacity over capacity"),
        (kept(91, ok_p99_ms=61), "bursts: p99 of the accepted over the objective, at the worst load"),
        (kept(91, refused_p50_ms=5.1), "bursts: median refusal at 2 times capacity, ms"),
    ],
)
def test_each_bound_is_watched_on_its_own(run: Kept, broken: str) -> None:
    assert [what for what, holds in held(run).items() if not holds] == [broken]


def test_what_was_not_measured_holds_no_bound() -> None:
    seen = held(kept(100, fault="late"))

    assert not any(seen.values())
    assert math.isnan(Row([kept(100, fault="late")]).median(goodput_share))
