"""Our messages are Triton's on the wire: each field has the number and the type that it has there."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor
from tritonclient.grpc import model_config_pb2, service_pb2

from sluice.gateway.dialects.v2_grpc import inference_pb2


def messages(descriptor: Descriptor) -> list[Descriptor]:
    return [descriptor, *[inner for each in descriptor.nested_types for inner in messages(each)]]


OURS = [each for message in inference_pb2.DESCRIPTOR.message_types_by_name.values() for each in messages(message)]
THEIRS = {
    each.full_name: each
    for module in (service_pb2, model_config_pb2)
    for message in module.DESCRIPTOR.message_types_by_name.values()
    for each in messages(message)
}


@pytest.mark.parametrize("ours", OURS, ids=lambda each: each.full_name)
def test_fields_are_triton_s(ours: Descriptor) -> None:
    theirs = THEIRS[ours.full_name]
    for field in ours.fields:
        there = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (there.number, there.type, there.is_repeated)


def test_methods_are_triton_s() -> None:
    ours = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for name, method in ours.methods_by_name.items():
        there = theirs.methods_by_name[name]
        assert method.input_type.full_name == there.input_type.full_name
        assert method.output_type.full_name == there.output_type.full_name
        assert (method.client_streaming, method.server_streaming) == (there.client_streaming, there.server_streaming)


def test_enumerations_are_triton_s() -> None:
    for ours, theirs in (
        (inference_pb2.DataType.DESCRIPTOR, model_config_pb2.DataType.DESCRIPTOR),
        (inference_pb2.ModelInstanceGroup.Kind.DESCRIPTOR, model_config_pb2.ModelInstanceGroup.Kind.DESCRIPTOR),
    ):
        assert {each.name: each.number for each in ours.values} == {each.name: each.number for each in theirs.values}
