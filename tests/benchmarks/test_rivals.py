"""Each rival's defining behaviour: 10 ms for a batch, 1 ms for a row, an objective of 100 ms."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.simulation.arrivals import Stream, requests, steady
from benchmarks.simulation.ledger import Fate, Ledger
from benchmarks.simulation.loop import virtual_loop
from benchmarks.simulation.machine import Curve, Machine
from benchmarks.simulation.policy import Bench
from benchmarks.simulation.rivals.aimd import Aimd
from benchmarks.simulation.rivals.deferred import Deferred
from benchmarks.simulation.rivals.early_drop import EarlyDrop
from benchmarks.simulation.rivals.regression import Regression
from benchmarks.simulation.rivals.triton import Triton
from benchmarks.simulation.rivals.window import Window
from benchmarks.simulation.run import POLICIES, simulate
from benchmarks.simulation.scenarios import MIXED, MLP
from benchmarks.simulation.server import Ran
from tests.benchmarks.scripts import OBJECTIVE_S, PLAIN, SILENT, play, scenario


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("load", [0.6, 1.6])
def test_every_request_ends_once_and_what_was_answered_was_run(policy: str, load: float) -> None:
    arrived = requests([Stream(steady(load), MIXED)], MLP.rows_per_s(), 0.5, seed=3)

    ledger, ran = simulate(POLICIES[policy], scenario(MLP, 0.05, 0.5), arrived, seed=3)

    fates = ledger.fates()
    assert not (fates == Fate.OPEN).any()
    assert len(fates) == len(arrived)
    answered = [request.rows for request, fate in zip(arrived, fates, strict=True) if fate == Fate.ANSWERED]
    assert sum(answered) == sum([batch.rows for batch in ran])
    assert all([batch.rows <= MLP.max_rows for batch in ran])


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_run(policy: str) -> None:
    arrived = requests([Stream(steady(1.2))], MLP.rows_per_s(), 0.2, seed=3)

    first, second = [simulate(POLICIES[policy], scenario(MLP, 0.05, 0.2), arrived, seed=3)[1] for _ in range(2)]

    assert first == second


def test_a_window_waits_exactly_its_delay() -> None:
    played = play(partial(Window, max_batch_rows=8, timeout_s=0.005), (0, 1), (3, 1))

    assert (played.starts_ms(), played.sizes()) == ([5.0], [2])


def test_a_full_window_waits_no_longer() -> None:
    played = play(partial(Window, max_batch_rows=2, timeout_s=0.005), (0, 1), (1, 1))

    assert (played.starts_ms(), played.sizes()) == ([1.0], [2])


def test_a_window_grows_while_no_worker_is_free() -> None:
    played = play(partial(Window, max_batch_rows=8, timeout_s=0.001), (0, 1), (2, 1), (9, 1), (10, 1))

    assert (played.starts_ms(), played.sizes()) == ([1.0, 12.0], [1, 3])


def test_a_window_refuses_what_its_bound_of_batches_does_not_hold() -> None:
    crowd = [(1.0, 1)] * 12
    played = play(partial(Window, max_batch_rows=1, timeout_s=0.0, enqueued_batches=3), (0, 1), *crowd)

    assert played.fates() == [Fate.ANSWERED] * 4 + [Fate.REFUSED] * 9


def test_triton_waits_for_its_delay_from_the_oldest_request_on() -> None:
    played = play(partial(Triton, max_batch_rows=8, delay_s=0.004), (0, 1), (3, 1))

    assert (played.starts_ms(), played.sizes()) == ([4.0], [2])


def test_triton_rejects_what_has_waited_past_the_timeout() -> None:
    played = play(partial(Triton, max_batch_rows=1, delay_s=0.0), *[(0, 1)] * 14)

    # Eleven milliseconds each, and one goes ahead of time behind the one that runs: the eleventh leaves at 99 ms.
    assert played.fates() == [Fate.ANSWERED] * 11 + [Fate.DROPPED] * 3


def test_aimd_adds_after_full_batches_in_time_and_backs_off_by_a_tenth() -> None:
    played = play(Aimd, *[(0, 1)] * 30, objective_s=0.2)
    assert played.sizes() == [1, 3, 5, 7, 9, 5]

    steep = Machine(Curve(0.0, 0.01), max_rows=32, noise=SILENT, transit_s=0.0)  # 10 rows take 0.1 s
    played = play(Aimd, *[(110.0 * step, 12) for step in range(3)], machine=steep)
    assert played.sizes() == [12, 12, 12]

    bench = _bench(steep)
    policy = Aimd(bench)
    policy.limit_rows = 20.0
    policy.ended((), _ran(rows=12, kept_s=0.12))
    assert policy.limit_rows == pytest.approx(18.0)
    policy.ended((), _ran(rows=12, kept_s=0.05))  # was not full, so it says nothing
    assert policy.limit_rows == pytest.approx(18.0)
    policy.ended((), _ran(rows=18, kept_s=0.05))
    assert policy.limit_rows == pytest.approx(20.0)


def test_aimd_drops_what_is_over_when_its_turn_comes() -> None:
    slow = Machine(Curve(0.06, 0.0), max_rows=1, noise=SILENT, transit_s=0.0)

    assert play(Aimd, *[(0, 1)] * 4, machine=slow).fates() == [Fate.ANSWERED] * 2 + [Fate.DROPPED] * 2


def test_regression_learns_the_line() -> None:
    learnt: list[Regression] = []

    def factory(bench: Bench) -> Regression:
        learnt.append(Regression(bench))
        return learnt[0]

    arrivals = [(40.0 * step, 1 + step % 5) for step in range(200)]
    played = play(factory, *arrivals)

    assert set(played.fates()) == {Fate.ANSWERED}
    assert learnt[0].row_s == pytest.approx(PLAIN.curve.row_s, rel=1e-3)
    assert learnt[0].base_s == pytest.approx(PLAIN.curve.base_s, rel=1e-3)


def test_regression_sheds_the_oldest_when_the_queue_would_not_end_in_time() -> None:
    def factory(bench: Bench) -> Regression:
        policy = Regression(bench)
        policy.row_s, policy.base_s = 0.001, 0.010
        return policy

    wide = Machine(PLAIN.curve, max_rows=128, noise=SILENT, transit_s=0.0)
    played = play(factory, *[(0, 1)] * 120, machine=wide)

    dropped = [index for index, fate in enumerate(played.fates()) if fate == Fate.DROPPED]
    assert dropped == list(range(31))  # 90 rows take 100 ms, which is too late; 89 are left


def test_early_drop_sends_at_once_what_an_idle_worker_can_have() -> None:
    played = play(EarlyDrop, (0, 1), (2, 1))

    assert (played.starts_ms(), played.sizes()) == ([0.0, 11.0], [1, 1])


def test_early_drop_slides_past_requests_without_time_for_the_whole_window() -> None:
    """The target is 32 rows: two runs of 42 ms end within 100 ms."""
    played = play(EarlyDrop, *[(0, 1)] * 80, *[(30, 1)] * 32)

    # One row leaves at once, 32 at 11 and 32 more at 53 ms. At 95 ms a window would end at 137: the other 15 that came
    # first are too late for it, and those that came at 30 ms too, but for a window that is shorter.
    assert played.sizes()[:3] == [1, 32, 32]
    assert played.fates()[65:80] == [Fate.DROPPED] * 15
    assert played.fates()[-1] == Fate.ANSWERED


def test_deferred_waits_until_one_row_more_would_be_late() -> None:
    played = play(Deferred, (0, 1))

    assert played.starts_ms() == [88.0]  # 100 - the 12 ms of two rows
    assert played.fates() == [Fate.ANSWERED]


def test_deferred_sends_a_full_batch_at_once() -> None:
    played = play(Deferred, (0, 1), (5, 31))

    assert (played.starts_ms(), played.sizes()) == ([5.0], [32])


def test_deferred_recomputes_the_moment_as_the_batch_grows() -> None:
    played = play(Deferred, (0, 1), (50, 3))

    assert (played.starts_ms(), played.sizes()) == ([85.0], [4])  # 100 - the 15 ms of five rows


def _bench(machine: Machine) -> Bench:
    return Bench(virtual_loop(), machine, OBJECTIVE_S, Ledger(()), 1)


def _ran(rows: int, kept_s: float) -> Ran:
    return Ran(0, rows, 0.0, kept_s, kept_s)
