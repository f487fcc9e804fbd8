"""A lean open-loop generator: prebuilt bytes over keep-alive connections, at rates at which a gateway is overloaded.

    python -m benchmarks.flood < plan.json

reads a `Plan` from standard input, carries it out, and prints one JSON line: what was `Seen` of each phase. `flood`
does both ends. `sluice load` tells more of each request, and takes as much processor time for it as a gateway.

Each connection carries one request at a time. A request that is due while no connection is free is *unsent*: its caller
has used up its connections, and turns to somebody else. So the load that comes to the server is bounded by the
connections, whatever the rate, and latency counts from when the bytes were sent.
"""

from __future__ import annotations

import gc
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec
import numpy as np

HOST = "127.0.0.1"

PATIENCE_S = 3.0
"""Who has no answer so long after the last phase is lost."""

SEND_SPACING_S = 0.0002
"""Looks at the clock are so far apart at least, so that one look sends several requests."""

STATUS = slice(9, 12)


class Phase(msgspec.Struct, frozen=True):
    """So many requests a second, evenly spaced, for so long. Of the first `warmup_s` nothing is counted."""

    per_s: float
    duration_s: float
    warmup_s: float = 0.0


class Plan(msgspec.Struct, frozen=True):
    """Phases that follow each other without a pause, over the same connections. `requests` are sent in turn."""

    port: int
    requests: Sequence[bytes]
    connections: int
    phases: Sequence[Phase]
    objective_s: float


class Seen(msgspec.Struct, frozen=True):
    """One phase, by when its requests were due. Rates are per second of what was counted, latencies in ms.

    `good` are the answers within the objective. `lost` had no answer. `busy` is the generator's own share of a core.
    """

    offered_per_s: float
    sent_per_s: float
    ok_per_s: float
    good_per_s: float
    refused_per_s: float
    other: int
    lost: int
    ok_p50_ms: float | None
    ok_p99_ms: float | None
    refused_p50_ms: float | None
    refused_p99_ms: float | None
    busy: float


class _Tally:
    """What became of the requests of one phase."""

    def __init__(self, phase: Phase, begin_s: float) -> None:
        self.phase = phase
        self.counted_from_s = begin_s + phase.warmup_s
        self.end_s = begin_s + phase.duration_s
        self.offered = self.sent = self.other = 0
        self.ok_s: list[float] = []
        self.refused_s: list[float] = []
        self.cpu_s = 0.0

    def seen(self, objective_s: float) -> Seen:
        span_s = self.phase.duration_s - self.phase.warmup_s
        good = sum([each <= objective_s for each in self.ok_s])
        answered = len(self.ok_s) + len(self.refused_s) + self.other
        return Seen(
            self.offered / span_s,
            self.sent / span_s,
            len(self.ok_s) / span_s,
            good / span_s,
            len(self.refused_s) / span_s,
            self.other,
            self.sent - answered,
            _ms(self.ok_s, 50),
            _ms(self.ok_s, 99),
            _ms(self.refused_s, 50),
            _ms(self.refused_s, 99),
            self.cpu_s / self.phase.duration_s,
        )


def flood(plan: Plan) -> list[Seen]:
    """Carry a plan out in a process of its own. Raises `CalledProcessError` if it cannot connect."""
    command = [sys.executable, "-m", "benchmarks.flood"]
    output = subprocess.run(command, input=msgspec.json.encode(plan), stdout=subprocess.PIPE, check=True).stdout
    return msgspec.json.decode(output, type=list[Seen])


def carry_out(plan: Plan) -> list[Seen]:
    """Carry a plan out in this process, which should do nothing else."""
    lines = [_connected(plan.port) for _ in range(plan.connections)]
    gc.freeze()
    gc.disable()
    try:
        return _Run(plan, lines).carry_out()
    finally:
        for line in lines:
            line.close()


class _Run:
    """One run over open connections."""

    def __init__(self, plan: Plan, lines: Sequence[socket.socket]) -> None:
        self._plan = plan
        self._lines = {line.fileno(): line for line in lines}
        self._free = list(self._lines)
        self._busy: dict[int, tuple[float, _Tally, bool]] = {}
        self._poll = select.epoll()
        for number in self._lines:
            self._poll.register(number, select.EPOLLIN)
        self._turn = 0

    def carry_out(self) -> list[Seen]:
        begin_s = time.monotonic()
        tallies = []
        for phase in self._plan.phases:
            tally = _Tally(phase, begin_s)
            tallies.append(tally)
            cpu_s = time.process_time()
            self._phase(tally, begin_s)
            tally.cpu_s = time.process_time() - cpu_s
            begin_s = tally.end_s
        give_up_s = time.monotonic() + PATIENCE_S
        while self._busy and time.monotonic() < give_up_s:
            self._receive(0.01)
        self._poll.close()
        return [tally.seen(self._plan.objective_s) for tally in tallies]

    def _phase(self, tally: _Tally, begin_s: float) -> None:
        per_s, due = tally.phase.per_s, 0
        while (now_s := time.monotonic()) < tally.end_s:
            coming = int((now_s - begin_s) * per_s) - due
            counted = now_s >= tally.counted_from_s
            if coming > 0:
                due += coming
                if counted:
                    tally.offered += coming
                self._send(min(coming, len(self._free)), tally, counted=counted)
            self._receive(max(SEND_SPACING_S, (due + 1) / per_s - (now_s - begin_s)) if per_s else 0.01)

    def _send(self, count: int, tally: _Tally, *, counted: bool) -> None:
        requests, free, busy, lines = self._plan.requests, self._free, self._busy, self._lines
        if counted:
            tally.sent += count
        chosen, free[:count] = free[:count], []
        for number in chosen:
            busy[number] = (time.monotonic(), tally, counted)
            lines[number].send(requests[self._turn])
            self._turn = (self._turn + 1) % len(requests)

    def _receive(self, within_s: float) -> None:
        lines, busy, free = self._lines, self._busy, self._free
        for number, _ in self._poll.poll(within_s):
            data = lines[number].recv(65536)
            now_s = time.monotonic()
            if not data:
                self._poll.unregister(number)
                continue
            sent = busy.pop(number, None)
            if sent is None:
                raise RuntimeError(f"an answer came in pieces, or that nobody asked for: {data[:200]!r}")
            free.append(number)
            sent_s, tally, counted = sent
            if not counted:
                continue
            status = data[STATUS]
            if status == b"200":
                tally.ok_s.append(now_s - sent_s)
            elif status in {b"503", b"504"}:
                tally.refused_s.append(now_s - sent_s)
            else:
                tally.other += 1


def _connected(port: int) -> socket.socket:
    line = socket.create_connection((HOST, port), timeout=10)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.setblocking(False)
    return line


def _ms(values: Sequence[float], percentile: float) -> float | None:
    return float(np.percentile(values, percentile)) * 1e3 if values else None


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    sys.stdout.write(msgspec.json.encode(carry_out(plan)).decode() + "\n")


if __name__ == "__main__":
    main()
