from __future__ import annotations

from sluice.cache.economy import JOB_S, WINDOW_ROWS, Economy, ModelCost


def model(row_s: float) -> ModelCost:
    cost = ModelCost(0.0)
    cost.computed((row_s - JOB_S) * 10, 10, 10)
    return cost


def see(economy: Economy, rows: int, hit_ratio: float, cost_s: float) -> None:
    """Rows one after the other, of which about so many are hits."""
    hits = 0
    for row in range(1, rows + 1):
        hit = int(row * hit_ratio) - hits
        hits += hit
        economy.looked_up(1, hit, cost_s)


def test_a_tier_is_used_until_it_is_known_not_to_pay() -> None:
    economy = Economy(model(1e-3), adaptive=True)
    see(economy, WINDOW_ROWS - 1, 0.0, 1e-6)
    assert economy.pays
    see(economy, 1, 0.0, 1e-6)
    assert not economy.pays


def test_it_pays_where_it_saves_more_than_it_costs() -> None:
    dear, cheap = Economy(model(1e-3), adaptive=True), Economy(model(1e-3), adaptive=True)
    see(dear, 2 * WINDOW_ROWS, 0.1, 110e-6)
    see(cheap, 2 * WINDOW_ROWS, 0.1, 90e-6)
    assert not dear.pays
    assert cheap.pays


def test_a_bypassed_tier_comes_back_once_it_would_save_clearly_more() -> None:
    economy = Economy(model(1e-3), adaptive=True)
    see(economy, WINDOW_ROWS, 0.0, 50e-6)
    assert not economy.pays
    see(economy, 10 * WINDOW_ROWS, 0.055, 50e-6)
    assert not economy.pays, "hardly more than it costs would make it go to and fro"
    see(economy, 10 * WINDOW_ROWS, 0.2, 50e-6)
    assert economy.pays


def test_storing_counts_as_cost() -> None:
    economy = Economy(model(1e-3), adaptive=True)
    for _ in range(2 * WINDOW_ROWS):
        economy.looked_up(1, 0, 1e-6)
        economy.spent(9e-6)
    assert economy.cost_s is not None
    assert abs(economy.cost_s - 10e-6) < 1e-7


def test_rows_that_somebody_else_computes_are_saved() -> None:
    economy = Economy(model(1e-3), adaptive=True)
    for _ in range(WINDOW_ROWS):
        economy.looked_up(1, 0, 1e-6)
        economy.saved(1)
    assert economy.pays


def test_a_stall_of_the_machine_is_not_taken_for_the_cost_of_a_lookup() -> None:
    economy = Economy(model(100e-6), adaptive=True)
    see(economy, WINDOW_ROWS // 2, 0.5, 2e-6)
    economy.looked_up(1, 0, 1.0)
    see(economy, WINDOW_ROWS, 0.5, 2e-6)
    assert economy.pays


def test_nothing_is_judged_before_the_model_has_computed_anything() -> None:
    economy = Economy(ModelCost(0.0), adaptive=True)
    see(economy, 3 * WINDOW_ROWS, 0.0, 1.0)
    assert economy.pays
    assert economy.saves_s is None


def test_who_does_not_adapt_uses_the_tier_whatever_it_costs() -> None:
    economy = Economy(model(1e-6), adaptive=False)
    see(economy, 3 * WINDOW_ROWS, 0.0, 1.0)
    assert economy.pays


def test_the_cost_of_a_batch_is_shared_by_its_rows() -> None:
    cost = ModelCost(100e-6)
    cost.computed(1e-3, 10, 4)
    assert cost.row_s is not None
    assert abs(cost.row_s - (110e-6 + JOB_S)) < 1e-9


def test_what_was_long_ago_counts_less_and_less() -> None:
    cost = ModelCost(0.0)
    for _ in range(100):
        cost.computed(1.0, 1, 10)
    for _ in range(100):
        cost.computed(0.001, 1, 64)
    assert cost.row_s is not None
    assert cost.row_s < 0.01
