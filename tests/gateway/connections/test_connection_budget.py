from __future__ import annotations

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.limits import surplus_connections


def test_a_few_connections_beyond_the_limit_are_let_in_to_be_told_so() -> None:
    budget = ConnectionBudget(2)
    assert [budget.enter() for _ in range(2)] == [True, True]
    assert (budget.over, budget.refused) == (False, 0)
    surplus = surplus_connections(2)
    assert all([budget.enter() for _ in range(surplus)])
    assert (budget.over, budget.refused) == (True, surplus)
    assert not budget.enter()
    assert (budget.open, budget.refused) == (2 + surplus, surplus + 1)


def test_a_place_that_is_given_back_is_free_again() -> None:
    budget = ConnectionBudget(1)
    budget.enter()
    budget.leave()
    assert (budget.open, budget.enter(), budget.over) == (0, True, False)


def test_without_descriptors_none_is_let_in() -> None:
    budget = ConnectionBudget(5)
    budget.exhausted = True
    assert (budget.enter(), budget.open, budget.refused) == (False, 0, 1)


def test_a_lower_limit_leaves_open_connections_alone() -> None:
    budget = ConnectionBudget(5)
    for _ in range(3):
        budget.enter()
    budget.set_limit(2)
    assert (budget.open, budget.over, budget.limit) == (3, True, 2)
