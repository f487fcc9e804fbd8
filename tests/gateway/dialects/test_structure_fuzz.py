"""Thousands of requests of odd structure, for every dialect: each is answered, and rightly, or refused with a 4xx."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import pytest

from sluice.gateway.dialects.base import Callee, Dialect
from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.codec import OK, GrpcInfer
from sluice.gateway.messages import HttpResponse
from sluice.gateway.protocols import DIALECTS
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import RequestError
from sluice.inference.signature import SignatureCheck
from sluice.inference.types import Array, InferenceResponse, Signature, Tensor, TensorSpec
from tests.hostile_bodies import MODELS, PROTOCOLS, Case, bodies, model_file

GRPC = GrpcInfer()
CASES = 4000
REFUSALS = range(400, 500)
GRPC_REFUSALS = {3, 5, 8}


def callee_for(model: str) -> Callee:
    datatype, axes = MODELS[model]
    shape = tuple([size if isinstance(size, int) else None for size in axes])
    signature = Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),), "N" in axes)
    return Callee(model, 1, signature, ModelConfig(), max_rows=4096)


CALLEES = {model: callee_for(model) for model in MODELS}


def dialect_of(case: Case) -> Dialect:
    if case.protocol == "grpc":
        return GRPC
    return next(each for each in DIALECTS if each.recognise(case.target) is not None)


def answered(case: Case) -> tuple[HttpResponse, Array | None]:
    """The answer of a model that gives back what it is given, and what it was given, unless it was refused."""
    dialect, callee = dialect_of(case), CALLEES[case.model]
    try:
        if dialect is GRPC:
            dialect.address(case.body)
        heeded = [header for header in case.headers if header[0] in dialect.headers]
        request = dialect.decode(case.body, heeded, callee)
        arrays, _, key = SignatureCheck(callee.signature).take(request.inputs)
        # Keys of the cache are made so, and each part of a request must be of a kind that can be.
        msgspec.msgpack.encode((key, request.outputs, dict(request.parameters), request.id))
        output = Tensor("y", callee.signature.outputs[0].datatype, arrays[0])
        return dialect.encode(request, InferenceResponse(case.model, 1, (output,), request.id)), arrays[0]
    except RequestError as error:
        return dialect.refuse(error), None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_odd_request_is_answered_rightly_or_refused(protocol: str) -> None:
    became: Counter[bool] = Counter()
    for case in islice(bodies(seed=18, protocols=(protocol,)), CASES // len(PROTOCOLS)):
        answer, given = answered(case)
        became[given is not None] += 1
        if given is None:
            assert answer.status in (GRPC_REFUSALS if protocol == "grpc" else REFUSALS), case
        else:
            assert answer.status == (OK if protocol == "grpc" else 200), case
            _is_right(case, answer, given)
            _was_asked(case, given)
    assert became[True] > 3, became
    assert became[False] > 3, became


def _is_right(case: Case, answer: HttpResponse, given: Array) -> None:
    """What is answered is what was decoded, element by element, where the answer's form says it plainly."""
    if case.protocol == "grpc":
        message = pb.ModelInferResponse.FromString(answer.body)
        if message.outputs[0].datatype == str(MODELS[case.model][0]) and given.dtype != object:
            assert message.raw_output_contents[0] == given.tobytes(), case
        return
    media = dict(answer.headers).get(b"content-type")
    if media != b"application/json":
        return
    told = _flat(_outputs(json.loads(answer.body)))
    if given.dtype == object:
        expected: Any = [each.decode() for each in given.ravel().tolist()]
    else:
        expected = given.ravel().tolist()
    if len(told) == len(expected) and not any([isinstance(each, str) for each in told if given.dtype != object]):
        assert told == expected or np.array_equal(np.array(told, given.dtype), given.ravel(), equal_nan=True), case


def _was_asked(case: Case, given: Array) -> None:
    """What was decoded is what stands in the body, as Python's own JSON reads it."""
    if case.protocol not in ("v2", "tfs") or given.dtype == object:
        return
    body = json.loads(case.body)
    asked = body["inputs"][-1]["data"] if case.protocol == "v2" else body.get("instances", body.get("inputs"))
    elements = _flat(asked)
    assert len(elements) == given.size, case
    with np.errstate(over="ignore"):
        expected: Array = np.array(elements, given.dtype)
    assert np.array_equal(expected, given.ravel(), equal_nan=given.dtype.kind == "f"), case


def _outputs(told: Any) -> Any:
    if not isinstance(told, dict):
        return told
    if isinstance(outputs := told.get("outputs"), list) and outputs and isinstance(outputs[0], dict):
        return outputs[0].get("data", [])
    return told.get("predictions", told.get("outputs", []))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [element for each in value for element in _flat(each)]
    if isinstance(value, dict):
        return [element for each in value.values() for element in _flat(each)]
    return [value]


def test_cases_can_be_made_again() -> None:
    first, again = list(islice(bodies(5), 50)), list(islice(bodies(5), 50))
    assert first == again
    assert len({case.protocol for case in first}) > 5
    assert {case.model for case in islice(bodies(5), 200)} == set(MODELS)


def test_every_model_is_there_as_a_file() -> None:
    assert all([len(model_file(model)) > 50 for model in MODELS])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f'{{"inputs":[],"parameters":{{"a":{2**64}}}}}', "whole number of 65 bits"),
        (f'{{"inputs":[],"parameters":{{"a":{-(2**63) - 1}}}}}', "whole number of 64 bits"),
    ],
)
def test_whole_numbers_beyond_64_bits_are_no_parameters(body: str, words: str) -> None:
    signature = Signature((), (), batched=False)
    with pytest.raises(RequestError, match=words):
        V2().decode(body.encode(), (), Callee("m", 1, signature, ModelConfig()))


def test_the_limits_of_whole_numbers_are_parameters() -> None:
    body = b'{"inputs":[],"parameters":{"a":%d,"b":%d}}' % (2**64 - 1, -(2**63))
    request = V2().decode(body, (), Callee("m", 1, Signature((), (), batched=False), ModelConfig()))
    assert msgspec.msgpack.encode(dict(request.parameters))
