"""A rising function of rows, linear between 1, 2, 4, … and the rows of the largest batch. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from sluice.inference.types import Knot

BLIND_FIXED_PART = 0.5
"""Where nothing was measured, half of what one row takes is assumed to be the same for every batch."""


SUPERLINEAR = 1.25
"""Twice the rows take at most so many times twice the time: a little more, where larger batches fit no cache."""


def values_at(knots: Sequence[Knot], rows: Sequence[int]) -> list[float]:
    """What was measured, at other rows, and never falling. Beyond the last knot, time grows in proportion to rows."""
    if not knots:
        return [BLIND_FIXED_PART + (1.0 - BLIND_FIXED_PART) * each for each in rows]
    known = sorted(knots, key=lambda knot: knot.rows)
    own_rows = [knot.rows for knot in known]
    own_values = list(accumulate([max(knot.run_s, 1e-9) for knot in known], max))
    return [
        own_values[-1] * each / own_rows[-1] if each > own_rows[-1] else value_at(own_rows, own_values, each)
        for each in rows
    ]


def place_of(knots: Sequence[int], rows: int) -> tuple[int, float]:
    """The first knot at or beyond `rows`, and how far `rows` is on the way to it from the knot before.

    Rows beyond the last knot count as its own.
    """
    if rows >= knots[-1]:
        return len(knots) - 1, 1.0
    right = bisect_left(knots, rows)
    if not right:
        return 0, 1.0
    left_rows = knots[right - 1]
    return right, (rows - left_rows) / (knots[right] - left_rows)


def value_at(knots: Sequence[int], values: Sequence[float], rows: int) -> float:
    """The function at so many rows, from its values at the knots."""
    right, share = place_of(knots, rows)
    if share == 1.0:
        return values[right]
    left = values[right - 1]
    return left + share * (values[right] - left)


def rows_within(knots: Sequence[int], values: Sequence[float], limit: float) -> int:
    """The most rows whose value is within the limit; 0 if not even one row's is."""
    right = bisect_right(values, limit)
    if right == len(values):
        return knots[-1]
    if not right:
        return 0
    left, left_rows = values[right - 1], knots[right - 1]
    return left_rows + int((limit - left) / (values[right] - left) * (knots[right] - left_rows))


def bend(knots: Sequence[int], values: list[float], rows: int, factor: float) -> None:
    """Move the values on both sides of `rows` by a factor, each by its nearness; the others follow as far as they must.

    The values never fall, and never rise much faster than the rows do: so knots that no batch comes near cannot be left
    behind for ever by those that are used.
    """
    right, share = place_of(knots, rows)
    values[right] *= factor**share
    first = max(right - 1, 0)
    if right:
        values[first] *= factor ** (1.0 - share)
    for place in range(first + 1, len(values)):
        before = values[place - 1]
        values[place] = min(max(values[place], before), before * _steepest(knots, place))
    for place in range(first - 1, -1, -1):
        after = values[place + 1]
        values[place] = max(min(values[place], after), after / _steepest(knots, place + 1))


def _steepest(knots: Sequence[int], place: int) -> float:
    """How many times the value of the knot before it a knot may have."""
    return SUPERLINEAR * knots[place] / knots[place - 1]
