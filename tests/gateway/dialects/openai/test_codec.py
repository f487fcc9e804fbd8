"""`POST /v1/embeddings` by the examples and the words of OpenAI's published API description."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.gateway.dialects.base import Call, Callee
from sluice.gateway.dialects.openai.body import MOST_INPUTS, FieldFault
from sluice.gateway.dialects.openai.codec import LIGHT_BYTES, OpenAI
from sluice.inference import errors
from sluice.inference.config.model_config import TextConfig
from sluice.inference.errors import InvalidRequest, RequestError, SluiceError
from sluice.inference.types import Datatype, InferenceRequest, InferenceResponse, Tensor
from tests.gateway.dialects.bodies import callee_of
from tests.gateway.inputs.text.embedders import CONFIG, text_callee

DIALECT = OpenAI()


def decode(body: object, callee: Callee | None = None) -> InferenceRequest:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DIALECT.decode(text, (), callee or text_callee())


def ids_of(request: InferenceRequest) -> list[list[list[int]]]:
    return [inputs[0].array.tolist() for inputs in (request.inputs, *request.parts)]


def answered(request: InferenceRequest) -> Any:
    """What the dialect says once a model has given each token the vector [its id, 1]."""

    def outputs(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        ids = inputs[0].array.astype(np.float32)
        return (Tensor("vectors", Datatype.FP32, np.stack([ids, np.ones_like(ids)], axis=2)),)

    response = InferenceResponse("texts", 1, outputs(request.inputs), parts=tuple(map(outputs, request.parts)))
    answer = DIALECT.encode(request, response)
    assert answer.status == 200
    assert answer.headers == ((b"content-type", b"application/json"),)
    return json.loads(answer.body)


def refused(error: SluiceError) -> tuple[int, Any]:
    answer = DIALECT.refuse(error)
    return answer.status, json.loads(answer.body)["error"]


def changed(**keys: object) -> Callee:
    return text_callee(TextConfig.model_validate(CONFIG.model_dump() | keys))


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v1/embeddings", Call("")),
        ("/v1/embeddings/", Call("")),
        ("/v1/embedding", None),
        ("/v1/embeddings/texts", None),
        ("/v2/embeddings", None),
    ],
)
def test_one_path_is_recognised(path: str, call: Call | None) -> None:
    assert DIALECT.recognise(path) == call


def test_the_body_names_the_model() -> None:
    assert DIALECT.address(b'{"input": ["a"], "model": "texts", "user": "u"}') == Call("texts")
    assert DIALECT.address(b'{"input": 7}') == Call("")
    assert DIALECT.address(b'{"model": null}') == Call("")
    with pytest.raises(FieldFault, match="model is wrong") as fault:
        DIALECT.address(b'{"model": 7}')
    assert fault.value.param == "model"


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ("abc", [[[0, 1, 2]]]),
        (["abc"], [[[0, 1, 2]]]),
        (["abc", "de", "fgh", "ij"], [[[0, 1, 2], [5, 6, 7]], [[3, 4], [8, 9]]]),
        ([7, 8, 9], [[[7, 8, 9]]]),
        ([[7, 8], [9], [1, 2]], [[[7, 8], [1, 2]], [[9]]]),
    ],
)
def test_all_four_forms_of_input_become_rows(given: Any, ids: list[list[list[int]]]) -> None:
    request = decode({"model": "texts", "input": given, "user": "u", "anything": [1]})
    assert ids_of(request) == ids
    assert request.outputs == ("vectors",)


def test_the_answer_has_the_texts_in_their_order_and_counts_tokens() -> None:
    answer = answered(decode({"input": ["b", "cdd", "a"]}, changed(normalise=False)))
    third = np.float32(8) / np.float32(3)
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1, 1]},
            {"object": "embedding", "index": 1, "embedding": [pytest.approx(float(third)), 1]},
            {"object": "embedding", "index": 2, "embedding": [0, 1]},
        ],
        "model": "texts",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }


def test_base64_is_float32_with_the_lowest_byte_first() -> None:
    as_bytes = answered(decode({"input": ["b", "cdd"], "encoding_format": "base64"}))
    as_numbers = answered(decode({"input": ["b", "cdd"], "encoding_format": "float"}))
    for encoded, plain in zip(as_bytes["data"], as_numbers["data"], strict=True):
        decoded = np.frombuffer(b64decode(encoded["embedding"]), "<f4")
        assert decoded.tolist() == np.array(plain["embedding"], np.float32).tolist()
        assert np.linalg.norm(decoded) == pytest.approx(1)


def test_dimensions_only_where_the_model_has_them_declared() -> None:
    body = {"input": "d", "dimensions": 1}
    assert answered(decode(body, changed(dimensions=True)))["data"][0]["embedding"] == [1]
    with pytest.raises(FieldFault, match="does not support specifying dimensions") as fault:
        decode(body)
    assert fault.value.param == "dimensions"
    request = decode({"input": "d", "dimensions": 3}, changed(dimensions=True))
    with pytest.raises(FieldFault, match="3 dimensions are wanted; the model has 2") as fault:
        answered(request)


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b"", "not valid JSON", None),
        (b"{", "not valid JSON", None),
        (b'{"input": "\xff"}', "not UTF-8", None),
        (b'{"input": "\\ud800"}', "not valid JSON", None),
        (b'{"input": ' + b"[" * 100_000, "", None),
        (b"[]", "the body is wrong", None),
        (b"{}", "missing required field `input`", None),
        (b'{"input": 7}', "input is wrong: Expected `str | array`, got `int`", "input"),
        (b'{"input": [true]}', r"input[0] is wrong", "input"),
        (b'{"input": [[1.5]]}', r"input[0][0] is wrong", "input"),
        (b'{"input": []}', "an empty list", "input"),
        (b'{"input": [[]]}', "text 0 has no tokens", "input"),
        (b'{"input": ""}', "text 0 is empty", "input"),
        (b'{"input": ["a", ""]}', "text 1 is empty", "input"),
        (b'{"input": ["a", 1]}', "mixes texts and tokens", "input"),
        (b'{"input": ["a", [1]]}', "mixes texts and tokens", "input"),
        (b'{"input": [1, [1]]}', "mixes texts and tokens", "input"),
        (b'{"input": [-1]}', "token -1; the model's tokens are 0 to 25", "input"),
        (b'{"input": [1' + b"0" * 5000 + b"]}", "", None),
        (b'{"input": "abcdefghi"}', "text 0 has 9 tokens; the model's maximum is 8", "input"),
        (b'{"input": "a", "encoding_format": "hex"}', "encoding_format is wrong", "encoding_format"),
        (b'{"input": "a", "dimensions": 0}', "dimensions is wrong", "dimensions"),
        (json.dumps({"input": ["a"] * (MOST_INPUTS + 1)}).encode(), "2049 texts; one call takes at most 2048", "input"),
    ],
)
def test_what_is_wrong_is_said_in_openais_form(body: bytes, message: str, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as fault:
        decode(body)
    status, error = refused(fault.value)
    assert status == 400
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] is None
    if param is not None:
        assert error["param"] == param


def test_as_many_texts_as_one_call_takes() -> None:
    assert len(answered(decode({"input": ["a"] * MOST_INPUTS}))["data"]) == MOST_INPUTS


def test_a_model_that_embeds_nothing_is_named() -> None:
    with pytest.raises(FieldFault, match="model 'm' does not embed texts") as fault:
        decode({"input": "a"}, callee_of())
    assert fault.value.param == "model"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.ModelNotFound("no"), 404, "invalid_request_error"),
        (errors.RequestTooLarge("no"), 413, "invalid_request_error"),
        (errors.ModelFailed("no", invalid_input=True), 400, "invalid_request_error"),
        (errors.ModelFailed("no"), 500, "server_error"),
        (errors.WorkerDied("no", running=True), 500, "server_error"),
        (errors.DeadlineExceeded("no"), 504, "server_error"),
        (errors.QueueFull("no", 1.2), 503, "server_error"),
        (errors.SluiceError("no"), 500, "server_error"),
    ],
)
def test_every_error_has_a_status_and_openais_body(error: SluiceError, status: int, kind: str) -> None:
    given, body = refused(error)
    assert (given, body["type"], body["message"]) == (status, kind, "no")
    unknown = isinstance(error, errors.ModelNotFound)
    assert (body["param"], body["code"]) == (("model", "model_not_found") if unknown else (None, None))
    retries = [value for name, value in DIALECT.refuse(error).headers if name == b"retry-after"]
    assert retries == ([b"2"] if isinstance(error, errors.Unavailable) else [])


def test_what_is_for_the_operator_stays_here() -> None:
    assert refused(errors.ModelLoadError("/secret"))[1]["message"] == "internal error"


def test_long_bodies_are_heavy() -> None:
    assert not DIALECT.heavy(b"x" * LIGHT_BYTES, text_callee())
    assert DIALECT.heavy(b"x" * (LIGHT_BYTES + 1), text_callee())


def test_the_route_is_described_with_examples_that_are_taken() -> None:
    paths = DIALECT.openapi_paths()
    assert set(paths) == {"/v1/embeddings"}
    operation = paths["/v1/embeddings"]["post"]
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        assert ids_of(decode(example["value"], changed(max_tokens=16)))
    documented = {400, 404, 413, 500, 503, 504}
    assert {int(status) for status in operation["responses"]} == documented | {200}
    for status in documented:
        example = operation["responses"][str(status)]["content"]["application/json"]["example"]
        assert example["error"].keys() == refused(SluiceError("no"))[1].keys()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "input": JSON
        | st.text("abc ", max_size=12)
        | st.lists(st.text("abcdef ", max_size=10), max_size=6)
        | st.lists(st.integers(-2, 30), max_size=10)
        | st.lists(st.lists(st.integers(-2, 30), max_size=10), max_size=6),
        "model": JSON | st.just("texts"),
        "encoding_format": JSON | st.sampled_from(["float", "base64"]),
        "dimensions": JSON | st.integers(-1, 4),
        "user": JSON,
    },
)


@given(st.binary(max_size=60) | (JSON | LIKELY).map(lambda value: json.dumps(value).encode()))
@settings(max_examples=400, deadline=None)
def test_whatever_comes_is_answered_or_refused(body: bytes) -> None:
    callee = changed(dimensions=True)
    try:
        DIALECT.address(body)
        answer = answered(decode(body, callee))
    except RequestError as error:
        status, told = refused(error)
        assert status in (400, 413)
        assert told["message"]
    else:
        assert [each["index"] for each in answer["data"]] == list(range(len(answer["data"])))
        assert answer["usage"]["prompt_tokens"] >= len(answer["data"]) > 0
