"""A row that was answered in a batch, with as much of the batch as is worth keeping. Pure."""

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
"""Inputs and answers together, at most: two rows of a large detector. A row larger than that is not looked at."""

BY_CHANCE = 0.5
"""So often any row is taken; otherwise the one that is least like those that were looked at."""

KNOWN_KINDS = 64
LARGEST = 1e100


class Sample(msgspec.Struct, frozen=True):
    """Rows of one batch, in their order, with what the batch gave for them; one of them is to be looked at.

    `inputs` has the rows that were kept: all of the batch if it is `whole`. `answers` has a row for each of them,
    unless the batch's outputs did not have its rows. `place` is where the row stands in both, and `batch_s` what the
    engine took for the whole batch. Nothing of it is shared with the batch.
    """

    inputs: Arrays
    answers: Arrays
    outputs: tuple[str, ...]
    place: int
    batch_rows: int
    batch_s: float

    @property
    def rows(self) -> int:
        """How many were kept."""
        return int(self.inputs[0].shape[0])

    @property
    def whole(self) -> bool:
        """Whether all of the batch was."""
        return self.rows == self.batch_rows

    @property
    def row(self) -> Arrays:
        """The inputs of the row alone."""
        return row_of(self.inputs, self.place)

    @property
    def size_bytes(self) -> int:
        """The memory that is kept."""
        return size_bytes(self.inputs) + size_bytes(self.answers)

    @property
    def content(self) -> int:
        """A number that is the same for the same row."""
        seen = 0
        for array in self.row:
            seen = crc32(b"\0".join(array.ravel()) if array.dtype.hasobject else array.tobytes(), seen)
        return seen


def row_of(arrays: Arrays, place: int) -> Arrays:
    """One row, as a batch of its own."""
    return tuple([array[place : place + 1] for array in arrays])


def rows_of(parts: Sequence[Arrays]) -> int:
    """The rows of a batch that is made of these parts."""
    return sum([part[0].shape[0] for part in parts])


def sample_of(
    parts: Sequence[Arrays], outputs: Sequence[str], result: BatchResult, choice: Choice, kept_bytes: int = KEPT_BYTES
) -> Sample | None:
    """What is kept of a batch; `None` where one row of it is too much."""
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
    """Which row is looked at. Knows how large the values of the rows were that have been, for each kind of row.

    A model that treats rows well until something is large, small or long is found sooner by the rows that are so.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self._known: OrderedDict[Hashable, tuple[Array, Array]] = OrderedDict()

    def place(self, outputs: tuple[str, ...], inputs: Arrays) -> int:
        """The place of a row to look at, which counts as looked at from now on."""
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
    """For each row, the largest, the smallest and the mean value of each input; of BYTES, of their lengths."""
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
    """How far each row's traits are outside of these, at the most, where what lies between them is 1."""
    beyond = np.maximum(traits - high, low - traits)
    return np.asarray((beyond / np.maximum(high - low, 1e-9)).max(axis=1, initial=0.0))
