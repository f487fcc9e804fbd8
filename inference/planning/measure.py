"""Measuring how long a loaded model runs, by rows. Done in the worker, once the model is tried and before it serves."""

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
"""How long one measurement may take. Beyond it there is at most the run that was thought to end within it."""

RUNS = 5
MOST_RUNS = 15
"""Runs of each size, beside one to warm up; more while they differ much, and fewer where a run is long."""

ALIKE = 1.25
"""Runs differ much where the slowest takes so many times as long as the fastest."""

ALWAYS = 2
"""The smallest sizes may take longer than that: without a second one, nothing is known of batching."""

SHARE_OF_REST = 4
"""One size has a quarter of the time that is left to repeat its runs, so that the larger ones are reached too."""


class Stop(StrEnum):
    """Why larger batches were not measured."""

    TIME = "time"
    MEMORY = "memory"
    REFUSED = "refused"


class Measurement(msgspec.Struct, frozen=True, array_like=True):
    """How long batches ran with so many threads, smallest first; no knots for a model that refused the first one.

    `run_s` never falls from knot to knot. `grown_bytes` has, for each knot, how much the process had grown by then.
    """

    threads: int
    knots: tuple[Knot, ...]
    grown_bytes: tuple[int, ...]
    stopped: Stop | None


class MeasuringBounds(msgspec.Struct, frozen=True):
    """What measuring may take. `grown_bytes` is how much the process may grow; `None` bounds nothing.

    The first size is run once in any case; the second one too if it should be done after `smallest_s`.
    """

    grown_bytes: int | None
    time_s: float = BUDGET_S
    smallest_s: float = math.inf


class Instruments(msgspec.Struct, frozen=True):
    """What measuring reads. The clock is monotonic, in seconds."""

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

    Whatever else the machine does can only make runs longer; a single lucky one does not count either.

    The inputs are what the model was found to take; where nothing is known of that, what most models take. One that is
    not batched is measured with one request. Larger batches are left out where they would pass a bound, judged by the
    size before, or where the model refuses them.
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
    """Whether a bound forbids so many rows, if time and memory grow with the rows."""
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
    """A run may be held up, but never sped up: a larger batch that took less time shows what the smaller one takes."""
    least_s = list(accumulate((knot.run_s for knot in reversed(measured)), min))
    return tuple([Knot(knot.rows, run_s) for knot, run_s in zip(measured, reversed(least_s), strict=True)])
