"""The typed contents of a tensor in gRPC: which field each datatype has, and how it becomes an array."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from sluice.gateway.dialects.formats.body_bounds import check_strings
from sluice.gateway.dialects.formats.json_forms import shown
from sluice.gateway.dialects.formats.raw_tensors import shaped
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import STORAGE, Array, Datatype, Shape, Tensor

FIELDS: Mapping[Datatype, str] = MappingProxyType(
    {
        Datatype.BOOL: "bool_contents",
        Datatype.INT8: "int_contents",
        Datatype.INT16: "int_contents",
        Datatype.INT32: "int_contents",
        Datatype.INT64: "int64_contents",
        Datatype.UINT8: "uint_contents",
        Datatype.UINT16: "uint_contents",
        Datatype.UINT32: "uint_contents",
        Datatype.UINT64: "uint64_contents",
        Datatype.FP32: "fp32_contents",
        Datatype.FP64: "fp64_contents",
        Datatype.BYTES: "bytes_contents",
    }
)

WIDE: Mapping[str, type[np.generic]] = MappingProxyType({"int_contents": np.int32, "uint_contents": np.uint32})
"""Fields that also have narrower datatypes, and the type of their elements."""


def tensor_from_contents(
    name: str, datatype: Datatype, shape: Shape, count: int, contents: pb.InferTensorContents
) -> Tensor:
    """The tensor of an input with `count` elements. Raises `InvalidRequest` if the contents are others."""
    field = FIELDS.get(datatype)
    if field is None:
        raise InvalidRequest(f"input {shown(name)}: {datatype} has no typed contents; send it in raw_input_contents")
    for other, _ in contents.ListFields():
        if other.name != field:
            raise InvalidRequest(f"input {shown(name)} has {other.name}; {datatype} takes {field}")
    values = getattr(contents, field)
    if len(values) != count:
        raise InvalidRequest(
            f"input {shown(name)} has {len(values)} elements in {field}; its shape {shown(list(shape))} takes {count}"
        )
    if datatype is Datatype.BYTES:
        check_strings(name, count)
        strings = np.empty(count, np.object_)
        strings[:] = list(values)
        return Tensor(name, datatype, shaped(name, strings, shape))
    dtype = STORAGE[datatype]
    wide = np.fromiter(values, WIDE.get(field, dtype), count)
    array = wide if wide.dtype == dtype else _narrowed(name, datatype, wide)
    return Tensor(name, datatype, shaped(name, array, shape))


def _narrowed(name: str, datatype: Datatype, wide: Array) -> Array:
    limits = np.iinfo(STORAGE[datatype])
    outside = np.flatnonzero((wide < limits.min) | (wide > limits.max))
    if len(outside):
        at = int(outside[0])
        raise InvalidRequest(
            f"input {shown(name)}, element {at}: {wide[at]} is not {datatype}; expected {limits.min} to {limits.max}"
        )
    return wide.astype(STORAGE[datatype])
