"""Whether a model keeps the rows of a batch apart: as many come out as go in, and none changes with its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from inference.backends.base import Backend
from inference.draws import RandomRows, three_rows
from inference.errors import ModelFailed
from inference.likeness import OTHER_PLACE, OTHER_SIZE, SAME_PLACE, Strictness, first_change
from inference.types import Arrays, TensorSpec

OPEN_SIZES = (3, 1)
"""Sizes for the axes of any size, in the order in which they are tried. A model that mixes rows by a wrong reshape or
transposition does not show it at size 1."""

REPEATS = 3
"""As many more answers to the same batch tell a model that mixes rows from one that never says the same twice."""

_BESIDE = "changes with the rows beside it"


class Verdict(msgspec.Struct, frozen=True):
    """What a comparison of rows found. Rows that are kept apart have neither.

    `mixed_because` has plain words for rows that influence each other, or cannot travel together. `unproven_because`
    says why nothing is known.
    """

    mixed_because: str | None = None
    unproven_because: str | None = None


def rows_lost(outputs: Sequence[TensorSpec], arrays: Arrays, rows: int) -> str | None:
    """Plain words for the first output that does not have so many rows; `None` where all of them do."""
    for spec, array in zip(outputs, arrays, strict=True):
        if not array.ndim or array.shape[0] != rows:
            size = array.shape[0] if array.ndim else "no"
            return f"axis 0 of output {spec.name!r} does not follow the rows: {rows} in, {size} out"
    return None


def answers_vary(backend: Backend, outputs: Sequence[TensorSpec]) -> str | None:
    """Plain words for the first output that differs between runs of the same random row; `None` where none was seen to.

    A model without a batch axis runs what it takes as one row. One that refuses is believed.
    """
    row = RandomRows(backend.inputs).batch(1)
    names = [spec.name for spec in outputs]
    try:
        answers = [backend.run(row, names) for _ in range(2)]
    except ModelFailed:
        return None
    for again in answers[1:]:
        changed = first_change(outputs, answers[0], again, answers, SAME_PLACE)
        if changed is not None:
            return f"output {changed!r} is not the same for the same row twice"
    return None


def rows_mixed(backend: Backend, outputs: Sequence[TensorSpec]) -> Verdict:
    """Runs different rows, alone and in pairs, and compares what comes out.

    The sharpest proof is the first row of a pair beside one neighbour and beside another: the engine does the very same
    then, so hardly any difference is rounding. A row in the other place of a pair may differ as little, and a row alone
    by more. See `likeness` for how much.
    """
    open_axes = any(None in spec.shape[1:] for spec in backend.inputs)
    names = [spec.name for spec in outputs]
    refusal = ""
    for open_size in OPEN_SIZES if open_axes else OPEN_SIZES[-1:]:
        rows = three_rows(backend.inputs, open_size)
        try:
            alone = [backend.run(row, names) for row in rows[:2]]
        except ModelFailed as error:
            refusal = str(error)
        else:
            return _Rows(backend, outputs, rows).verdict(alone)
    return Verdict(unproven_because=f"the model refused random rows: {refusal}")


class _Check(msgspec.Struct, frozen=True):
    """Two answers to the same row, and what is wrong where they differ."""

    subject: str
    fault: str
    one: Arrays
    other: Arrays
    strictness: Strictness


class _Rows:
    """Three rows of a model that takes the first two alone, and the answers to pairs of them."""

    def __init__(self, backend: Backend, outputs: Sequence[TensorSpec], rows: tuple[Arrays, Arrays, Arrays]) -> None:
        self._backend = backend
        self._outputs = outputs
        self._names = [spec.name for spec in outputs]
        self._rows = rows

    def verdict(self, alone: Sequence[Arrays]) -> Verdict:
        """`alone` are the answers to the first two rows."""
        a, b, c = self._rows
        try:
            pairs = [self._together(a, b), self._together(b, a)]
        except ModelFailed as error:
            return Verdict(mixed_because=f"the model takes one row but not two: {error}")
        try:
            pairs.append(self._together(a, c))
        except ModelFailed as error:
            return self._refused(c, error)
        lost = [rows_lost(self._outputs, answer, 1) for answer in alone]
        lost += [rows_lost(self._outputs, answer, 2) for answer in pairs]
        reason = next((each for each in lost if each is not None), None)
        if reason is not None:
            return Verdict(mixed_because=reason)
        return self._compared(alone, pairs)

    def _together(self, first: Arrays, second: Arrays) -> Arrays:
        stacked = tuple([np.concatenate(arrays) for arrays in zip(first, second, strict=True)])
        return self._backend.run(stacked, self._names)

    def _refused(self, row: Arrays, error: ModelFailed) -> Verdict:
        try:
            self._backend.run(row, self._names)
        except ModelFailed as alone:
            return Verdict(unproven_because=f"the model refused a random row: {alone}")
        return Verdict(mixed_because=f"the model takes one row but not two: {error}")

    def _compared(self, alone: Sequence[Arrays], pairs: Sequence[Arrays]) -> Verdict:
        ab, ba, ac = pairs
        seen = [*alone, *pairs]
        for check in (
            _Check("row 0 of output", _BESIDE, alone[0], _row(ab, 0), OTHER_SIZE),
            _Check("row 1 of output", _BESIDE, alone[1], _row(ab, 1), OTHER_SIZE),
            _Check("row 0 of output", _BESIDE, _row(ac, 0), _row(ab, 0), SAME_PLACE),
            _Check("a row of output", "changes with its place in the batch", _row(ba, 1), _row(ab, 0), OTHER_PLACE),
            _Check("a row of output", "changes with its place in the batch", _row(ba, 0), _row(ab, 1), OTHER_PLACE),
        ):
            changed = first_change(self._outputs, check.one, check.other, seen, check.strictness)
            if changed is None:
                continue
            if not self._repeatable(ab, seen, check.strictness):
                return Verdict(unproven_because="the model does not answer the same batch in the same way twice")
            return Verdict(mixed_because=f"{check.subject} {changed!r} {check.fault}")
        return Verdict()

    def _repeatable(self, answer: Arrays, seen: Sequence[Arrays], strictness: Strictness) -> bool:
        """Whether the first two rows together are answered as before."""
        for _ in range(REPEATS):
            again = self._together(*self._rows[:2])
            if first_change(self._outputs, answer, again, seen, strictness) is not None:
                return False
        return True


def _row(answer: Arrays, place: int) -> Arrays:
    return tuple([array[place : place + 1] for array in answer])
