"""Whether two answers to the same row are the same, up to what rounding explains. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from inference.draws import FLOATS
from inference.types import Array, Arrays, Datatype, TensorSpec


class Strictness(msgspec.Struct, frozen=True):
    """How far two answers may differ.

    `tolerances` are parts of the value itself, or of the largest value that was seen at its place in a row, whichever
    is larger; values below `least_scale` are held to that. Of the elements that are no floats, this `flipped_part` may
    differ.
    """

    tolerances: Mapping[Datatype, float]
    least_scale: float
    flipped_part: float


_TIGHT = {Datatype.FP64: 1e-5, Datatype.FP32: 1e-5, Datatype.FP16: 2e-3, Datatype.BF16: 1e-2}

OTHER_SIZE = Strictness(
    {Datatype.FP64: 1e-3, Datatype.FP32: 1e-3, Datatype.FP16: 3e-2, Datatype.BF16: 3e-2}, 1e-3, 0.01
)
"""For batches of other sizes: an engine may compute two rows by other means, and another order of sums, than one. What
is left of a difference of equal numbers is rounding alone, and rounding decides between two classes as likely."""

OTHER_PLACE = Strictness(_TIGHT, 1e-3, 0.0)
"""For batches of one size: the means are the same, but where vectors end may depend on a row's place."""

SAME_PLACE = Strictness(_TIGHT, 0.0, 0.0)
"""For the same place in batches of one size: every step is the same, so the scale of the values does not matter."""


def first_change(
    specs: Sequence[TensorSpec], one: Arrays, other: Arrays, seen: Sequence[Arrays], strictness: Strictness
) -> str | None:
    """The name of the first output in which two answers differ, and `None` where none does.

    `seen` are all answers that are known, these two among them, of one row each or more: they tell how large the values
    at each place of a row are. The values of one place say nothing of another's: boxes are larger than scores.
    """
    for place, spec in enumerate(specs):
        a, b = one[place], other[place]
        if a.shape != b.shape or not _same(spec.datatype, a, b, [answer[place] for answer in seen], strictness):
            return spec.name
    return None


def _same(datatype: Datatype, a: Array, b: Array, seen: Sequence[Array], strictness: Strictness) -> bool:
    if datatype not in FLOATS:
        return int(np.count_nonzero(a != b)) <= int(a.size * strictness.flipped_part)
    tolerance = strictness.tolerances[datatype]
    scale = np.full(a.shape[1:], strictness.least_scale)
    for rows in seen:
        if rows.shape[1:] == a.shape[1:]:
            sizes = np.abs(_numbers(datatype, rows))
            scale = np.maximum(scale, np.where(np.isfinite(sizes), sizes, 0.0).max(axis=0, initial=0.0))
    a, b = _numbers(datatype, a), _numbers(datatype, b)
    return bool(np.isclose(a, b, rtol=0.0, atol=tolerance * scale, equal_nan=True).all())


def _numbers(datatype: Datatype, array: Array) -> Array:
    if datatype is Datatype.BF16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)
