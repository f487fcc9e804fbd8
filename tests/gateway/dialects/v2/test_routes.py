from __future__ import annotations

import json

import pytest

from sluice.gateway.dialects.base import Call, Dialect
from sluice.gateway.dialects.v2.codec import V2, model_metadata
from sluice.inference import errors
from sluice.inference.errors import InvalidRequest, ModelFailed, ModelNotFound, SluiceError, Unavailable
from sluice.inference.types import Datatype, Signature, TensorSpec


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v2/models/m/infer", Call("m", None)),
        ("/v2/models/m/infer/", Call("m", None)),
        ("/v2/models/m/versions/3/infer", Call("m", 3)),
        ("/v2/models/m/versions/3/infer/", Call("m", 3)),
        ("/v2/models/m/versions/0/infer", Call("m", 0)),
        ("/v2/models/a b.c-ä/infer", Call("a b.c-ä", None)),
        ("/v2/models/versions/infer", Call("versions", None)),
        ("/v2/models/infer/infer", Call("infer", None)),
        ("/", None),
        ("", None),
        ("/v2", None),
        ("/v2/models", None),
        ("/v2/models/", None),
        ("/v2/models/m", None),
        ("/v2/models/m/ready", None),
        ("/v2/models/infer", None),
        ("/v2/models//infer", None),
        ("/v2/models//versions/1/infer", None),
        ("/v2/models/m/infer//", None),
        ("/v2/models/m/infer/x", None),
        ("/v2/models/m/inference", None),
        ("/v2/models/m/versions/infer", None),
        ("/v2/models/m/versions/1", None),
        ("/v2/models/m/versions/1/x/infer", None),
        ("/v2/models/m/labels/1/infer", None),
        ("/v1/models/m/infer", None),
        ("/x/v2/models/m/infer", None),
    ],
)
def test_recognise(path: str, call: Call | None) -> None:
    assert V2().recognise(path) == call


@pytest.mark.parametrize("version", ["abc", "", "1.0", "-1", "+1", " 1", "٣", "²", "1" * 19, "9" * 10_000, "latest"])
def test_a_version_that_is_no_number_is_not_found(version: str) -> None:
    with pytest.raises(ModelNotFound, match="model 'm' has no version") as caught:
        V2().recognise(f"/v2/models/m/versions/{version}/infer")
    assert len(str(caught.value)) < 200


STATUSES: list[tuple[SluiceError, int]] = [
    (errors.InvalidRequest("e"), 400),
    (errors.RequestTooLarge("e"), 413),
    (errors.ModelNotFound("e"), 404),
    (errors.QueueFull("e"), 503),
    (errors.Overloaded("e"), 503),
    (errors.ModelNotReady("e"), 503),
    (errors.Unavailable("e"), 503),
    (errors.DeadlineExceeded("e"), 504),
    (errors.ModelFailed("e", invalid_input=True), 400),
    (errors.ModelFailed("e"), 500),
    (errors.WorkerDied("e", running=True), 500),
    (errors.WorkerKilled("e"), 500),
    (errors.ExecutionError("e"), 500),
    (errors.RequestError("e"), 500),
    (errors.SluiceError("e"), 500),
]


@pytest.mark.parametrize(("error", "status"), STATUSES)
def test_refuse(error: SluiceError, status: int) -> None:
    response = V2().refuse(error)
    assert response.status == status
    assert json.loads(response.body) == {"error": "e"}
    headers = dict(response.headers)
    assert headers.pop(b"content-type") == b"application/json"
    assert set(headers) == ({b"retry-after"} if status == 503 else set())


@pytest.mark.parametrize(("seconds", "header"), [(1.0, b"1"), (1.01, b"2"), (0.2, b"1"), (0.0, b"1"), (29.5, b"30")])
def test_retry_after_is_in_whole_seconds_and_never_too_early(seconds: float, header: bytes) -> None:
    for kind in (Unavailable, errors.QueueFull, errors.Overloaded, errors.ModelNotReady):
        error = kind("e", seconds)
        assert dict(V2().refuse(error).headers)[b"retry-after"] == header


def test_what_is_for_the_operator_is_not_told() -> None:
    response = V2().refuse(errors.RepositoryError("/srv/models/secret.toml: key"))
    assert (response.status, json.loads(response.body)) == (500, {"error": "internal error"})


def test_messages_that_are_no_text_can_be_told() -> None:
    assert json.loads(V2().refuse(InvalidRequest("a\ud800b")).body) == {"error": "a\\ud800b"}
    assert json.loads(V2().refuse(ModelFailed('ä"\n')).body) == {"error": 'ä"\n'}


def test_it_is_a_dialect() -> None:
    dialect: Dialect = V2()
    assert dialect.name == "v2"


def test_model_metadata() -> None:
    signature = Signature(
        (TensorSpec("x", Datatype.FP32, (None, 4)),), (TensorSpec("y", Datatype.INT64, ()),), batched=True
    )
    assert model_metadata("m", "onnx_onnxv1", [1, 12], signature) == {
        "name": "m",
        "versions": ["1", "12"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": []}],
    }
