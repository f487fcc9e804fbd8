"""What a policy is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

import msgspec

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.ledger import Ledger
from benchmarks.simulation.loop import VirtualLoop
from benchmarks.simulation.machine import Machine
from benchmarks.simulation.server import Ran, Server


class Bench(msgspec.Struct, frozen=True):
    """What one run gives its policy. A policy ends every request through the ledger, exactly once.

    `objective_s` is the time from arrival within which an answer is a good one.
    """

    loop: VirtualLoop
    machine: Machine
    objective_s: float
    ledger: Ledger
    seed: int


class Policy(Protocol):
    """Takes requests as they come and sends them to a server of its own. Entered before the first arrival."""

    server: Server

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    def arrive(self, request: Request) -> None:
        """A request comes now. Never told anything of those to come."""
        ...


PolicyFactory = Callable[[Bench], Policy]


class Rival:
    """What the rivals have in common: a server, a clock, timers, and the books. Not a base for Sluice's batcher.

    A subclass has `arrive` and `look`, which is called whenever a batch has ended and whenever an alarm goes off.
    """

    depth = 1
    """Batches that a worker holds at a time, the running one included."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ledger = bench.ledger
        self.server = Server(bench.loop, bench.machine, self.depth, bench.seed)
        self.server.on_room = self.look
        self.now_s = bench.loop.time
        self._alarm_s: float | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def look(self) -> None:
        """See whether something may be sent now."""
        raise NotImplementedError

    def has_room(self) -> bool:
        """Whether a worker would take a batch."""
        vacancy = self.server.vacancy()
        return vacancy.idle + vacancy.spare > 0

    def send(self, requests: Sequence[Request]) -> None:
        """Send a batch to a worker that has room."""
        rows = sum([request.rows for request in requests])
        self.server.put(rows, lambda ran: self._answered(requests, ran))

    def ended(self, requests: Sequence[Request], ran: Ran) -> None:
        """A batch has ended. For policies that learn."""

    def wake_at(self, when_s: float) -> None:
        """Have `look` called then. Asking for the same time twice in a row costs nothing."""
        if self._alarm_s != when_s:
            self._alarm_s = when_s
            self.bench.loop.call_at(max(when_s, self.now_s()), self._wake, when_s)

    def _wake(self, when_s: float) -> None:
        if self._alarm_s == when_s:
            self._alarm_s = None
        self.look()

    def _answered(self, requests: Sequence[Request], ran: Ran) -> None:
        self.ledger.answered(requests, ran.ended_s)
        self.ended(requests, ran)
