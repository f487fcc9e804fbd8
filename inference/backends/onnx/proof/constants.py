"""Facts about what the file itself contains: tensors, and declared inputs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from sluice.inference.backends.onnx.proof.facts import MOST_CONTENT, Element, Fact, constant, rows
from sluice.inference.backends.onnx.proof.sizes import ROWS, Size, Symbols
from sluice.inference.backends.onnx.proof.structure_pb2 import Attribute, Tensor, Value

_MADE_UP = re.compile(r"(unk__|s|u)[0-9]+|\?", re.ASCII)
"""Names that tf2onnx and PyTorch make up for unnamed axes. They differ from input to input."""

_FLOAT, _INT32, _INT64, _BOOL, _FLOAT16, _DOUBLE = 1, 6, 7, 9, 10, 11
_RAW = {_FLOAT: "<f4", _INT32: "<i4", _INT64: "<i8", _BOOL: "?", _FLOAT16: "<f2", _DOUBLE: "<f8"}


def of_tensor(tensor: Tensor) -> Fact:
    """A tensor of the file, with its content if that is small."""
    shape = [Size(size) for size in tensor.dims]
    elements = math.prod(tensor.dims)
    if elements > MOST_CONTENT:
        return constant(shape)
    found = None if tensor.data_location else _elements(tensor)  # external data, whatever else it has
    return constant(shape, found if found is not None and len(found) == elements else None)


def _elements(tensor: Tensor) -> Sequence[Element] | None:
    kind = tensor.data_type
    if kind not in _RAW:
        return None
    values: Sequence[int | float | bool]
    if tensor.raw_data:
        values = np.frombuffer(tensor.raw_data, _RAW[kind]).tolist()
    elif kind == _INT64:
        values = tensor.int64_data
    elif kind in (_INT32, _BOOL):
        values = tensor.int32_data
    elif kind == _FLOAT:
        values = tensor.float_data
    elif kind == _DOUBLE:
        values = tensor.double_data
    else:
        return None
    return [element(value) for value in values] if kind != _BOOL else [bool(value) for value in values]


def element(value: int | float | bool) -> Element:
    """A number of the file as an element of a fact: whole numbers become sizes."""
    return Size(value) if isinstance(value, int) and not isinstance(value, bool) else value


def of_constant(attributes: dict[str, Attribute]) -> Fact:
    """The output of a Constant."""
    for name, attribute in attributes.items():
        if attribute.cut:
            return constant()
        match name:
            case "value":
                return of_tensor(attribute.t)
            case "value_int":
                return constant((), (Size(attribute.i),))
            case "value_float":
                return constant((), (attribute.f,))
            case "value_ints":
                return constant((Size(len(attribute.ints)),), [Size(each) for each in attribute.ints])
            case "value_floats":
                return constant((Size(len(attribute.floats)),), list(attribute.floats))
            case "value_string":
                return constant(())
            case "value_strings":
                return constant((Size(len(attribute.strings)),))
            case "sparse_value":
                return constant([Size(size) for size in attribute.sparse_tensor.dims])
    return constant()


def of_input(value: Value, symbols: Symbols) -> Fact | str:
    """The fact of an input whose axis 0 has the rows, or a sentence that says why it has not."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return f"input {value.name!r} declares no shape"
    sizes = value.type.tensor_type.shape.dim
    if not sizes:
        return f"input {value.name!r} is a single value, without an axis for rows"
    if sizes[0].HasField("dim_value") and sizes[0].dim_value >= 0:
        return f"axis 0 of input {value.name!r} has the fixed size {sizes[0].dim_value}"
    others = [
        Size(size.dim_value)
        if size.HasField("dim_value") and size.dim_value >= 0
        else symbols.of("axis of input", value.name, axis)
        for axis, size in enumerate(sizes)
        if axis
    ]
    return rows([ROWS, *others], 0)


def batch_name(value: Value) -> str | None:
    """The model's name for axis 0 of an input; `None` if it has none, or one that an exporter made up."""
    sizes = value.type.tensor_type.shape.dim
    name = sizes[0].dim_param if sizes else ""
    return None if not name or _MADE_UP.fullmatch(name) else name
