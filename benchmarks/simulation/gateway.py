"""A gateway that is short of time itself: what requests cost it, in front of the real batcher and the real gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Self, cast

import msgspec

from benchmarks.simulation.callers import Callers, Heard, Phase
from benchmarks.simulation.loop import VirtualLoop, virtual_loop
from benchmarks.simulation.machine import Curve, Machine, Noise, Slowdown
from benchmarks.simulation.server import Server
from benchmarks.simulation.sluice import KEY, OUTPUTS, WORKER_DEPTH, Executor, measured_knots, rows_of
from sluice.batching.batcher import Batcher, BatchLimits
from sluice.gateway.connections.loop_turns import LoopTurns
from sluice.gateway.dialects.base import Dialect
from sluice.gateway.messages import HttpResponse
from sluice.gateway.serving.gate import Gate
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.inference.errors import SluiceError, Unavailable
from sluice.inference.types import InferenceResponse, Timings

CHEAP = Machine(Curve(0.0003, 0.000002), max_rows=256)
"""A model that costs next to nothing beside the gateway."""


class Costs(msgspec.Struct, frozen=True):
    """What a request takes of the gateway's only thread, as parts of what an answer takes in all, which is `answer_s`.

    Measured on the real one: `read` for the socket, the parser and a task; `take` for decoding and queueing; what is
    left for the answer. `refuse` is what a refusal takes beside its reading: most of both is the kernel's.
    """

    answer_s: float = 0.0001
    read: float = 0.25
    take: float = 0.25
    refuse: float = 0.25

    @property
    def capacity_per_s(self) -> float:
        return 1.0 / self.answer_s


COSTS = Costs()

HISTORY_S, RECOVERY_S, MEASURED_S = 0.5, 1.0, 0.5


class Trial(msgspec.Struct, frozen=True):
    """A gateway and its callers. At `paused_s` it stands still for `pause_s`, as a garbage collection has it.

    The last of the phases is the one that counts.
    """

    phases: tuple[Phase, ...]
    connections: int
    objective_s: float = 0.05
    costs: Costs = COSTS
    machine: Machine = CHEAP
    paused_s: float = math.inf
    pause_s: float = 0.3


class _Door:
    """The gateway's only thread, between the callers and the batcher."""

    def __init__(self, loop: VirtualLoop, trial: Trial, seed: int) -> None:
        self._loop = loop
        self._costs = trial.costs
        self._server = Server(loop, trial.machine, WORKER_DEPTH, seed)
        self._loop_turns = LoopTurns()
        self._batcher = Batcher(
            Executor(self._server, loop),
            BatchLimits(max_rows=trial.machine.max_rows),
            on_batch=lambda _: None,
            objective_s=trial.objective_s,
            knots=measured_knots(trial.machine, seed),
            delivery_s=0.002,
            clock=loop.time,
        )
        self._gate = Gate(self._batcher, RowSharing(), trial.objective_s, loop.time, lambda: loop.spent_s)
        self._server.on_room = self._batcher.wake
        if trial.paused_s < math.inf:
            loop.call_at(trial.paused_s, loop.spend, trial.pause_s)

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._batcher.__aexit__()

    def read(self, caller: Callers, sent_s: float) -> None:
        """The loop comes to a socket with a request in it."""
        loop = self._loop
        came_s = self._loop_turns.came_s(loop.turned_s)
        loop.spend(self._costs.read * self._costs.answer_s)
        loop.create_task(self._answer(caller, sent_s, came_s))

    async def _answer(self, caller: Callers, sent_s: float, came_s: float) -> None:
        ok = await self._walk(came_s)
        self._loop_turns.worked(self._loop.turned_s, self._loop.time())
        caller.heard(sent_s, self._loop.time(), ok=ok)

    async def _walk(self, came_s: float) -> bool:
        loop, costs = self._loop, self._costs
        let_in_s = loop.time()
        self._loop_turns.worked(loop.turned_s, let_in_s)
        refuse_s = costs.refuse * costs.answer_s
        if not self._gate.open(came_s, let_in_s):
            if await self._gate.wait(_SILENT, came_s, let_in_s) is not None:
                loop.spend(refuse_s)
                return False
            let_in_s = loop.time()
        loop.spend(costs.take * costs.answer_s)
        try:
            result = await self._batcher.submit(rows_of(1), 1, KEY, OUTPUTS, came_s=came_s)
        except Unavailable:
            loop.spend(refuse_s)
            return False
        loop.spend((1.0 - costs.read - costs.take) * costs.answer_s)
        timings = Timings(result.queue_s, result.batch_s, result.compute_s, batch_rows=result.batch_rows)
        self._gate.answered(let_in_s, loop.time(), InferenceResponse("m", 1, (), timings=timings))
        return True


class _Silent:
    """A dialect whose refusals nobody reads."""

    def refuse(self, error: SluiceError) -> HttpResponse:
        return HttpResponse(503, b"")


_SILENT = cast(Dialect, _Silent())


def overload(trial: Trial, seed: int = 1) -> Heard:
    """Run a trial to its end: what the callers heard in its last phase."""
    loop = virtual_loop()

    async def run() -> Heard:
        async with _Door(loop, trial, seed) as door:
            callers = Callers(loop, door.read, trial.connections, trial.phases)
            await callers.over
            return callers.last(trial.objective_s)

    heard = loop.run_until_complete(run())
    if loop.complaints:
        raise RuntimeError(f"callbacks failed: {loop.complaints[:3]}")
    return heard


def _stalled(from_s: float, to_s: float) -> Machine:
    """The cheap model on a worker that takes three hundred times as long for everything for a while."""
    return msgspec.structs.replace(CHEAP, noise=Noise(slowdowns=(Slowdown(from_s, to_s, 300.0),)))


HISTORIES: Mapping[str, Callable[[Trial], Trial]] = MappingProxyType(
    {
        "idle": lambda trial: trial,
        "steady": lambda trial: _after(trial, 0.5),
        "spike": lambda trial: _after(trial, 40.0),
        "stalled worker": lambda trial: _after(
            msgspec.structs.replace(trial, machine=_stalled(0.2, HISTORY_S)), trial.phases[-1].per_s * COSTS.answer_s
        ),
        "pause": lambda trial: _after(
            msgspec.structs.replace(trial, paused_s=HISTORY_S), trial.phases[-1].per_s * COSTS.answer_s
        ),
    }
)
"""What came before. What counts begins `RECOVERY_S` later."""


def _after(trial: Trial, times: float) -> Trial:
    """The same after a while at so many times what the gateway takes."""
    return msgspec.structs.replace(trial, phases=(Phase(times / COSTS.answer_s, HISTORY_S), *trial.phases))


def trial(history: str, times: float, connections: int) -> Trial:
    """So many times what the gateway takes, after such a history."""
    measured = Phase(times / COSTS.answer_s, RECOVERY_S + MEASURED_S, RECOVERY_S)
    return HISTORIES[history](Trial((measured,), connections))
