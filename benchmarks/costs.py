"""*costs*: what one request costs, sent once and alone, while a control prediction runs beside it."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from benchmarks.cost_calls import Call, Crowd, crowds, over_grpc, over_http
from benchmarks.cost_rows import MIB, Asked, compressed, rows
from benchmarks.scenarios import Check, Report
from tests.hostile.control import Control, control
from tests.hostile.house import repository
from tests.integration.server import SluiceProcess, serving, with_grpc

GIVE_UP_S = 20.0
"""A row that takes longer is marked, and its server killed."""

GUARD_BYTES = 5 << 30
"""A server that holds more is killed, and its row marked: the machine has other users."""

INTERVAL_MS, ALONE_S, AFTER_S = 4.0, 1.5, 1.0
STALL_MS, TIMES, FLOOR_BYTES = 50.0, 8.0, 96 * MIB
"""The claim: the worst control call takes so much longer than alone at most, of which the gateway's own processor time
counts, since a busy machine takes the rest; and memory is at most so many times what was sent
inflated, or so many bytes where that is more: a reader that starts counts whole, with some 55 MB before it reads."""

SLOW_STEPS = 100_000
"""What *slow* counts to, at most: some 0.3 s."""

WORKER = "sluice.inference.worker.main"

COLUMNS = [
    "request",
    "sent",
    "inflated",
    "status",
    "s",
    "CPU s",
    "of children",
    "peak MB",
    "times inflated",
    "control ms",
    "worked ms",
    "alone ms",
    "kept MB",
    "",
]


class Cost(msgspec.Struct, frozen=True):
    """What one request cost. Memory is that of the gateway and of its children that are not workers, above idle."""

    what: str
    sent_bytes: int
    inflated_bytes: int
    status: str
    seconds: float
    gateway_cpu_s: float
    children_cpu_s: float
    peak_bytes: float
    control_ms: float
    worked_ms: float
    alone_ms: float
    kept_bytes: float

    @property
    def stalls(self) -> bool:
        return min(self.control_ms - self.alone_ms, self.worked_ms) > STALL_MS

    @property
    def hoards(self) -> bool:
        return self.peak_bytes > max(TIMES * self.inflated_bytes, FLOOR_BYTES)

    @property
    def ended(self) -> bool:
        return not self.status.startswith(("no end", "killed", "died"))

    @property
    def holds(self) -> bool:
        return self.ended and not self.stalls and not self.hoards

    def cells(self) -> list[str | float]:
        """What stands under `COLUMNS`."""
        missed = [word for word, held in (("stalls", self.stalls), ("memory", self.hoards)) if held]
        return [
            self.what,
            _size(self.sent_bytes),
            _size(self.inflated_bytes),
            self.status,
            self.seconds,
            self.gateway_cpu_s,
            self.children_cpu_s,
            self.peak_bytes / MIB,
            self.peak_bytes / max(self.inflated_bytes, 1) if self.inflated_bytes > MIB else "",
            self.control_ms,
            self.worked_ms,
            self.alone_ms,
            self.kept_bytes / MIB,
            "holds" if self.holds else " and ".join(missed) or "no end",
        ]


class Watched:
    """Memory of one server, sampled in a thread of its own; a server beyond the guard is killed.

    Owned by who enters it.
    """

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.killed = False
        self._peak_bytes = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watched:
        self._idle_bytes = self.bytes()
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as marks:
            marks.write("5")  # the high-water mark begins anew
        self._own_bytes = _status_bytes(self.process.pid, "VmRSS")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def bytes(self) -> float:
        """Resident now, of the gateway and of its children that are not workers."""
        return sum([_status_bytes(each.pid, "VmRSS") for each in (self.process, *self._readers())])

    @property
    def above_idle_bytes(self) -> float:
        return self.bytes() - self._idle_bytes

    @property
    def peak_bytes(self) -> float:
        """The most that there was above idle: of all together as sampled, or of the gateway by its own mark."""
        own = _status_bytes(self.process.pid, "VmHWM") - self._own_bytes
        return max(self._peak_bytes - self._idle_bytes, own, 0.0)

    def cpu_s(self) -> tuple[float, float]:
        """Of the gateway itself, and of its children, those that are gone included."""
        try:
            own = self.process.cpu_times()
            children = own.children_user + own.children_system
            for child in self.process.children(recursive=True):
                times = child.cpu_times()
                children += times.user + times.system
        except psutil.NoSuchProcess:
            return 0.0, 0.0
        return own.user + own.system, children

    def _readers(self) -> Iterator[psutil.Process]:
        try:
            for child in self.process.children(recursive=True):
                if not any(WORKER in part for part in child.cmdline()):
                    yield child
        except psutil.Error:
            return

    def _sample(self) -> None:
        while not self._over.wait(0.01):
            self._peak_bytes = max(self._peak_bytes, self.bytes())
            if self._peak_bytes > GUARD_BYTES:
                self.killed = True
                self.process.kill()
                return


def costs(rounds: int, only: str = "") -> Report:
    """The whole table. Each row has a server of its own, so that nothing is left of the row before."""
    found = []
    for run in _runs():
        if only.lower() in run.what.lower():
            found.append(_median([_one(run) for _ in range(min(rounds, 3))]))
            print("|", " | ".join([_cell(cell) for cell in found[-1].cells()]), "|", file=sys.stderr, flush=True)
    missed = [cost for cost in found if not cost.holds]
    checks = [
        Check("requests that do not end", sum(not each.ended for each in found), "= 0", all(e.ended for e in found)),
        Check("requests that stall the control", sum(e.stalls for e in found), "= 0", not any(e.stalls for e in found)),
        Check(
            f"requests that take over {TIMES:g} times their size",
            sum(e.hoards for e in found),
            "= 0",
            not any(e.hoards for e in found),
        ),
    ]
    title = f"costs: one request alone, a control beside it; {len(found) - len(missed)} of {len(found)} rows hold"
    return Report(title, COLUMNS, [cost.cells() for cost in found], checks)


def _runs() -> Iterator[Crowd]:
    for asked in rows():
        yield Crowd(asked.what, (asked.model,), _prepared(asked, zipped=False))
        if asked.both:
            yield Crowd(f"{asked.what}, gzip", (asked.model,), _prepared(asked, zipped=True))
    yield from crowds()


def _prepared(asked: Asked, *, zipped: bool) -> Callable[[], tuple[Call, int, int]]:
    def prepare() -> tuple[Call, int, int]:
        body = asked.body()
        sent = compressed(body) if zipped else body
        inflated = len(body)
        if asked.target:
            headers = {**asked.headers, **({"Content-Encoding": "gzip"} if zipped else {})}
            return (lambda server: over_http(server, asked.target, sent, headers, GIVE_UP_S)), len(sent), inflated
        return (lambda server: over_grpc(server, body, GIVE_UP_S, zipped=zipped)), len(sent), inflated

    return prepare


def _one(run: Crowd) -> Cost:
    call, sent_bytes, inflated_bytes = run.prepare()
    with _server(run.models) as (server, innocent), Watched(server.process.pid) as watched:
        alone_ms = _worst_ms(innocent, ALONE_S)
        gateway_s, children_s = watched.cpu_s()
        started_s = time.perf_counter()
        answer = call(server)
        seconds = time.perf_counter() - started_s
        ended = watched.cpu_s()
        time.sleep(AFTER_S)
        beside = innocent.report().values()
        control_ms, worked_ms = max([each.max_ms for each in beside]), max([each.worked_ms for each in beside])
        if answer.given_up:
            status = f"no end in {GIVE_UP_S:g} s"
        elif watched.killed:
            status = f"killed at {GUARD_BYTES >> 30} GiB"
        else:
            status = "died" if server.process.poll() is not None else answer.status
        if answer.seconds is not None:
            seconds = answer.seconds
        peak_bytes = watched.peak_bytes if not watched.killed else GUARD_BYTES
        kept_bytes = max(watched.above_idle_bytes, 0.0)
    own_s, theirs_s = max(ended[0] - gateway_s, 0.0), max(ended[1] - children_s, 0.0)
    return Cost(
        run.what,
        sent_bytes,
        inflated_bytes,
        status,
        seconds,
        own_s,
        theirs_s,
        peak_bytes,
        control_ms,
        worked_ms,
        alone_ms,
        kept_bytes,
    )


@contextmanager
def _server(models: Sequence[str]) -> Iterator[tuple[SluiceProcess, Control]]:
    with tempfile.TemporaryDirectory() as folder:
        names = dict.fromkeys(["linear", *models])
        repository(Path(folder), *names, most_steps=SLOW_STEPS)
        settings = {**os.environ, "SLUICE_MODELS_DEFAULT": "linear"}
        with (
            serving(Path(folder), *with_grpc(), env=settings) as server,
            control(server.port, server.grpc_port, INTERVAL_MS, server.process.pid) as innocent,
        ):
            _worst_ms(innocent, 1.0)
            yield server, innocent
            server.process.send_signal(signal.SIGKILL)


def _worst_ms(innocent: Control, for_s: float) -> float:
    innocent.report()
    time.sleep(for_s)
    return max([report.max_ms for report in innocent.report().values()])


def _median(found: Sequence[Cost]) -> Cost:
    """The run whose worst control call is in the middle."""
    middle = statistics.median_low([each.control_ms for each in found])
    return next(each for each in found if each.control_ms == middle)


def _status_bytes(pid: int, field: str) -> float:
    try:
        with open(f"/proc/{pid}/status") as lines:
            return next((float(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0.0)
    except OSError:
        return 0.0


def _size(count: int) -> str:
    if count >= MIB:
        return f"{count / MIB:.3g} MB"
    return f"{count / 1024:.3g} KB" if count >= 1024 else f"{count} B"


def _cell(cell: str | float) -> str:
    return cell if isinstance(cell, str) else f"{cell:.3g}"
