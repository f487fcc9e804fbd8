"""Fakes of what stands around the batcher, driven by the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from batching.batcher import Batcher, BatchLimits, BatchReport
from batching.job import JobResult
from inference.errors import ModelFailed, WorkerDied
from inference.types import Array, Arrays, BatchResult, Vacancy
from tests.batching.virtual_time import virtual_loop


class Run:
    """One batch in the puppet's hands. Ends when the test says so."""

    def __init__(self, parts: Sequence[Arrays], outputs: Sequence[str]) -> None:
        self.parts = [tuple(part) for part in parts]
        self.outputs = tuple(outputs)
        self.end: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()

    @property
    def values(self) -> list[list[float]]:
        """The numbers of the first input, request by request."""
        return [numbers(part[0]) for part in self.parts]

    def finish(self, compute_s: float = 0.0) -> None:
        """Give the first input back as every output."""
        self.finish_with(*[np.concatenate([part[0] for part in self.parts]) for _ in self.outputs], compute_s=compute_s)

    def finish_with(self, *outputs: Array, compute_s: float = 0.0) -> None:
        self.end.set_result(BatchResult(outputs, compute_s))

    def fail(self, error: Exception | None = None) -> None:
        self.end.set_exception(error or ModelFailed("the model raised an error"))

    def die(self, *, running: bool = True) -> None:
        self.end.set_exception(WorkerDied("the worker process ended", running=running))


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
        )

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str]) -> BatchResult:
        held = min(self.workers, key=len, default=None)
        assert held is not None
        assert len(held) < self.depth, "a batch came without a vacancy"
        run = Run(parts, outputs)
        held.append(run)
        self.runs.append(run)
        try:
            return await run.end
        finally:
            held.remove(run)


class Door:
    """A batcher in virtual time with what a test needs to put requests in and to read its reports."""

    def __init__(self, executor: Puppet, *, drain_timeout_s: float = 30.0, **limits: int) -> None:
        self.reports: list[BatchReport] = []
        self.batcher = Batcher(
            executor,
            BatchLimits(**limits),
            on_batch=self.reports.append,
            drain_timeout_s=drain_timeout_s,
            clock=virtual_loop().time,
        )

    async def __aenter__(self) -> Door:
        await self.batcher.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.batcher.__aexit__(*exception)

    def ask(
        self, *values: float, key: str = "", outputs: tuple[str, ...] = ("y",), within_s: float = float("inf")
    ) -> asyncio.Future[JobResult]:
        """A request of one row for each value."""
        deadline_s = virtual_loop().time() + within_s
        return self.batcher.submit((column(*values),), len(values), (key, outputs), outputs, deadline_s)


def column(*values: float) -> Array:
    return np.array(values, dtype=np.float32).reshape(-1, 1)


def numbers(array: Array) -> list[float]:
    return [float(value) for value in array.ravel()]


def answer(future: asyncio.Future[JobResult]) -> list[float]:
    """The numbers that a request was answered with; it must have ended."""
    return numbers(future.result().outputs[0])
