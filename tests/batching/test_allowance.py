"""How many rows may be in hand: learned from what the gateway itself takes."""

from __future__ import annotations

import math

import pytest

from sluice.batching.allowance import LEAST_ROWS, OWN_PART, ROUND_TRIPS, Allowance

OBJECTIVE_S = 0.05
TARGET_S = OWN_PART * OBJECTIVE_S


class Trips:
    """Round trips, one after the other, with so many rows in hand."""

    def __init__(self) -> None:
        self.allowance = Allowance(OBJECTIVE_S)
        self.now_s = 0.0

    def make(self, count: int, own_s: float, rows: int, engine_s: float = 0.001) -> None:
        for _ in range(count):
            self.allowance.full(rows)
            began_s, self.now_s = self.now_s, self.now_s + own_s + engine_s
            self.allowance.answered(began_s, own_s + engine_s, own_s, self.now_s)


def test_nothing_is_limited_while_answers_are_quick() -> None:
    trips = Trips()
    trips.make(100, TARGET_S, 5000)
    assert trips.allowance.rows == math.inf
    assert not trips.allowance.full(10**6)


def test_a_slow_engine_is_not_the_gateways_fault() -> None:
    trips = Trips()
    trips.make(100, TARGET_S / 2, 5000, engine_s=OBJECTIVE_S)
    assert trips.allowance.rows == math.inf
    trips.make(100, 2 * TARGET_S, 5000, engine_s=3 * TARGET_S)
    assert trips.allowance.rows == math.inf


def test_it_finds_the_rows_with_which_the_gateway_is_quick_enough() -> None:
    """Of a gateway that takes 20 µs a row, whatever it began with."""
    row_s = 20e-6
    trips, rows = Trips(), 2000
    seen = []
    for _ in range(200):
        rows = int(min(2000, trips.allowance.rows))
        trips.make(1, rows * row_s, rows)
        seen.append(rows)
    assert sum(seen[100:]) / 100 == pytest.approx(TARGET_S / row_s, rel=0.2)
    assert max(seen[100:]) <= 2 * TARGET_S / row_s


@pytest.mark.parametrize("own_s", [0.02, 0.5, 60.0])
def test_some_are_let_in_whatever_was_seen(own_s: float) -> None:
    trips = Trips()
    trips.make(200, own_s, 1000)
    assert trips.allowance.rows >= LEAST_ROWS
    assert not trips.allowance.full(LEAST_ROWS - 1)


def test_it_is_forgotten_in_some_dozens_of_quick_round_trips() -> None:
    trips = Trips()
    trips.make(50, OBJECTIVE_S, 1000)
    assert trips.allowance.rows == LEAST_ROWS
    trips.make(50, TARGET_S / 10, LEAST_ROWS)
    assert trips.allowance.rows == math.inf


def test_one_slow_round_trip_is_not_believed() -> None:
    trips = Trips()
    trips.make(ROUND_TRIPS, TARGET_S / 10, 1000)
    trips.make(ROUND_TRIPS // 2, 100 * TARGET_S, 1000)
    assert trips.allowance.rows == math.inf


def test_it_moves_once_for_each_round_trip() -> None:
    """The answers to all that were let in together say the same thing."""
    trips = Trips()
    trips.make(ROUND_TRIPS, 2 * TARGET_S, 1000)
    rows = trips.allowance.rows
    for _ in range(1000):
        trips.allowance.answered(trips.now_s - OBJECTIVE_S, OBJECTIVE_S, OBJECTIVE_S, trips.now_s)
    assert trips.allowance.rows == rows
