"""Latency curves of a few measured points: values between and beyond them, and up to where larger batches pay."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.inference.types import Knot

LEAST_SAVING = 0.05
"""A larger batch pays if it saves at least this part of the time per row."""

BATCH_COST_S = 100e-6
"""The time of a batch outside the engine: stacking, two messages, waking two processes. Measured: 40 to 130 µs."""

REACH = 4
"""A curve is extrapolated up to so many times the rows of its last knot."""


def run_s_at(knots: Sequence[Knot], rows: int) -> float:
    """The run time for a number of rows: linear between the knots, and beyond the last two as between them.

    `knots` has at least one. With a single one, the time is in proportion to the rows, and no less than its own.
    """
    if len(knots) == 1:
        return knots[0].run_s * max(1.0, rows / knots[0].rows)
    place = next((place for place, knot in enumerate(knots[1:-1], 1) if rows <= knot.rows), len(knots) - 1)
    low, high = knots[place - 1], knots[place]
    slope = (high.run_s - low.run_s) / (high.rows - low.rows)
    return low.run_s + slope * (rows - low.rows)


def extended(knots: Sequence[Knot], most_rows: int) -> tuple[Knot, ...]:
    """The knots, with doublings of the last one up to `REACH` times its rows and `most_rows`, by `run_s_at`."""
    guessed: list[Knot] = []
    rows = 2 * knots[-1].rows
    while rows <= min(most_rows, REACH * knots[-1].rows):
        guessed.append(Knot(rows, run_s_at(knots, rows)))
        rows *= 2
    return (*knots, *guessed)


def paying_rows(knots: Sequence[Knot]) -> int:
    """The rows of the first knot beyond which larger batches do not pay.

    They pay if any later knot saves `LEAST_SAVING`. So a single knot that was measured too high or too low does not
    decide, and on a flat curve the result does not depend on chance.
    """
    for place, knot in enumerate(knots):
        if not any(_pays(knot, later) for later in knots[place + 1 :]):
            return knot.rows
    raise ValueError("there is no knot")


def per_row_s(knot: Knot) -> float:
    """The time per row of such a batch: the row's part of the run time and of `BATCH_COST_S`."""
    return (knot.run_s + BATCH_COST_S) / knot.rows


def _pays(knot: Knot, later: Knot) -> bool:
    return per_row_s(later) <= per_row_s(knot) * (1 - LEAST_SAVING)
