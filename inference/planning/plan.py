"""Chooses how a model version is served on this machine, from what was measured when it loaded. Does no I/O.

Values that the operator set are kept. The rest is chosen: workers and threads so that all cores but the gateway's are
used, and rows in a batch as far as larger batches pay, within the memory and the latency objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from sluice.inference.planning.knots import BATCH_COST_S, extended, paying_rows, run_s_at
from sluice.inference.planning.measure import Measurement, Stop
from sluice.inference.serving_plan import PlanTerms
from sluice.inference.transport.arena import arena_shape
from sluice.inference.types import Knot, Shape, Signature

MOST_ROWS = 256
"""The most rows in a batch, if the operator did not set them."""

UNMEASURED_ROWS = 64
"""Rows in a batch, at most, of a model that could not be measured."""

MOST_WORKERS = 64
"""The most workers; `workers.count` has the same limit."""

RUNS_IN_OBJECTIVE = 2
"""Runs that one request may wait for: one that had just begun when it came, and its own."""

NEARLY = 0.9
"""Fewer workers or threads are preferred if they reach this part of the best throughput: they use less memory."""

MOST_SLOWDOWN = 4.0
"""Without an objective, one row may take at most so many times as long as with the quickest choice. Throughput alone
would give every core a worker with one thread, and callers of a quiet service would wait longer than necessary."""

ENOUGH_ROWS_PER_S = 100_000.0
"""More single rows than one gateway process can receive. Workers beyond this throughput are not worth their memory."""


class PlanGrounds(msgspec.Struct, frozen=True):
    """What a plan is based on: at least one measurement, one for each number of threads that was tried.

    `alone_because` says why the model is not batched, and has no meaning for one that is. `resident_bytes` is the
    memory of one worker before it runs batches. `unexplored_because` says why other numbers of threads were not tried.
    `measured_shapes` are the shapes of the inputs that were measured, or `None` if they are not known.
    """

    signature: Signature
    alone_because: str
    measurements: Sequence[Measurement]
    resident_bytes: int
    unexplored_because: str | None = None
    measured_shapes: tuple[Shape, ...] | None = None


class Bound(StrEnum):
    """Why batches are not planned larger."""

    SET = "set"
    UNBATCHED = "unbatched"
    GAIN = "gain"
    MOST = "most"
    TIME = "time"
    MEMORY = "memory"
    REFUSED = "refused"
    OBJECTIVE = "objective"


_BY_STOP = {None: Bound.MOST, Stop.TIME: Bound.TIME, Stop.MEMORY: Bound.MEMORY, Stop.REFUSED: Bound.REFUSED}


class Candidate(msgspec.Struct, frozen=True):
    """One way to serve. `knots` are the `measured` ones, extrapolated if there was no time to measure more."""

    workers: int
    threads: int
    max_rows: int
    bound: Bound
    measured: tuple[Knot, ...]
    knots: tuple[Knot, ...]

    @property
    def rows_per_s(self) -> float:
        """The throughput of all workers together, if they do not slow each other down."""
        return self.workers * self.max_rows / (run_s_at(self.knots, self.max_rows) + BATCH_COST_S)

    @property
    def one_row_s(self) -> float:
        """How long the engine runs a single row."""
        return self.knots[0].run_s

    @property
    def answer_s(self) -> float:
        """How long a single row takes, with `BATCH_COST_S`."""
        return self.one_row_s + BATCH_COST_S

    def keeps(self, objective_s: float | None) -> bool:
        """Whether single rows, at least, are answered within the objective."""
        return objective_s is None or RUNS_IN_OBJECTIVE * self.one_row_s <= objective_s


def thread_choices(terms: PlanTerms) -> tuple[int, ...]:
    """The numbers of threads that are worth a measurement, largest first: it is the safe one if time is short."""
    if terms.intra_op_threads is not None:
        return (terms.intra_op_threads,)
    if terms.device != "cpu":
        return (1,)
    most = max(1, spare_cores(terms) // (terms.count or 1))
    powers = [1 << exponent for exponent in range(most.bit_length())]
    return tuple(sorted({*powers, most}, reverse=True))


def spare_cores(terms: PlanTerms) -> int:
    """Cores for workers: all but the one that the gateway needs, and at least one."""
    return max(1, terms.cores - 1)


def candidates(terms: PlanTerms, grounds: PlanGrounds) -> tuple[Candidate, ...]:
    """Every way to serve that the terms allow and for which there is a measurement; none if nothing was measured."""
    return tuple(
        [
            _candidate(terms, grounds, measurement, workers)
            for measurement in grounds.measurements
            if measurement.knots
            for workers in _worker_counts(terms, grounds, measurement.threads)
        ]
    )


def choose(terms: PlanTerms, found: Sequence[Candidate]) -> Candidate:
    """The best of at least one candidate.

    Candidates that keep the objective are preferred; if none does, those that come nearest. Without an objective, those
    that are not `too_slow` for one row are preferred. Among these, it is the fewest workers that have nearly the best
    throughput, because they use less memory and answer sooner; and then the fewest threads that are nearly as good.
    """
    slow = too_slow(terms, found)
    kept = [each for each in found if each.keeps(terms.objective_s) and each not in slow]
    if not kept:
        quickest_s = min(each.one_row_s for each in found)
        kept = [each for each in found if NEARLY * each.one_row_s <= quickest_s]
    best = max(_useful_rows_per_s(each) for each in kept)
    near = [each for each in kept if _useful_rows_per_s(each) >= NEARLY * best]
    fewest = min(each.workers for each in near)
    near = [each for each in near if each.workers == fewest]
    fastest = max(each.rows_per_s for each in near)
    return min((each for each in near if each.rows_per_s >= NEARLY * fastest), key=lambda each: each.threads)


def too_slow(terms: PlanTerms, found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that are left out because one row would take more than `MOST_SLOWDOWN` times the best time."""
    if terms.objective_s is not None:
        return []
    most_s = MOST_SLOWDOWN * min(each.answer_s for each in found)
    return [each for each in found if each.answer_s > most_s]


