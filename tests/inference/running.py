"""Real workers for a test, and what it needs to wait for them without sleeping."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import psutil

from sluice.inference.types import Array, Arrays
from sluice.inference.workers.pool import WorkerOptions, Workers
from tests import models

PATIENCE_S = 30.0

ENDLESS: Arrays = (np.zeros((1, 1), np.float32), np.array([[2**62]]))
SHORT: Arrays = (np.full((1, 1), 3, np.float32), np.array([[2]]))
"""Inputs of `models.loop`: one whose run never ends, and one whose answer is 5."""


TURNS = 100
BETWEEN_LOOKS_S = 0.001

ONE_WORKER = WorkerOptions(count=1, intra_op_threads=1)


class Listener:
    """Counts vacancies and restarts."""

    def __init__(self) -> None:
        self.vacancies = 0
        self.restarts = 0
        self._heard = asyncio.Event()

    def on_vacancy(self) -> None:
        self.vacancies += 1
        self._heard.set()

    def on_restart(self) -> None:
        self.restarts += 1

    async def until_idle(self, workers: Workers, count: int) -> None:
        """Waits until so many workers have nothing to do."""
        async with asyncio.timeout(PATIENCE_S):
            while workers.vacancy().idle < count:
                self._heard.clear()
                await self._heard.wait()


@asynccontextmanager
async def running(
    model: bytes, folder: Path, options: WorkerOptions | None = None
) -> AsyncIterator[tuple[Workers, Listener]]:
    """Workers for a model, entered."""
    listener = Listener()
    options = options or ONE_WORKER
    file = models.place(model, folder)
    async with Workers(file, options, on_vacancy=listener.on_vacancy, on_restart=listener.on_restart) as workers:
        yield workers, listener


async def until(condition: Callable[[], bool]) -> None:
    """Waits until the condition holds, where no event tells of it.

    What this process does itself takes some turns of its loop; for what others do, the wait leaves them the processor.
    """
    async with asyncio.timeout(PATIENCE_S):
        for turn in count():
            if condition():
                return
            await asyncio.sleep(0 if turn < TURNS else BETWEEN_LOOKS_S)


async def until_in_flight(workers: Workers, count: int) -> None:
    """Lets the tasks that were just made send their batches."""
    await until(lambda: workers.statistics().in_flight >= count)


def assert_same(actual: Array, expected: Array) -> None:
    """Equal in dtype, shape and every bit."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.dtype.hasobject:
        assert actual.ravel().tolist() == expected.ravel().tolist()
    else:
        assert actual.tobytes() == expected.tobytes()


def children() -> list[int]:
    """Processes that this one has started and that still run."""
    return [child.pid for child in psutil.Process().children(recursive=True)]


def descriptors(pid: int | None = None) -> int:
    """Open files of a process, of this one if none is named."""
    return len(os.listdir(f"/proc/{pid or os.getpid()}/fd"))


def shared_mappings(pid: int | None = None) -> int:
    """Arenas and buffers that a process has mapped."""
    return Path(f"/proc/{pid or os.getpid()}/maps").read_text().count("memfd:sluice")


@contextmanager
def nothing_left() -> Iterator[None]:
    """Checks that there are no more processes, open files and mappings at the end than at the beginning."""
    before = (children(), descriptors(), shared_mappings())
    yield
    assert (children(), descriptors(), shared_mappings()) == before
