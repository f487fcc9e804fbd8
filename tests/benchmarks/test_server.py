from __future__ import annotations

from functools import partial

import pytest

from benchmarks.simulation.arrivals import Request, Stream, requests, steady
from benchmarks.simulation.loop import VirtualLoop, virtual_loop
from benchmarks.simulation.machine import Curve, Machine, Noise, Slowdown
from benchmarks.simulation.rivals.window import Window
from benchmarks.simulation.run import simulate
from benchmarks.simulation.server import RESTART_S, Ran, Server
from sluice.inference.types import Vacancy
from tests.benchmarks.scripts import SILENT, scenario

TRANSIT_S = 0.001
MACHINE = Machine(Curve(0.010, 0.001), max_rows=8, noise=SILENT, transit_s=TRANSIT_S)


def _wait(loop: VirtualLoop, until_s: float) -> None:
    async def run() -> None:
        end = loop.create_future()
        loop.call_at(until_s, end.set_result, None)
        await end

    loop.run_until_complete(run())


def test_the_way_is_paid_at_an_idle_worker_and_hidden_behind_a_run() -> None:
    loop = virtual_loop()
    server = Server(loop, MACHINE, depth=2, seed=1)
    ended: list[Ran] = []

    server.put(2, ended.append)
    server.put(4, ended.append)
    assert server.vacancy() == Vacancy(idle=0, spare=0, workers=1)
    _wait(loop, 1.0)

    first, second = ended
    assert first.started_s == pytest.approx(TRANSIT_S)
    assert first.kept_s == pytest.approx(TRANSIT_S + 0.012)
    assert second.started_s == pytest.approx(first.ended_s)
    assert second.kept_s == pytest.approx(0.014)


def test_a_batch_goes_to_the_worker_with_the_fewest() -> None:
    loop = virtual_loop()
    machine = Machine(MACHINE.curve, 8, workers=2, noise=SILENT)
    server = Server(loop, machine, depth=2, seed=1)
    ended: list[Ran] = []

    for _ in range(3):
        server.put(1, ended.append)
    assert server.vacancy() == Vacancy(idle=0, spare=1, workers=2)
    _wait(loop, 1.0)

    assert [ran.worker for ran in ended] == [0, 1, 0]


def test_more_than_there_is_room_for_is_an_error() -> None:
    server = Server(virtual_loop(), MACHINE, depth=1, seed=1)
    server.put(1, lambda _: None)

    with pytest.raises(RuntimeError, match="holds 1 already"):
        server.put(1, lambda _: None)


def test_a_stuck_batch_costs_its_worker_and_the_one_behind_is_given_back() -> None:
    loop = virtual_loop()
    server = Server(loop, MACHINE, depth=2, seed=1)
    ended: list[Ran] = []

    server.put(8, ended.append, limit_s=0.005)
    server.put(1, ended.append)
    _wait(loop, 0.1)

    assert [(ran.killed, ran.begun) for ran in ended] == [(True, True), (False, False)]
    assert server.vacancy() == Vacancy(idle=0, spare=0, workers=0)
    _wait(loop, 0.1 + RESTART_S)
    assert server.vacancy() == Vacancy(idle=1, spare=0, workers=1)


def test_the_noise_of_the_nth_batch_is_the_same_whatever_it_holds() -> None:
    machine = Machine(Curve(0.010, 0.0), max_rows=8, noise=Noise(sigma=0.3))
    runs: list[list[float]] = []
    for rows in (1, 8):
        loop = virtual_loop()
        server = Server(loop, machine, depth=9, seed=7)
        ended: list[Ran] = []
        for _ in range(8):
            server.put(rows, ended.append)
        _wait(loop, 10.0)
        runs.append([round(ran.ended_s - ran.started_s, 9) for ran in ended])

    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 8


def test_a_slowdown_stretches_the_batches_that_begin_in_it() -> None:
    noise = Noise(sigma=0.0, outlier_share=0.0, slowdowns=(Slowdown(0.005, 0.020, 2.0),))
    loop = virtual_loop()
    server = Server(loop, Machine(Curve(0.010, 0.0), 8, noise=noise, transit_s=0.0), depth=3, seed=1)
    ended: list[Ran] = []

    for _ in range(3):
        server.put(1, ended.append)
    _wait(loop, 1.0)

    assert [round(ran.ended_s - ran.started_s, 6) for ran in ended] == [0.010, 0.020, 0.010]


@pytest.mark.parametrize(("sigma", "outliers"), [(0.0, 0.0), (0.4, 0.02)])
def test_waiting_without_batching_agrees_with_pollaczek_and_khinchine(sigma: float, outliers: float) -> None:
    """M/G/1: the mean wait is rate * E[S**2] / (2 * (1 - load)), however the service times S are distributed."""
    noise = Noise(sigma=sigma, outlier_share=outliers, outlier_factor=3.0)
    machine = Machine(Curve(0.0009, 0.0001), max_rows=1, noise=noise, transit_s=0.0)
    load, duration_s, seed = 0.7, 60.0, 5
    arrived: list[Request] = requests([Stream(steady(load))], machine.rows_per_s(), duration_s, seed)
    one_at_a_time = partial(Window, max_batch_rows=1, timeout_s=0.0, enqueued_batches=10**9)

    ledger, ran = simulate(one_at_a_time, scenario(machine, duration_s=duration_s), arrived, seed)

    service = noise.factors(seed, 200_000) * machine.curve.run_s(1)
    rate = load * machine.rows_per_s()
    expected_s = rate * float((service**2).mean()) / (2 * (1 - load))
    waits_s = [batch.started_s - request.arrived_s for batch, request in zip(ran, arrived, strict=True)]
    assert ledger.open == 0
    assert sum([batch.ended_s - batch.started_s for batch in ran]) / duration_s == pytest.approx(load, rel=0.02)
    assert sum(waits_s) / len(waits_s) == pytest.approx(expected_s, rel=0.07)
