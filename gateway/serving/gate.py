"""The gate of a model version: calls that cannot be answered in time now wait here, undecoded, or are refused."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

import msgspec

from sluice.batching.alarm import Alarm
from sluice.batching.batcher import Batcher
from sluice.gateway.dialects.base import Dialect
from sluice.gateway.messages import HttpResponse
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.inference.errors import Overloaded
from sluice.inference.types import InferenceResponse, Timings

LATEST_PART = 0.85
"""No call is let in that would be answered after this part of the objective."""

LOOK_S = 0.005
"""While calls wait, the gate checks so often which of them may go on, and whose time is over."""

REFUSALS_PER_ANSWER = 0.2
"""Refusals that a busy gateway may send for each answer. They take a tenth of its time."""

SAVED_REFUSALS = 100
"""The most refusals that it saves up."""

PROMPT_S, IDLE_LOOKS = 0.0015, 3
"""A gateway whose last `IDLE_LOOKS` checks came at most `PROMPT_S` late is not busy, and refuses all late calls."""

OVERLOADED_TEXT = "overloaded: the gateway has as much to do as it can in time"


class GateRefusal(msgspec.Struct, frozen=True):
    """The answer to a call that was not let in."""

    error: Overloaded
    answer: HttpResponse


class Gate:
    """Lets calls of a version with a latency objective go on to be decoded, as many as the batcher's `Allowance` says.

    Refusing a call costs a gateway half as much as answering it, and most of that is spent in the kernel
    (`docs/decisions/0027-callers-wait-at-a-gate.md`). Callers who are refused at once call again at once, and soon the
    gateway does nothing but refuse. So a call that cannot be let in now waits here, as bytes. Calls are let in in the
    order in which they came, as long as they would be answered in time; the others are refused when the objective is
    over. A caller who waits sends nothing, and so costs nothing. While there is very little work in hand, every call is
    let in, even if its answer will be late: the gateway learns its speed from answers.

    The gate is open while the cache pays: only a decoded call can be looked up in the cache, and the batcher refuses
    what the cache does not have.
    """

    def __init__(
        self,
        batcher: Batcher,
        sharing: RowSharing,
        objective_s: float,
        clock: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        self._batcher = batcher
        self._sharing = sharing
        self._objective_s = objective_s
        self._clock = clock
        self._worked = worked
        self._worked_s = worked()
        self._waiting: deque[_Waiting] = deque()
        self._late: deque[_Waiting] = deque()
        self._entering = 0
        self._refusals_left = 0.0
        self._idle_looks = 0
        self._look_s = 0.0
        self._alarm: Alarm | None = None
        self._refusals: dict[tuple[Dialect, int], GateRefusal] = {}

    def open(self, came_s: float, now_s: float) -> bool:
        """Whether a call that came at `came_s` may go on at once."""
        batcher = self._batcher
        if not (self._waiting or batcher.full()) and (came_s >= self._latest_s(now_s) or not batcher.has_least()):
            return True
        cache = self._sharing.cache
        return cache is not None and cache.pays

    async def wait(self, dialect: Dialect, came_s: float, now_s: float) -> GateRefusal | None:
        """Wait to be let in, and return `None` then; or return the refusal.

        The call is refused within `LOOK_S` after its objective is over, or after twice that where the gateway is busy.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(came_s, loop.create_future())
        self._waiting.append(waiting)
        if self._alarm is None:
            self._alarm = Alarm(loop, self._check)
        self._set_alarm(now_s)
        if await waiting.let_in:
            self._entering -= 1
            return None
        return self._refusal(dialect)

    def answered(self, began_s: float, now_s: float, response: InferenceResponse) -> None:
        """Take note that a call that was let in at `began_s` is answered."""
        timings = response.timings
        self._refusals_left += REFUSALS_PER_ANSWER
        if timings.batch_rows:
            self._learn(began_s, now_s, timings)
        if self._waiting:
            self._let_in(now_s)

    def _learn(self, began_s: float, now_s: float, timings: Timings) -> None:
        """Tell the allowance, once for each round trip, how long the gateway itself has worked on an answer.

        Time in the queue and in the engine does not count. Nor does time in which the process did not run: with fewer
        rows in hand, it would not get the processor sooner.
        """
        allowance = self._batcher.allowance
        if began_s < allowance.moved_s:
            return
        worked_s, took_s = self._worked(), now_s - began_s
        share = min(1.0, (worked_s - self._worked_s) / max(now_s - allowance.moved_s, 1e-6))
        self._worked_s = worked_s
        engine_s = timings.queue_s + timings.batch_s - self._batcher.lag_s
        allowance.answered(began_s, took_s, share * (took_s - engine_s), now_s)

    def _latest_s(self, now_s: float) -> float:
        """The arrival time from which on a call is answered in time, if it is let in now."""
        return now_s + self._batcher.allowance.took_s - LATEST_PART * self._objective_s

    def _let_in(self, now_s: float) -> None:
        """Let in as many calls as there is room for, in order. Those that would be late are put aside to be refused."""
        waiting, latest_s = self._waiting, self._latest_s(now_s)
        room = self._batcher.room() - self._entering
        while waiting and (room > 0 or waiting[0].came_s < latest_s):
            first = waiting.popleft()
            if first.let_in.done():
                continue
            if first.came_s < latest_s and self._batcher.has_least():
                self._late.append(first)
            else:
                first.let_in.set_result(True)
                self._entering += 1
                room -= 1

    def _check(self) -> None:
        """Let in the calls for which there is room, and refuse those whose time is over."""
        now_s = self._clock()
        self._let_in(now_s)
        self._idle_looks = self._idle_looks + 1 if now_s - self._look_s < PROMPT_S else 0
        if self._idle_looks >= IDLE_LOOKS:
            self._refusals_left = math.inf
        self._refusals_left = min(self._refusals_left, len(self._late))
        over_s, late = now_s - self._objective_s, self._late
        while late and late[0].came_s <= (over_s if self._refusals_left > 0 else over_s - self._objective_s):
            last = late.popleft()
            if not last.let_in.done():
                last.let_in.set_result(False)
                self._refusals_left -= 1
        self._refusals_left = min(max(self._refusals_left, 0), SAVED_REFUSALS)
        if self._alarm is not None and (self._waiting or self._late):
            self._set_alarm(now_s)

    def _set_alarm(self, now_s: float) -> None:
        assert self._alarm is not None
        if self._alarm.at_s == math.inf:
            self._look_s = now_s + LOOK_S
            self._alarm.set(self._look_s, now_s)

    def _refusal(self, dialect: Dialect) -> GateRefusal:
        retry_after_s = math.ceil(self._batcher.retry_after_s())
        refusal = self._refusals.get((dialect, retry_after_s))
        if refusal is None:
            error = Overloaded(OVERLOADED_TEXT, retry_after_s)
            refusal = self._refusals[dialect, retry_after_s] = GateRefusal(error, dialect.refuse(error))
        return refusal


class _Waiting(msgspec.Struct, frozen=True):
    """A call that waits. `let_in` is resolved with whether it is let in."""

    came_s: float
    let_in: asyncio.Future[bool]
