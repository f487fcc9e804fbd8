"""Callers in virtual time: an engine to serve them, how they come, and what becomes of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from random import Random

from sluice.batching.job import JobResult
from sluice.inference.errors import Overloaded
from tests.batching.fakes import Door, knots_of, linear
from tests.batching.virtual_time import pass_time, virtual_loop

OBJECTIVE_S = 0.1
RUN_S = linear(0.008, 0.0005)
KNOTS = knots_of(RUN_S)

AT_ONCE_S = 0.005
"""A refusal that comes so soon leaves its caller time to ask elsewhere."""

Future = asyncio.Future[JobResult]


class Tally:
    """What became of requests, and when."""

    def __init__(self) -> None:
        self.futures: list[Future] = []
        self.refusals_s: list[float] = []

    def ask(self, door: Door, *values: float, priority: int = 5, client: str = "", within_s: float = math.inf) -> None:
        asked_s = virtual_loop().time()
        try:
            future = door.ask(*(values or (1,)), priority=priority, client=client, within_s=within_s)
        except Overloaded:
            self.refusals_s.append(0.0)
            return
        self.futures.append(future)
        future.add_done_callback(lambda ended: self.note(ended, virtual_loop().time() - asked_s))

    def note(self, ended: Future, after_s: float) -> None:
        if isinstance(ended.exception(), Overloaded):
            self.refusals_s.append(after_s)

    @property
    def asked(self) -> int:
        return len(self.futures) + self.refusals_s.count(0.0)

    @property
    def refused(self) -> int:
        """Told at once, near enough, that there is no time for them."""
        return sum(after_s <= AT_ONCE_S for after_s in self.refusals_s)

    @property
    def dropped(self) -> int:
        """Told later."""
        return len(self.refusals_s) - self.refused

    @property
    def results(self) -> list[JobResult]:
        return [future.result() for future in self.futures if future.done() and future.exception() is None]

    @property
    def good(self) -> int:
        return sum(not result.late for result in self.results)


async def crowd(door: Door) -> list[Overloaded]:
    """A thousand requests in one turn: the refusals of those that are not let in."""
    refusals: list[Overloaded] = []
    waiting: list[Future] = []
    for _ in range(1000):
        try:
            waiting.append(door.ask(1))
        except Overloaded as refusal:
            refusals.append(refusal)
    await pass_time(AT_ONCE_S)
    errors = [future.exception() for future in waiting if future.done()]
    return refusals + [error for error in errors if isinstance(error, Overloaded)]


async def poisson(rate_per_s: float, for_s: float, ask: Callable[[], None], seed: int = 1) -> None:
    random, loop = Random(seed), virtual_loop()
    end_s = loop.time() + for_s
    while loop.time() < end_s:
        await pass_time(random.expovariate(rate_per_s))
        ask()
