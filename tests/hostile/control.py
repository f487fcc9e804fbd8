"""The innocent caller: a process that asks for a known prediction every few milliseconds and looks at each answer.

`python -m tests.hostile.control HTTP_PORT GRPC_PORT INTERVAL_MS PID` has a connection of its own to each door (0: not
to this one). For each line on its standard input it writes a line of JSON, a `Report` by door of all calls since the
line before, and ends with its input. `PID` is the gateway's, to see what it worked meanwhile; 0: not looked at.
"""

from __future__ import annotations

import http.client
import json
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import grpc
import msgspec

from tests.hostile.protobuf import first_output, floats, infer, raw, tensor

GIVE_UP_S = 30.0
"""No call may take longer. It is above every time-out of the gateway that is attacked."""

TOLD = 10
"""So many faults are told in words; all are counted."""


class Report(msgspec.Struct):
    """What became of the calls of one door. `failed` have no answer of status 200, and `wrong` have another value."""

    sent: int = 0
    failed: int = 0
    wrong: int = 0
    faults: list[str] = []
    latencies_ms: list[float] = []
    worked_ms: float = 0.0
    """The most processor time that the gateway took while a call waited: a stall that no busy neighbour feigns."""

    @property
    def max_ms(self) -> float:
        return max(self.latencies_ms, default=0.0)

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the calls does not exceed."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0

    def add(self, other: Report) -> None:
        self.sent += other.sent
        self.failed += other.failed
        self.wrong += other.wrong
        self.faults = [*self.faults, *other.faults][:TOLD]
        self.latencies_ms += other.latencies_ms
        self.worked_ms = max(self.worked_ms, other.worked_ms)


class HttpCalls:
    """V2 in JSON; every other call passes the cache by."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)

    def __call__(self, turn: int, x: float) -> float:
        body = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [x]}]})
        headers = {"Cache-Control": "no-store"} if turn % 2 else {}
        try:
            self._connection.request("POST", "/v2/models/linear/infer", body, headers)
            answer = self._connection.getresponse()
            read = answer.read()
        except BaseException:
            self._connection.close()  # the next call opens it anew
            raise
        if answer.status != 200:
            raise ConnectionError(f"status {answer.status}: {read[:200]!r}")
        value: float = json.loads(read)["outputs"][0]["data"][0]
        return value


class GrpcCalls:
    """V2 over gRPC, with raw tensors."""

    def __init__(self, port: int) -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer"
        )

    def __call__(self, turn: int, x: float) -> float:
        message = infer(b"linear", tensor(b"x", b"FP32", [1, 1]), raw(floats([x])))
        metadata = (("cache-control", "no-store"),) if turn % 2 else ()
        answer: bytes = self._call(message, timeout=GIVE_UP_S, metadata=metadata)
        value: float = struct.unpack("<f", first_output(answer))[0]
        return value


class Caller(threading.Thread):
    """Calls every `interval_s`, or as soon as the call before is over."""

    def __init__(self, call: Callable[[int, float], float], interval_s: float, pid: int) -> None:
        super().__init__(daemon=True)
        self._call, self._interval_s = call, interval_s
        self._clock = ~pid << 3 | 2 if pid else time.CLOCK_MONOTONIC  # how Linux names a process's own clock
        self._report = Report()
        self._lock = threading.Lock()
        self._called_s = 0.0

    def run(self) -> None:
        turn, due_s = 0, time.perf_counter()
        while True:
            turn, x = turn + 1, float(turn % 9973)
            worked_s = _read(self._clock)
            self._called_s = started_s = time.perf_counter()
            value, fault = None, ""
            try:
                value = self._call(turn, x)
            except (OSError, ValueError, http.client.HTTPException, grpc.RpcError) as error:
                fault = f"{error.code()}: {error.details()}" if isinstance(error, grpc.Call) else repr(error)
            ended_s, self._called_s = time.perf_counter(), 0.0
            latency_ms, worked_ms = 1e3 * (ended_s - started_s), 1e3 * (_read(self._clock) - worked_s)
            self._count(value, 2 * x - 1, f"at {time.strftime('%X')}: {fault}", latency_ms, min(worked_ms, latency_ms))
            due_s = max(due_s + self._interval_s, ended_s)
            time.sleep(max(due_s - time.perf_counter(), 0.0 if value is not None else 0.05))

    def _count(self, value: float | None, expected: float, fault: str, latency_ms: float, worked_ms: float) -> None:
        with self._lock:
            report = self._report
            report.sent += 1
            report.latencies_ms.append(latency_ms)
            report.worked_ms = max(report.worked_ms, worked_ms)
            report.failed += value is None
            report.wrong += value not in {None, expected}
            if value != expected and len(report.faults) < TOLD:
                report.faults.append(fault if value is None else f"{value} in place of {expected}")

    def taken(self) -> Report:
        """What was counted since it was taken last, and how long the call that waits now has waited so far."""
        with self._lock:
            report, self._report = self._report, Report()
            if called_s := self._called_s:
                report.latencies_ms.append(1e3 * (time.perf_counter() - called_s))
            return report


class Control:
    """The process, from the outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.whole: dict[str, Report] = {}

    def report(self) -> dict[str, Report]:
        """What became of the calls since it was asked last; `whole` has all of them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = msgspec.json.decode(self._process.stdout.readline(), type=dict[str, Report])
        for door, report in found.items():
            self.whole.setdefault(door, Report()).add(report)
        return found


@contextmanager
def control(http_port: int, grpc_port: int = 0, interval_ms: float = 10.0, pid: int = 0) -> Iterator[Control]:
    """An innocent caller until the block is left."""
    numbers = [str(each) for each in (http_port, grpc_port, interval_ms, pid)]
    command = [sys.executable, "-m", "tests.hostile.control", *numbers]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Control(process)
        finally:
            process.kill()


def _read(clock: int) -> float:
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0  # the process has ended


def main(http_port: int, grpc_port: int, interval_s: float, pid: int) -> None:
    callers: Mapping[str, Caller] = {
        **({"http": Caller(HttpCalls(http_port), interval_s, pid)} if http_port else {}),
        **({"grpc": Caller(GrpcCalls(grpc_port), interval_s, pid)} if grpc_port else {}),
    }
    for caller in callers.values():
        caller.start()
    for _ in sys.stdin:
        print(msgspec.json.encode({door: caller.taken() for door, caller in callers.items()}).decode(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1e3, int(sys.argv[4]))
