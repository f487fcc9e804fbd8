"""One worker process as the gateway has it: a model that takes batches, until it is lost."""

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
from sluice.inference.transport.messages import Answer, Done, Failed, Load, Loaded
from sluice.inference.types import Arrays, BatchResult, Cause, Death
from sluice.inference.workers.deaths import REGISTER
from sluice.inference.workers.exchange import Exchange, WantedOutputs
from sluice.inference.workers.run_watch import RunWatch
from sluice.inference.workers.spawn import EXIT_PATIENCE_S, end, kill, load, spawn

TELL_S = 1.0
"""Batches of a lost worker learn of it after so long at the latest, whether it is known how it ended or not."""


class WorkerLimits(msgspec.Struct, frozen=True):
    """What one worker process is held to."""

    run_timeout_s: float
    load_timeout_s: float
    max_answer_bytes: int = UNLIMITED_BYTES


class InFlight(msgspec.Struct, frozen=True):
    """A batch in flight, since `sent_s`. `rows` is `None` for a single part, whose outputs may have any size.

    Once it runs, it may do so for `limit_s`.
    """

    answer: asyncio.Future[BatchResult]
    slot: int
    wanted: WantedOutputs
    rows: int | None
    limit_s: float
    sent_s: float


class WorkerProcess:
    """A worker that has loaded its model. Takes as many batches at once as its arena has slots, answers in their order.

    Owns the process, the sockets and the arena until `close`. It is lost when its process ends, breaks the protocol,
    runs one batch for longer than `run_timeout_s` or than that batch may, or is found stopped while it should run one;
    it is killed then, and `lost` is set. Its owner is to `close` it, which finds out how it ended: every batch in
    flight raises `WorkerDied` with that, the oldest with `running`, within `TELL_S`. `on_room` is called after each
    answer, when a slot is free again.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: Channel[Answer],
        loaded: Loaded,
        limits: WorkerLimits,
        on_room: Callable[[], None],
    ) -> None:
        self.pid = process.pid
        self.loaded = loaded
        self.lost = asyncio.Event()
        self.death: Death | None = None
        """How it ended, once it is lost and that is known."""
        self.answered = 0
        self._process = process
        self._channel = channel
        self._run_timeout_s = limits.run_timeout_s
        self._on_room = on_room
        self._in_flight: deque[InFlight] = deque()
        self._gone = False
        self._killed: tuple[Cause, str] | None = None
        self._ran_s: float | None = None
        self._untold: asyncio.TimerHandle | None = None
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
        """Starts the process and has it load its model. Raises `ModelLoadError`, and leaves nothing running then."""
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
        """Batches that are not answered yet."""
        return len(self._in_flight)

    @property
    def busy_since_s(self) -> float:
        """When the batch that it runs began; when the last one did, if it runs none."""
        return self._oldest_since_s

    @property
    def alive(self) -> bool:
        """Whether it may still take batches, now or later."""
        return not self._gone

    @property
    def room(self) -> int:
        """Batches that it would take now."""
        return 0 if self._gone else self._exchange.free_slots

    def submit(
        self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float = math.inf
    ) -> asyncio.Future[BatchResult]:
        """Stacks the parts and sends them off; the answer to come. Only while there is `room`.

        `limit_s` is how long this batch may run, from now or, later, the answer to the batch before it.

        Raises `ModelFailed` for a batch that cannot be described in one message, or for which the machine has no memory
        now, and `WorkerDied` where the worker takes no batches any more.
        """
        rows = None
        if len(parts) > 1:
            if not self.loaded.signature.batched:
                raise ValueError(f"{len(parts)} parts were given to a model that is not batched; give one at a time")
            rows = sum([part[0].shape[0] for part in parts])
        wanted = self._exchange.wanted(outputs)
        now_s = time.monotonic()  # before the worker is woken: it may be done before this process goes on
        try:
            slot = self._exchange.send(parts, wanted)
        except NotSent as error:
            raise ModelFailed(f"the batch could not be given to a worker: {error}") from error
        except (PeerGone, WireError) as error:
            if isinstance(error, WireError):
                self._lose(Cause.GARBLED, "was killed: it does not take batches any more")
            self._gone = True  # its last answers are still to be read, and then its end
            raise WorkerDied(f"worker process {self.pid} did not take the batch", running=False) from error
        answer: asyncio.Future[BatchResult] = self._loop.create_future()
        limit_s = min(limit_s, self._run_timeout_s)
        self._in_flight.append(InFlight(answer, slot, wanted, rows, limit_s, now_s))
        if len(self._in_flight) == 1:
            self._watch_oldest(now_s)
        return answer

    def dismiss(self, how: str) -> None:
        """Kills it: its answers are not to be trusted any more. `how` goes on after its name, in plain words."""
        self._lose(Cause.DISMISSED, f"was killed: {how}")

    async def close(self) -> int:
        """Ends the worker, and returns its exit code. Batches still in flight raise `WorkerDied`.

        One that the gateway has not killed ends by itself when its sockets close, and is killed if it does not.
        """
        self._let_go()
        if not self.lost.is_set():
            self._bury(None)
        closed_s = time.monotonic()
        try:
            exit_code = await end(self._process)
        except BaseException:
            self._bury(None)
            raise
        if self._killed is None and exit_code and time.monotonic() - closed_s >= EXIT_PATIENCE_S:
            self._killed = Cause.GARBLED, "was killed: it closed its sockets, and did not end"
        self._bury(exit_code)
        return exit_code

    def _on_readable(self) -> None:
        try:
            answer, descriptor = self._channel.receive()
        except BlockingIOError:
            return
        except PeerGone:
            self._give_up()  # and let it end by itself: killed now, it could not say how it ended
            return
        except WireError as error:
            self._lose(Cause.GARBLED, f"was killed: it sent an answer that cannot be read: {error}")
            return
        if not self._in_flight or not isinstance(answer, Done | Failed):
            self._lose(Cause.GARBLED, "was killed: it sent an answer that nobody asked for")
            return
        now_s = time.monotonic()
        batch = self._in_flight.popleft()
        # By the worker's own clock: this process may have been busy when the answer came, and that is not the model's.
        ended_s = answer.began_s + answer.compute_s if isinstance(answer, Done) else now_s
        run_s = ended_s - max(batch.sent_s, self._free_since_s)
        self._free_since_s = ended_s
        self.answered += 1
        if self._in_flight:
            self._watch_oldest(now_s)
        self._settle(batch, answer, descriptor, run_s)
        self._on_room()

    def _settle(self, batch: InFlight, answer: Done | Failed, descriptor: int | None, run_s: float) -> None:
        """Ends the batch and frees its slot, whatever is wrong with its outputs."""
        try:
            result = self._result(batch, answer, descriptor, run_s)
        except Exception as error:  # from a lack of memory to places that are none
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
        if batch.rows is not None:
            _check_rows(batch.rows, batch.wanted.names, outputs)
        return BatchResult(outputs, answer.compute_s, run_s, answer.began_s)

    def _watch_oldest(self, now_s: float) -> None:
        """The oldest batch runs from now on. One timer serves many batches: it looks for the oldest when it is due.

        Not by the loop's own clock, which may stand still while the loop is busy and counts in milliseconds only.
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
            self._on_readable()  # a gateway that was held up may have the answer unread
        if not self._in_flight or self._timer is not None:
            return
        now_s = time.monotonic()
        found = self._watch.look(now_s)
        if found is None:
            self._set_timer(now_s)
        else:
            self._lose(*found)

    def _lose(self, cause: Cause, how: str) -> None:
        """Kills it for what it did."""
        if not self.lost.is_set():
            self._killed = cause, how
        kill(self._process)
        self._give_up()

    def _give_up(self) -> None:
        if self._in_flight and not self.lost.is_set():
            self._ran_s = time.monotonic() - self._oldest_since_s
            self._untold = self._loop.call_later(TELL_S, self._bury, None)
        self._let_go()
        self._gone = True
        self.lost.set()

    def _let_go(self) -> None:
        """Closes everything but the process. May be called again."""
        if self._channel.fileno() < 0:
            return
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        self._exchange.close()
        if self._timer is not None:
            self._timer.cancel()

    def _bury(self, exit_code: int | None) -> None:
        """Tells everybody how it ended, as far as that is known now. May be called again."""
        if self._untold is not None:
            self._untold.cancel()
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


def _check_rows(rows: int, names: Sequence[str], outputs: Arrays) -> None:
    """Holds a stacked batch to its rows: an output of any other size cannot be cut into the parts' answers."""
    for name, output in zip(names, outputs, strict=True):
        if not output.ndim or output.shape[0] != rows:
            raise ModelFailed(
                f"output {name!r} has the shape {list(output.shape)} for a batch of {rows} rows; "
                "axis 0 must have the rows for a batch to be taken apart"
            )
