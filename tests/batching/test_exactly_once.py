"""Whatever clients, workers and the clock do, in any order: one end for each request, and the right one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.inference.errors import DeadlineExceeded, ModelFailed, Overloaded, QueueFull, RequestTooLarge, WorkerKilled
from sluice.inference.types import Knot
from tests.batching.fakes import Door, Puppet, Run, answer, knots_of, linear
from tests.batching.virtual_time import VirtualTimeLoop, pass_time, quiet, virtual_loop

KILLS, FAILS = 10_000, 20_000
"""Added to the values of a request that kills its worker, or that the model fails."""

asks = st.tuples(
    st.just("ask"),
    st.integers(0, 7),
    st.sampled_from("ab"),
    st.sampled_from([math.inf, math.inf, 2.0]),
    st.sampled_from([0, 0, 0, KILLS, FAILS]),
    st.sampled_from([1, 5, 5, 9]),
    st.sampled_from(["", "x", "y"]),
)
steps = st.one_of(
    asks,
    asks,
    st.tuples(st.sampled_from(["cancel", "end", "end", "die waiting", "lose a worker"]), st.integers(0, 50)),
    st.tuples(st.just("pass time"), st.sampled_from([0.001, 0.005, 0.02, 0.1, 1.0])),
    st.tuples(st.sampled_from(["quiet", "hire", "quiet", "hire", "unbatch"])),
)
objectives = st.sampled_from([None, 0.001, 0.05, 0.5, 5.0])
seeds = st.sampled_from([(), knots_of(linear(0.005, 0.001), 3), knots_of(linear(0.001, 0.02), 3)])


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=40), st.integers(0, 2), st.integers(1, 2), objectives, seeds)
def test_one_end_for_each_request(
    script: list[tuple[Any, ...]], workers: int, depth: int, objective_s: float | None, seed: tuple[Knot, ...]
) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play(script, Puppet(workers, depth), objective_s, seed))


async def play(
    script: list[tuple[Any, ...]], puppet: Puppet, objective_s: float | None, seed: tuple[Knot, ...]
) -> None:
    cast = Cast(objective_s)
    async with Door(puppet, objective_s=objective_s, knots=seed, max_rows=3, max_queue_rows=12) as door:
        for step, *details in script:
            match step, details:
                case "ask", [rows, key, within_s, guilt, priority, client]:
                    cast.ask(door, rows, key, within_s, guilt, priority, client)
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
                case "unbatch", []:
                    door.batcher.unbatch()
                    cast.apart_from = min(cast.apart_from, len(puppet.runs))
                case "pass time", [seconds]:
                    await pass_time(seconds)
                    cast.check_waits(door, puppet)
                case "quiet", []:
                    await quiet()
                    cast.check_waits(door, puppet)
        puppet.hire()
        door.batcher.wake()
        await pass_time(objective_s or 0)
        await quiet()
        for _ in range(1000):
            while puppet.out:
                end(puppet.out[0])
                await pass_time(objective_s or 0)
                await quiet()
            if all([future.done() for future in cast.futures]):
                break
            # A promise that could never be kept leaves a job as long as a few runs take.
            await pass_time(0.01)
        now = door.batcher.statistics()
        assert (now.queue.rows, now.queue.keys, now.running_batches, now.again_batches) == (0, 0, 0, 0)
    cast.check()
    cast.check_runs_alone(puppet.runs[cast.apart_from :])
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

    def __init__(self, objective_s: float | None) -> None:
        self.objective_s = math.inf if objective_s is None else objective_s
        self.futures: list[asyncio.Future[Any]] = []
        self.parts: list[tuple[list[float], float, int]] = []
        self.ends_s: list[float] = []
        self.promised_s: list[float] = []
        self.serial = 0
        self.apart_from = 1_000_000
        """From this run on, each has one whole request."""

    def ask(self, door: Door, rows: int, key: str, within_s: float, guilt: int, priority: int, client: str) -> None:
        values = [float(guilt + self.serial + row) for row in range(rows)]
        self.serial += rows
        try:
            future = door.ask(*values, key=key, within_s=within_s, priority=priority, client=client)
        except Overloaded:
            assert self.objective_s < math.inf or within_s < math.inf
            return
        except DeadlineExceeded:
            assert within_s < math.inf
            return
        except (QueueFull, RequestTooLarge):
            return
        place = len(self.futures)
        future.add_done_callback(lambda _: self.ended(place))
        self.futures.append(future)
        self.parts.append((values, within_s, guilt if rows else 0))
        self.promised_s.append(virtual_loop().time() + min(within_s, self.objective_s))
        self.ends_s.append(math.inf)

    def ended(self, place: int) -> None:
        self.ends_s[place] = virtual_loop().time()

    def check_waits(self, door: Door, puppet: Puppet) -> None:
        """Nothing waits while a worker is idle; with an objective, nothing past the time at which it should be done."""
        idle = any(not held for held in puppet.workers)
        statistics = door.batcher.statistics()
        if not idle:
            return
        assert not statistics.again_batches
        if self.objective_s == math.inf:
            assert not any(not future.done() for future in self.waiting(puppet))
        else:
            now_s = virtual_loop().time()
            due_s = [self.promised_s[self.futures.index(future)] for future in self.waiting(puppet)]
            assert all(now_s <= each + 1e-5 for each in due_s)

    def waiting(self, puppet: Puppet) -> list[asyncio.Future[Any]]:
        """Requests that have not ended and of which no row is out."""
        out = {value for run in puppet.out for part in run.values for value in part}
        return [
            future
            for future, (values, _, _) in zip(self.futures, self.parts, strict=True)
            if values and not future.done() and not out & set(values)
        ]

    def check_runs_alone(self, runs: Sequence[Run]) -> None:
        requests = [values for values, _, _ in self.parts]
        for run in runs:
            (values,) = run.values
            assert values in requests

    def check(self) -> None:
        for place, (future, (values, within_s, guilt)) in enumerate(zip(self.futures, self.parts, strict=True)):
            assert future.done()
            if future.cancelled():
                continue
            error = future.exception()
            if isinstance(error, DeadlineExceeded):
                assert within_s < math.inf
            elif isinstance(error, Overloaded):
                assert self.objective_s < math.inf or within_s < math.inf
            elif guilt:
                assert type(error) is {KILLS: WorkerKilled, FAILS: ModelFailed}[guilt]
            else:
                assert answer(future) == values
                assert future.result().late == (self.ends_s[place] > self.promised_s[place])
