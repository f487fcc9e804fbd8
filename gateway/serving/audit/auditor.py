"""The auditor stands between a batcher and its workers. Now and then it keeps a row and runs it again, alone."""

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
from sluice.gateway.serving.audit.examine import AuditFinding, Examination, Suspicions, examine
from sluice.gateway.serving.audit.sample import Choice, Sample, rows_of, sample_of
from sluice.gateway.telemetry.labels import AuditOutcome
from sluice.gateway.telemetry.logs import log
from sluice.inference.errors import ModelFailed, RequestTooLarge, WorkerDied
from sluice.inference.types import Arrays, BatchResult, TensorSpec, Vacancy

SPACING_S = 0.1
"""The least time between two looks. They cost the gateway more time than the engine where a model is small."""

SETTLE_S = 0.01
"""The workers count as idle once they have been given nothing for so long."""

PATIENCE_S = 0.3
"""How long a look waits for idle workers. Then it takes the next free place, so that rows are audited under load."""

MOST_SKIPPED = 8
"""Before a batch is chosen, a random number of them is skipped, up to so many, so that no rhythm of the traffic hides a
kind of row. A batch of a single request counts only for one part in so many: most audited rows should have shared their
batch with rows of other requests."""

RECOVERY_S = 10.0
"""The pause after a look during which a worker died: if looks were the reason, workers would die without end."""

INLINE_BYTES = 1 << 17
"""Samples larger than this are compared in a thread, so that the event loop is not blocked."""


class RowAudit(msgspec.Struct, frozen=True):
    """One audited row: what was found, and how long the engine ran for it, in seconds."""

    finding: AuditFinding
    compute_s: float


class Auditor:
    """Passes batches on to the workers, and audits a row of them now and then.

    Implements `batching.batcher.Executor`. Now and then the rows of a batch are kept with their answers, `KEPT_BYTES`
    at most, and one of them is run alone: while the workers are idle, or after `PATIENCE_S` wherever there is room.
    Such a run with its comparison is a look. `examine` says what a difference means, and `Budget` how much looks may
    cost.

    `on_audit` is called after each look. Once rows turn out to influence each other, `on_mixed` is awaited, and there
    are no more looks. Looks never make a batch fail; one may run before a batch and so delay it. An async context
    manager that owns the task: leave it after the batcher and before the workers.
    """

    def __init__(
        self,
        workers: Executor,
        specs: Sequence[TensorSpec],
        share: float,
        *,
        on_audit: Callable[[RowAudit], None],
        on_mixed: Callable[[AuditFinding], Awaitable[None]],
        random: Random | None = None,
    ) -> None:
        self.on_vacancy: Callable[[], None] = lambda: None
        """Called when there may be room. The workers have to call `room`."""
        self._workers = workers
        self._specs = {spec.name: spec for spec in specs}
        self._on_audit = on_audit
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
        """How long the engine has run for looks."""
        return self._budget.spent_s

    @property
    def kept(self) -> Sample | None:
        """The rows that are kept at this moment."""
        return self._sample

    def ran(self, compute_s: float) -> None:
        """Take note of a batch that has ended, for which the engine ran so long."""
        self._budget.earn(compute_s)

    def vacancy(self) -> Vacancy:
        """The room that there is now, without the place for which a look is waiting."""
        vacancy = self._workers.vacancy()
        return after_dispatch(vacancy) if self._claims and (vacancy.idle or vacancy.spare) else vacancy

    def room(self) -> None:
        """Take note that there may be room that was not there before."""
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
        """Run a batch, and keep some of its rows once its callers are answered."""
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
            log.error("the auditing of rows has stopped through a bug", exc_info=error)

    async def _look_for_ever(self) -> None:
        while True:
            await self._kept.wait()
            self._kept.clear()
            if self._sample is None:
                continue
            finding, rest_s = await self._look(self._sample)
            self._sample = None
            if finding.outcome is AuditOutcome.MIXED:
                await self._on_mixed(finding)
                return
            await asyncio.sleep(rest_s)
            self._budget.hurry(on=self._suspicions.open)
            self._skip = 0 if self._suspicions.open else self._random.randrange(MOST_SKIPPED**2)
            self._looking_out = True

    async def _look(self, sample: Sample) -> tuple[AuditFinding, float]:
        """What one look found, and how long to wait before the next one."""
        spent_s, rest_s = self._budget.spent_s, SPACING_S
        try:
            await self._until_idle()
            finding = await self._examined(sample)
        except WorkerDied as death:
            finding, rest_s = AuditFinding(AuditOutcome.UNFINISHED, because=str(death)), RECOVERY_S
        finding = self._suspicions.weigh(finding, sample.content)
        self._on_audit(RowAudit(finding, self._budget.spent_s - spent_s))
        return finding, rest_s

    async def _examined(self, sample: Sample) -> AuditFinding:
        specs = [self._specs[name] for name in sample.outputs]
        steps = examine(sample, specs)
        heavy = sample.size_bytes > INLINE_BYTES
        answer: Arrays | None = None
        first_s: float | None = None
        while True:
            step = await asyncio.to_thread(_next, steps, answer) if heavy else _next(steps, answer)
            if isinstance(step, AuditFinding):
                self._budget.learn(first_s or 0.0, sample.batch_s)
                return step
            answer, compute_s = await self._run_alone(step, sample.outputs)
            if first_s is None:
                first_s = compute_s

    async def _until_idle(self) -> None:
        """Return once the workers have been idle for a while, or after `PATIENCE_S`."""
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
        """The outputs and the engine's time; `None` and 0 where the model refuses, and an estimate is spent."""
        self._claims = True
        try:
            while not self._has_room():
                self._freed.clear()
                await self._freed.wait()
            self._claims = False
            self.on_vacancy()  # there is room again behind this run
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


def _next(steps: Examination, answer: Arrays | None) -> Arrays | AuditFinding:
    """The inputs to run next, or the finding. The first answer that is sent has to be `None`."""
    try:
        return steps.send(answer)
    except StopIteration as end:
        finding: AuditFinding = end.value
        return finding
