"""Fakes of what stands around the batcher, driven by the tests."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

import numpy as np

from sluice.batching.batcher import Batcher, BatchLimits, BatchReport
from sluice.batching.job import Job, JobResult
from sluice.inference.errors import ModelFailed, WorkerDied
from sluice.inference.types import DEFAULT_PRIORITY, Array, Arrays, BatchResult, Cause, Death, Knot, Vacancy, knot_rows
from tests.batching.virtual_time import pass_time, quiet, virtual_loop


class Run:
    """One batch in the puppet's hands. Ends when the test says so."""

    def __init__(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> None:
        self.parts = [tuple(part) for part in parts]
        self.outputs = tuple(outputs)
        self.limit_s = limit_s
        self.begun_s = virtual_loop().time()
        self.end: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()

    @property
    def rows(self) -> int:
        return sum([len(part[0]) for part in self.parts])

    @property
    def values(self) -> list[list[float]]:
        """The numbers of the first input, request by request."""
        return [numbers(part[0]) for part in self.parts]

    def finish(self, compute_s: float = 0.0) -> None:
        """Give the first input back as every output."""
        self.finish_with(*[np.concatenate([part[0] for part in self.parts]) for _ in self.outputs], compute_s=compute_s)

    def finish_with(self, *outputs: Array, compute_s: float = 0.0) -> None:
        self.end.set_result(BatchResult(outputs, compute_s, virtual_loop().time() - self.begun_s))

    def fail(self, error: Exception | None = None) -> None:
        self.end.set_exception(error or ModelFailed("the model raised an error"))

    def die(self, cause: Cause = Cause.CRASHED, *, running: bool = True, beside: int = 0) -> None:
        death = Death(cause, f"{cause} in a test", virtual_loop().time() - self.begun_s, beside)
        self.end.set_exception(WorkerDied("the worker process ended", running=running, death=death))


class Puppet:
    """An executor with `workers` workers that hold `depth` batches each and do nothing by themselves.

    `runs` has every batch that came, `out` those that have not ended. Fails a test that runs a batch without room.
    """

    def __init__(self, workers: int = 1, depth: int = 1) -> None:
        self.depth = depth
        self.workers: list[list[Run]] = [[] for _ in range(workers)]
        self.runs: list[Run] = []

    @property
    def out(self) -> list[Run]:
        return [run for run in self.runs if not run.end.done()]

    def hire(self) -> None:
        """One more worker, which the batcher has to be told of."""
        self.workers.append([])

    def vacancy(self) -> Vacancy:
        return Vacancy(
            idle=sum([not held for held in self.workers]),
            spare=sum([self.depth - len(held) for held in self.workers if held]),
            workers=len(self.workers),
        )

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> BatchResult:
        held = min(self.workers, key=len, default=None)
        assert held is not None
        assert len(held) < self.depth, "a batch came without a vacancy"
        run = Run(parts, outputs, limit_s)
        held.append(run)
        self.runs.append(run)
        if len(held) == 1:
            self.begin(run)
        try:
            return await run.end
        finally:
            first = held[0] is run
            held.remove(run)
            if held and first:
                held[0].begun_s = virtual_loop().time()
                self.begin(held[0])

    def begin(self, run: Run) -> None:
        """A worker has come to this batch."""


class Engine(Puppet):
    """A puppet whose batches end by themselves, each `run_s(rows)` after its worker came to it."""

    def __init__(self, run_s: Callable[[int], float], workers: int = 1, depth: int = 1) -> None:
        super().__init__(workers, depth)
        self.run_s = run_s

    def begin(self, run: Run) -> None:
        virtual_loop().call_later(self.run_s(run.rows), self._end, run)

    def _end(self, run: Run) -> None:
        if not run.end.done():
            run.finish(compute_s=virtual_loop().time() - run.begun_s)


class Door:
    """A batcher in virtual time with what a test needs to put requests in and to read its reports."""

    def __init__(
        self,
        executor: Puppet,
        *,
        objective_s: float | None = None,
        knots: Sequence[Knot] = (),
        delivery_s: float = 0.0,
        drain_timeout_s: float = 30.0,
        **limits: int,
    ) -> None:
        self.reports: list[BatchReport] = []
        self.batcher = Batcher(
            executor,
            BatchLimits(**limits),
            on_batch=self.reports.append,
            objective_s=objective_s,
            knots=knots,
            delivery_s=delivery_s,
            drain_timeout_s=drain_timeout_s,
            clock=virtual_loop().time,
        )

    async def __aenter__(self) -> Door:
        await self.batcher.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.batcher.__aexit__(*exception)

    def ask(
        self,
        *values: float,
        key: str = "",
        outputs: tuple[str, ...] = ("y",),
        within_s: float = float("inf"),
        priority: int = DEFAULT_PRIORITY,
        client: str = "",
        came_s: float = float("inf"),
    ) -> asyncio.Future[JobResult]:
        """A request of one row for each value."""
        deadline_s = virtual_loop().time() + within_s
        inputs = (column(*values),)
        named = (key, outputs), outputs
        return self.batcher.submit(inputs, len(values), *named, deadline_s, priority, client, came_s=came_s)


async def heavy_traffic(door: Door, puppet: Puppet) -> None:
    """Two batches, with 3000 rows a second during the first; then the only worker is idle and nothing waits."""
    door.ask(0)
    await quiet()
    for value in range(60):
        door.ask(value)
        await pass_time(1 / 3000)
    while puppet.out:
        puppet.out[0].finish()
        await quiet()


def linear(fixed_s: float, row_s: float) -> Callable[[int], float]:
    """The run time of an engine by rows."""
    return lambda rows: fixed_s + row_s * rows


def knots_of(run_s: Callable[[int], float], max_rows: int = 64) -> tuple[Knot, ...]:
    """What measuring such an engine at load would give."""
    return tuple([Knot(rows, run_s(rows)) for rows in knot_rows(max_rows)])


def job_of(
    rows: int = 1,
    size_bytes: int = 0,
    key: str = "a",
    *,
    due_s: float = math.inf,
    promised_s: float = math.inf,
    priority: int = DEFAULT_PRIORITY,
    client: str = "",
    work_s: float = 0.0,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Job:
    """A job for the pure parts, without inputs."""
    future = (loop or asyncio.get_running_loop()).create_future()
    return Job(rows, size_bytes, key, (), ("y",), future, math.inf, promised_s, due_s, priority, client, work_s)


def column(*values: float) -> Array:
    return np.array(values, dtype=np.float32).reshape(-1, 1)


def numbers(array: Array) -> list[float]:
    return [float(value) for value in array.ravel()]


def answer(future: asyncio.Future[JobResult]) -> list[float]:
    """The numbers that a request was answered with; it must have ended."""
    return numbers(future.result().outputs[0])
