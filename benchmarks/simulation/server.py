"""The workers of the simulation: the same for every policy."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec

from benchmarks.simulation.loop import VirtualLoop
from benchmarks.simulation.machine import Machine
from sluice.inference.types import Vacancy

FACTORS_AT_ONCE = 100_000
RESTART_S = 1.0
"""How long it takes to replace a worker that was killed."""


class Ran(msgspec.Struct, frozen=True):
    """One batch that has left its worker. It ran from `started_s` to `ended_s`.

    `kept_s` is how long it kept its worker: from when it was sent, or from the end of the batch before it, to its end.
    `killed` is true if it was ended with its worker, `begun` is false if it was behind such a batch.
    """

    worker: int
    rows: int
    started_s: float
    ended_s: float
    kept_s: float
    killed: bool = False
    begun: bool = True


class _Sent(msgspec.Struct, frozen=True):
    rows: int
    factor: float
    sent_s: float
    limit_s: float
    on_end: Callable[[Ran], None]


class Server:
    """`machine.workers` workers that run one batch each and hold up to `depth` - 1 more behind it.

    A batch begins once the one before it has ended and it has travelled for `machine.transit_s`: so the way is hidden
    behind a run, and paid for at an idle worker. A batch goes to the worker with the fewest batches, and of them to
    the first, as the real workers do it. One that would run longer than its limit is ended then, with its worker,
    which is replaced in `RESTART_S`.

    `ran` has every batch that was begun, in the order of their ends. `on_room` is called after each `on_end`, and when
    a worker was replaced.
    """

    def __init__(self, loop: VirtualLoop, machine: Machine, depth: int, seed: int) -> None:
        self.ran: list[Ran] = []
        self.on_room: Callable[[], None] = _nothing
        self._loop = loop
        self._machine = machine
        self._depth = depth
        self._seed = seed
        self._factors = machine.noise.factors(seed, FACTORS_AT_ONCE)
        self._count = 0
        self._held: list[deque[_Sent]] = [deque() for _ in range(machine.workers)]
        self._started_s = [0.0] * machine.workers
        self._away: set[int] = set()

    def vacancy(self) -> Vacancy:
        """The room that there is now."""
        idle = spare = 0
        for worker, held in enumerate(self._held):
            if worker not in self._away:
                idle += not held
                spare += self._depth - len(held) if held else 0
        return Vacancy(idle, spare, len(self._held) - len(self._away))

    def put(
        self, rows: int, on_end: Callable[[Ran], None], limit_s: float = math.inf, worker: int | None = None
    ) -> None:
        """Send a batch into a vacancy. `on_end` is called when it has left, and sees the room that this makes.

        `worker` is for policies that choose it themselves.
        """
        if worker is None:
            worker = min([each for each in range(len(self._held)) if each not in self._away], key=self._load)
        held = self._held[worker]
        if len(held) >= self._depth:
            raise RuntimeError(f"a batch was sent, but every worker holds {self._depth} already")
        held.append(_Sent(rows, self._next_factor(), self._loop.time(), limit_s, on_end))
        if len(held) == 1:
            self._begin(worker, self._loop.time())

    def _load(self, worker: int) -> tuple[int, float]:
        return len(self._held[worker]), self._started_s[worker]

    def _begin(self, worker: int, free_s: float) -> None:
        sent = self._held[worker][0]
        started_s = self._started_s[worker] = max(free_s, sent.sent_s + self._machine.transit_s)
        run_s = self._machine.curve.run_s(sent.rows) * sent.factor * self._machine.noise.slowed(started_s)
        ended_s = started_s + min(run_s, sent.limit_s)
        ran = Ran(worker, sent.rows, started_s, ended_s, ended_s - max(free_s, sent.sent_s), run_s > sent.limit_s)
        self._loop.call_at(ended_s, self._end, ran, sent.on_end)

    def _end(self, ran: Ran, on_end: Callable[[Ran], None]) -> None:
        held = self._held[ran.worker]
        held.popleft()
        self.ran.append(ran)
        if ran.killed:
            self._kill(ran.worker)
        elif held:
            self._begin(ran.worker, ran.ended_s)
        on_end(ran)
        self.on_room()

    def _kill(self, worker: int) -> None:
        self._away.add(worker)
        self._loop.call_later(RESTART_S, self._replace, worker)
        now_s = self._loop.time()
        while held := self._held[worker]:
            lost = held.popleft()
            ran = Ran(worker, lost.rows, now_s, now_s, 0.0, begun=False)
            self._loop.call_soon(partial(lost.on_end, ran))

    def _replace(self, worker: int) -> None:
        self._away.remove(worker)
        self.on_room()

    def _next_factor(self) -> float:
        if self._count == len(self._factors):
            self._factors = self._machine.noise.factors(self._seed, 2 * len(self._factors))
        self._count += 1
        return float(self._factors[self._count - 1])


def _nothing() -> None:
    pass
