"""The auditor: stands between a batcher and the workers, keeps a row now and then, and runs it alone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Any, Self

import msgspec

from sluice.batching.batcher import Executor
from sluice.batching.policy import after_dispatch
from sluice.gateway.serving.audit.budget import Budget
from sluice.gateway.serving.audit.examine import Examination, Finding, Suspicions, examine
from sluice.gateway.serving.audit.sample import Choice, Sample, rows_of, sample_of
from sluice.gateway.telemetry.labels import LookOutcome
from sluice.gateway.telemetry.logs import log
from sluice.inference.errors import ModelFailed, RequestTooLarge, WorkerDied
from sluice.inference.types import Arrays, BatchResult, TensorSpec, Vacancy

SPACING_S = 0.1
"""Two looks are so far apart: a small model would pay more of the gateway's time for them than of the engine's."""

SETTLE_S = 0.01
"""The workers have nothing to do if for so long nobody gave them anything."""

PATIENCE_S = 0.3
"""So long a look waits for that. Then it takes the next place that is free, so that load hides nothing."""

MOST_SKIPPED = 8
"""Up to so many batches, by chance, are passed over first, so that no rhythm of the traffic hides a kind of row. Those
of a single request count for so much less: most of what is looked at had company of others."""

RECOVERY_S = 10.0
"""So long there is no look after one during which a worker died: whatever the reason, it must not happen for ever."""

INLINE_BYTES = 1 << 17
"""Comparing more than so much is for a thread: the event loop has others to serve."""


class Look(msgspec.Struct, frozen=True):
    """One look at a row: what came of it, and how long the engine ran for it, in seconds."""

    finding: Finding
    compute_s: float


class Auditor:
    """The workers as a batcher sees them, and a task that looks again at rows of its batches.

    Implements `batching.batcher.Executor`, and passes everything on to `workers`. Now and then the rows of a batch are
    kept with their answers, `KEPT_BYTES` at the most, and one of them is run alone: while the workers are idle, or
    after a moment wherever there is room. `examine` says what a difference means, `Budget` how much all that may cost.

    `on_look` hears of each look. Once rows turn out to influence each other, `on_mixed` is awaited, and there are no
    more looks. Nothing that happens here fails or holds up a batch, but that a look may run before it. An async context
    manager that owns the task; to be left after the batcher and before the workers.
    """

    def __init__(
        self,
        workers: Executor,
        specs: Sequence[TensorSpec],
        share: float,
        *,
        on_look: Callable[[Look], None],
        on_mixed: Callable[[Finding], Awaitable[None]],
        random: Random | None = None,
    ) -> None:
        self.on_vacancy: Callable[[], None] = lambda: None
        """Whom to tell that there may be room. The workers are to tell `room`."""
        self._workers = workers
        self._specs = {spec.name: spec for spec in specs}
        self._on_look = on_look
        self._on_mixed = on_mixed
        self._budget = Budget(share)
        self._random = random or Random()
        self._choice = Choice(self._random)
        self._suspicions = Suspicions()
        self._sample: Sample | None = None
        self._kept = asyncio.Event()
        self._freed = asyncio.Event()
        self._looking_out = False
        self._claims = False
        self._skip = 0
        self._task: asyncio.Task[None] | None = None
        self._keeping: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._looking_out = True
        self._task = asyncio.create_task(self._look_again(), name="looks again at rows")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking_out = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._keeping is not None:
            self._keeping.cancel()
        self._sample = None

    @property
    def _entered(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def engine_s(self) -> float:
        """How long the engine has run for callers."""
        return self._budget.engine_s

    @property
    def spent_s(self) -> float:
        """How long it has run for looks."""
        return self._budget.spent_s

    @property
    def kept(self) -> Sample | None:
        """The rows that are kept at this moment."""
        return self._sample

    def ran(self, compute_s: float) -> None:
        """A batch has ended, for which the engine ran so long."""
        self._budget.earn(compute_s)

    def vacancy(self) -> Vacancy:
        """The room that there is now, less the place that a look is waiting for."""
        vacancy = self._workers.vacancy()
        return after_dispatch(vacancy) if self._claims and (vacancy.idle or vacancy.spare) else vacancy

    def room(self) -> None:
        """There may be room that was not there before."""
        self._freed.set()
        self.on_vacancy()

    def run(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> Coroutine[Any, Any, BatchResult]:
        """Run one batch; see `Executor`."""
        budget = self._budget
        if self._looking_out and budget.engine_s >= budget.from_s and rows_of(parts) > 1 and budget.due():
            self._skip -= 1 if len(parts) == 1 else MOST_SKIPPED
            if self._skip < 0:
                return self._watched(parts, outputs, limit_s)
        return self._workers.run(parts, outputs, limit_s)

    async def _watched(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> BatchResult:
        """A batch of which some rows are kept, once its callers are answered."""
        self._looking_out = False
        try:
            result = await self._workers.run(parts, outputs, limit_s)
        except BaseException:
            self._looking_out = self._entered
            raise
        self._keeping = asyncio.get_running_loop().call_later(0.0, self._keep, parts, outputs, result)
        return result

    def _keep(self, parts: Sequence[Arrays], outputs: Sequence[str], result: BatchResult) -> None:
        self._sample = sample_of(parts, outputs, result, self._choice) if self._entered else None
        if self._sample is None:
            self._looking_out = self._entered
        else:
            self._kept.set()

    async def _look_again(self) -> None:
        try:
            await self._look_for_ever()
        except Exception as error:
            log.error("rows are not looked at again any more", exc_info=error)

    async def _look_for_ever(self) -> None:
        while True:
            await self._kept.wait()
            self._kept.clear()
            if self._sample is None:
                continue
            finding, rest_s = await self._look(self._sample)
            self._sample = None
            if finding.outcome is LookOutcome.MIXED:
                await self._on_mixed(finding)
                return
            await asyncio.sleep(rest_s)
            self._budget.hurry(on=self._suspicions.open)
            self._skip = 0 if self._suspicions.open else self._random.randrange(MOST_SKIPPED**2)
            self._looking_out = True

    async def _look(self, sample: Sample) -> tuple[Finding, float]:
        """What came of a look, and for how long there is to be no other."""
        spent_s, rest_s = self._budget.spent_s, SPACING_S
        try:
            await self._until_idle()
            finding = await self._examined(sample)
        except WorkerDied as death:
            finding, rest_s = Finding(LookOutcome.UNFINISHED, because=str(death)), RECOVERY_S
        finding = self._suspicions.weigh(finding, sample.content)
        self._on_look(Look(finding, self._budget.spent_s - spent_s))
        return finding, rest_s

    async def _examined(self, sample: Sample) -> Finding:
        specs = [self._specs[name] for name in sample.outputs]
        steps = examine(sample, specs)
        heavy = sample.size_bytes > INLINE_BYTES
        answer: Arrays | None = None
        first_s: float | None = None
        while True:
            step = await asyncio.to_thread(_next, steps, answer) if heavy else _next(steps, answer)
            if isinstance(step, Finding):
                self._budget.learn(first_s or 0.0, sample.batch_s)
                return step
            answer, compute_s = await self._run_alone(step, sample.outputs)
            if first_s is None:
                first_s = compute_s

    async def _until_idle(self) -> None:
        """Until nobody has given the workers anything for a while, or for so long as a look may wait."""
        left_s, pause_s = PATIENCE_S, SETTLE_S
        while left_s > 0.0:
            ran_s = self._budget.engine_s
            await asyncio.sleep(pause_s)
            vacancy = self._workers.vacancy()
            if ran_s == self._budget.engine_s and 0 < vacancy.idle == vacancy.workers:
                return
            left_s -= pause_s
            pause_s *= 2

    async def _run_alone(self, inputs: Arrays, outputs: Sequence[str]) -> tuple[Arrays | None, float]:
        """The outputs and the engine's time; of a model that refuses, nothing and an estimate."""
        self._claims = True
        try:
            while not self._has_room():
                self._freed.clear()
                await self._freed.wait()
            self._claims = False
            self.on_vacancy()  # to the place behind this run
            result = await self._workers.run([inputs], outputs, math.inf)
        except (ModelFailed, RequestTooLarge):
            self._budget.spend(self._budget.look_s)
            return None, 0.0
        finally:
            self._claims = False
        self._budget.spend(result.compute_s)
        return result.outputs, result.compute_s

    def _has_room(self) -> bool:
        vacancy = self._workers.vacancy()
        return vacancy.idle + vacancy.spare > 0


def _next(steps: Examination, answer: Arrays | None) -> Arrays | Finding:
    """What is to be run next, or the finding. The first answer that is sent has to be `None`."""
    try:
        return steps.send(answer)
    except StopIteration as end:
        finding: Finding = end.value
        return finding
