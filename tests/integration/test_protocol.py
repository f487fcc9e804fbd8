"""The Open Inference Protocol's pages and errors, over a real socket."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from tests.integration.server import SluiceProcess, v2

GOOD = v2("x", [1, 1], [3])


def test_server_metadata(examples: SluiceProcess) -> None:
    page = examples.client.get("/v2").json()
    assert page["name"] == "sluice"


def test_health(examples: SluiceProcess) -> None:
    assert examples.client.get("/v2/health/live").json() == {"live": True}
    assert examples.client.get("/v2/health/ready").json() == {"ready": True}
    assert examples.client.get("/v2/models/linear/ready").json() == {"name": "linear", "ready": True}
    assert examples.client.get("/v2/models/linear/versions/1/ready").status_code == 200


def test_models_are_listed(examples: SluiceProcess) -> None:
    listed = examples.client.get("/v2/models").json()["models"]
    assert {"name": "linear", "versions": ["1"], "ready": True} in listed
    assert [model["name"] for model in listed] == sorted(model["name"] for model in listed)


def test_model_metadata(examples: SluiceProcess) -> None:
    page = examples.client.get("/v2/models/digits").json()
    assert page["versions"] == ["1"]
    assert page["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
    assert page == examples.client.get("/v2/models/digits/versions/1").json()


def test_id_and_outputs_are_honoured(examples: SluiceProcess) -> None:
    body = v2("pixels", [1, 64], [0] * 64) | {"id": "call-7", "outputs": [{"name": "probabilities"}]}
    answer = examples.infer("digits", body).json()
    assert answer["id"] == "call-7"
    assert answer["model_name"] == "digits"
    assert answer["model_version"] == "1"
    assert [output["name"] for output in answer["outputs"]] == ["probabilities"]


def test_a_version_may_be_named(examples: SluiceProcess) -> None:
    answer = examples.client.post("/v2/models/linear/versions/1/infer", json=GOOD)
    assert answer.json()["outputs"][0]["data"] == [5.0]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("linear/infer", b"{", 400, ["JSON"]),
        ("linear/infer", b"", 400, ["JSON"]),
        ("nowhere/infer", GOOD, 404, ["nowhere"]),
        ("linear/versions/9/infer", GOOD, 404, ["linear", "9", "1"]),
        ("linear/infer", {"inputs": []}, 400, ["x"]),
        ("linear/infer", v2("z", [1, 1], [3]), 400, ["'z'", "'x'"]),
        ("linear/infer", v2("x", [1, 2], [3, 4]), 400, ["'x'", "[1, 2]", "[*, 1]"]),
        ("linear/infer", v2("x", [1], [3]), 400, ["'x'", "[1]"]),
        ("linear/infer", v2("x", [2, 1], [3]), 400, ["'x'"]),
        ("linear/infer", v2("x", [1, 1], [3, 4]), 400, ["'x'"]),
        ("linear/infer", v2("x", [2, 1], [[1], [2, 3]]), 400, ["'x'"]),
        ("linear/infer", v2("x", [1, 1], [3], "INT64"), 400, ["'x'", "INT64", "FP32"]),
        ("linear/infer", v2("x", [1, 1], [3], "FLOAT"), 400, ["FLOAT"]),
        ("linear/infer", v2("x", [1, 1], [1e300]), 400, ["'x'"]),
        ("linear/infer", v2("x", [1, 1], ["three"]), 400, ["'x'"]),
        ("linear/infer", b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[NaN]}]}', 400, ["NaN"]),
        ("linear/infer", GOOD | {"outputs": [{"name": "z"}]}, 400, ["'z'", "'y'"]),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    examples: SluiceProcess, path: str, body: bytes | dict[str, Any], status: int, words: list[str]
) -> None:
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = examples.client.post(f"/v2/models/{path}", **content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    message = answer.json()["error"]
    assert all(word in message for word in words), message
    assert examples.outputs("linear", GOOD) == {"y": [5.0]}


def test_other_methods_are_refused(examples: SluiceProcess) -> None:
    answer = examples.client.get("/v2/models/linear/infer")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert "POST" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/nowhere", "/v2/models/linear/versions/9", "/nowhere"])
def test_unknown_pages_have_the_protocols_error_body(examples: SluiceProcess, path: str) -> None:
    answer = examples.client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]


def test_a_version_that_is_no_number(examples: SluiceProcess) -> None:
    answer = examples.client.get("/v2/models/linear/versions/latest")
    assert answer.status_code == 404
    assert "version" in answer.json()["error"]
    answer = examples.client.post("/v2/models/linear/versions/latest/infer", json=GOOD)
    assert answer.status_code == 404
    assert "latest" in answer.json()["error"]


def test_prediction_routes_are_described_with_examples(examples: SluiceProcess) -> None:
    paths = examples.client.get("/openapi.json").json()["paths"]
    assert "post" in paths["/v2/models/{model}/infer"]
    assert "post" in paths["/v2/models/{model}/versions/{version}/infer"]
    assert "get" in paths["/v2/health/ready"]
    assert not [
        path for path, operations in paths.items() for each in operations.values() if "422" in each["responses"]
    ]


def test_the_api_pages_need_no_other_server(examples: SluiceProcess) -> None:
    page = examples.client.get("/docs")
    assert page.status_code == 200
    assert "//" not in page.text.replace("https://fastapi", "").split("<body>")[0].replace("<!DOCTYPE html>", "")
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f'"docs/static/{asset}"' in page.text
        assert examples.client.get(f"/docs/static/{asset}").status_code == 200


def test_request_ids_are_taken_or_made(examples: SluiceProcess) -> None:
    mine = examples.client.post("/v2/models/linear/infer", json=GOOD, headers={"X-Request-Id": "abc-1"})
    assert mine.headers["x-request-id"] == "abc-1"
    made = [examples.infer("linear", GOOD).headers["x-request-id"] for _ in range(2)]
    assert all(made)
    assert made[0] != made[1]
    assert examples.client.get("/v2").headers["x-request-id"]
    hostile = examples.client.post("/v2/models/linear/infer", json=GOOD, headers={"X-Request-Id": "x" * 500})
    assert hostile.headers["x-request-id"] != "x" * 500


@pytest.mark.parametrize("beyond", [-1, 0, 1, 143, 258])
def test_compressed_bodies_are_read_whole(examples: SluiceProcess, beyond: int) -> None:
    """In every form, about as long as what is inflated in one go, and in members, as parallel compressors write it."""
    body = json.dumps(GOOD).encode()
    body += b" " * (256 * 1024 + beyond - len(body))
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    members = [body[:40], b"", body[40:1000], body[1000:], b""]
    for encoding, packed in (
        ("gzip", gzip.compress(body)),
        ("x-gzip", b"".join(map(gzip.compress, members))),
        ("deflate", zlib.compress(body)),
        ("deflate", packer.compress(body) + packer.flush()),
    ):
        headers = {"Content-Encoding": encoding}
        answer = examples.client.post("/v2/models/linear/infer", content=packed, headers=headers)
        assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [5.0]), encoding
        for broken in (packed[:-1], packed + b"more"):
            answer = examples.client.post("/v2/models/linear/infer", content=broken, headers=headers)
            assert answer.status_code == 400, encoding
