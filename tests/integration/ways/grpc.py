"""The Open Inference Protocol V2 over gRPC, by hand, with the messages of this repository: raw, and typed contents."""

from __future__ import annotations

import grpc
import numpy as np

from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.contents import FIELDS
from sluice.inference.types import STORAGE, Datatype
from tests.integration.server import PATIENCE_S, SluiceProcess
from tests.integration.ways import Arrays
from tests.integration.ways.v2_rest import DATATYPES

INFER = "/inference.GRPCInferenceService/ModelInfer"
NO_STORE = (("cache-control", "no-store"),)


def _asked(server: SluiceProcess, request: pb.ModelInferRequest) -> Arrays:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        method = channel.unary_unary(
            INFER,
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer = method(request, timeout=PATIENCE_S, metadata=NO_STORE)
    return {
        each.name: np.frombuffer(raw, STORAGE[Datatype(each.datatype)]).reshape(tuple(each.shape))
        for each, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }


def raw(server: SluiceProcess, model: str, inputs: Arrays) -> Arrays:
    request = pb.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=DATATYPES[array.dtype], shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return _asked(server, request)


def typed(server: SluiceProcess, model: str, inputs: Arrays) -> Arrays | None:
    request = pb.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        datatype = DATATYPES[array.dtype]
        if datatype not in FIELDS:
            return None
        each = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        getattr(each.contents, FIELDS[datatype]).extend(array.ravel().tolist())
    return _asked(server, request)


WAYS = {"grpc raw": raw, "grpc typed": typed}
