"""What the batcher adds for a caller that is alone: Batcher and Workers in one process, without HTTP.

    python -m benchmarks.one_caller MODEL.onnx THREADS ROWS BLOCKS

calls them one after another, in blocks that take turns with two references and with the workers alone, and prints one
JSON line: for each way, what its calls took. The blocks are long enough for each way to find its own caches.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import uvloop

from benchmarks.waiting_run import MOST_RUNS, waiting_run
from sluice.batching.batcher import Batcher, BatchLimits
from sluice.inference.workers.pool import WorkerOptions, Workers
from sluice.loadgen.figures import Spread, spread

BLOCK_CALLS = 200
SETTLING_CALLS = 20
"""Calls at the beginning of a block that do not count."""

LIMIT_S = 10.0
OBJECTIVE_S = 0.05

IN_A_LOOP = "InferenceSession.run, in a loop"
ON_REQUEST = "InferenceSession.run, on request"
BY_WORKERS = "Workers"
BY_BATCHER = "Batcher and Workers"
BY_PROMISING = "Batcher with an objective, and Workers"


class Way(msgspec.Struct, frozen=True):
    """The calls of one way: as their caller saw them, the engine's own time, and the difference call by call."""

    name: str
    wall: Spread
    engine: Spread
    added: Spread


class Call(msgspec.Struct, frozen=True):
    """What one call took, in seconds."""

    wall_s: float
    engine_s: float


Block: TypeAlias = Callable[[], Awaitable[Sequence[Call]]]
"""Makes `BLOCK_CALLS` calls, one after another."""


def one_caller(model: Path, threads: int, rows: int, blocks: int) -> Sequence[Way]:
    """Measure in a fresh process: runs in a loop, runs on request, the workers, the batcher before them."""
    command = [sys.executable, "-m", "benchmarks.one_caller", str(model), str(threads), str(rows), str(blocks)]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return msgspec.json.decode(output, type=list[Way])


async def measure(model: Path, threads: int, rows: int, blocks: int) -> list[Way]:
    """What each way took, in `blocks` blocks of `BLOCK_CALLS` calls each."""
    options = WorkerOptions(count=1, intra_op_threads=threads)
    async with (
        Workers(model, options, on_vacancy=lambda: None, on_restart=lambda: None) as workers,
        _batcher(workers, None) as plain,
        _batcher(workers, OBJECTIVE_S) as promising,
    ):
        workers.on_vacancy = partial(_wake, (plain, promising))
        with waiting_run(model, threads, rows) as run:
            ways = _references(run) | _ours(workers, plain, promising, rows)
            seen: dict[str, list[Call]] = {name: [] for name in ways}
            for _ in range(blocks):
                for name, block in ways.items():
                    seen[name] += (await block())[SETTLING_CALLS:]
    return [_way(name, calls) for name, calls in seen.items()]


def _batcher(workers: Workers, objective_s: float | None) -> Batcher:
    limits = BatchLimits(workers.plan.max_rows)
    return Batcher(workers, limits, on_batch=lambda _: None, objective_s=objective_s, knots=workers.plan.knots)


def _wake(batchers: Sequence[Batcher]) -> None:
    """One of them has something to do: they take turns."""
    for batcher in batchers:
        batcher.wake()


def _references(run: Callable[[int], Sequence[float]]) -> dict[str, Block]:
    async def on_request() -> float:
        return run(1)[0]

    async def in_a_loop() -> Sequence[Call]:
        return [Call(seconds, seconds) for seconds in run(min(MOST_RUNS, BLOCK_CALLS))]

    return {IN_A_LOOP: in_a_loop, ON_REQUEST: lambda: _block(on_request)}


def _ours(workers: Workers, plain: Batcher, promising: Batcher, rows: int) -> dict[str, Block]:
    inner = tuple([size or 1 for size in workers.signature.inputs[0].shape[1:]])
    inputs = (np.random.default_rng(0).standard_normal((rows, *inner)).astype(np.float32),)
    outputs = tuple([spec.name for spec in workers.signature.outputs])
    key = ((inner,), outputs)

    async def by_workers() -> float:
        return (await workers.run([inputs], outputs, LIMIT_S)).compute_s

    async def by_batcher(batcher: Batcher) -> float:
        return (await batcher.submit(inputs, rows, key, outputs)).compute_s

    return {
        BY_WORKERS: lambda: _block(by_workers),
        BY_BATCHER: lambda: _block(partial(by_batcher, plain)),
        BY_PROMISING: lambda: _block(partial(by_batcher, promising)),
    }


async def _block(call: Callable[[], Awaitable[float]]) -> Sequence[Call]:
    calls = []
    for _ in range(BLOCK_CALLS):
        begun_s = time.perf_counter()
        engine_s = await call()
        calls.append(Call(time.perf_counter() - begun_s, engine_s))
    return calls


def _way(name: str, calls: Sequence[Call]) -> Way:
    wall_s, engine_s = np.array([call.wall_s for call in calls]), np.array([call.engine_s for call in calls])
    spreads = [spread(seconds) for seconds in (wall_s, engine_s, wall_s - engine_s)]
    return Way(name, *[each for each in spreads if each is not None])


def main() -> None:
    model, threads, rows, blocks = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    ways = uvloop.run(measure(model, threads, rows, blocks))
    sys.stdout.write(msgspec.json.encode(ways).decode() + "\n")


if __name__ == "__main__":
    main()
