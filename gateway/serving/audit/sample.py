"""A row that was answered in a batch, kept with other rows of the batch. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from random import Random
from zlib import crc32

import msgspec
import numpy as np

from sluice.batching.job import size_bytes
from sluice.inference.types import Array, Arrays, BatchResult

KEPT_BYTES = 16 << 20
"""Inputs and answers of a sample together, at most: two rows of a large detector. A larger row is never audited."""

BY_CHANCE = 0.5
"""The probability that any row is chosen; otherwise it is the one that is least like those audited before."""

KNOWN_KINDS = 64
LARGEST = 1e100


class Sample(msgspec.Struct, frozen=True):
    """Rows of one batch, in their order, with their answers; one of them will be audited.

    `inputs` has the rows that were kept: all rows of the batch if it is `whole`. `answers` has a row for each of them,
    unless the batch's outputs lost their rows. `place` is the index of the audited row in both, and `batch_s` the
    engine's time for the whole batch. Arrays are copies.
    """

    inputs: Arrays
    answers: Arrays
    outputs: tuple[str, ...]
    place: int
    batch_rows: int
    batch_s: float

    @property
    def rows(self) -> int:
        """How many rows were kept."""
        return int(self.inputs[0].shape[0])

    @property
    def whole(self) -> bool:
        """Whether all rows of the batch were kept."""
        return self.rows == self.batch_rows

    @property
    def row(self) -> Arrays:
        """The inputs of the row alone."""
        return row_of(self.inputs, self.place)

    @property
    def size_bytes(self) -> int:
        """The memory that the sample takes."""
        return size_bytes(self.inputs) + size_bytes(self.answers)

    @property
    def content(self) -> int:
        """A checksum of the row."""
        seen = 0
        for array in self.row:
            seen = crc32(b"\0".join(array.ravel()) if array.dtype.hasobject else array.tobytes(), seen)
        return seen


def row_of(arrays: Arrays, place: int) -> Arrays:
    """One row, as a batch of its own."""
    return tuple([array[place : place + 1] for array in arrays])


def rows_of(parts: Sequence[Arrays]) -> int:
    """How many rows a batch of these parts has."""
    return sum([part[0].shape[0] for part in parts])


def sample_of(
    parts: Sequence[Arrays], outputs: Sequence[str], result: BatchResult, choice: Choice, kept_bytes: int = KEPT_BYTES
) -> Sample | None:
    """The sample of a batch; `None` where even one row of it is too large."""
    rows = rows_of(parts)
    row_bytes = max(1, (sum(map(size_bytes, parts)) + size_bytes(result.outputs)) // rows)
    lost = any([array.shape[:1] != (rows,) for array in result.outputs])
    most_rows = min(rows, kept_bytes // row_bytes)
    if not most_rows or (lost and most_rows < rows):
        return None
    start = choice.random.randrange(rows - most_rows + 1)
    inputs = tuple([_cut(arrays, start, start + most_rows) for arrays in zip(*parts, strict=True)])
    answers = tuple([(array if lost else array[start : start + most_rows]).copy() for array in result.outputs])
    names = tuple(outputs)
    sample = Sample(inputs, answers, names, choice.place(names, inputs), rows, result.compute_s)
    return sample if sample.size_bytes <= kept_bytes else None  # rows of BYTES may be larger than others


def _cut(arrays: Sequence[Array], start: int, stop: int) -> Array:
    """The rows from `start` up to `stop` of arrays that follow each other, copied."""
    pieces: list[Array] = []
    for array in arrays:
        if start < array.shape[0] and stop > 0:
            pieces.append(array[max(0, start) : stop])
        start -= array.shape[0]
        stop -= array.shape[0]
    return np.concatenate(pieces)


class Choice:
    """Chooses the row to audit. For each kind of row, it remembers the range of values that audited rows had.

    Rows outside of this range are preferred: they find a model sooner that mixes rows only when a value is large, small
    or long.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self._known: OrderedDict[Hashable, tuple[Array, Array]] = OrderedDict()

    def place(self, outputs: tuple[str, ...], inputs: Arrays) -> int:
        """The index of a row to audit, which counts as audited from now on."""
        traits = _traits(inputs)
        rows = len(traits)
        key = (outputs, tuple([array.shape[1:] for array in inputs]))
        known = self._known.pop(key, None)
        strangeness = np.zeros(rows) if known is None else _outside(traits, *known)
        strange = self.random.random() >= BY_CHANCE and strangeness.max() > 0.0
        place = int(strangeness.argmax()) if strange else self.random.randrange(rows)
        own = traits[place]
        low, high = (own, own) if known is None else (np.minimum(known[0], own), np.maximum(known[1], own))
        self._known[key] = (low, high)
        if len(self._known) > KNOWN_KINDS:
            self._known.popitem(last=False)
        return place


def _traits(inputs: Arrays) -> Array:
    """For each row, the largest, the smallest and the mean value of each input; for BYTES, of the lengths."""
    columns: list[Array] = []
    for array in inputs:
        rows = array.shape[0]
        flat = array.reshape(rows, -1)
        if array.dtype.hasobject:
            flat = np.array([[len(element) for element in row] for row in flat.tolist()], np.int64).reshape(rows, -1)
        if flat.shape[1]:
            with np.errstate(all="ignore"):
                columns += [flat.max(axis=1), flat.min(axis=1), flat.mean(axis=1, dtype=np.float64)]
    traits = np.zeros((inputs[0].shape[0], 1 + len(columns)))
    for place, column in enumerate(columns):
        traits[:, place] = np.clip(np.nan_to_num(column.astype(np.float64)), -LARGEST, LARGEST)
    return traits


def _outside(traits: Array, low: Array, high: Array) -> Array:
    """How far each row's traits lie outside of the range at most, in units of the range."""
    beyond = np.maximum(traits - high, low - traits)
    return np.asarray((beyond / np.maximum(high - low, 1e-9)).max(axis=1, initial=0.0))
