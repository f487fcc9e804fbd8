"""Which calls are traced, and how what is known of them comes to the thread that sends spans."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from sluice.batching.report import BatchReport
from sluice.gateway.headers.trace_context import TraceParent
from sluice.gateway.telemetry.call_record import CallRecord
from sluice.gateway.telemetry.metrics import TracedCalls
from sluice.gateway.telemetry.tracing.traces import BatchTrace, CallTrace

WAITING_CALLS = 2048
"""Calls that wait to be sent, at most. More are dropped and counted: a trace is never worth a prediction."""

SENT_CALLS = 128
"""Calls that are sent together; as soon as so many wait, the thread is woken."""

PERIOD_S = 1.0
"""How long a call waits to be sent with others, at most."""

SWITCH_S = 0.0005
"""How long the thread may keep the interpreter from the event loop. By default it is 5 ms, each time that the loop lets
go of it to read or write a socket: a tenth of a second of spans would cost every caller some of those."""

FLUSH_S, GIVE_UP_S = 2.0, 1.0
"""How long leaving waits for the last calls to be sent, and then for the sender to give up."""


class Exporter(Protocol):
    """Makes spans of calls and sends them. Belongs to the tracer's thread, but for `give_up`."""

    def send(self, calls: Sequence[CallRecord]) -> bool:
        """Whether the collector has them now. Never raises, and blocks for a bounded time."""
        ...

    def give_up(self) -> None:
        """Let a `send` that waits for the collector end at once."""
        ...


class Tracer:
    """Picks the calls that are traced, and has them sent by a thread. An async context manager that owns that thread.

    A caller that records its own trace is followed, and one that says that it does not is not; of all others a part of
    `sample_ratio` is picked. No more than `max_per_s` are traced in any second of the clock, whoever wants it: a traced
    call costs several times what a small prediction costs. All methods belong to the event loop's thread, and none
    waits for the collector.
    """

    def __init__(self, exporter: Exporter, sample_ratio: float, max_per_s: int, counts: TracedCalls) -> None:
        self._exporter = exporter
        self._below = int(sample_ratio * 2**64)
        self._max_per_s = max_per_s
        self._second = self._left = 0
        self._counts = counts
        self._waiting: deque[CallRecord] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._send, name="tracer", daemon=True)

    async def __aenter__(self) -> Tracer:
        sys.setswitchinterval(min(SWITCH_S, sys.getswitchinterval()))
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, FLUSH_S)
        if self._thread.is_alive():
            self._exporter.give_up()
            await asyncio.to_thread(self._thread.join, GIVE_UP_S)

    def begin(self, parent: TraceParent | None) -> CallTrace | None:
        """The trace of a call that begins now, if it is to be traced."""
        if parent is not None:
            if not parent.sampled or not self._admit():
                return None
            return CallTrace(int(parent.trace_id, 16), _new_id(), parent, [])
        # By the lower half of the id, as OpenTelemetry's samplers do it.
        low = random.getrandbits(64)
        if low >= self._below or not self._admit():
            return None
        return CallTrace(random.getrandbits(64) << 64 | low or 1, _new_id(), None, [])

    def batch_ended(self, report: BatchReport) -> None:
        """Tell the traced calls of a batch that they were in it."""
        if report.traced:
            batch = BatchTrace(_new_id() << 64 | _new_id(), _new_id(), report)
            for trace, enqueued_s in report.traced:
                if isinstance(trace, CallTrace):
                    trace.batches.append((enqueued_s, batch))

    def call_ended(self, record: CallRecord) -> None:
        """Have the spans of a traced call sent, or drop them where too many wait."""
        if len(self._waiting) >= WAITING_CALLS:
            self._counts.dropped.value += 1
            return
        self._waiting.append(record)
        if len(self._waiting) >= SENT_CALLS:
            self._wake.set()

    def _admit(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._left = second, self._max_per_s
        if self._left <= 0:
            self._counts.dropped.value += 1
            return False
        self._left -= 1
        return True

    def _send(self) -> None:
        waiting, counts = self._waiting, self._counts
        while not self._stopping:
            self._wake.wait(PERIOD_S)
            self._wake.clear()
            while waiting:
                calls = [waiting.popleft() for _ in range(min(SENT_CALLS, len(waiting)))]
                count = counts.exported if self._exporter.send(calls) else counts.failed
                count.value += len(calls)


def _new_id() -> int:
    return random.getrandbits(64) or 1