def unmeasured(terms: PlanTerms, grounds: PlanGrounds) -> tuple[int, int, int]:
    """Workers, threads and rows for a model that could not be measured: what was set, or else careful defaults."""
    rows = terms.max_rows or UNMEASURED_ROWS
    return terms.count or 1, thread_choices(terms)[0], rows if grounds.signature.batched else 1


def worker_bytes(grounds: PlanGrounds, rows: int) -> int:
    """The memory of one worker and its arena for batches of so many rows; beyond what was measured, in proportion.

    It is taken from the first measurement, when the process was fresh: the number of threads makes little difference.
    """
    first = grounds.measurements[0]
    grown = 0
    for knot, grown_bytes in zip(first.knots, first.grown_bytes, strict=True):
        grown = grown_bytes if knot.rows >= rows else grown_bytes * rows // knot.rows
        if knot.rows >= rows:
            break
    return grounds.resident_bytes + grown + arena_shape(grounds.signature, rows).size_bytes


def _worker_counts(terms: PlanTerms, grounds: PlanGrounds, threads: int) -> Sequence[int]:
    if terms.count is not None:
        return (terms.count,)
    if terms.device != "cpu":
        return (1,)
    most = min(MOST_WORKERS, max(1, spare_cores(terms) // threads))
    return [count for count in range(1, most + 1) if count == 1 or _fits(terms, grounds, count, 1)]


def _fits(terms: PlanTerms, grounds: PlanGrounds, workers: int, rows: int) -> bool:
    return terms.memory_bytes is None or workers * worker_bytes(grounds, rows) <= terms.memory_bytes


def _candidate(terms: PlanTerms, grounds: PlanGrounds, measurement: Measurement, workers: int) -> Candidate:
    measured = measurement.knots
    knots = measured
    if not grounds.signature.batched:
        rows, bound = 1, Bound.UNBATCHED
    elif terms.max_rows is not None:
        rows, bound = terms.max_rows, Bound.SET
    else:
        if measurement.stopped is Stop.TIME:
            knots = extended(measured, MOST_ROWS)
        rows, bound = _rows(terms, grounds, measurement, knots, workers)
    return Candidate(workers, measurement.threads, rows, bound, measured, knots)


def _rows(
    terms: PlanTerms, grounds: PlanGrounds, measurement: Measurement, knots: Sequence[Knot], workers: int
) -> tuple[int, Bound]:
    paying = paying_rows(knots)
    rows, bound = paying, Bound.GAIN if paying < knots[-1].rows else _BY_STOP[measurement.stopped]
    least = knots[0].rows
    fitting = max([knot.rows for knot in knots if _fits(terms, grounds, workers, knot.rows)], default=least)
    if fitting < rows:
        rows, bound = fitting, Bound.MEMORY
    if terms.objective_s is not None:
        most_s = terms.objective_s / RUNS_IN_OBJECTIVE
        timely = max([knot.rows for knot in knots if knot.run_s <= most_s], default=least)
        if timely < rows:
            rows, bound = timely, Bound.OBJECTIVE
    return rows, bound


def _useful_rows_per_s(candidate: Candidate) -> float:
    return min(candidate.rows_per_s, ENOUGH_ROWS_PER_S)
