"""The gateway's side of one worker process: it takes batches until it is lost."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

import msgspec

from sluice.inference.errors import ModelFailed, ModelLoadError, RequestTooLarge, WorkerDied
from sluice.inference.planning.options import UNLIMITED_BYTES
from sluice.inference.transport.channel import Channel, NotSent, PeerGone, WireError
from sluice.inference.transport.messages import Done, Failed, Load, Loaded, WorkerAnswer
from sluice.inference.types import Arrays, BatchResult, Cause, Death
from sluice.inference.workers.deaths import REGISTER
from sluice.inference.workers.exchange import Exchange, WantedOutputs
from sluice.inference.workers.run_watch import RunWatch
from sluice.inference.workers.spawn import EXIT_PATIENCE_S, end, kill, load, spawn

TELL_S = 1.0
"""Batches of a lost worker fail after this time at the latest, even if it is not known yet how the worker ended."""


class WorkerLimits(msgspec.Struct, frozen=True):
    """The limits of one worker process: seconds for a run and for loading, and bytes for the answer to one part."""

    run_timeout_s: float
    load_timeout_s: float
    max_answer_bytes: int = UNLIMITED_BYTES


class InFlight(msgspec.Struct, frozen=True):
    """A batch that was sent at `sent_s`, and may run for `limit_s` once it runs."""

    answer: asyncio.Future[BatchResult]
    slot: int
    wanted: WantedOutputs
    limit_s: float
    sent_s: float


class WorkerProcess:
    """A worker that has loaded its model. It takes as many batches at once as its arena has slots.

    Batches are answered in order; `on_room` is called after each answer, when a slot is free again. This object owns
    the process, the sockets and the arena until `close`. A worker is lost when its process ends, breaks the protocol,
    runs one batch for longer than `run_timeout_s` or that batch's own limit, or is found stopped while it should run
    one. It is then killed, if it still lives, and `lost` is set. Its owner must then `close` it, which finds out how
    the process ended. Every batch in flight raises `WorkerDied` within `TELL_S`, the oldest one with `running`.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: Channel[WorkerAnswer],
        loaded: Loaded,
        limits: WorkerLimits,
        on_room: Callable[[], None],
    ) -> None:
        self.pid = process.pid
        self.loaded = loaded
        self.lost = asyncio.Event()
        self.death: Death | None = None
        """How it ended. Set once it is lost and that is known."""
        self.answered = 0
        self._process = process
        self._channel = channel
        self._run_timeout_s = limits.run_timeout_s
        self._on_room = on_room
        self._in_flight: deque[InFlight] = deque()
        self._gone = False
        self._killed: tuple[Cause, str] | None = None
        self._ran_s: float | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._oldest_since_s = 0.0
        self._watch = RunWatch(process.pid)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self._free_since_s = 0.0
        self._exchange = Exchange(channel, loaded.signature, loaded.plan.max_rows, limits.max_answer_bytes)
        REGISTER.look(time.monotonic())
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel.fileno(), self._on_readable)

    @classmethod
    async def start(cls, order: Load, limits: WorkerLimits, on_room: Callable[[], None]) -> Self:
        """Starts the process and makes it load its model. If that fails, ends it and raises `ModelLoadError`."""
        process, channel = await spawn()
        try:
            async with asyncio.timeout(limits.load_timeout_s) as patience:
                loaded = await load(process, channel, order)
            return cls(process, channel, loaded, limits, on_room)
        except BaseException as error:
            channel.close()
            kill(process)
            await end(process)
            if isinstance(error, TimeoutError) and patience.expired():
                raise ModelLoadError(
                    f"{order.model_file}: the worker did not load and warm up within {limits.load_timeout_s:g} s"
                ) from None
            if isinstance(error, OSError | PeerGone | WireError):
                raise ModelLoadError(
                    f"{order.model_file}: the worker could not be given its arena: {error!r}"
                ) from error
            raise

    @property
    def in_flight(self) -> int:
        """How many batches are not answered yet."""
        return len(self._in_flight)

    @property
    def busy_since_s(self) -> float:
        """When the running batch began; if none runs, when the last one did."""
        return self._oldest_since_s

    @property
    def alive(self) -> bool:
        """Whether it may still take batches, now or later."""
        return not self._gone

    @property
    def room(self) -> int:
        """How many batches it can take now."""
        return 0 if self._gone else self._exchange.free_slots

    def submit(
        self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float = math.inf
    ) -> asyncio.Future[BatchResult]:
        """Stacks the parts and sends them. Returns the answer to come. Only while there is `room`.

        `limit_s` is how long this batch may run, from now or from the answer to the batch before it.

        Raises `ModelFailed` for a batch that cannot be described in one message, or for which the machine has no memory
        now, and `WorkerDied` if the worker takes no batches any more.
        """
        if len(parts) > 1 and not self.loaded.signature.batched:
            raise ValueError(f"{len(parts)} parts were given to a model that is not batched; give one at a time")
        wanted = self._exchange.wanted(outputs)
        now_s = time.monotonic()  # before the worker is woken: it may answer before this process continues
        try:
            slot = self._exchange.send(parts, wanted)
        except NotSent as error:
            raise ModelFailed(f"the batch could not be given to a worker: {error}") from error
        except (PeerGone, WireError) as error:
            if isinstance(error, WireError):
                self._lose(Cause.GARBLED, "was killed: it does not take batches any more")
            self._gone = True  # its last answers, and then the end of file, are still to be read
            raise WorkerDied(f"worker process {self.pid} did not take the batch", running=False) from error
        answer: asyncio.Future[BatchResult] = self._loop.create_future()
        limit_s = min(limit_s, self._run_timeout_s)
        self._in_flight.append(InFlight(answer, slot, wanted, limit_s, now_s))
        if len(self._in_flight) == 1:
            self._watch_oldest(now_s)
        return answer

    def dismiss(self, how: str) -> None:
        """Kills the worker because its answers cannot be trusted any more. `how` says why, in plain words."""
        self._lose(Cause.DISMISSED, f"was killed: {how}")

    async def close(self) -> int:
        """Ends the worker, and returns its exit code. Batches still in flight raise `WorkerDied`.

        A worker that was not killed ends by itself when its sockets close; if it does not, it is killed.
        """
        self._let_go()
        if not self.lost.is_set():
            self._fail_in_flight(None)
        closed_s = time.monotonic()
        try:
            exit_code = await end(self._process)
        except BaseException:
            self._fail_in_flight(None)
            raise
        if self._killed is None and exit_code and time.monotonic() - closed_s >= EXIT_PATIENCE_S:
            self._killed = Cause.GARBLED, "was killed: it closed its sockets, and did not end"
        self._fail_in_flight(exit_code)
        return exit_code

    def _on_readable(self) -> None:
        try:
            answer, descriptor = self._channel.receive()
        except BlockingIOError:
            return
        except PeerGone:
            self._give_up()  # it ends by itself; if it were killed now, the way in which it ended would be lost
            return
        except WireError as error:
            self._lose(Cause.GARBLED, f"was killed: it sent an answer that cannot be read: {error}")
            return
        if not self._in_flight or not isinstance(answer, Done | Failed):
            self._lose(Cause.GARBLED, "was killed: it sent an answer to no batch")
            return
        now_s = time.monotonic()
        batch = self._in_flight.popleft()
        # By the worker's clock: if this process was busy when the answer came, that time is not the model's.
        ended_s = answer.began_s + answer.compute_s if isinstance(answer, Done) else now_s
        run_s = ended_s - max(batch.sent_s, self._free_since_s)
        self._free_since_s = ended_s
        self.answered += 1
        if self._in_flight:
            self._watch_oldest(now_s)
        self._settle(batch, answer, descriptor, run_s)
        self._on_room()

    def _settle(self, batch: InFlight, answer: Done | Failed, descriptor: int | None, run_s: float) -> None:
        """Ends the batch and frees its slot, even if its outputs cannot be taken."""
        try:
            result = self._result(batch, answer, descriptor, run_s)
        except Exception as error:  # from a lack of memory to offsets outside the arena
            if not batch.answer.done():
                batch.answer.set_exception(_as_model_failed(error))
        else:
            if not batch.answer.done():
                batch.answer.set_result(result)
        finally:
            self._exchange.release(batch.slot)

    def _result(self, batch: InFlight, answer: Done | Failed, descriptor: int | None, run_s: float) -> BatchResult:
        if isinstance(answer, Failed):
            raise ModelFailed(answer.message, invalid_input=answer.invalid_input)
        outputs = self._exchange.take(batch.slot, answer, descriptor, batch.wanted)
        return BatchResult(outputs, answer.compute_s, run_s, answer.began_s)

    def _watch_oldest(self, now_s: float) -> None:
        """Begins to watch the oldest batch, which runs from now on. One timer serves many batches, one after another.

        Times are not the event loop's own: its clock may stand still while the loop is busy, and has milliseconds only.
        """
        self._oldest_since_s = now_s
        self._watch.begin(self._in_flight[0].limit_s, now_s)
        if self._timer is not None:
            if self._timer_due_s <= self._watch.due_s:
                return
            self._timer.cancel()
        self._set_timer(now_s)

    def _set_timer(self, now_s: float) -> None:
        self._timer_due_s = self._watch.due_s
        self._timer = self._loop.call_later(max(0.0, self._timer_due_s - now_s), self._check_oldest)

    def _check_oldest(self) -> None:
        self._timer = None
        if self._in_flight and time.monotonic() >= self._watch.due_s:
            self._on_readable()  # if this process was held up, the answer may be there, unread
        if not self._in_flight or self._timer is not None:
            return
        now_s = time.monotonic()
        found = self._watch.look(now_s)
        if found is None:
            self._set_timer(now_s)
        else:
            self._lose(*found)

    def _lose(self, cause: Cause, how: str) -> None:
        """Kills the worker, and records why."""
        if not self.lost.is_set():
            self._killed = cause, how
        kill(self._process)
        self._give_up()

    def _give_up(self) -> None:
        if self._in_flight and not self.lost.is_set():
            self._ran_s = time.monotonic() - self._oldest_since_s
            self._telling = self._loop.call_later(TELL_S, self._fail_in_flight, None)
        self._let_go()
        self._gone = True
        self.lost.set()

    def _let_go(self) -> None:
        """Closes everything but the process. Further calls do nothing."""
        if self._channel.fileno() < 0:
            return
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        self._exchange.close()
        if self._timer is not None:
            self._timer.cancel()

    def _fail_in_flight(self, exit_code: int | None) -> None:
        """Fails all batches in flight, and says how the worker ended as far as that is known. May be called again."""
        if self._telling is not None:
            self._telling.cancel()
        if self.death is None and self.lost.is_set():
            now_s = time.monotonic()
            if self._killed is None:
                self.death = REGISTER.enter(exit_code, self._ran_s, now_s)
            else:
                self.death = REGISTER.enter_killed(*self._killed, self._ran_s, now_s)
        how = "was closed" if self.death is None else self.death.how
        running = True
        while self._in_flight:
            answer = self._in_flight.popleft().answer
            if not answer.done():
                died = WorkerDied(f"worker process {self.pid} {how}", running=running, death=self.death)
                answer.set_exception(died)
            running = False


def _as_model_failed(error: Exception) -> ModelFailed | RequestTooLarge:
    if isinstance(error, ModelFailed | RequestTooLarge):
        return error
    failed = ModelFailed(f"the outputs could not be taken from the worker: {error!r}")
    failed.__cause__ = error
    return failed
