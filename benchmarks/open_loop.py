"""The generator of `sluice load`, in a process of its own, as the benchmarks use it; and a closed loop beside it.

    python -m benchmarks.open_loop < plan.json

reads a `Plan` from standard input, carries it out, and prints one JSON line: what it `Saw`. `offer` does both ends.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import suppress

import msgspec
import uvloop

from benchmarks.closed_loop import ClosedLoop
from sluice.loadgen.arrivals import Arrivals, times
from sluice.loadgen.figures import CountedWindow, Counts, Figures, count, figures
from sluice.loadgen.generator import SETTLE_S, Generator, opened, undisturbed
from sluice.loadgen.generator import SendingPlan as OpenPlan
from sluice.loadgen.ledger import EndedRequests, Ledger
from sluice.loadgen.target import Target, request

HOST = "127.0.0.1"


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """No schedule: every connection sends its next request as soon as it has its answer."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. It lasts `warmup_s + duration_s`, and its figures are about the latter.

    A request is given up `patience_s` after it was due. `objective_s` is what goodput is counted by.
    """

    port: int
    path: str
    body: bytes
    load: Arrivals | Closed
    connections: int
    duration_s: float
    objective_s: float
    warmup_s: float = 0.4
    patience_s: float = 5.0
    seed: int = 0


class Saw(msgspec.Struct, frozen=True):
    """`counts` are of the whole run, `figures` of its window. `faults` says why neither must be believed."""

    counts: Counts
    figures: Figures
    faults: tuple[str, ...]


def offer(plan: Plan) -> Saw:
    """Carry a plan out in a process of its own. Raises `CalledProcessError` if it cannot connect."""
    command = [sys.executable, "-m", "benchmarks.open_loop"]
    output = subprocess.run(command, input=msgspec.json.encode(plan), stdout=subprocess.PIPE, check=True).stdout
    return msgspec.json.decode(output, type=Saw)


async def carry_out(plan: Plan) -> Saw:
    """Carry a plan out in this process, which should do nothing else. Raises `StartError` if it cannot connect."""
    requests = await (_closed_loop(plan) if isinstance(plan.load, Closed) else _open_loop(plan, plan.load))
    counts = count(requests)
    seen = figures(requests, CountedWindow(plan.warmup_s, plan.warmup_s + plan.duration_s), plan.objective_s)
    return Saw(counts, seen, (*seen.faults, *_failures(counts)))


def _failures(counts: Counts) -> list[str]:
    return [f"{counts.astray} requests were neither answered nor refused: {counts}"] if counts.astray else []


async def _open_loop(plan: Plan, load: Arrivals) -> EndedRequests:
    order = OpenPlan(
        target=_target(plan),
        requests=(_request(plan),),
        due_s=times(load, plan.warmup_s + plan.duration_s, plan.seed),
        connections=plan.connections,
        timeout_s=plan.patience_s,
    )
    return (await Generator(order).run()).requests


async def _closed_loop(plan: Plan) -> EndedRequests:
    lines = await opened(_target(plan), (_request(plan),), plan.connections)
    await asyncio.sleep(SETTLE_S)
    over = asyncio.Event()
    ledger = Ledger()
    run_s = plan.warmup_s + plan.duration_s
    with undisturbed():
        begun_s = time.monotonic()
        pacing = ClosedLoop(begun_s + run_s, lines, ledger, on_end=over.set)
        for line in lines:
            line.pacing = pacing
        pacing.begin(begun_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(run_s + plan.patience_s):
                await over.wait()
        pacing.give_up(time.monotonic())
    for line in lines:
        line.close()
    return ledger.requests(begun_s)


def _target(plan: Plan) -> Target:
    return Target(HOST, plan.port, plan.path)


def _request(plan: Plan) -> bytes:
    return request(_target(plan), plan.path, {}, plan.body)


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    saw = uvloop.run(carry_out(plan))
    sys.stdout.write(msgspec.json.encode(saw).decode() + "\n")


if __name__ == "__main__":
    main()
