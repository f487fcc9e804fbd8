"""How much audits may cost."""

from __future__ import annotations

from random import Random

from sluice.gateway.serving.audit.budget import OWED_LOOKS, SAVED_LOOKS, Budget


def due(budget: Budget) -> bool:
    """Ask as the auditor does."""
    return budget.engine_s >= budget.from_s and budget.due()


def test_the_first_look_is_earned_by_a_hundred_batches() -> None:
    budget = Budget(0.01)
    assert not due(budget)
    batches = 0
    while not due(budget):
        budget.earn(0.004)
        batches += 1
    assert batches in (100, 101)
    budget.learn(0.001, 0.004)
    assert budget.look_s < 0.004


def test_no_more_is_ever_spent_than_the_share_and_one_look() -> None:
    random, budget, looks, dearest_s = Random(1), Budget(0.01), 0, 6 * 0.008
    for _ in range(20_000):
        batch_s = 0.001 * random.choice([1, 1, 2, 8])
        budget.earn(batch_s)
        if due(budget):
            cost_s = batch_s * random.random() * random.choice([1, 1, 1, 6])
            budget.spend(cost_s)
            budget.learn(cost_s, batch_s)
            looks += 1
            assert budget.spent_s <= 0.01 * budget.engine_s + dearest_s
    assert looks > 50
    assert budget.spent_s > 0.5 * 0.01 * budget.engine_s


def test_what_was_saved_is_for_a_few_looks() -> None:
    budget = Budget(0.01)
    for _ in range(100_000):
        budget.earn(0.001)
    for _ in range(int(SAVED_LOOKS)):
        assert due(budget)
        budget.spend(0.001)
    assert not due(budget)


def test_it_is_asked_again_as_soon_as_enough_is_there() -> None:
    """A threshold that is never reached would end all looks."""
    budget, looks = Budget(0.5), 0
    for number in range(1000):
        budget.earn(0.001 if number < 500 else 0.1)
        if due(budget):
            budget.spend(budget.look_s)
            looks += 1
    assert 300 < looks < 550


def test_a_suspicion_is_followed_at_once_and_not_for_ever() -> None:
    budget = Budget(0.01)
    budget.earn(0.001)
    assert not due(budget)
    budget.hurry(on=True)
    looks = 0
    while due(budget):
        budget.spend(0.001)
        looks += 1
    assert OWED_LOOKS <= looks <= OWED_LOOKS + 2
    budget.hurry(on=False)
    for _ in range(100 * 60):
        budget.earn(0.001)
    assert not due(budget)  # until it is paid back
    for _ in range(100 * 10):
        budget.earn(0.001)
    assert due(budget)


def test_batches_that_failed_earn_nothing() -> None:
    budget = Budget(1.0)
    budget.earn(0.0)
    assert not due(budget)
    budget.earn(0.001)
    assert due(budget)
