"""The worker processes of one model version, as one place to run batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from inference.errors import ModelLoadError, WorkerDied
from inference.machine import available_cores
from inference.post import Events, Post
from inference.process import WorkerLimits, WorkerProcess
from inference.snapshot import Snapshot, take_snapshot
from inference.types import Arrays, BatchResult, Signature, Vacancy
from inference.wire import Load


class WorkerOptions(msgspec.Struct, frozen=True):
    """How a model is run. The defaults are right for a small model on the CPU of this machine."""

    count: int = 1
    """Worker processes."""

    device: str = "cpu"
    """`cpu`, or `cuda:N` for the GPU of that number."""

    intra_op_threads: int | None = None
    """Threads with which a worker computes one operator; `None` shares the available cores out
    among the workers, all but the one that the gateway needs."""

    run_timeout_s: float = 20.0
    """A worker that runs one batch for longer is killed."""

    load_timeout_s: float = 300.0
    """A worker that takes longer to load the model and warm it up is killed, and its start has failed."""

    max_batch_rows: int = 64
    """The rows that a slot of the arena is made for. Larger batches run too, in memory of their own."""

    batched: bool | None = None
    """Whether axis 0 is the batch axis; `None` lets the worker find out."""


class WorkersStatistics(msgspec.Struct, frozen=True):
    """What stands at one moment. `restarts` counts every start of a replacement, successful or not."""

    alive: int
    in_flight: int
    restarts: int
    pids: tuple[int, ...]


class Workers:
    """The worker processes of one model version. An async context manager, which owns them while it is entered.

    Entering starts all of them, each loads and warms up the model, and raises `ModelLoadError` with the engine's words
    if one cannot; nothing is left running then. Afterwards a lost worker is replaced without end. Leaving ends them;
    batches still in flight then raise `WorkerDied`.

    All of them load the files of `files`, a snapshot of `model_file` from the time when its digest was taken; without
    one it is taken here. A worker whose files have changed since is refused: until they are back, none is replaced.

    `on_vacancy` is called when there is room that was not there before: after each answer, and for each replacement.
    `on_restart` is called at each start of a replacement. Both are called from the event loop, between two steps of
    other tasks, and must not block.
    """

    signature: Signature
    """As the engine reported it. There once the workers are entered."""

    unbatched_because: str | None
    """Plain words where `signature.batched` is false. There once the workers are entered."""

    untried_because: str | None
    """The engine's words where it refused to be warmed up with zeros. There once the workers are entered."""

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
        threads = options.intra_op_threads or max(1, (available_cores() - 1) // options.count)
        files = files or _snapshot(model_file)
        order = Load(str(files.model_file), options.device, threads, options.batched)
        limits = WorkerLimits(options.run_timeout_s, options.load_timeout_s, options.max_batch_rows)
        events = Events(self._tell_vacancy, self._tell_restart)
        self._posts = tuple([Post(order, files, limits, events) for _ in range(options.count)])

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.TaskGroup() as group:
                starts = [group.create_task(post.fill()) for post in self._posts]
        except BaseException as error:
            await self._leave()
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        all_loaded = [start.result().loaded for start in starts]
        # The trials of a model that is not deterministic may differ: what one worker cannot batch, none is given.
        loaded = next((each for each in all_loaded if not each.signature.batched), all_loaded[0])
        self.signature = loaded.signature
        self.unbatched_because = loaded.unbatched_because
        self.untried_because = loaded.untried_because
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave()

    def vacancy(self) -> Vacancy:
        """The room that there is now."""
        idle = spare = 0
        for post in self._posts:
            worker = post.worker
            if worker is None:
                continue
            if not worker.in_flight:
                idle += worker.room > 0
            else:
                spare += worker.room
        return Vacancy(idle, spare)

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str]) -> BatchResult:
        """Runs one batch on the worker with the fewest batches in flight. Only while `vacancy` has room.

        `parts` has the arrays of each job, in the signature's order, in storage dtypes, equal in all axes but the
        first; they are stacked along it before the first suspension, and free to go then. A model that is not batched
        takes one part. `outputs` names the wanted outputs in the wanted order, at least one.

        Raises `ModelFailed`, also where the outputs of several parts do not have their rows along axis 0; `WorkerDied`
        where the worker ended before its answer, with `running` false for a batch that it had not begun or could not be
        given. Of a caller that is cancelled, the batch is run to its end and its answer dropped.
        """
        worker = self._least_loaded()
        if worker is None:
            raise WorkerDied("no worker has room for the batch", running=False)
        return await worker.submit(parts, outputs)

    def statistics(self) -> WorkersStatistics:
        """What stands now."""
        workers = [post.worker for post in self._posts if post.worker is not None and not post.worker.lost.is_set()]
        return WorkersStatistics(
            alive=len(workers),
            in_flight=sum([worker.in_flight for worker in workers]),
            restarts=sum([post.restarts for post in self._posts]),
            pids=tuple([worker.pid for worker in workers]),
        )

    def _tell_vacancy(self) -> None:
        self.on_vacancy()

    def _tell_restart(self) -> None:
        self.on_restart()

    def _least_loaded(self) -> WorkerProcess | None:
        best: WorkerProcess | None = None
        for post in self._posts:
            worker = post.worker
            if worker is None or not worker.room:
                continue
            if best is None or worker.in_flight < best.in_flight:
                best = worker
        return best

    async def _leave(self) -> None:
        ends = await asyncio.gather(*[post.leave() for post in self._posts], return_exceptions=True)
        for error in ends:
            if error is not None:
                raise error


def _snapshot(model_file: Path) -> Snapshot:
    try:
        return take_snapshot(model_file)
    except OSError as error:
        raise ModelLoadError(f"{model_file}: cannot be read: {error.strerror}") from error
