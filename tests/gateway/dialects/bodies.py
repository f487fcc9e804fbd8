"""Request bodies and signatures for tests, and what there is to compare in a decoded request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.v2.codec import V2
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.types import Array, Datatype, InferenceRequest, Shape, Signature, Tensor, TensorSpec


def signature_of(datatype: Datatype = Datatype.FP32, rank: int = 2) -> Signature:
    shape = (None,) * rank
    return Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),), batched=False)


def callee_of(signature: Signature | None = None, config: ModelConfig | None = None) -> Callee:
    return Callee("m", 1, signature_of() if signature is None else signature, config or ModelConfig())


def body_of(data: str, shape: Sequence[int] | str, datatype: str = "FP32", rest: str = "") -> bytes:
    """A request with the input `x`; `data` and `rest` are JSON texts."""
    dims = shape if isinstance(shape, str) else json.dumps(list(shape))
    return f'{{"inputs":[{{"name":"x","shape":{dims},"datatype":"{datatype}","data":{data}}}]{rest}}}'.encode()


def decode(body: bytes | bytearray, datatype: Datatype = Datatype.FP32) -> InferenceRequest:
    return V2().decode(body, (), callee_of(signature_of(datatype)))


def decoded(data: str, shape: Sequence[int], datatype: Datatype = Datatype.FP32) -> Array:
    """The array of a request's only input."""
    return decode(body_of(data, shape, datatype), datatype).inputs[0].array


def nested(flat: Sequence[Any], shape: Shape) -> Any:
    """The same elements, nested as the shape is."""
    if not shape:
        return flat[0]
    step = len(flat) // shape[0] if shape[0] else 0
    return [nested(flat[row * step : (row + 1) * step], shape[1:]) for row in range(shape[0])]


def contents(tensor: Tensor) -> tuple[str, Datatype, Shape, str, Any]:
    """Everything about a tensor that an equal one shares, floats bit for bit."""
    array = tensor.array
    elements = array.ravel().tolist() if tensor.datatype is Datatype.BYTES else array.tobytes()
    return tensor.name, tensor.datatype, array.shape, str(array.dtype), elements


def facts(request: InferenceRequest) -> tuple[Any, ...]:
    """Everything about a request that an equal one shares."""
    return [contents(tensor) for tensor in request.inputs], request.outputs, request.id, dict(request.parameters)
