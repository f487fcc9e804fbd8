"""Measures how long a loaded model runs, by rows. The worker does so after the trial and before it serves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import accumulate

import msgspec

from sluice.inference.backends.base import Backend
from sluice.inference.errors import ModelFailed
from sluice.inference.planning.machine import forget_peak, peak_resident_bytes
from sluice.inference.trial.random_inputs import AcceptedInputs, RandomRows
from sluice.inference.types import Arrays, Knot, Signature, knot_rows

BUDGET_S = 1.0
"""How long one measurement may take. No run is begun that is expected to end after it."""

RUNS = 5
MOST_RUNS = 15
"""Runs of each size, after one to warm up: more while they differ much, and fewer if a run is long."""

ALIKE = 1.25
"""Runs differ much if the slowest takes more than so many times as long as the fastest."""

ALWAYS = 2
"""How many of the smallest sizes may take longer than the time: with only one, nothing is known about batching."""

SHARE_OF_REST = 4
"""A size may use a quarter of the time that is left to repeat its runs, so that there is time for the larger sizes."""


class Stop(StrEnum):
    """Why larger batches were not measured."""

    TIME = "time"
    MEMORY = "memory"
    REFUSED = "refused"


class Measurement(msgspec.Struct, frozen=True, array_like=True):
    """How long batches ran with so many threads, smallest first; no knots if the model refused the first batch.

    `run_s` never falls from knot to knot. `grown_bytes` has, for each knot, by how much the process had grown then.
    """

    threads: int
    knots: tuple[Knot, ...]
    grown_bytes: tuple[int, ...]
    stopped: Stop | None


class MeasuringBounds(msgspec.Struct, frozen=True):
    """The limits of a measurement. `grown_bytes` is how much the process may grow; `None` for any amount.

    The first size is always run once; the second one, too, if it is expected to end within `smallest_s`.
    """

    grown_bytes: int | None
    time_s: float = BUDGET_S
    smallest_s: float = math.inf


class Instruments(msgspec.Struct, frozen=True):
    """What a measurement reads: a monotonic clock in seconds, and the peak of the process' memory."""

    clock: Callable[[], float] = time.perf_counter
    peak_bytes: Callable[[], int] = peak_resident_bytes
    forget_peak: Callable[[], None] = forget_peak


INSTRUMENTS = Instruments()


def measure(
    backend: Backend,
    signature: Signature,
    most_rows: int,
    threads: int,
    bounds: MeasuringBounds,
    instruments: Instruments = INSTRUMENTS,
    taken: AcceptedInputs | None = None,
) -> Measurement:
    """Runs random batches of 1, 2, 4, … `most_rows` rows, and takes the lower quartile of a few runs of each.

    Other work on the machine only makes runs longer, so the median would be too high; the shortest run may be luck.

    The inputs are of the kind that the model was found to take, or that most models take if nothing was found. A model
    that is not batched is measured with one request. Larger batches are left out if they are expected, from the size
    before, to exceed a limit, or if the model refuses them.
    """
    names = [spec.name for spec in signature.outputs]
    source = RandomRows(backend.inputs, taken)
    measured: list[Knot] = []
    grown: list[int] = []
    stopped = None
    instruments.forget_peak()
    ground_bytes = instruments.peak_bytes()
    began_s = instruments.clock()
    for rows in knot_rows(most_rows if signature.batched else 1):
        spent_s = instruments.clock() - began_s
        left_s = bounds.time_s - spent_s
        stopped = _no_further(rows, measured, grown, spent_s, bounds)
        if stopped is not None:
            break
        try:
            inputs = source.batch(rows) if signature.batched else source.request()
            run_s = _typical_s(backend, inputs, names, left_s, instruments.clock)
        except ModelFailed:
            stopped = Stop.REFUSED
            break
        measured.append(Knot(rows, run_s))
        grown.append(max(0, instruments.peak_bytes() - ground_bytes))
    return Measurement(threads, _never_falling(measured), tuple(grown), stopped)


def _no_further(
    rows: int, measured: Sequence[Knot], grown: Sequence[int], spent_s: float, bounds: MeasuringBounds
) -> Stop | None:
    """Which limit so many rows would exceed, if time and memory grow in proportion; `None` if they exceed none."""
    if not measured:
        return None
    growth = rows / measured[-1].rows
    if bounds.grown_bytes is not None and grown[-1] * growth > bounds.grown_bytes:
        return Stop.MEMORY
    most_s = bounds.time_s if len(measured) >= ALWAYS else max(bounds.time_s, bounds.smallest_s)
    if spent_s + measured[-1].run_s * growth > most_s:
        return Stop.TIME
    return None


def _typical_s(
    backend: Backend, inputs: Arrays, names: Sequence[str], left_s: float, clock: Callable[[], float]
) -> float:
    began_s = clock()

    def run() -> float:
        start_s = clock()
        backend.run(inputs, names)
        return clock() - start_s

    first_s = run()
    if first_s * 2 > left_s:
        return first_s
    runs_s = [run()]
    while not _enough(runs_s) and clock() - began_s + runs_s[-1] < left_s / SHARE_OF_REST:
        runs_s.append(run())
    return sorted(runs_s)[(len(runs_s) - 1) // 4]


def _enough(runs_s: Sequence[float]) -> bool:
    alike = max(runs_s) <= ALIKE * min(runs_s)
    return len(runs_s) >= (RUNS if alike else MOST_RUNS)


def _never_falling(measured: Sequence[Knot]) -> tuple[Knot, ...]:
    """The knots, none slower than a larger one: a smaller batch that took longer was held up by other work."""
    least_s = list(accumulate((knot.run_s for knot in reversed(measured)), min))
    return tuple([Knot(knot.rows, run_s) for knot, run_s in zip(measured, reversed(least_s), strict=True)])
