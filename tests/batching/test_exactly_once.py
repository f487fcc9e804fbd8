"""Whatever clients, workers and the clock do, in any order: one end for each request, and the right one."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import DeadlineExceeded, ModelFailed, QueueFull, RequestTooLarge, WorkerKilled
from tests.batching.fakes import Door, Puppet, Run, answer
from tests.batching.virtual_time import VirtualTimeLoop, pass_time, quiet, virtual_loop

KILLS, FAILS = 10_000, 20_000
"""Added to the values of a request that kills its worker, or that the model fails."""

asks = st.tuples(
    st.just("ask"),
    st.integers(0, 7),
    st.sampled_from("ab"),
    st.sampled_from([math.inf, math.inf, 2.0]),
    st.sampled_from([0, 0, 0, KILLS, FAILS]),
)
steps = st.one_of(
    asks,
    asks,
    st.tuples(st.sampled_from(["cancel", "end", "end", "die waiting", "lose a worker"]), st.integers(0, 50)),
    st.tuples(st.sampled_from(["quiet", "pass time", "hire"])),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=40), st.integers(0, 2), st.integers(1, 2))
def test_one_end_for_each_request(script: list[tuple[Any, ...]], workers: int, depth: int) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play(script, Puppet(workers, depth)))


async def play(script: list[tuple[Any, ...]], puppet: Puppet) -> None:
    cast = Cast()
    async with Door(puppet, max_rows=3, max_queue_rows=12) as door:
        for step, *details in script:
            match step, details:
                case "ask", [rows, key, within_s, guilt]:
                    cast.ask(door, rows, key, within_s, guilt)
                case "cancel", [number] if cast.futures:
                    cast.futures[number % len(cast.futures)].cancel()
                case "end", [number] if puppet.out:
                    end(puppet.out[number % len(puppet.out)])
                case "die waiting", [number] if puppet.out:
                    puppet.out[number % len(puppet.out)].die(running=False)
                case "lose a worker", [number] if len(puppet.workers) > 1:
                    for run in puppet.workers.pop(number % len(puppet.workers)):
                        if not run.end.done():
                            run.die(running=False)
                case "hire", []:
                    puppet.hire()
                    door.batcher.wake()
                case "pass time", []:
                    await pass_time(1.0)
                case "quiet", []:
                    await quiet()
        puppet.hire()
        door.batcher.wake()
        await quiet()
        while puppet.out:
            end(puppet.out[0])
            await quiet()
        now = door.batcher.statistics()
        assert (now.queue.rows, now.queue.keys, now.running_batches, now.again_batches) == (0, 0, 0, 0)
    cast.check()
    assert not virtual_loop().complaints
    assert asyncio.all_tasks() == {asyncio.current_task()}


def end(run: Run) -> None:
    """What a real worker would do with these requests."""
    values = [value for part in run.values for value in part]
    if any(KILLS <= value < FAILS for value in values):
        run.die()
    elif any(value >= FAILS for value in values):
        run.fail()
    else:
        run.finish()


class Cast:
    """The requests of one play, and what each of them may come to."""

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[Any]] = []
        self.parts: list[tuple[list[float], float, int]] = []
        self.serial = 0

    def ask(self, door: Door, rows: int, key: str, within_s: float, guilt: int) -> None:
        values = [float(guilt + self.serial + row) for row in range(rows)]
        self.serial += rows
        try:
            future = door.ask(*values, key=key, within_s=within_s)
        except (QueueFull, RequestTooLarge):
            return
        self.futures.append(future)
        self.parts.append((values, within_s, guilt if rows else 0))

    def check(self) -> None:
        for future, (values, within_s, guilt) in zip(self.futures, self.parts, strict=True):
            assert future.done()
            if future.cancelled():
                continue
            error = future.exception()
            if isinstance(error, DeadlineExceeded):
                assert within_s < math.inf
            elif guilt:
                assert type(error) is {KILLS: WorkerKilled, FAILS: ModelFailed}[guilt]
            else:
                assert answer(future) == values
