"""The worker processes of one model version, which run its batches."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from sluice.inference.errors import ModelLoadError, WorkerDied
from sluice.inference.findings import Findings
from sluice.inference.planning.options import WorkerOptions, plan_terms
from sluice.inference.repository.sample import find_sample
from sluice.inference.repository.snapshot import Snapshot, SnapshotCheck, take_snapshot
from sluice.inference.serving_plan import ServingPlan
from sluice.inference.transport.messages import Load
from sluice.inference.types import Arrays, BatchResult, Death, Signature, Vacancy
from sluice.inference.workers.process import WorkerLimits, WorkerProcess
from sluice.inference.workers.supervisor import Events, WorkerSupervisor, known_order

LOOK_S = 0.5
"""How often mapped files of weights are checked for changes."""

__all__ = ["WorkerOptions", "Workers", "WorkersStatistics"]


class WorkersStatistics(msgspec.Struct, frozen=True):
    """The state of the workers at one moment. `restarts` counts every start of a replacement, successful or not.

    `failing_since_s` is since when no worker has lived and every start has failed, on the monotonic clock; `None` if a
    worker lives.
    """

    alive: int
    in_flight: int
    restarts: int
    pids: tuple[int, ...]
    failing_since_s: float | None = None


class Workers:
    """The worker processes of one model version. An async context manager that owns them while it is entered.

    Entering starts the first worker, which tries the model, measures it, and plans how many workers there will be. Then
    it starts the others, all at once, so that they do not disturb the measurement. Raises `ModelLoadError` with the
    engine's words if a worker cannot load the model; no process is left running then. From then on a lost worker is
    always replaced, by the same plan. Leaving ends the workers; batches still in flight then raise `WorkerDied`.

    All workers load the files of `files`, a snapshot of `model_file` from the time when its digest was taken; without
    one, it is taken here. If the files have changed since, no replacement is started until they are as they were. An
    engine that maps files of weights sees at once what is written into them. So these files are checked every `LOOK_S`,
    and workers that may have seen other weights are killed.

    `on_vacancy` is called when a worker can take a further batch: after each answer, and for each replacement.
    `on_restart` is called at each start of a replacement, `on_death` when a worker was lost, and `on_overwritten` when
    workers were killed because their weights were written into. All are called by the event loop, never from inside
    another call of this class, and must not block.
    """

    signature: Signature
    """As the engine reported it. Set once the workers are entered."""

    findings: Findings
    """What is known of the model's rows, and why they are batched or not. Set once the workers are entered."""

    notes: tuple[str, ...]
    """In which ways the served outputs differ from the file's, in plain words. Set once the workers are entered."""

    class_names: Mapping[str, Sequence[str]]
    """The file's names for the columns of an output, by output. Set once the workers are entered."""

    plan: ServingPlan
    """The number of workers, threads and rows, and why. Set once the workers are entered."""

    def __init__(
        self,
        model_file: Path,
        options: WorkerOptions,
        *,
        on_vacancy: Callable[[], None],
        on_restart: Callable[[], None],
        files: Snapshot | None = None,
    ) -> None:
        self.on_vacancy = on_vacancy
        self.on_restart = on_restart
        self.on_death: Callable[[Death], None] = lambda _: None
        self.on_overwritten: Callable[[], None] = lambda: None
        self._options = options
        self._model_file = model_file
        self._files = files or _snapshot(model_file)
        self._check = SnapshotCheck(self._files)
        self._supervisors: tuple[WorkerSupervisor, ...] = ()
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        terms = plan_terms(self._options)
        files, sample = self._files, find_sample(self._model_file)
        order = Load(
            model_file=str(files.model_file),
            device=self._options.device,
            plan=terms,
            batched=self._options.batched,
            apart=files.apart,
            sample=None if sample is None else str(sample.path),
        )
        try:
            (first,) = await self._fill(order, 1)
            loaded = first.loaded
            await self._fill(known_order(order, loaded), loaded.plan.workers - 1)
        except BaseException as error:
            await self._leave()
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        self.plan = loaded.plan
        self.signature = loaded.signature
        self.findings = loaded.findings
        self.notes = loaded.notes
        self.class_names = loaded.class_names
        if len(files.files) > 1 + len(files.apart):
            self._watch = asyncio.create_task(
                self._watch_weights(), name=f"watch over the weights of {files.model_file}"
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave()

    def vacancy(self) -> Vacancy:
        """How many batches the workers can take now."""
        idle = spare = alive = 0
        for supervisor in self._supervisors:
            worker = supervisor.worker
            if worker is None or not worker.alive:
                continue
            alive += 1
            if not worker.in_flight:
                idle += worker.room > 0
            else:
                spare += worker.room
        return Vacancy(idle, spare, alive)

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float = math.inf) -> BatchResult:
        """Runs one batch on the worker with the fewest in flight that will be free first. Only if there is a vacancy.

        `parts` has the arrays of each job, in the signature's order, in storage dtypes, equal in all axes but the
        first. They are stacked along it before the first suspension, and are not needed after that. A model that is not
        batched takes one part. `outputs` names the wanted outputs in the wanted order, at least one.
        A worker that runs this batch for longer than `limit_s` or the `run_timeout_s` of the options, or that is found
        stopped meanwhile, is killed and replaced. The time that the batch waits behind another does not count.

        Raises `ModelFailed`, also if the outputs of several parts do not have their rows along axis 0. Raises
        `WorkerDied` if the worker ended before its answer, with `running` false for a batch that it had not begun or
        could not be given. If the caller is cancelled, the batch still runs to its end, and its answer is dropped.
        """
        worker = self._least_loaded()
        if worker is None:
            raise WorkerDied("no worker has room for the batch", running=False)
        return await worker.submit(parts, outputs, limit_s)

    def statistics(self) -> WorkersStatistics:
        """The state of the workers now."""
        workers = self._living()
        return WorkersStatistics(
            alive=len(workers),
            in_flight=sum([worker.in_flight for worker in workers]),
            restarts=sum([supervisor.restarts for supervisor in self._supervisors]),
            pids=tuple([worker.pid for worker in workers]),
            failing_since_s=None if workers else self._failing_since_s(),
        )

    def _living(self) -> list[WorkerProcess]:
        workers = [each.worker for each in self._supervisors]
        return [worker for worker in workers if worker is not None and worker.alive]

    def _failing_since_s(self) -> float | None:
        """When the last of the supervisors began to fail, if all of them do."""
        since_s = [each.failing_since_s for each in self._supervisors if each.failing_since_s is not None]
        return max(since_s) if since_s and len(since_s) == len(self._supervisors) else None

    def _tell_vacancy(self) -> None:
        self.on_vacancy()

    def _tell_restart(self) -> None:
        self.on_restart()

    def _tell_death(self, death: Death) -> None:
        self.on_death(death)

    def _least_loaded(self) -> WorkerProcess | None:
        best: WorkerProcess | None = None
        for supervisor in self._supervisors:
            worker = supervisor.worker
            if worker is None or not worker.room:
                continue
            # Of equals, the one that has run its batch for the longest is the first to be done with it.
            if best is None or (worker.in_flight, worker.busy_since_s) < (best.in_flight, best.busy_since_s):
                best = worker
        return best

    async def _fill(self, order: Load, count: int) -> list[WorkerProcess]:
        """Starts `count` more workers at the same time."""
        options = self._options
        limits = WorkerLimits(options.run_timeout_s, options.load_timeout_s, options.max_answer_bytes)
        events = Events(self._tell_vacancy, self._tell_restart, self._tell_death)
        supervisors = [WorkerSupervisor(order, self._check, limits, events) for _ in range(count)]
        self._supervisors += tuple(supervisors)
        async with asyncio.TaskGroup() as group:
            starts = [group.create_task(supervisor.fill()) for supervisor in supervisors]
        return [start.result() for start in starts]

    async def _watch_weights(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            file = await asyncio.to_thread(self._check.overwritten)
            workers = self._living()
            if file is None or not workers:
                continue
            for worker in workers:
                worker.dismiss(
                    f"{file} was written into while it was mapped; replace files, and do not write into them"
                )
            self.on_overwritten()

    async def _leave(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        ends = await asyncio.gather(*[supervisor.leave() for supervisor in self._supervisors], return_exceptions=True)
        for error in ends:
            if error is not None:
                raise error


def _snapshot(model_file: Path) -> Snapshot:
    try:
        return take_snapshot(model_file)
    except OSError as error:
        raise ModelLoadError(f"{model_file}: cannot be read: {error.strerror}") from error
