"""A gateway that is asked for more than it can: it goes on answering nearly as much as it can, whatever was before."""

from __future__ import annotations

import pytest

from benchmarks.simulation.callers import Phase
from benchmarks.simulation.gateway import COSTS, HISTORIES, Trial, overload, trial

LEAST_PART = 0.9
"""Of what the gateway takes at most, so much is answered within the objective."""


@pytest.mark.parametrize(
    ("history", "times"),
    [
        *[(history, 20.0) for history in HISTORIES],
        ("idle", 2.0),
        ("spike", 5.0),
        *[pytest.param(history, 2.0, marks=pytest.mark.nightly) for history in HISTORIES if history != "idle"],
    ],
)
def test_goodput_is_nearly_the_capacity_whatever_was_before(history: str, times: float) -> None:
    """400 connections: one after the other, the gateway would take 40 of the 50 ms for them."""
    heard = overload(trial(history, times, connections=400))

    assert heard.good_per_s >= LEAST_PART * COSTS.capacity_per_s
    assert heard.sent_per_s >= heard.good_per_s + heard.refused_per_s - 1


@pytest.mark.parametrize("connections", [64, 250])
def test_where_all_can_be_answered_in_time_nearly_nobody_is_refused(connections: int) -> None:
    heard = overload(trial("steady", 20.0, connections))

    assert heard.good_per_s >= LEAST_PART * COSTS.capacity_per_s
    assert heard.refused_per_s <= 0.05 * COSTS.capacity_per_s


def test_below_its_capacity_a_gateway_refuses_nobody() -> None:
    heard = overload(Trial((Phase(0.8 * COSTS.capacity_per_s, 0.6, 0.1),), connections=400))

    assert heard.refused_per_s == 0
    assert heard.good_per_s == pytest.approx(0.8 * COSTS.capacity_per_s, rel=0.01)


def test_callers_that_are_more_than_can_be_answered_in_time_are_told_within_three_times_the_objective() -> None:
    """700 connections: to refuse one takes half of what it takes to answer it."""
    heard = overload(trial("idle", 20.0, connections=700))

    assert heard.good_per_s >= 0.6 * COSTS.capacity_per_s
    assert heard.told_s <= 3 * 0.05
