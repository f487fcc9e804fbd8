"""Tries whether a model keeps the rows of a batch apart, in such a way that an influence would probably show.

Rows of every kind (see `row_kinds`), and those of a sample, are run alone, and then beside others: of the same kind
and of other kinds, in batches of two to many, each row in every place, beside copies of itself, and again with other
neighbours. Any difference that is larger than rounding is an influence. If an output is the same for all rows, it could
not have shown an influence, so nothing is known about it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest

import msgspec
import numpy as np

from sluice.inference.backends.base import Backend
from sluice.inference.repository.sample import SAMPLE_ROWS
from sluice.inference.signature import shape_text
from sluice.inference.trial.accepted_inputs import SLOW_RUN_S, SLOWER, Answered, other_sizes, with_ranges
from sluice.inference.trial.random_inputs import AcceptedInputs, Range, RowKind, drawn, filled, single_rows
from sluice.inference.trial.row_independence import Comparison, Mixed, Slow, TriedRow, Varies
from sluice.inference.trial.row_kinds import KINDS, PLAIN
from sluice.inference.types import Arrays, Shape, TensorSpec

TRIAL_S = 2.0
"""How long a trial may take. Only the first batches always run; what else is left out, the result says."""

ROWS_OF_KIND = 3
ROWS_OF_LIKES = 18
"""Rows of each kind that are tried, and how many rows that makes to run, alone and in batches."""

MANY_OF_KINDS = 2
MANY_ROWS = 8
"""For the first `MANY_OF_KINDS` kinds there is a batch of `MANY_ROWS`: an influence may need several rows of a kind."""

BATCH_ROWS = (2, 8, 17, 64)
"""Sizes of batches with rows of all kinds: two, the width of most vectors, no multiple of that, and many."""

EVERY_PLACE_ROWS = 8
"""Batches of up to so many rows are tried in every rotation, and larger ones in two."""

MOST_BYTES = 64 << 20
"""The most memory for the rows and answers of one batch."""

KEPT_BYTES = 4 * MOST_BYTES
"""The most memory for rows and answers that are kept for later batches."""

HALVINGS = 5
"""How often the range of integers is halved while the model refuses all rows of a kind."""


class TrialResult(msgspec.Struct, frozen=True):
    """What a trial found. If it showed that rows are kept apart, the first three are `None`.

    `mixed_because` says how rows influence each other, or that they cannot be in one batch; `erratic_because` that the
    model answers the same row differently; `unknown_because` why the trial shows nothing. `said` is how it was tried.
    """

    mixed_because: str | None = None
    erratic_because: str | None = None
    unknown_because: str | None = None
    said: str = ""


def try_plain(backend: Backend, outputs: Sequence[TensorSpec], taken: AcceptedInputs) -> TrialResult:
    """A short trial with two plain rows, to check a proof from the graph. The result may be empty."""
    rows = single_rows(
        filled(np.random.default_rng(0), backend.inputs, taken, 2) if taken.sample is None else taken.sample
    )
    comparison = Comparison(backend, outputs, time.perf_counter)
    try:
        tried, _ = comparison.alone(rows[:2], PLAIN.name)
        if len(tried) < 2:
            return TrialResult()
        _in_every_place(comparison, tried, _beside_others(comparison, tried, (0,)), lambda: True)
    except Mixed as mixed:
        return TrialResult(mixed_because=str(mixed))
    except Varies as varies:
        return TrialResult(erratic_because=str(varies))
    return TrialResult()


def try_hard(
    backend: Backend, outputs: Sequence[TensorSpec], found: Answered, sample: Arrays | None, clock: Callable[[], float]
) -> TrialResult:
    """The whole trial. `sample` has valid rows in the shapes that the model was found to take, or is `None`."""
    trial = _Trial(backend, outputs, clock)
    try:
        trial.run(found, sample)
    except Mixed as mixed:
        return TrialResult(mixed_because=str(mixed))
    except Varies as varies:
        return TrialResult(erratic_because=str(varies))
    return trial.verdict()


class _Trial:
    """One trial of one model. Raises `Mixed` or `Varies`, whichever is seen first."""

    def __init__(self, backend: Backend, outputs: Sequence[TensorSpec], clock: Callable[[], float]) -> None:
        self._backend = backend
        self._outputs = outputs
        self._clock = clock
        self._began_s = clock()
        self._comparison = Comparison(backend, outputs, clock)
        self._rng = np.random.default_rng(0)
        self._rows: list[TriedRow] = []
        self._count = 0
        self._kept_bytes = 0
        self._differing: set[str] = set()
        self._refusal: str | None = None
        self._unsought: str | None = None
        self._left_out: list[str] = []
        self._slow_s = math.inf
        self._fine = 0.0
        self._largest = math.inf

    def run(self, found: Answered, sample: Arrays | None) -> None:
        """Runs all steps in order: the first always, the others while there is time."""
        taken = found.taken
        wide, self._unsought = with_ranges(self._backend, found, sample, self._clock)
        self._first(wide, sample)
        if len(self._rows) < 2:
            return
        if taken.sample is None:
            for kind in KINDS:
                if self._in_time(f"rows {kind.name}", ROWS_OF_LIKES):
                    self._like(self._drawn(kind, wide, ROWS_OF_KIND))
            for kind in KINDS[:MANY_OF_KINDS]:
                if self._in_time(f"more rows {kind.name}", MANY_ROWS * (MANY_ROWS + 4)):
                    self._like(self._drawn(kind, wide, MANY_ROWS))
        for size in BATCH_ROWS:
            if self._in_time(f"batches of {size} rows", 3 * size):
                self._unlike(size)
        if taken.sample is None and self._in_time("other sizes", ROWS_OF_LIKES):
            for other in other_sizes(self._backend, wide):
                if self._in_time(f"the sizes {', '.join(map(shape_text, other.shapes))}", ROWS_OF_LIKES):
                    self._like(self._drawn(KINDS[-1], other, 1) + self._drawn(PLAIN, other, 2))

    def verdict(self) -> TrialResult:
        """The result, if no row was changed by another."""
        unknown = self._unknown()
        if unknown is not None:
            return TrialResult(unknown_because=unknown)
        left_out = f"; left out: {', '.join(self._left_out)}" if self._left_out else ""
        compared = f"{self._comparison.batches} batches of up to {self._comparison.most_rows} rows"
        return TrialResult(said=f"{self._count} different rows, alone and in {compared}{left_out}")

    def _unknown(self) -> str | None:
        if not self._rows:
            return f"the model refused all rows that it was tried with: {self._refusal}"
        if len(self._rows) == 1:
            return (
                f"the model took a single one of the rows that it was tried with: {self._refusal or 'no other differs'}"
            )
        for place, spec in enumerate(self._backend.inputs):
            first = self._rows[0].row[place]
            if all(np.array_equal(first, tried.row[place]) for tried in self._rows[1:]):
                return f"no two rows that differ in input {spec.name!r} were taken"
        alike = [repr(spec.name) for spec in self._outputs if spec.name not in self._differing]
        if alike:
            return (
                f"output {', '.join(alike)} said the same of all {self._count} rows that were tried, so an "
                "influence could not have shown"
            )
        return self._unsought

    def _first(self, taken: AcceptedInputs, sample: Arrays | None) -> None:
        """Tries rows of the sample, or a few rows of different kinds, however long that takes."""
        rows: list[TriedRow] = []
        if sample is not None:
            given, self._refusal = self._comparison.alone(single_rows(sample)[:SAMPLE_ROWS], "of the sample")
            rows += given
        if taken.sample is None:
            for kind in KINDS[:ROWS_OF_KIND]:
                rows += self._drawn(kind, taken, 1)
            if len(rows) < 2:
                rows += self._drawn(PLAIN, taken, ROWS_OF_KIND)
        self._like(rows)

    def _drawn(self, kind: RowKind, taken: AcceptedInputs, count: int) -> list[TriedRow]:
        """Rows of a kind that the model takes. If it refuses all, the range of integers is halved."""
        if kind.largest > self._largest:
            self._left_out.append(f"rows {kind.name}, since large values make the model slow")
            return []
        for _ in range(HALVINGS):
            rows = drawn(self._rng, kind, self._backend.inputs, taken, count)
            try:
                found, refusal = self._comparison.alone(rows, kind.name, self._slow_s)
            except Slow:
                self._largest = self._fine
                return []
            halved = msgspec.structs.replace(taken, ranges=tuple([_halved(each) for each in taken.ranges]))
            if found or halved == taken:
                break
            taken = halved
        self._refusal = self._refusal or refusal
        self._fine = max(self._fine, kind.largest)
        if self._slow_s == math.inf:
            self._slow_s = max(SLOW_RUN_S, SLOWER * self._comparison.row_s)
        return found

    def _like(self, rows: list[TriedRow]) -> None:
        """Tries rows of one kind or of a sample together, in every rotation. Keeps them for batches with other rows."""
        rows = rows[: self._fitting(rows)]
        if len(rows) > 1:
            answer = _beside_others(self._comparison, rows, (0, -1))
            _in_every_place(self._comparison, rows, answer, lambda: True)
            self._differing |= self._comparison.differing_outputs(rows)
        self._count += len(rows)
        row_bytes = sum([array.nbytes for each in rows for array in (*each.row, *each.answer)])
        if self._kept_bytes + row_bytes <= KEPT_BYTES or len(self._rows) < ROWS_OF_KIND:
            self._rows += rows
            self._kept_bytes += row_bytes

    def _unlike(self, size: int) -> None:
        """Tries a batch of rows of all kinds, in its rotations while there is time, and beside copies of one row."""
        same = [tried for tried in self._rows if _shapes(tried) == _shapes(self._rows[0])]
        mingled = _mingled(same)
        rows = [mingled[place % len(mingled)] for place in range(min(size, self._fitting(mingled)))]
        answer = _beside_others(self._comparison, rows, (0, -1))
        _in_every_place(self._comparison, rows, answer, lambda: self._clock() < self._began_s + TRIAL_S)
        self._comparison.check_repeatable(rows, answer)
        self._differing |= self._comparison.differing_outputs(rows)

    def _fitting(self, rows: Sequence[TriedRow]) -> int:
        """How many of these rows one batch may have, by its memory."""
        row_bytes = max([sum([array.nbytes for array in (*each.row, *each.answer)]) for each in rows], default=1)
        return max(ROWS_OF_KIND, MOST_BYTES // max(1, row_bytes))

    def _in_time(self, what: str, rows: int) -> bool:
        """Whether there is time for so many more rows, if they are as quick as those before. Notes `what` if not."""
        now_s = self._clock()
        row_s = (now_s - self._began_s) / max(1, self._comparison.rows)
        if now_s + rows * row_s <= self._began_s + TRIAL_S:
            return True
        self._left_out.append(what)
        return False


def _beside_others(comparison: Comparison, rows: Sequence[TriedRow], places: Sequence[int]) -> Arrays:
    """Runs a batch, and compares the rows at some places with the same rows beside copies of themselves."""
    answer = comparison.together(rows)
    for place in places:
        copies = [rows[place]] * len(rows)
        comparison.same_place(rows, answer, copies, comparison.together(copies))
    return answer


def _in_every_place(
    comparison: Comparison, rows: Sequence[TriedRow], answer: Arrays, in_time: Callable[[], bool]
) -> None:
    """Compares the answer to the rows in their order with the answers to their rotations."""
    for shift in range(1, len(rows)) if len(rows) <= EVERY_PLACE_ROWS else (len(rows) // 2,):
        if not in_time():
            break
        turned = [*rows[shift:], *rows[:shift]]
        comparison.other_place(rows, answer, turned, comparison.together(turned))


def _mingled(rows: Sequence[TriedRow]) -> list[TriedRow]:
    """The rows, ordered so that neighbours are of different kinds as far as possible."""
    by_kind: dict[str, list[TriedRow]] = {}
    for tried in rows:
        by_kind.setdefault(tried.kind, []).append(tried)
    return [tried for each in zip_longest(*by_kind.values()) for tried in each if tried is not None]


def _shapes(tried: TriedRow) -> list[Shape]:
    return [array.shape for array in tried.row]


def _halved(range_: Range) -> Range:
    return range_ if range_.most <= 1 else Range(-(-range_.least // 2), range_.most // 2)
