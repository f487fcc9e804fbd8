"""bfloat16, which numpy does not have: the upper 16 bits of a float32, in a uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sluice.inference.types import Array, Datatype


def from_float64(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16 to each finite value, ties to even. Raises `OverflowError` if one would be infinite."""
    with np.errstate(over="ignore"):
        singles = values.astype(np.float32)
    back = singles.astype(np.float64)
    # Rounding twice is wrong where the first rounding ends on a tie of the second. So the first one becomes "round
    # towards zero, then set the last bit if anything was lost", which neither makes nor breaks ties.
    bits = singles.view(np.uint32) - (np.abs(back) > np.abs(values)).astype(np.uint32)
    bits |= (back != values).astype(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if ((rounded & 0x7FFF) >= 0x7F80).any():
        raise OverflowError("beyond the range of bfloat16")
    return rounded


def from_any_float64(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """As `from_float64`, of values that may be infinite or NaN: those stay what they are."""
    odd = ~np.isfinite(values)
    bits = from_float64(np.where(odd, 0.0, values))
    bits[odd] = values[odd].astype(np.float32).view(np.uint32) >> 16
    return bits


def to_float32(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The same values, exactly: every bfloat16 is a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def as_numbers(datatype: Datatype, array: Array) -> Array:
    """An array of this datatype as numbers that can be compared: BF16 widened to float32, any other as it is."""
    return to_float32(array) if datatype is Datatype.BF16 else array
