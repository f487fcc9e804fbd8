"""Serialized requests for tests, with one input `x`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.codec import GrpcInfer
from sluice.inference.types import Datatype, InferenceRequest
from tests.gateway.dialects.bodies import callee_of, signature_of


def raw_request(raw: bytes, shape: Sequence[int], datatype: str = "FP32") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return request


def typed_request(
    values: Sequence[Any], field: str, shape: Sequence[int], datatype: str = "FP32"
) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m")
    each = request.inputs.add(name="x", datatype=datatype, shape=shape)
    getattr(each.contents, field).extend(values)
    return request


def decode(request: pb.ModelInferRequest) -> InferenceRequest:
    return GrpcInfer().decode(request.SerializeToString(), (), callee_of(signature_of(Datatype.FP32)))
