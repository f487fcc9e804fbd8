"""Picks the calls that are traced, and hands them to the thread that sends spans."""

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
from sluice.gateway.telemetry.traces import BatchTrace, CallTrace

WAITING_CALLS = 2048
"""How many calls may wait to be sent. Further ones are dropped and counted: predictions come first."""

SENT_CALLS = 128
"""How many calls are sent together. As soon as so many wait, the thread is woken."""

PERIOD_S = 1.0
"""How long a call waits for others to be sent with, at most."""

SWITCH_S = 0.0005
"""How long the thread may keep the interpreter lock when the event loop wants it. Python's default is 5 ms. The loop
releases the lock whenever it reads or writes a socket, so while spans are made every call would wait several times."""

FLUSH_S, GIVE_UP_S = 2.0, 1.0
"""How long leaving waits for the last calls to be sent, and then for the exporter to give up."""


class Exporter(Protocol):
    """Makes spans of calls and sends them. Only the tracer's thread calls it, except for `give_up`."""

    def send(self, calls: Sequence[CallRecord]) -> bool:
        """Send the spans of these calls, in a bounded time. Whether the collector took them. Never raises."""
        ...

    def give_up(self) -> None:
        """Make a `send` that waits for the collector return at once."""
        ...


class Tracer:
    """Picks the calls that are traced. An async context manager that owns the thread that sends them.

    A call with a `traceparent` is traced if its caller records the trace; of other calls, `sample_ratio` are picked.
    At most `max_per_s` are traced in one second of the clock: a traced call costs several times as much as a small
    prediction. Methods are for the thread of the event loop alone, and none waits for the collector.
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
        """The trace of a call that begins now, or `None` if it is not traced."""
        if parent is not None:
            if not parent.sampled or not self._admit():
                return None
            return CallTrace(int(parent.trace_id, 16), _new_id(), parent, [])
        # The lower half of the id decides, as in OpenTelemetry's samplers.
        low = random.getrandbits(64)
        if low >= self._below or not self._admit():
            return None
        return CallTrace(random.getrandbits(64) << 64 | low or 1, _new_id(), None, [])

    def batch_ended(self, report: BatchReport) -> None:
        """Add a batch to the traces of the calls in it."""
        if report.traced:
            batch = BatchTrace(_new_id() << 64 | _new_id(), _new_id(), report)
            for trace, enqueued_s in report.traced:
                if isinstance(trace, CallTrace):
                    trace.batches.append((enqueued_s, batch))

    def call_ended(self, record: CallRecord) -> None:
        """Have the spans of a traced call sent, or drop them if too many wait."""
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
