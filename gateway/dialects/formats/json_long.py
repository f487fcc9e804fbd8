"""Reads long V2 tensors out of JSON text a piece at a time: the same as `tensor_from_json`, but in little memory."""

from __future__ import annotations

import struct
from itertools import chain

import simdjson

from sluice.gateway.dialects.formats.json_forms import ElementForm, array_of, element_count, shown
from sluice.gateway.dialects.formats.json_nested import tensor_from_text
from sluice.gateway.dialects.formats.json_pieces import Gathering, commas_in, depth_of
from sluice.gateway.dialects.formats.json_reference import NotJson, elements_of, length_of
from sluice.gateway.dialects.formats.json_tape import UNUSUAL, list_on_tape, numbers_from_tape
from sluice.gateway.dialects.formats.json_typed import MAX_TYPED_AXES, nested_decoder
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Array, Shape, Tensor, TensorSpec


def long_tensor_from_json(name: str, form: ElementForm, shape: Shape, data: memoryview) -> Tensor:
    """One input from its JSON text, which is a list.

    Raises `InvalidRequest`, naming the input and what was expected, and `NotJson` if it cannot be cut into pieces.
    Messages count places from the beginning of a piece, and say how many rows or elements come before it.
    """
    count = element_count(name, shape)
    most = commas_in(data) + 1
    if count > most:
        raise InvalidRequest(
            f"input {shown(name)}: data has {most} elements at most; expected {count}, as in shape {shown(list(shape))}"
        )
    nested = len(shape) > 1 and depth_of(data) > 0
    gathering = Gathering((TensorSpec(name, form.datatype, shape),), most, None)
    gathering.read(data, _Reader(name, form, shape[1:] if nested else ()))
    [tensor] = gathering.tensors()
    if tensor.array.shape != (shape if nested else (count,)):
        raise InvalidRequest(
            f"input {shown(name)}: data has the shape {shown(list(tensor.array.shape))}; expected "
            f"{shown(list(shape))}, or its elements in one list"
        )
    return Tensor(name, form.datatype, tensor.array.reshape(shape))


class _Reader:
    """Reads pieces one after the other. Each is a list of rows of the shape `own`."""

    def __init__(self, name: str, form: ElementForm, own: Shape) -> None:
        self._name = name
        self._form = form
        self._own = own
        self._rows = 0

    def __call__(self, piece: bytes, level: int) -> tuple[Array]:
        own = self._own[level:]
        array = self._quickly(piece, own)
        if array is None:
            array = self._thoroughly(piece, own)
        self._rows += len(array)
        return (array,)

    def _quickly(self, piece: bytes, own: Shape) -> Array | None:
        """The rows; `None` if anything about them is unusual."""
        try:
            if not self._form.carrier:
                return self._typed(piece, own)
            if not own:
                if piece.find(b"[", 1) >= 0:
                    return None
                return numbers_from_tape(self._form, (-1,), list_on_tape(simdjson.Parser().parse(piece)))
            tensor = tensor_from_text(TensorSpec(self._name, self._form.datatype, (None, *own)), piece)
        except (*UNUSUAL, struct.error):
            return None
        return tensor.array if tensor is not None and tensor.array.shape[1:] == own else None

    def _typed(self, piece: bytes, own: Shape) -> Array:
        if not own:
            values = self._form.flat.decode(piece)
            return array_of(self._form, values, (len(values),))
        if len(own) >= MAX_TYPED_AXES:
            raise ValueError("nested more deeply than is usual")
        rows = nested_decoder(self._form.datatype, 1 + len(own)).decode(piece)
        count = len(rows)
        for size in own:
            if any([len(row) != size for row in rows]):
                raise ValueError("not nested as the shape says")
            rows = list(chain.from_iterable(rows))
        return array_of(self._form, rows, (count, *own))

    def _thoroughly(self, piece: bytes, own: Shape) -> Array:
        try:
            shape = (length_of(self._name, piece), *own)
            return array_of(self._form, elements_of(self._name, self._form, shape, piece), shape)
        except NotJson:
            raise
        except InvalidRequest as fault:
            raise InvalidRequest(f"{fault} (behind {self._rows} others that were read before)") from None
