from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.inference.planning.knots import (
    BATCH_COST_S,
    LEAST_SAVING,
    REACH,
    extended,
    paying_rows,
    per_row_s,
    run_s_at,
)
from sluice.inference.types import Knot


def line(first_s: float, per_row_s: float, most_rows: int = 256) -> tuple[Knot, ...]:
    rows = [1 << exponent for exponent in range(most_rows.bit_length())]
    return tuple([Knot(each, first_s + per_row_s * each) for each in rows])


def test_between_the_knots_run_times_lie_on_straight_lines() -> None:
    knots = (Knot(1, 1.0), Knot(2, 2.0), Knot(4, 3.0))
    assert [run_s_at(knots, rows) for rows in (1, 2, 3, 4, 6)] == [1.0, 2.0, 2.5, 3.0, 4.0]


def test_one_knot_tells_proportions() -> None:
    assert [run_s_at((Knot(1, 1.0),), rows) for rows in (1, 3)] == [1.0, 3.0]


def test_a_guess_goes_on_by_doublings_within_its_reach() -> None:
    assert extended((Knot(1, 1.0), Knot(2, 1.5)), 256) == (Knot(1, 1.0), Knot(2, 1.5), Knot(4, 2.5), Knot(8, 4.5))
    assert extended((Knot(1, 1.0), Knot(2, 1.5)), 4)[-1].rows == 4


def test_a_batch_that_costs_as_much_for_any_rows_pays_without_end() -> None:
    assert paying_rows(line(1e-3, 0.0)) == 256


def test_a_batch_whose_rows_cost_the_same_each_does_not_pay() -> None:
    assert paying_rows(line(0.0, 1.0)) == 1


@pytest.mark.parametrize("disturbed", [0.8, 1.3, 3.0])
def test_one_knot_that_was_measured_wrong_does_not_end_the_growth(disturbed: float) -> None:
    knots = line(4e-3, 1e-4)
    right = paying_rows(knots)
    assert right == 256
    wrong = tuple([Knot(knot.rows, knot.run_s * (disturbed if knot.rows == 8 else 1)) for knot in knots])
    assert paying_rows(wrong) == right


@given(st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=9))
def test_growing_stops_where_no_later_knot_saves_enough(times_s: list[float]) -> None:
    knots = tuple([Knot(1 << place, run_s) for place, run_s in enumerate(times_s)])
    rows = paying_rows(knots)
    place = [knot.rows for knot in knots].index(rows)
    for later in knots[place + 1 :]:
        assert per_row_s(later) > per_row_s(knots[place]) * (1 - LEAST_SAVING)
    assert place == 0 or any(
        per_row_s(later) <= per_row_s(knots[place - 1]) * (1 - LEAST_SAVING) * (1 + 1e-9) for later in knots[place:]
    )


def test_a_batch_costs_something_beside_the_engine() -> None:
    assert per_row_s(Knot(4, 0.0)) == BATCH_COST_S / 4
    assert REACH > 1
