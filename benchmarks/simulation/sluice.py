"""Sluice itself: the real batcher, on the simulated server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache, partial
from typing import Self

import numpy as np

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.loop import VirtualLoop
from benchmarks.simulation.machine import Machine
from benchmarks.simulation.policy import Bench
from benchmarks.simulation.server import Ran, Server
from sluice.batching.batcher import Batcher, BatchLimits, BatchReport
from sluice.batching.job import JobResult
from sluice.inference.errors import SluiceError, Unavailable, WorkerDied
from sluice.inference.types import Array, Arrays, BatchResult, Knot, Vacancy, knot_rows

OUTPUTS = ("y",)
KEY = ("x", OUTPUTS)
WORKER_DEPTH = 2
"""As many batches as a real worker holds: one that runs, one behind it."""

TRIALS = 3
"""How often each knot is measured at load; the median counts."""


class Sluice:
    """`batching.batcher.Batcher` with nothing set but the objective, which is all that an operator sets.

    It is given what it has in the gateway: a seeding by noisy measurements of the knots, an executor that holds two
    batches for each worker, and requests without a deadline of their own. `reports` has its account of each batch.
    """

    def __init__(self, bench: Bench) -> None:
        self.server = Server(bench.loop, bench.machine, WORKER_DEPTH, bench.seed)
        self.reports: list[BatchReport] = []
        self._ledger = bench.ledger
        self._now_s = bench.loop.time
        self._batcher = Batcher(
            Executor(self.server, bench.loop),
            BatchLimits(max_rows=bench.machine.max_rows),
            on_batch=self.reports.append,
            objective_s=bench.objective_s,
            knots=measured_knots(bench.machine, bench.seed),
            clock=bench.loop.time,
        )
        self.server.on_room = self._batcher.wake

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._batcher.__aexit__(*exception)

    def arrive(self, request: Request) -> None:
        try:
            answer = self._batcher.submit(
                rows_of(request.rows),
                request.rows,
                KEY,
                OUTPUTS,
                priority=request.priority,
                client=request.client,
            )
        except Unavailable:
            self._ledger.refused(request)
            return
        answer.add_done_callback(partial(self._ended, request))

    def _ended(self, request: Request, answer: asyncio.Future[JobResult]) -> None:
        error = answer.exception()
        if error is None:
            self._ledger.answered((request,), self._now_s())
        elif isinstance(error, SluiceError):
            self._ledger.dropped(request, self._now_s())
        else:
            raise error


class Executor:
    """The simulated workers behind the face that the batcher knows."""

    def __init__(self, server: Server, loop: VirtualLoop) -> None:
        self._server = server
        self._loop = loop

    def vacancy(self) -> Vacancy:
        return self._server.vacancy()

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> BatchResult:
        rows = sum([len(part[0]) for part in parts])
        end: asyncio.Future[Ran] = self._loop.create_future()
        self._server.put(rows, partial(_set, end), limit_s)
        ran = await end
        if ran.killed or not ran.begun:
            raise WorkerDied("the simulated worker was killed", running=ran.begun)
        return BatchResult(rows_of(rows), ran.ended_s - ran.started_s, ran.kept_s, ran.started_s)


def measured_knots(machine: Machine, seed: int) -> tuple[Knot, ...]:
    """What warming up would measure at 1, 2, 4, … rows: the medians of a few runs with the machine's noise."""
    rows = knot_rows(machine.max_rows)
    factors = machine.noise.factors(seed + 1, TRIALS * len(rows)).reshape(len(rows), TRIALS)
    return tuple(
        [
            Knot(count, machine.curve.run_s(count) * float(np.median(own)))
            for count, own in zip(rows, factors, strict=True)
        ]
    )


@cache
def rows_of(count: int) -> tuple[Array]:
    """A request's inputs, or a batch's outputs: small, since nobody looks at them."""
    return (np.zeros((count, 1), dtype=np.int8),)


def _set(future: asyncio.Future[Ran], ran: Ran) -> None:
    if not future.done():
        future.set_result(ran)
