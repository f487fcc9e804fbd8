from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from sluice.gateway.dialects.base import Call
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.address import MAX_FIELDS, address_of
from sluice.inference.errors import InvalidRequest, ModelNotFound
from tests.gateway.dialects.grpc_bodies import raw_request


@given(st.text(), st.integers(0, 10**18 - 1) | st.none(), st.binary(max_size=300))
def test_the_model_is_found_wherever_its_field_stands(name: str, version: int | None, raw: bytes) -> None:
    request = pb.ModelInferRequest(raw_input_contents=[raw], id="an id")
    named = pb.ModelInferRequest(model_name=name, model_version="" if version is None else str(version))
    for message in (
        request.SerializeToString() + named.SerializeToString(),
        named.SerializeToString() + request.SerializeToString(),
    ):
        assert address_of(message) == Call(name, version)


def test_the_last_of_equal_fields_counts() -> None:
    first, second = (pb.ModelInferRequest(model_name=name).SerializeToString() for name in ("a", "b"))
    assert address_of(first + second).model == "b"


def test_a_message_without_a_name_names_no_model() -> None:
    assert address_of(b"") == Call("")


@pytest.mark.parametrize("version", ["latest", "-1", "1.0", "\u0661", "1" * 19])
def test_a_version_that_is_no_number_is_not_found(version: str) -> None:
    with pytest.raises(ModelNotFound, match="versions are whole numbers"):
        address_of(pb.ModelInferRequest(model_name="m", model_version=version).SerializeToString())


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\x0a\x05ab", "ends within a field"),
        (b"\x0a", "ends within a number"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "longer than ten bytes"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\x01\xff", "not UTF-8"),
        (b"\x3a\x00" * (MAX_FIELDS + 1), f"more than {MAX_FIELDS} fields"),
    ],
)
def test_what_is_no_message_is_refused(message: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        address_of(message)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_it_agrees_with_the_library_on_whatever_both_can_read(noise: bytes, at: int) -> None:
    whole = raw_request(bytes(8), [2]).SerializeToString()
    message = whole[: at % len(whole)] + noise + whole[at % len(whole) :]
    try:
        call = address_of(message)
        read = pb.ModelInferRequest.FromString(message)
    except (InvalidRequest, ModelNotFound, DecodeError):
        return
    assert call.model == read.model_name
    assert call.version == (int(read.model_version) if read.model_version else None)
