"""Many callers of one model at the same time, batched as in service, and the answers that each would get alone."""

from __future__ import annotations

import asyncio
import mmap
import time
import zlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from sluice.batching.batcher import Batcher, BatchLimits, Executor
from sluice.inference.backends.base import Backend
from sluice.inference.errors import ModelFailed, SluiceError
from sluice.inference.signature import conform, row_count, shape_key
from sluice.inference.transport.layout import plan, views, write
from sluice.inference.types import Array, Arrays, BatchResult, Datatype, Signature, Tensor, Vacancy

Call: TypeAlias = dict[str, Array]
"""What one caller sends, by input."""

CALLERS = 32
ROWS = (1, 2, 3)
"""Rows in one call, by turns. Every fourth caller has as many rows as are given, since some models take no others."""

MOST_ROWS = 24
BATCH_ROWS = 256
_SCALES = (0.0, 0.5, 1.0, 1.0, 3.0, 30.0)
_TOLERANCES = {Datatype.FP16: 3e-2, Datatype.BF16: 6e-2}
_TOLERANCE = 1e-3


class InProcess:
    """An engine as the batcher's executor: batches lie stacked in memory as in a worker's arena, and run there."""

    def __init__(self, backend: Backend, signature: Signature) -> None:
        self._backend = backend
        self._datatypes = [spec.datatype for spec in signature.inputs]

    def vacancy(self) -> Vacancy:
        return Vacancy(1, 0, 1)

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> BatchResult:
        began_s = time.monotonic()
        stacked = plan(list(zip(*parts, strict=True)))
        with mmap.mmap(-1, max(1, stacked.size_bytes)) as memory:
            write(stacked, memory, 0)
            taken = views(memory, 0, stacked.placed, self._datatypes)
            given = tuple([array.copy() for array in self._backend.run(taken, outputs)])
            del taken
        return BatchResult(given, 0.0, 0.0, began_s)


class Watched:
    """An executor that records `batch_jobs`, the number of calls in its largest batch."""

    def __init__(self, executor: Executor) -> None:
        self.batch_jobs = 0
        self._executor = executor

    def vacancy(self) -> Vacancy:
        return self._executor.vacancy()

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> BatchResult:
        self.batch_jobs = max(self.batch_jobs, len(parts))
        return await self._executor.run(parts, outputs, limit_s)


def callers_of(model: str, given: Sequence[tuple[str, Array]], *, apart: bool = False) -> list[Call]:
    """Calls with rows like those given, by input, from a caller each. They are the same for the same model.

    All inputs of a call have as many rows, but for those of every fourth caller where the inputs stand `apart`.
    """
    rng = np.random.default_rng(zlib.crc32(model.encode()))
    calls: list[Call] = []
    for caller in range(CALLERS):
        turn = caller % (len(ROWS) + 1)
        counts = [ROWS[turn] if turn < len(ROWS) else len(rows if apart else given[0][1]) for _, rows in given]
        pairs = zip(given, counts, strict=True)
        calls.append({name: _rows_like(rng, rows, min(count, MOST_ROWS)) for (name, rows), count in pairs})
    return calls


def alone(backend: Backend, call: Call) -> Arrays | None:
    """The engine's answer to one call alone; `None` if it fails."""
    taken = tuple([call[spec.name] for spec in backend.inputs])
    try:
        return backend.run(taken, [spec.name for spec in backend.outputs])
    except ModelFailed:
        return None


async def together(executor: Executor, signature: Signature, calls: Sequence[Call]) -> list[Arrays | SluiceError]:
    """The answers to all callers when they ask in the same turn of the event loop."""
    names = tuple([spec.name for spec in signature.outputs])
    limits = BatchLimits(BATCH_ROWS if signature.batched else 1, 1 << 20, 1 << 30)

    async def ask(call: Call) -> Arrays:
        tensors = [Tensor(spec.name, spec.datatype, call[spec.name]) for spec in signature.inputs]
        arrays = conform(signature, tensors)
        rows, key = row_count(signature, arrays), (shape_key(signature, arrays), names)
        return (await batcher.submit(arrays, rows, key, names)).outputs

    async with Batcher(executor, limits, on_batch=lambda report: None) as batcher:
        answers = await asyncio.gather(*[ask(call) for call in calls], return_exceptions=True)
    found: list[Arrays | SluiceError] = []
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, SluiceError):
            raise answer
        found.append(answer)
    return found


def difference(signature: Signature, right: Arrays, found: Arrays) -> str | None:
    """The first output that differs from the expected one by more than rounding, and how; `None` if none does."""
    for spec, one, other in zip(signature.outputs, right, found, strict=True):
        if one.shape != other.shape:
            return f"output {spec.name!r} has the shape {list(other.shape)} in place of {list(one.shape)}"
        if not _same(_numbers(spec.datatype, one), _numbers(spec.datatype, other), spec.datatype):
            return f"output {spec.name!r} has other values"
    return None


def _same(one: Array, other: Array, datatype: Datatype) -> bool:
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    part = _TOLERANCES.get(datatype, _TOLERANCE)
    largest = np.abs(one[np.isfinite(one)]).max(initial=0.0)
    return bool(np.allclose(other, one, part, part * largest, equal_nan=True))


def _numbers(datatype: Datatype, array: Array) -> Array:
    if datatype is Datatype.BF16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    numbers: Array = array.astype(np.float64) if array.dtype.kind == "f" else array
    return numbers


def rows_apart(call: Call) -> list[Call]:
    """The same rows, each in a call of its own, of a call whose inputs have as many."""
    (count,) = {len(rows) for rows in call.values()}
    return [{name: rows[place : place + 1] for name, rows in call.items()} for place in range(count)]


def _rows_like(rng: np.random.Generator, given: Array, count: int) -> Array:
    rows = given[rng.integers(0, len(given), count)]
    made: Array
    if given.dtype.kind == "f":
        scales = rng.choice(_SCALES, (count, *[1] * (given.ndim - 1)))
        with np.errstate(all="ignore"):  # what is too large for float16 is as good as any other number
            made = (rows * scales + 0.1 * rng.standard_normal(rows.shape)).astype(given.dtype)
    else:
        others = rng.choice(given.ravel(), rows.shape)
        made = np.where(rng.random(rows.shape) < 0.5, others, rows).astype(given.dtype)
    return made
