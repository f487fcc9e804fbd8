"""The highest values of an output, as classes with names."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from sluice.gateway.dialects.formats import bfloat16
from sluice.gateway.dialects.formats.json_forms import shown
from sluice.gateway.dialects.formats.slices import Text, rows_at_a_time
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Array, Datatype, Tensor

RANKS = 2048
"""Strings that are made in one step of an answer, at most."""


def top_classes(values: Array, count: int) -> Array:
    """The indices of the highest values along the last axis, highest first, `count` at most: int64[..., n].

    Of equal values the first one comes first. NaN comes last.
    """
    # The values are sorted upwards and read backwards. Sorting their negatives would be wrong: the smallest integer is
    # its own negative, and unsigned ones wrap around.
    ascending = np.argsort(_sortable(values)[..., ::-1], axis=-1, kind="stable")
    places: Array = values.shape[-1] - 1 - ascending[..., ::-1][..., :count]
    return places


def classified_in_steps(
    tensor: Tensor, count: int, labels: Sequence[str], *, batched: bool
) -> Generator[None, None, Tensor]:
    """The tensor with the strings `value:index[:label]` of each row's highest values: BYTES[rows, count].

    If the model is not `batched`, BYTES[count]. Raises `InvalidRequest` for an output of strings or without values, and
    `RequestTooLarge` where long labels would make the answer too long.
    """
    array = tensor.array
    if tensor.datatype is Datatype.BYTES:
        raise InvalidRequest(f"output {shown(tensor.name)} holds strings; only numbers can be classified")
    rows = array.shape[0] if batched and array.ndim else 1
    if array.size == 0 or array.ndim == 0:
        raise InvalidRequest(f"output {shown(tensor.name)} of shape {list(array.shape)} has no classes to choose from")
    flat = array.reshape(rows, -1)
    strings = np.empty((rows, min(count, flat.shape[1])), np.object_)
    text = Text()
    for part in rows_at_a_time(rows, flat.shape[1]):
        some = bfloat16.as_numbers(tensor.datatype, flat[part])
        places = top_classes(some, count)
        for row, chosen in enumerate(places.tolist()):
            for begin in range(0, len(chosen), RANKS):
                for rank, place in enumerate(chosen[begin : begin + RANKS], begin):
                    told = strings[part.start + row, rank] = _text(some[row, place].item(), place, labels).encode()
                    text.weigh(len(told))
                if len(chosen) > RANKS:
                    yield
        if rows > part.stop:
            yield
    return Tensor(tensor.name, Datatype.BYTES, strings if batched else strings[0])


def _text(value: float | int, place: int, labels: Sequence[str]) -> str:
    # Floats have six decimals, as Triton has them.
    number = f"{value:f}" if isinstance(value, float) else str(int(value))
    return f"{number}:{place}:{labels[place]}" if place < len(labels) else f"{number}:{place}"


def _sortable(values: Array) -> Array:
    """The values with minus infinity in the place of NaN, which sorting would put highest."""
    return np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf) if values.dtype.kind == "f" else values
