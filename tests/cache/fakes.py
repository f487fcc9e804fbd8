"""A model and a Redis, driven by tests."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from sluice.cache.keys import CacheScope
from sluice.cache.report import Owner, TierCounts, TierName
from sluice.cache.tiers import CachedModel
from sluice.inference.types import Array, Arrays, Datatype, Query, Signature, TensorSpec
from tests.batching.virtual_time import virtual_loop

SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (None, 2)), TensorSpec("s", Datatype.BYTES, (None,))),
    (TensorSpec("y", Datatype.FP32, (None, 3)), TensorSpec("t", Datatype.BYTES, (None, 1))),
    batched=True,
)
OWNER = Owner("m", 1)
UNBATCHED = msgspec.structs.replace(SIGNATURE, batched=False)


def subject(
    *,
    scope: CacheScope = "row",
    signature: Signature = SIGNATURE,
    digest: str = "d" * 64,
    engine: str = "cpu",
    ttl_s: float = 100.0,
    adaptive: bool = False,
    objective_s: float | None = None,
    owner: Owner = OWNER,
    max_answer_bytes: int = 1 << 30,
    on_forget: Callable[[], None] = lambda: None,
) -> CachedModel:
    def observe(_: TierName) -> Callable[[float], None]:
        return lambda seconds: None

    return CachedModel(
        *(owner, digest, engine, signature, scope, ttl_s, adaptive, 0.0, objective_s, observe),
        max_answer_bytes=max_answer_bytes,
        on_forget=on_forget,
    )


def inputs(numbers: Sequence[int]) -> Arrays:
    """A row for each number, in both inputs of `SIGNATURE`."""
    x = np.array([[number, -number] for number in numbers], np.float32).reshape(len(numbers), 2)
    s = np.empty(len(numbers), dtype=object)
    s[:] = [b"%d" % number for number in numbers]
    return x, s


def ask(*numbers: int, outputs: tuple[str, ...] = ("y", "t"), deadline_s: float = math.inf, **more: Any) -> Query:
    """A query with a row for each number."""
    x, s = inputs(numbers)
    return Query((x, s), len(numbers), (x.shape[1:], s.shape[1:]), outputs, deadline_s, **more)


def said(query: Query) -> Arrays:
    """What the model says of a query: every bit follows from its row alone."""
    x, s = query.inputs
    kinds_of_nan = (np.uint32(0x7FC00000) + x[:, 0].astype(np.uint32)).view(np.float32)
    y = np.stack([x[:, 0] * np.float32(1.1), x[:, 1] - np.float32(0.1), kinds_of_nan], axis=1)
    t = np.empty((query.rows, 1), dtype=object)
    t[:, 0] = [b"<" + each + b">" * (len(each) % 3) for each in s]
    outputs: dict[str, Array] = {"y": y, "t": t}
    return tuple([outputs[name] for name in query.outputs])


def bits(outputs: Arrays) -> list[object]:
    """All there is to tell of outputs, NaN's bits included."""
    return [
        (array.shape, str(array.dtype), array.tolist() if array.dtype.hasobject else array.tobytes())
        for array in outputs
    ]


class Result(msgspec.Struct, frozen=True):
    """What a batch gave: views of arrays that it shares with others."""

    outputs: Arrays
    queue_s: float = 0.0
    batch_s: float = 0.0
    compute_s: float = 0.001
    batch_rows: int = 1
    late: bool = False


class Run:
    """One query in the model's hands, which ends when the test says so."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.end: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    @property
    def numbers(self) -> list[int]:
        return [int(element) for element in self.query.inputs[1]]

    def finish(self) -> None:
        # Neighbours in the batch, before and after, which belong to somebody else.
        own = said(self.query)
        shared = [np.concatenate([array[:1], array, array[:1]]) if len(array) else array for array in own]
        rows = self.query.rows
        self.end.set_result(Result(tuple([array[1 : rows + 1] for array in shared]), batch_rows=rows + 2))

    def fail(self, error: Exception) -> None:
        self.end.set_exception(error)


class Model:
    """Keeps what it is asked until the test ends it. `runs` has all, `out` those that have not ended."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def __call__(self, query: Query) -> asyncio.Future[Result]:
        self.runs.append(Run(query))
        return self.runs[-1].end

    @property
    def out(self) -> list[Run]:
        return [run for run in self.runs if not run.end.done()]

    @property
    def computed(self) -> list[int]:
        """The numbers of all rows that it was asked for."""
        return [number for run in self.runs for number in run.numbers]


class Prompt(Model):
    """Answers at once."""

    def __call__(self, query: Query) -> asyncio.Future[Result]:
        end = super().__call__(query)
        self.runs[-1].finish()
        return end


class FoundValues(msgspec.Struct, frozen=True):
    values: Sequence[bytes | None]
    cost_s: float = 1e-4


class Shelf:
    """What a Redis does as tests see it. `answers` is what it does with a lookup: well, late, never or not at all.

    Implements `RemoteTier`; the real one is tried with a real Redis.
    """

    def __init__(self, *, leasing: bool = False) -> None:
        self.values: dict[tuple[str, bytes], bytes] = {}
        self.claims: set[tuple[str, bytes]] = set()
        self.answers = True
        self.full = False
        self.readable = True
        self.leasing = leasing
        self.longest_lookup_s = 1000.0
        self.takes_s = 0.0
        self.lookups: list[list[bytes]] = []

    async def lookup(self, space: str, keys: Sequence[bytes]) -> FoundValues | None:
        self.lookups.append(list(keys))
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        return FoundValues([self.values.get((space, key)) for key in keys]) if self.answers else None

    def store(self, space: str, key: bytes, value: bytes, ttl_s: float, counts: TierCounts) -> bool:
        if self.full:
            counts.dropped += 1
            return False
        self.values[space, key] = value
        counts.stores += 1
        return True

    async def claim(self, space: str, keys: Sequence[bytes]) -> Sequence[bool]:
        granted = [(space, key) not in self.claims for key in keys]
        self.claims |= {(space, key) for key in keys}
        return granted

    async def awaited(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        await asyncio.sleep(0.5)
        return [self.values.get((space, key)) for key in keys]

    def release(self, space: str, keys: Sequence[bytes]) -> None:
        self.claims -= {(space, key) for key in keys}


def clock() -> float:
    return virtual_loop().time()
