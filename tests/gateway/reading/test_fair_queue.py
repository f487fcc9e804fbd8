from __future__ import annotations

import asyncio

import pytest

from sluice.gateway.reading import fair_queue
from sluice.gateway.reading.fair_queue import FairQueue
from sluice.inference.errors import DeadlineExceeded, QueueFull


class Calls:
    """Calls that take a place, and keep it until the test lets them go."""

    def __init__(self, count: int) -> None:
        self.queue = FairQueue(count)
        self.began: list[str] = []
        self._over = asyncio.Semaphore(0)

    def come(self, model: str, left_s: float = 60.0) -> asyncio.Task[None]:
        return asyncio.create_task(self._call(model, left_s))

    async def _call(self, model: str, left_s: float) -> None:
        async with self.queue.place(model, left_s):
            self.began.append(model)
            await self._over.acquire()

    async def end(self, count: int) -> None:
        for _ in range(count):
            self._over.release()
            await quiet()


async def quiet() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_models_take_turns() -> None:
    calls = Calls(1)
    tasks = [calls.come(model) for model in ("a", "a", "a", "a", "b", "c", "b")]
    await quiet()
    assert calls.queue.waiting == 6
    await calls.end(7)
    assert calls.began == ["a", "a", "b", "c", "a", "b", "a"]
    await asyncio.gather(*tasks)
    assert calls.queue.waiting == 0


async def test_as_many_have_a_place_as_there_are() -> None:
    calls = Calls(2)
    tasks = [calls.come("a") for _ in range(3)]
    await quiet()
    assert len(calls.began) == 2
    await calls.end(3)
    await asyncio.gather(*tasks)
    later = calls.come("a")
    await calls.end(1)
    await later


async def test_who_waits_too_long_is_told_and_keeps_no_place() -> None:
    calls = Calls(1)
    first, late, next_one = calls.come("a"), calls.come("a", 0.01), calls.come("b")
    with pytest.raises(DeadlineExceeded, match=r"waited 0\.010 s to be read"):
        await late
    await calls.end(2)
    await asyncio.gather(first, next_one)
    assert calls.began == ["a", "b"]


async def test_who_leaves_passes_the_place_on() -> None:
    calls = Calls(1)
    first, leaves, last = calls.come("a"), calls.come("a"), calls.come("a")
    await quiet()
    leaves.cancel()
    await calls.end(1)
    assert calls.began == ["a", "a"]
    # Also where the place and the end come in the same turn of the loop.
    another = calls.come("a")
    await quiet()
    calls._over.release()
    await asyncio.sleep(0)
    another.cancel()
    await quiet()
    free = calls.come("b")
    await calls.end(2)
    await asyncio.gather(first, last, free)
    assert leaves.cancelled()
    assert another.cancelled()


async def test_what_waits_is_bounded_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_queue, "MOST_WAITING", 2)
    calls = Calls(1)
    tasks = [calls.come("a") for _ in range(3)]
    await quiet()
    with pytest.raises(QueueFull, match="2 large requests for model 'a' wait to be read"):
        await calls.come("a")
    tasks.append(calls.come("b"))
    await calls.end(4)
    await asyncio.gather(*tasks)
