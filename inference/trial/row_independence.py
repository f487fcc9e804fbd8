"""Runs rows alone and together, and compares the answers: there must be one for each row, the same in both cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from sluice.inference.backends.base import Backend
from sluice.inference.errors import ModelFailed
from sluice.inference.storage import stored
from sluice.inference.trial.comparison import OTHER_PLACE, OTHER_SIZE, SAME_PLACE, Strictness, first_change, scale_of
from sluice.inference.types import FLOATS, Array, Arrays, TensorSpec

REPEATS = 3
"""So many further runs of the same batch tell a model that mixes rows from one whose answers always vary."""

NUDGE = 1e-6
"""If a row's answer changes when its values change by this part, the row is sensitive to rounding: when its answer is
another one in a batch, that says nothing about the other rows."""

BESIDE = "changes with the rows beside it"
PLACE = "changes with its place in the batch"


class Mixed(Exception):
    """Rows influence each other, or cannot be in one batch; the message says which rows and how."""


class Varies(Exception):
    """The model answers the same batch differently the next time; the message says what was seen."""


class Slow(Exception):
    """The first of some rows took too long."""


class TriedRow(msgspec.Struct, frozen=True, eq=False):
    """A row, the answer to it alone, and the scale of the answers to rows of its kind."""

    row: Arrays
    answer: Arrays
    scale: Arrays
    kind: str


def rows_lost(outputs: Sequence[TensorSpec], arrays: Arrays, rows: int) -> str | None:
    """A sentence about the first output that does not have so many rows; `None` if all have."""
    for spec, array in zip(outputs, arrays, strict=True):
        if not array.ndim or array.shape[0] != rows:
            size = array.shape[0] if array.ndim else "no"
            return f"axis 0 of output {spec.name!r} does not follow the rows: {rows} in, {size} out"
    return None


def answers_vary(backend: Backend, outputs: Sequence[TensorSpec], request: Arrays, answer: Arrays) -> str | None:
    """A sentence about the first output that differs when a request is run again; `None` if none does."""
    try:
        again = backend.run(request, [spec.name for spec in outputs])
    except ModelFailed:
        return None
    one, other = [tuple([array[np.newaxis] for array in arrays]) for arrays in (answer, again)]
    change = first_change(outputs, one, other, [scale_of(outputs, [one, other])], SAME_PLACE)
    return None if change is None else f"output {change.output!r} is not the same for the same row twice"


class Comparison:
    """Runs rows of one model, alone and together, and compares their answers.

    Counts the `rows` and `batches` that ran; `most_rows` is the size of the largest batch. `row_s` is how long the
    first row took in the last call of `alone`.
    """

    def __init__(self, backend: Backend, outputs: Sequence[TensorSpec], clock: Callable[[], float]) -> None:
        self.rows = 0
        self.batches = 0
        self.most_rows = 0
        self.row_s = 0.0
        self._clock = clock
        self._unsure: list[TriedRow] = []
        self._backend = backend
        self._outputs = outputs
        self._names = [spec.name for spec in outputs]

    def alone(self, rows: Sequence[Arrays], kind: str, slow_s: float = math.inf) -> tuple[list[TriedRow], str | None]:
        """Runs each row alone. Returns those that the model takes, and its words about the first that it refuses.

        Raises `Mixed` if the answer to one row is not one row, and `Slow` if the first row takes longer than `slow_s`.
        """
        answered: list[tuple[Arrays, Arrays]] = []
        refusal: str | None = None
        for row in rows:
            try:
                row_s = self.row_s
                answer = self._timed(row)
                if answered:
                    self.row_s = row_s
                elif self.row_s > slow_s:
                    answer = self._timed(row)  # the machine may have been busy during the first run
            except ModelFailed as error:
                refusal = refusal or str(error)
                continue
            if (lost := rows_lost(self._outputs, answer, 1)) is not None:
                raise Mixed(lost)
            if self.row_s > slow_s:
                raise Slow
            answered.append((row, answer))
        if not answered:
            return [], refusal
        scale = scale_of(self._outputs, [answer for _, answer in answered])
        return [TriedRow(row, answer, scale, kind) for row, answer in answered], refusal

    def together(self, rows: Sequence[TriedRow]) -> Arrays:
        """The answer to a batch of rows. Raises `Mixed` if a row is not answered as alone, and `Varies`."""
        answer = self._run(rows)
        self.batches += 1
        self.most_rows = max(self.most_rows, len(rows))
        for at, tried in enumerate(rows):
            for spec, alone, whole in zip(self._outputs, tried.answer, answer, strict=True):
                if alone.shape[1:] != whole.shape[1:]:
                    self._check_repeatable(rows, answer)
                    raise Mixed(
                        f"row {at} of output {spec.name!r} has the shape {list(whole.shape[1:])} beside other "
                        f"rows, and {list(alone.shape[1:])} alone"
                    )
        expected = tuple([np.concatenate(each) for each in zip(*[tried.answer for tried in rows], strict=True)])
        self._hold(rows, expected, answer, OTHER_SIZE, BESIDE)
        return answer

    def same_place(self, rows: Sequence[TriedRow], answer: Arrays, others: Sequence[TriedRow], other: Arrays) -> None:
        """Compares the answers to rows that are at the same place in two batches of the same size.

        This is the sharpest test: the engine does the same steps for such a row, so rounding explains hardly any
        difference. Raises `Mixed` and `Varies`.
        """
        places = [place for place, tried in enumerate(rows) if tried is others[place]]
        one, two = _taken(answer, places), _taken(other, places)
        self._hold([rows[place] for place in places], one, two, SAME_PLACE, BESIDE, whole=(rows, answer))

    def other_place(self, rows: Sequence[TriedRow], answer: Arrays, others: Sequence[TriedRow], other: Arrays) -> None:
        """Compares the answers to rows at different places in two batches of the same size. Raises likewise."""
        where = {id(tried): place for place, tried in enumerate(others)}
        moved = [place for place, tried in enumerate(rows) if id(tried) in where]
        one = _taken(answer, moved)
        two = _taken(other, [where[id(rows[place])] for place in moved])
        self._hold([rows[place] for place in moved], one, two, OTHER_PLACE, PLACE, whole=(rows, answer))

    def differing_outputs(self, rows: Sequence[TriedRow]) -> set[str]:
        """The outputs that differ between these rows, each run alone.

        Rows that are sensitive to rounding are left out, since nothing was learnt from them.
        """
        rows = [tried for tried in rows if all(tried is not unsure for unsure in self._unsure)]
        found: set[str] = set()
        for place, spec in enumerate(self._outputs):
            for tried in rows[1:]:
                if first_change((spec,), (rows[0].answer[place],), (tried.answer[place],), [], OTHER_SIZE) is not None:
                    found.add(spec.name)
                    break
        return found

    def check_repeatable(self, rows: Sequence[TriedRow], answer: Arrays) -> None:
        """Runs the batch again. Raises `Varies` if the answer differs."""
        again = self._run(rows)
        scales = [tried.scale for tried in rows]
        change = first_change(self._outputs, answer, again, scales, SAME_PLACE)
        if change is not None:
            raise Varies(f"output {change.output!r} is not the same for the same batch twice")

    def _timed(self, row: Arrays) -> Arrays:
        began_s = self._clock()
        answer = self._backend.run(row, self._names)
        self.row_s = self._clock() - began_s
        self.rows += 1
        return answer

    def _run(self, rows: Sequence[TriedRow]) -> Arrays:
        self.rows += len(rows)
        stacked = tuple([np.concatenate(arrays) for arrays in zip(*[tried.row for tried in rows], strict=True)])
        try:
            answer = self._backend.run(stacked, self._names)
        except ModelFailed as error:
            raise Mixed(f"the model takes each of {len(rows)} rows alone, but not together: {error}") from None
        if (lost := rows_lost(self._outputs, answer, len(rows))) is not None:
            raise Mixed(lost)
        return answer

    def _hold(
        self,
        rows: Sequence[TriedRow],
        one: Arrays,
        other: Arrays,
        strictness: Strictness,
        fault: str,
        whole: tuple[Sequence[TriedRow], Arrays] | None = None,
    ) -> None:
        left = list(range(len(rows)))
        checked = False
        while left:
            scales = [rows[place].scale for place in left]
            change = first_change(self._outputs, _taken(one, left), _taken(other, left), scales, strictness)
            if change is None:
                return
            if not checked:
                self._check_repeatable(*(whole or (rows, other)))
                checked = True
            place = left[change.row]
            if strictness is SAME_PLACE or not self._is_sensitive_to_rounding(rows[place], change.output):
                raise Mixed(f"row {place} of output {change.output!r} {fault}")
            self._unsure.append(rows[place])
            left.remove(place)

    def _check_repeatable(self, rows: Sequence[TriedRow], answer: Arrays) -> None:
        for _ in range(REPEATS):
            self.check_repeatable(rows, answer)

    def _is_sensitive_to_rounding(self, tried: TriedRow, output: str) -> bool:
        """Whether the output changes as well if the row, alone, is changed by as little as rounding may change it."""
        nudged = tuple([_nudged(spec, array) for spec, array in zip(self._backend.inputs, tried.row, strict=True)])
        try:
            answer = self._backend.run(nudged, self._names)
        except ModelFailed:
            return False
        place = self._names.index(output)
        specs, scales = (self._outputs[place],), [(tried.scale[place],)]
        return first_change(specs, (tried.answer[place],), (answer[place],), scales, OTHER_SIZE) is not None


def _nudged(spec: TensorSpec, array: Array) -> Array:
    if spec.datatype not in FLOATS or array.dtype.kind != "f":
        return array
    signs = np.where(np.arange(array.size).reshape(array.shape) % 2, 1.0, -1.0)
    return stored(array.astype(np.float64) * (1.0 + NUDGE * signs), spec.datatype)


def _taken(answer: Arrays, places: Sequence[int]) -> Arrays:
    return tuple([array[list(places)] for array in answer])
