from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from benchmarks.simulation.arrivals import Request, Stream, requests, steady
from benchmarks.simulation.ideal import ideal_rows
from benchmarks.simulation.ledger import Fate, Ledger
from benchmarks.simulation.machine import Curve, Machine
from benchmarks.simulation.scenarios import SCENARIOS
from benchmarks.simulation.score import mean, score
from benchmarks.simulation.server import Ran
from benchmarks.simulation.spare import Spare
from benchmarks.simulation.timeline import timeline
from tests.benchmarks.scripts import OBJECTIVE_S, PLAIN, SILENT, scenario


def _ran(started_ms: float, ended_ms: float, rows: int = 32, worker: int = 0) -> Ran:
    return Ran(worker, rows, started_ms / 1e3, ended_ms / 1e3, (ended_ms - started_ms) / 1e3)


def _served(ran: Sequence[Ran], *arrivals: tuple[float, int], machine: Machine = PLAIN) -> list[bool]:
    """Which of these refused requests (milliseconds, rows), asked for in order, could have been served."""
    spare = Spare(ran, machine, until_s=1.0)
    asked = [Request(index, at_ms / 1e3, rows) for index, (at_ms, rows) in enumerate(arrivals)]
    return [spare.could_serve(each, each.arrived_s + OBJECTIVE_S) for each in asked]


@pytest.mark.parametrize(("load", "share"), [(0.5, 1.0), (2.0, 0.5), (4.0, 0.25)])
def test_the_ideal_answers_what_is_offered_up_to_capacity(load: float, share: float) -> None:
    machine = SCENARIOS["mlp 0.5"].machine
    arrived = requests([Stream(steady(load))], machine.rows_per_s(), 5.0, seed=1)

    assert ideal_rows(arrived, machine, 0.05) / len(arrived) == pytest.approx(share, rel=0.03)


def test_the_ideal_absorbs_as_much_of_a_burst_as_the_objective_allows() -> None:
    machine = Machine(Curve(0.0, 0.001), max_rows=1, noise=SILENT)
    burst = [Request(index, 0.0, 1) for index in range(500)]

    assert ideal_rows(burst, machine, objective_s=0.1) == pytest.approx(100, abs=1)


def test_nothing_refused_could_have_been_served_without_a_pause() -> None:
    busy = [_ran(42 * step, 42 * (step + 1)) for step in range(30)]

    assert _served(busy, (0, 1), (50, 1), (300, 4)) == [False] * 3


def test_a_pause_serves_one_alone_and_others_that_join_it() -> None:
    pause = [_ran(0, 42), _ran(62.5, 104), *[_ran(104 + 42 * step, 146 + 42 * step) for step in range(30)]]

    # 20.5 ms of pause: 11 for the first, then one more for each that had come before that batch began.
    assert _served(pause, *[(10, 1)] * 12) == [True] * 10 + [False] * 2


def test_a_batch_with_room_and_a_pause_after_it_serves_who_came_before_it_began() -> None:
    ran = [_ran(0, 42), _ran(42, 54, rows=2), *[_ran(56 + 42 * step, 98 + 42 * step) for step in range(30)]]

    assert _served(ran, (10, 1), (10, 1), (10, 1)) == [True, True, False]
    assert _served(ran, (50, 1)) == [False]


def test_a_pause_after_the_deadline_is_no_use() -> None:
    ran = [_ran(0, 300)]

    assert _served(ran, (0, 1), (250, 1)) == [False, True]


def test_what_ended_twice_is_an_error() -> None:
    request = Request(0, 0.0, 1)
    ledger = Ledger([request])
    ledger.refused(request)

    with pytest.raises(RuntimeError, match="ended twice"):
        ledger.dropped(request, 1.0)


def test_a_score_counts_each_fate_once() -> None:
    arrived = [Request(index, 0.0, 1 + index % 2, client="ab"[index % 2]) for index in range(8)]
    ledger = Ledger(arrived)
    ledger.answered(arrived[:4], 0.05)  # in time: 1 + 2 + 1 + 2 rows
    ledger.answered(arrived[4:5], 0.2)  # late
    ledger.refused(arrived[5])
    ledger.dropped(arrived[6], 0.1)
    ledger.dropped(arrived[7], 0.1)

    made = score("someone", scenario(), ledger, [_ran(0, 42, rows=7)], ideal=6)

    assert (made.late, made.refused, made.dropped) == (1 / 8, 1 / 8, 2 / 8)
    assert made.goodput == 6.0
    assert made.of_offered == pytest.approx(6 / 12)
    assert made.of_ideal == 1.0
    assert made.by_client == pytest.approx({"a": 2 / 4, "b": 4 / 8})
    assert made.p50_s == pytest.approx(0.05)
    assert made.told_s == pytest.approx(0.1)  # the median of 0, 0.1 and 0.1
    assert made.busy == pytest.approx(0.042)
    assert made.batch_rows == 7.0
    assert made.shed_precision == 0.0  # the worker did nothing from 42 ms on


def test_the_mean_over_seeds_keeps_scenarios_and_policies_apart() -> None:
    arrived = [Request(0, 0.0, 1, client="a")]
    kept, refused = Ledger(arrived), Ledger(arrived)
    kept.answered(arrived, 0.04)
    refused.refused(arrived[0])
    one, other = [score("someone", scenario(), ledger, [], ideal=1) for ledger in (kept, refused)]
    another = score("someone else", scenario(), kept, [], ideal=1)

    both, single = mean([one, another, other])

    assert (both.policy, both.goodput, both.refused) == ("someone", 0.5, 0.5)
    assert both.by_client == {"a": 0.5}
    assert both.p50_s is None  # one of the two answered nobody
    assert single == another


def test_who_refuses_nobody_is_never_wrong_to_refuse() -> None:
    arrived = [Request(0, 0.0, 1)]
    ledger = Ledger(arrived)
    ledger.answered(arrived, 0.05)

    assert score("someone", scenario(), ledger, [_ran(0, 42)], ideal=1).shed_precision == 1.0


def test_a_timeline_counts_by_time_of_arrival() -> None:
    arrived = [Request(0, 0.05, 2), Request(1, 0.15, 1), Request(2, 0.15, 1), Request(3, 0.9, 1)]
    ledger = Ledger(arrived)
    ledger.answered(arrived[:2], 0.16)
    ledger.refused(arrived[2])
    ledger.answered(arrived[3:], 2.0)

    line = timeline(ledger, OBJECTIVE_S, 0.0, 0.3, 0.1)

    assert line.offered.tolist() == pytest.approx([20.0, 20.0, 0.0])
    assert line.good.tolist() == pytest.approx([0.0, 10.0, 0.0])
    assert line.p99_s[:2].tolist() == pytest.approx([0.11, 0.01])
    assert math.isnan(line.p99_s[2])


def test_fates_are_read_in_order_of_arrival() -> None:
    arrived = [Request(0, 0.0, 1), Request(1, 0.0, 1)]
    ledger = Ledger(arrived)
    ledger.refused(arrived[1])

    assert ledger.fates().tolist() == [Fate.OPEN, Fate.REFUSED]
