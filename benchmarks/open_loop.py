"""A load generator for HTTP/1.1 that sends requests when they are due, and not when the server has time for them.

    python -m benchmarks.open_loop < plan.json

reads a `Plan` from standard input, carries it out in a process of its own, and prints one JSON line: what it `Seen`.
`offer` does both ends. All connections are opened before the run begins, and each carries one request at a time.
"""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import msgspec
import numpy as np
import uvloop

from benchmarks.arrivals import Arrivals, times
from benchmarks.ledger import Ledger, Offered, Seen, Window
from benchmarks.pacing import ClosedLoop, OpenLoop, Pacing
from benchmarks.timer import PreciseTimer

SETTLE_S = 0.1
"""Between the last connection's opening and the first request."""

HOST = "127.0.0.1"
OPENED_AT_ONCE = 64

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """No schedule: every connection sends its next request as soon as it has its answer."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. It lasts `warmup_s + duration_s`, and its figures are about the latter.

    For what was sent then, `patience_s` is left to be answered. `objective_s` is what goodput is counted by.
    """

    port: int
    path: str
    body: bytes
    load: Arrivals | Closed
    connections: int
    duration_s: float
    objective_s: float
    warmup_s: float = 0.4
    patience_s: float = 5.0
    seed: int = 0


def offer(plan: Plan) -> Seen:
    """Carry a plan out in a process of its own. Raises `CalledProcessError` if it cannot connect."""
    command = [sys.executable, "-m", "benchmarks.open_loop"]
    output = subprocess.run(command, input=msgspec.json.encode(plan), stdout=subprocess.PIPE, check=True).stdout
    return msgspec.json.decode(output, type=Seen)


class HttpLine(asyncio.Protocol):
    """A keep-alive connection that sends the same request again and again, one at a time."""

    pacing: Pacing
    """Who is told. To be set before anything is sent."""

    def __init__(self, request: bytes) -> None:
        self.intended_s = self.sent_s = 0.0
        self._request = request
        self._busy = False
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.WriteTransport, transport).write
        self.close = transport.close

    def send(self) -> None:
        """Send the request. The answer to the one before must have come."""
        self._busy = True
        self._write(self._request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        status = answer_status(received)
        if status is None:
            self._received = received
            return
        self._received = b""
        self._busy = False
        self.pacing.answered(self, status, time.monotonic())

    def connection_lost(self, exc: Exception | None) -> None:
        self.pacing.lost(self, busy=self._busy)


def answer_status(received: bytes) -> int | None:
    """The status of an answer that has come whole, `None` while some of it is missing.

    Raises `ValueError` for an answer that does not say its length, or is longer than it says.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = _LENGTH.search(received, 0, end)
    if length is None:
        raise ValueError(f"the answer has no Content-Length, which this generator needs: {received[:end]!r}")
    missing = end + 4 + int(length[1]) - len(received)
    if missing < 0:
        raise ValueError(f"the answer is {-missing} bytes longer than its Content-Length")
    return None if missing else int(received[9:12])


async def carry_out(plan: Plan) -> Seen:
    """Carry a plan out in this process, which should do nothing else. Raises `OSError` if it cannot connect."""
    lines = await _opened(plan)
    await asyncio.sleep(SETTLE_S)
    gc.freeze()
    gc.disable()
    cpu_begun_s, begun_s = time.process_time(), time.monotonic()
    ledger = Ledger()
    carried = await (_closed_loop if isinstance(plan.load, Closed) else _open_loop)(plan, lines, ledger, begun_s)
    cpu_s = time.process_time() - cpu_begun_s
    window = Window(plan.warmup_s, plan.warmup_s + plan.duration_s)
    for line in lines:
        line.close()
    return ledger.closed(carried, begun_s, window, plan.objective_s, cpu_s)


async def _opened(plan: Plan) -> list[HttpLine]:
    request = request_bytes(plan)
    loop = asyncio.get_running_loop()
    lines: list[HttpLine] = []
    while len(lines) < plan.connections:
        count = min(OPENED_AT_ONCE, plan.connections - len(lines))
        opened = await asyncio.gather(
            *[loop.create_connection(lambda: HttpLine(request), HOST, plan.port) for _ in range(count)]
        )
        lines += [line for _, line in opened]
    return lines


async def _open_loop(plan: Plan, lines: Sequence[HttpLine], ledger: Ledger, begun_s: float) -> Offered:
    assert not isinstance(plan.load, Closed)
    due_s = times(plan.load, plan.warmup_s + plan.duration_s, plan.seed)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    timer = PreciseTimer()
    pacing = OpenLoop(begun_s + due_s, lines, ledger, set_timer=timer.set, on_end=over.set)
    for line in lines:
        line.pacing = pacing
    loop.add_reader(timer.fileno(), lambda: pacing.pump(time.monotonic()))
    try:
        pacing.pump(time.monotonic())
        await _until(over, plan)
    finally:
        loop.remove_reader(timer.fileno())
        timer.close()
    return Offered(due_s, pacing.sent)


async def _closed_loop(plan: Plan, lines: Sequence[HttpLine], ledger: Ledger, begun_s: float) -> Offered:
    over = asyncio.Event()
    pacing = ClosedLoop(begun_s + plan.warmup_s + plan.duration_s, lines, ledger, on_end=over.set)
    for line in lines:
        line.pacing = pacing
    pacing.begin(time.monotonic())
    await _until(over, plan)
    return Offered(np.array(pacing.sent_s) - begun_s, len(pacing.sent_s))


async def _until(over: asyncio.Event, plan: Plan) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(plan.warmup_s + plan.duration_s + plan.patience_s):
            await over.wait()


def request_bytes(plan: Plan) -> bytes:
    """The request of a plan, as every connection sends it."""
    head = (
        f"POST {plan.path} HTTP/1.1\r\nHost: {HOST}:{plan.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(plan.body)}\r\n\r\n"
    )
    return head.encode() + plan.body


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    seen = uvloop.run(carry_out(plan))
    sys.stdout.write(msgspec.json.encode(seen).decode() + "\n")


if __name__ == "__main__":
    main()
