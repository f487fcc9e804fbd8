"""The stage that pads: small requests at once, large ones in steps and one at a time."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from sluice.batching.job import JobResult
from sluice.cache.turns import STEP_BYTES, Turns
from sluice.gateway.serving.padding_stage import Padder, through_padding
from sluice.inference.config.model_config import PaddingConfig
from sluice.inference.errors import DeadlineExceeded, RequestTooLarge
from sluice.inference.padding.padding import Padding
from sluice.inference.types import Array, Datatype, Query, Signature, TensorSpec

LONG = 1 << 14
MAX_BYTES = 64 << 20
SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (None, None)),), (TensorSpec("y", Datatype.FP32, (None, None)),), batched=True
)
CONFIG = PaddingConfig.model_validate({"inputs": {"x": {"buckets": [8, LONG], "value": 7}}, "outputs": {"y": {}}})


class Stage:
    """The padding stage before a model that returns its input."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.seen: list[Query] = []
        self.counted: list[tuple[int, int]] = []
        self.held: asyncio.Future[None] | None = None
        padding = Padding(SIGNATURE, CONFIG, max_rows=5000, max_bytes=MAX_BYTES)
        padder = Padder(padding, lambda own, added: self.counted.append((own, added)))
        self.answer = through_padding(padder, SIGNATURE, self.turns, self._compute)

    async def _compute(self, query: Query) -> JobResult:
        self.seen.append(query)
        if self.held is not None:
            await self.held
        return JobResult(query.inputs, 0.0, 0.0, 0.0, query.rows)


def asked(x: Array, timeout_s: float = 60.0) -> Query:
    return Query((x,), len(x), (x.shape[1:],), ("y",), time.monotonic() + timeout_s)


def rows(count: int, length: int) -> Array:
    return np.arange(count * length, dtype=np.float32).reshape(count, length)


@pytest.mark.parametrize(
    ("count", "length"),
    [(1, 3), (5, 8), (3, 9), (100, 8), (2 * STEP_BYTES // LONG, 100), (300, 9), (3, LONG), (1, LONG + 1)],
)
async def test_what_comes_out_is_what_went_in(count: int, length: int) -> None:
    stage, x = Stage(), rows(count, length)
    answer = await stage.answer(asked(x))
    assert answer.outputs[0].flags.c_contiguous
    assert np.array_equal(answer.outputs[0], x)
    (seen,) = stage.seen
    padded = 8 if length <= 8 else max(length, LONG)
    assert seen.inputs[0].shape == (count, padded)
    assert seen.shape_key == ((padded,),)
    assert (seen.inputs[0][:, length:] == 7).all()
    assert np.array_equal(seen.inputs[0][:, :length], x)
    assert stage.counted == [(x.size, seen.inputs[0].size - x.size)]


async def test_large_requests_give_others_their_turn() -> None:
    stage, turns = Stage(), 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(neighbour())
    await stage.answer(asked(rows(640, 9)))
    beside.cancel()
    assert turns >= 2 * 640 * LONG * 4 // STEP_BYTES, "a step for each MiB that was written, there and back"


async def test_large_requests_are_padded_one_after_another() -> None:
    """None of them waits for the answer to another."""
    stage = Stage()
    stage.held = asyncio.get_running_loop().create_future()
    answers = [asyncio.ensure_future(stage.answer(asked(rows(64, 9)))) for _ in range(5)]
    async with asyncio.timeout(30):
        while len(stage.seen) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0)
    stage.held.set_result(None)
    for answer in answers:
        assert np.array_equal((await answer).outputs[0], rows(64, 9))


async def test_it_ends_at_its_deadline() -> None:
    stage = Stage()
    with pytest.raises(DeadlineExceeded):
        await stage.answer(asked(rows(640, 9), timeout_s=0.0))
    assert not stage.seen
    assert np.array_equal((await stage.answer(asked(rows(64, 9)))).outputs[0], rows(64, 9))


async def test_what_is_too_large_is_told_before_it_is_made() -> None:
    with pytest.raises(RequestTooLarge):
        await Stage().answer(asked(np.zeros((MAX_BYTES // LONG // 4 + 1, 9), np.float32)))
    with pytest.raises(RequestTooLarge):
        await Stage().answer(asked(np.zeros((10**12, 0), np.float32)))


async def test_a_model_without_padding_has_no_such_stage() -> None:
    async def compute(query: Query) -> JobResult:
        raise AssertionError

    assert through_padding(None, SIGNATURE, Turns(), compute) is compute
