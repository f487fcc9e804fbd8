"""What a few measured points of a latency curve say: between them, beyond them, and how far growing a batch pays."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.inference.types import Knot

LEAST_SAVING = 0.05
"""Growing a batch pays where each row then takes at least this part less of the time."""

BATCH_COST_S = 100e-6
"""What a batch costs beside the engine: stacking, two messages, waking two processes. Measured as 40 to 130 µs."""

REACH = 4
"""How many times the rows of the last knot a guess may have."""


def run_s_at(knots: Sequence[Knot], rows: int) -> float:
    """Straight lines between the knots, the last one going on; at least one knot. One knot alone tells proportions."""
    if len(knots) == 1:
        return knots[0].run_s * max(1.0, rows / knots[0].rows)
    place = next((place for place, knot in enumerate(knots[1:-1], 1) if rows <= knot.rows), len(knots) - 1)
    low, high = knots[place - 1], knots[place]
    slope = (high.run_s - low.run_s) / (high.rows - low.rows)
    return low.run_s + slope * (rows - low.rows)


def extended(knots: Sequence[Knot], most_rows: int) -> tuple[Knot, ...]:
    """The knots, and doublings of the last one as far as `REACH` and `most_rows` go, guessed by `run_s_at`."""
    guessed: list[Knot] = []
    rows = 2 * knots[-1].rows
    while rows <= min(most_rows, REACH * knots[-1].rows):
        guessed.append(Knot(rows, run_s_at(knots, rows)))
        rows *= 2
    return (*knots, *guessed)


def paying_rows(knots: Sequence[Knot]) -> int:
    """The rows of the first knot from which growing does not pay any more.

    It pays if any later knot saves `LEAST_SAVING`. So one knot that was measured too high or too low does not end the
    growth, and the end of a flat curve is not a matter of chance.
    """
    for place, knot in enumerate(knots):
        if not any(_pays(knot, later) for later in knots[place + 1 :]):
            return knot.rows
    raise ValueError("there is no knot")


def per_row_s(knot: Knot) -> float:
    """What one row of such a batch costs: its part of the engine's time, and of what the batch costs beside."""
    return (knot.run_s + BATCH_COST_S) / knot.rows


def _pays(knot: Knot, later: Knot) -> bool:
    return per_row_s(later) <= per_row_s(knot) * (1 - LEAST_SAVING)
