"""TorchServe's paths, bodies, answers and errors, after its published inference API."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.gateway.dialects.base import Call, Callee, MethodNotAllowed
from sluice.gateway.dialects.torchserve.codec import TorchServe
from sluice.inference import errors
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import InvalidRequest, RequestTooLarge, SluiceError, VersionNotFound
from sluice.inference.types import Array, Datatype, InferenceResponse, Signature, Tensor, TensorSpec
from tests.gateway.dialects.bodies import callee_of
from tests.gateway.inputs.images.pictures import callee as image_callee
from tests.gateway.inputs.images.pictures import jpeg, png

TORCHSERVE = TorchServe()
JSON = ((b"content-type", b"application/json"),)
FORM = ((b"content-type", b"application/x-www-form-urlencoded"),)
MULTIPART = ((b"content-type", b"multipart/form-data; boundary=XX"),)


def spec(name: str, *axes: int | None, datatype: Datatype = Datatype.FP32) -> TensorSpec:
    return TensorSpec(name, datatype, axes)


ROWS = Signature((spec("x", None, 2),), (spec("y", None, 2),), batched=True)
TWO = Signature((spec("a", None, 1), spec("b", None, 2)), (spec("y", None), spec("z", None, 2)), batched=True)
TEXT = Signature((spec("t", None, datatype=Datatype.BYTES),), (spec("y", None, datatype=Datatype.BYTES),), batched=True)
WHOLE = Signature((spec("x", 1, 2),), (spec("y", 1, 2),), batched=False)


def asked(body: bytes, headers: Any = FORM, signature: Signature = ROWS) -> list[Any]:
    request = TORCHSERVE.decode(body, headers, callee_of(signature))
    return [tensor.array.tolist() for tensor in request.inputs]


def told(body: bytes, *outputs: Tensor, headers: Any = FORM, callee: Callee | None = None) -> Any:
    request = TORCHSERVE.decode(body, headers, callee or callee_of(ROWS))
    answer = TORCHSERVE.encode(request, InferenceResponse("m", 1, outputs))
    assert (answer.status, answer.headers) == (200, JSON)
    return json.loads(answer.body)


def floats(name: str, values: Any) -> Tensor:
    return Tensor(name, Datatype.FP32, np.array(values, np.float32))


def part(name: str, content: bytes) -> bytes:
    return b'--XX\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\n\r\n%b\r\n' % (name.encode(), content)


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/predictions/m", Call("m")),
        ("/predictions/m/", Call("m")),
        ("/predictions/m/2", Call("m", 2)),
        ("/predictions/m/2.0", Call("m", 2)),
        ("/models/m/invoke", Call("m")),
        ("/predictions", None),
        ("/predictions/", None),
        ("/predictions/m/1/x", None),
        ("/models/m", None),
        ("/models/m/1/invoke", None),
        ("/explanations/m", None),
        ("/v2/models/m/invoke", None),
    ],
)
def test_recognise(path: str, call: Call | None) -> None:
    assert TORCHSERVE.recognise(path) == call


@pytest.mark.parametrize("version", ["x", "1.5", "1.", "-1", "٣", "9" * 30])
def test_a_version_that_is_no_number(version: str) -> None:
    with pytest.raises(VersionNotFound):
        TORCHSERVE.recognise(f"/predictions/m/{version}")


@pytest.mark.parametrize(
    ("body", "headers", "rows"),
    [
        (b"[[1, 2], [3, 4]]", FORM, [[1, 2], [3, 4]]),
        (b"[1, 2]", (), [[1, 2]]),
        (b'{"x": [1, 2]}', JSON, [[1, 2]]),
        (b'{"x": [[1, 2]]}', JSON, [[1, 2]]),
        (b'{"instances": [[1, 2]]}', JSON, [[1, 2]]),
        (b'{"instances": [{"x": [1, 2]}]}', JSON, [[1, 2]]),
        (b'{"inputs": [[1, 2]]}', JSON, [[1, 2]]),
        (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}', JSON, [[1, 2]]),
        (part("data", b"[1, 2]") + b"--XX--\r\n", MULTIPART, [[1, 2]]),
        (part("body", b"[[1, 2]]") + part("more", b"") + b"--XX--", MULTIPART, [[1, 2]]),
        (part("anything", b"[[1, 2]]") + b"--XX--", MULTIPART, [[1, 2]]),
        (b" " * 5000 + b"[[1, 2]]", (), [[1, 2]]),
        (b"[" + b",".join([b"[1, 2]"] * 1000) + b"]", (), [[1, 2]] * 1000),
        (b'{"instances": [' + b",".join([b"[1, 2]"] * 1000) + b"]}", (), [[1, 2]] * 1000),
    ],
)
def test_bodies(body: bytes, headers: Any, rows: Any) -> None:
    assert asked(body, headers) == [rows]


def test_a_string_is_its_bytes_unless_it_is_called_json() -> None:
    assert asked(b"[1]", FORM, TEXT) == [[b"[1]"]]
    assert asked(b"\xff\x00", (), TEXT) == [[b"\xff\x00"]]
    assert asked(b'["a", "b"]', JSON, TEXT) == [[b"a", b"b"]]
    assert asked(b'"a"', JSON, TEXT) == [[b"a"]]
    assert asked(part("data", b"hello") + b"--XX--", MULTIPART, TEXT) == [[b"hello"]]


@pytest.mark.parametrize("kind", [b"application/json", b"application/json; charset=utf-8", b"application/x+json"])
def test_a_file_that_is_announced_as_json_is_a_file(kind: bytes) -> None:
    """As clients do whose every request says so. Nothing that JSON could be is taken for a file."""
    announced = ((b"content-type", kind),)
    callee = image_callee()
    for file in (jpeg(), png()):
        assert TORCHSERVE.heavy(file, callee)
        told = TORCHSERVE.decode(file, announced, callee).inputs[0].array
        np.testing.assert_array_equal(told, TORCHSERVE.decode(file, (), callee).inputs[0].array)
        assert asked(file, announced, TEXT) == [[file]]
        with pytest.raises(InvalidRequest, match="not valid JSON"):
            asked(file, announced, ROWS)
    array = io.BytesIO()
    np.save(array, np.array([[1, 2]], np.float32))
    assert asked(array.getvalue(), announced) == [[[1, 2]]]
    for text in (b"hello", b"\xff\x00", b"\x89PNG", b"GIF89a", b""):
        with pytest.raises(InvalidRequest, match=r"not valid JSON|is empty|not UTF-8"):
            TORCHSERVE.decode(text, announced, callee)
        with pytest.raises(InvalidRequest):
            asked(text, announced, TEXT)


def test_several_inputs_are_named() -> None:
    assert asked(b'{"a": [1], "b": [2, 3]}', JSON, TWO) == [[[1]], [[2, 3]]]
    assert asked(part("b", b"[[2, 3]]") + part("a", b"[[1]]") + b"--XX--", MULTIPART, TWO) == [[[1]], [[2, 3]]]


@pytest.mark.parametrize(
    ("body", "headers", "signature", "words"),
    [
        (b"", (), ROWS, "the body is empty"),
        (b"{", (), ROWS, "not valid JSON"),
        (b"hello", (), ROWS, "not valid JSON"),
        (b'{"y": 1}', (), ROWS, "the body has 'y'; expected 'x'"),
        (b"[[1], [1, 2]]", (), ROWS, "all rows must have one shape"),
        (b"[1]", (), TWO, "does not say which input"),
        (b'{"a": [1]}', (), TWO, "expected 'a', 'b'"),
        (b"x", ((b"content-type", b"multipart/form-data"),), ROWS, "names no boundary"),
        (b"nothing", MULTIPART, ROWS, "multipart body"),
        (part("data", b"[1, 2]"), MULTIPART, ROWS, "ends before"),
        (part("a", b"1") + part("a", b"1") + b"--XX--", MULTIPART, ROWS, "two parts called 'a'"),
        (part("p", b"1") + part("q", b"1") + b"--XX--", MULTIPART, ROWS, "expected one, called 'data'"),
        (b"".join(part(f"p{n}", b"1") for n in range(70)) + b"--XX--", MULTIPART, ROWS, "more than 64 parts"),
        (b"--XX\r\nA: b\r\n\r\n1\r\n--XX--", MULTIPART, ROWS, "has no name"),
    ],
)
def test_refusals(body: bytes, headers: Any, signature: Signature, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        asked(body, headers, signature)


def test_rows_have_a_list_and_an_item_has_its_value() -> None:
    assert told(b"[[1, 2], [3, 4]]", floats("y", [[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    assert told(b"[1, 2]", floats("y", [[1, 2]])) == [1, 2]
    two = floats("y", [1, 2]), floats("z", [[1, 2], [3, 4]])
    assert told(b"[[1, 2], [3, 4]]", *two) == [{"y": 1, "z": [1, 2]}, {"y": 2, "z": [3, 4]}]


def test_other_forms_are_answered_in_kind() -> None:
    y = floats("y", [[1, 2]])
    assert told(b'{"instances": [[1, 2]]}', y) == {"predictions": [[1, 2]]}
    assert told(b'{"inputs": [[1, 2]]}', y) == {"outputs": [[1, 2]]}
    v2 = told(b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}', y)
    assert v2 == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}],
    }


def test_a_model_that_is_not_batched_is_answered_whole() -> None:
    assert told(b"[[1, 2]]", floats("y", [[1, 2]]), callee=callee_of(WHOLE)) == [[1, 2]]


@pytest.mark.parametrize(
    ("body", "outputs", "words"),
    [
        (b"[1, 2]", [[]], "expected are one row"),
        (b"[1, 2]", [[[1, 2], [3, 4]]], "expected are one row"),
        (b"[1, 2]", [5.0], r"shape \[\], and expected are one row"),
        (b"[[1, 2], [3, 4]]", [5.0], r"shape \[\], and expected are rows"),
        (b"[[1, 2], [3, 4]]", [[[1, 2], [3, 4]], [[1, 2]]], "expected are 2 rows"),
        (b"[[1, 2]]", [[[1, 2]], []], r"shape \[0\], and expected are one row"),
    ],
)
def test_outputs_of_other_rows_are_refused(body: bytes, outputs: list[Any], words: str) -> None:
    """A model that runs each request alone may give other rows than it was asked: none is left out in silence."""
    given = [floats(f"y{place}", values) for place, values in enumerate(outputs)]
    labelled = callee_of(ROWS, ModelConfig(labels={"y0": ("a", "b")}))
    for callee in (None, labelled):
        with pytest.raises(InvalidRequest, match=words):
            told(body, *given, callee=callee)


def test_classes_are_told_by_name() -> None:
    config = ModelConfig.model_validate({"labels": {"y": list("abcdefg")}})
    scores = floats("y", [[0.5, 0.25, 0, 0, 0.125, 1, 0.75]])
    callee = callee_of(ROWS, config)
    assert told(b"[1, 2]", scores, callee=callee) == {"f": 1, "g": 0.75, "a": 0.5, "b": 0.25, "e": 0.125}
    assert list(told(b"[[1, 2]]", scores, callee=callee)[0]) == list("fgabe")
    assert told(b"[1, 2]", scores, floats("z", [3]), callee=callee)["z"] == 3
    assert told(b'{"instances": [[1, 2]]}', scores, callee=callee) == {"predictions": scores.array.tolist()}
    twice = ModelConfig.model_validate({"labels": {"y": list("aabcdef")}})
    assert told(b"[1, 2]", scores, callee=callee_of(ROWS, twice))["a"] == 0.5


def test_an_image_is_an_item() -> None:
    callee = image_callee()
    for body, headers in ((jpeg(), ()), (part("data", jpeg()) + b"--XX--", MULTIPART)):
        assert TORCHSERVE.heavy(body, callee)
        request = TORCHSERVE.decode(body, headers, callee)
        assert request.inputs[0].array.shape == (1, 3, 8, 8)
        answer = TORCHSERVE.encode(request, InferenceResponse("m", 1, (floats("y", [[1, 2]]),)))
        assert answer.body == b"[1.0,2.0]"
    assert not TORCHSERVE.heavy(b" [1]", callee)
    pixels: Array = np.zeros((1, 3, 8, 8), np.float32)
    assert TORCHSERVE.decode(json.dumps(pixels.tolist()).encode(), (), callee).inputs[0].array.shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.InvalidRequest("e"), 400, "BadRequestException"),
        (errors.ModelNotFound("e"), 404, "ModelNotFoundException"),
        (errors.VersionNotFound("e"), 404, "ModelVersionNotFoundException"),
        (MethodNotAllowed("e"), 405, "MethodNotAllowedException"),
        (RequestTooLarge("e"), 413, "BadRequestException"),
        (errors.QueueFull("e", 2.5), 503, "ServiceUnavailableException"),
        (errors.ModelFailed("e"), 500, "InternalServerException"),
        (errors.ModelFailed("e", invalid_input=True), 400, "BadRequestException"),
        (SluiceError("e"), 500, "InternalServerException"),
    ],
)
def test_errors(error: SluiceError, status: int, kind: str) -> None:
    refused = TORCHSERVE.refuse(error)
    assert refused.status == status
    assert json.loads(refused.body) == {"code": status, "type": kind, "message": "e"}
    assert dict(refused.headers).get(b"retry-after") == (b"3" if status == 503 else None)


def test_a_start_error_names_no_files() -> None:
    assert b"secret" not in TORCHSERVE.refuse(errors.StartError("secret")).body


@given(st.binary(max_size=300), st.sampled_from([(), JSON, FORM, MULTIPART, ((b"content-type", b"text/csv"),)]))
@example(b"\xff\xd8\xff\xe0", ())
@example(b"[[[[]]]]", JSON)
@example(b'{"inputs": [{"datatype": 1}]}', JSON)
@example(b"\x93NUMPY\x01\x00v\x00", ())
def test_whatever_comes_is_answered_or_refused(body: bytes, headers: Any) -> None:
    for callee in (callee_of(ROWS), callee_of(TWO), callee_of(TEXT), callee_of(WHOLE), image_callee()):
        with suppress(InvalidRequest, RequestTooLarge):
            TORCHSERVE.decode(body, headers, callee)


def test_its_paths_are_described_and_recognised() -> None:
    for path in TORCHSERVE.openapi_paths():
        assert TORCHSERVE.recognise(path.replace("{model}", "m").replace("{version}", "1")) is not None
