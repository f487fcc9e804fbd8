"""Compares answers to the same row, up to differences that rounding explains. Does no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from sluice.inference.storage import computable
from sluice.inference.types import FLOATS, Array, Arrays, Datatype, TensorSpec


class Strictness(msgspec.Struct, frozen=True):
    """How far two answers may differ.

    `tolerances` are relative to the value itself, to the largest value that was seen at its place in a row, or to
    `least_scale`, whichever is largest. Of the elements that are not floats, the part `flipped_part` may differ. If
    sums are computed in another order, a sum of huge values may become another non-finite value; with `exact`,
    non-finite values must be equal, too.
    """

    tolerances: Mapping[Datatype, float]
    least_scale: float
    flipped_part: float
    exact: bool = False


_TIGHT = {Datatype.FP64: 1e-5, Datatype.FP32: 1e-5, Datatype.FP16: 2e-3, Datatype.BF16: 1e-2}

OTHER_SIZE = Strictness(
    {Datatype.FP64: 1e-3, Datatype.FP32: 1e-3, Datatype.FP16: 3e-2, Datatype.BF16: 3e-2}, 1e-3, 0.01
)
"""For batches of different sizes: an engine may use other kernels, and sum in another order, for two rows than for one.
The difference of two nearly equal numbers may be rounding alone, and rounding may decide between two equally likely
classes."""

OTHER_PLACE = Strictness(_TIGHT, 1e-3, 0.0)
"""For different places in batches of the same size: kernels are the same, but vectors may end elsewhere in a row."""

SAME_PLACE = Strictness(_TIGHT, 0.0, 0.0, exact=True)
"""For the same place in batches of the same size: every step is the same, so the scale of the values is irrelevant."""


class Difference(msgspec.Struct, frozen=True):
    """The first output that differs, and the first row in which it does."""

    output: str
    row: int


def scale_of(specs: Sequence[TensorSpec], answers: Sequence[Arrays]) -> Arrays:
    """The largest value at each place of a row: the scale by which answers to rows of the same kind are compared.

    Each answer has one row or more. Each place has a scale of its own, since, for example, boxes are larger than
    scores. Answers with another shape than the first one are left out.
    """
    scales = []
    for place, spec in enumerate(specs):
        first = answers[0][place]
        scale = np.zeros(first.shape[1:])
        if spec.datatype in FLOATS:
            for answer in answers:
                if answer[place].shape[1:] == scale.shape:
                    scale = np.maximum(scale, _sizes(spec.datatype, answer[place]).max(axis=0, initial=0.0))
        scales.append(scale)
    return tuple(scales)


def first_change(
    specs: Sequence[TensorSpec], one: Arrays, other: Arrays, scale: Sequence[Arrays], strictness: Strictness
) -> Difference | None:
    """The first difference of two answers with the same number of rows; `None` if there is none.

    `scale` has for each row the `scale_of` the answers to rows of its kind.
    """
    for place, spec in enumerate(specs):
        a, b = one[place], other[place]
        if a.shape != b.shape:
            return Difference(spec.name, 0)
        rows = _changed_rows(spec.datatype, a, b, [each[place] for each in scale], strictness)
        if rows.any():
            return Difference(spec.name, int(rows.argmax()))
    return None


def _changed_rows(datatype: Datatype, a: Array, b: Array, scale: Sequence[Array], strictness: Strictness) -> Array:
    """For each row, whether it differs."""
    inner = tuple(range(1, a.ndim))
    if datatype not in FLOATS:
        row_elements = math.prod(a.shape[1:])
        flipped: Array = np.asarray(np.count_nonzero(a != b, axis=inner))
        return flipped > int(row_elements * strictness.flipped_part)
    allowed = np.maximum(_sizes(datatype, a), _sizes(datatype, b))
    for row, each in enumerate(scale):
        if each.shape == allowed.shape[1:]:
            allowed[row] = np.maximum(allowed[row], each)
    allowed = strictness.tolerances[datatype] * np.maximum(allowed, strictness.least_scale)
    one, other = _numbers(datatype, a), _numbers(datatype, b)
    same: Array = np.isclose(one, other, rtol=0.0, atol=allowed, equal_nan=True)
    if not strictness.exact:
        same |= ~(np.isfinite(one) | np.isfinite(other))
    changed: Array = np.asarray(~same.all(axis=inner))
    return changed


def _sizes(datatype: Datatype, array: Array) -> Array:
    sizes: Array = np.abs(_numbers(datatype, array))
    return np.where(np.isfinite(sizes), sizes, 0.0)


def _numbers(datatype: Datatype, array: Array) -> Array:
    return computable(array, datatype).astype(np.float64)
