"""Valid requests of every dialect and page, from which all that is sent is made."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from tests import classifiers
from tests.hostile.protobuf import floats, infer, number, raw, tensor, text


class Request(msgspec.Struct, frozen=True):
    """One HTTP request. `value` is what its body says in JSON, where it is JSON, to be twisted."""

    target: str
    body: bytes = b""
    headers: Mapping[str, str] = {}
    method: str = "POST"
    value: Any = None


def _v2(model: str, *inputs: Mapping[str, Any], **more: Any) -> Request:
    return Request(f"/v2/models/{model}/infer", value={"inputs": list(inputs), **more})


def _input(name: str, shape: Sequence[int], data: Any, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data, **more}


ONE = _input("x", [1, 1], [3])
PAGES = (
    "/", "/v2", "/v2/", "/v2/health", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/linear",
    "/v2/models/tiny/ready",
    "/v2/models/tiny/config", "/v2/models/stats", "/v2/models/linear/stats", "/v2/models/linear/versions/1",
    "/v2/logging",
    "/v2/trace/setting", "/v1/models/linear", "/v1/models/linear/metadata", "/v1/models/linear/versions/1",
    "/v1/models", "/ping",
    "/admin/cache", "/docs", "/openapi.json", "/metrics", "/api-description", "/models",
    "/v2/systemsharedmemory/status",
    "/v2/cudasharedmemory/status", "/v1/models/texts", "/favicon.ico", "/static/x", "/v2/models/linear/trace/setting",
)  # fmt: skip
POSTS = (
    "/v2/repository/index",
    "/v2/logging",
    "/v2/trace/setting",
    "/v2/repository/models/linear/load",
    "/v2/repository/models/linear/unload",
    "/v2/systemsharedmemory/region/a/register",
    "/v2/cudasharedmemory/unregister",
)


def predictions() -> Sequence[Request]:
    """At least one of each form of each prediction call."""
    return [*_v2_json(), *_v2_binary(), *_tfs(), *_items(), *_texts()]


def pages() -> Sequence[Request]:
    """Everything else that is answered."""
    return [
        *(Request(page, method="GET") for page in PAGES),
        *(Request(page, value={}) for page in POSTS),
        Request("/admin/cache/tiny", method="DELETE"),
        Request("/v2/logging", value={"log_verbose_level": 0}),
    ]


def messages() -> Sequence[tuple[str, bytes]]:
    """gRPC: method and message, `ModelInfer` most of all."""
    x = (b"x", b"FP32", [1, 1])
    calls = {
        "ModelInfer": [
            infer(b"linear", tensor(*x), raw(floats([3]))),
            infer(b"linear", tensor(*x, text(6, floats([3])))),
            infer(b"tiny", tensor(b"x", b"FP32", [2, 4], text(6, floats([1, 2, 3, 4, 5, 6, 7, 8]))), version=b"1"),
            infer(b"strings", tensor(b"x", b"BYTES", [2], text(8, b"to") + text(8, b"be"))),
            infer(b"strings", tensor(b"x", b"BYTES", [1], b""), raw(struct.pack("<I", 2) + b"be")),
            infer(
                b"twofold",
                tensor(b"a", b"FP32", [1, 4], text(6, floats([1, 2, 3, 4]))),
                tensor(b"b", b"INT64", [1, 2], text(3, b"\1\2")),
                text(6, text(1, b"b_plus_one")),
            ),
            infer(b"padded", *(tensor(name, b"INT64", [1, 3], text(3, b"\1\1\1")) for name in (b"ids", b"mask"))),
            infer(b"wide", tensor(b"x", b"INT64", [2, 2]), raw(bytes(32)), text(3, b"an id")),
            infer(b"linear", tensor(*x), raw(floats([3])), text(4, text(1, b"priority") + text(2, number(2, 1)))),
            infer(
                b"tiny",
                tensor(b"x", b"FP32", [1, 4]),
                raw(bytes(16)),
                text(6, text(1, b"y") + text(2, text(1, b"classification") + text(2, number(2, 2)))),
            ),
        ],
        "ModelReady": [text(1, b"linear")],
        "ModelMetadata": [text(1, b"linear") + text(2, b"1")],
        "ModelConfig": [text(1, b"texts")],
        "ModelStatistics": [b"", text(1, b"linear")],
        "ServerLive": [b""],
        "RepositoryIndex": [number(2, 1)],
        "RepositoryModelLoad": [text(2, b"linear")],
        "SystemSharedMemoryRegister": [text(1, b"a") + text(2, b"/a") + number(4, 8)],
    }
    return [(f"/inference.GRPCInferenceService/{name}", message) for name, each in calls.items() for message in each]


@cache
def picture() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((32, 24), 80).convert("RGB").save(file, "PNG")
    return file.getvalue()


@cache
def photograph() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((48, 32), 80).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def _v2_json() -> list[Request]:
    words = ["to be", "or not"]
    return [
        _v2("linear", ONE),
        _v2("linear", _input("x", [2, 1], [[1], [2]]), id="an id", parameters={"priority": 1, "timeout": 5_000_000}),
        _v2(
            "tiny", _input("x", [1, 4], [1, 2.5, -3, 4e3]), outputs=[{"name": "y", "parameters": {"classification": 2}}]
        ),
        _v2("tiny", _input("x", [2, 4], [[1, 2, 3, 4], [5, 6, 7, 8]]), parameters={"binary_data_output": True}),
        _v2("alone", _input("x", [1, 4], [1, 2, 3, 4])),
        _v2("strings", _input("x", [2], words, "BYTES")),
        _v2("wide", _input("x", [2, 3], [1, 2, 3, 4, 5, 6], "INT64")),
        _v2("wide", _input("x", [2, 0], [], "INT64")),
        _v2("echo", _input("x", [1, 2], [0.5, 1e-40])),
        _v2("sums", _input("x", [1, 3], [1, 2, 3])),
        _v2(
            "twofold",
            _input("a", [1, 4], [1, 2, 3, 4]),
            _input("b", [1, 2], [5, 6], "INT64"),
            outputs=[{"name": "a_doubled"}],
        ),
        _v2("flowers", classifiers.named().given, outputs=[{"name": "output_label"}]),
        _v2("padded", *(_input(name, [1, 3], [1, 1, 1], "INT64") for name in ("ids", "mask"))),
        _v2("slow", ONE, _input("steps", [1, 1], [50], "INT64")),
        Request("/v2/models/linear/versions/1/infer", value={"inputs": [ONE]}),
        _v2("nobody", ONE),
    ]


def _v2_binary() -> list[Request]:
    found = []
    for model, shape, datatype, content in (
        ("linear", [1, 1], "FP32", floats([3])),
        ("strings", [2], "BYTES", struct.pack("<I2sI3s", 2, b"to", 3, b"be!")),
        ("wide", [1, 2], "INT64", bytes(16)),
    ):
        one = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(content)}}
        head = msgspec.json.encode({"inputs": [one], "parameters": {"binary_data_output": True}})
        length = {"Inference-Header-Content-Length": str(len(head))}
        found.append(Request(f"/v2/models/{model}/infer", head + content, length))
        found.append(Request(f"/v2/models/{model}/infer", content, {"Inference-Header-Content-Length": "0"}))
    return found


def _tfs() -> list[Request]:
    to = "/v1/models/{}:{}".format
    return [
        Request(to("linear", "predict"), value={"instances": [[1], [2.5]]}),
        Request(to("linear", "predict"), value={"signature_name": "serving_default", "inputs": {"x": [[1], [2]]}}),
        Request(to("linear/versions/1", "predict"), value={"inputs": [[1]]}),
        Request(to("tiny", "predict"), value={"instances": [{"x": [1, 2, 3, 4]}]}),
        Request(to("strings", "predict"), value={"instances": ["a", {"b64": "YmU="}]}),
        Request(to("twofold", "predict"), value={"instances": [{"a": [1, 2, 3, 4], "b": [5, 6]}]}),
        Request(to("tiny", "classify"), value={"examples": [{"x": [1, 2, 3, 4]}]}),
        Request(to("linear", "regress"), value={"context": {"x": 1}, "examples": [{"x": [2]}, {}]}),
        Request(to("pictures", "predict"), value={"instances": [{"b64": "AAAA"}]}),
        Request(to("alone", "predict"), value={"inputs": {"x": [[1, 2, 3, 4]]}}),
    ]


def _items() -> list[Request]:
    array = io.BytesIO()
    np.save(array, np.array([[1], [2]], np.float32))
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\nContent-Type: application/json\r\n\r\n%s\r\n'
    csv, npy, picture_type = (
        {"Content-Type": "text/csv"},
        {"Content-Type": "application/x-npy"},
        {"Content-Type": "image/png"},
    )
    return [
        Request("/predictions/linear", value=[[1], [2]]),
        Request("/predictions/linear", value=[1], method="PUT"),
        Request("/predictions/tiny/1.0", value={"x": [[1, 2, 3, 4]]}),
        Request("/predictions/twofold", value={"a": [[1, 2, 3, 4]], "b": [[1, 2]]}),
        Request("/models/linear/invoke", value={"instances": [[1]]}),
        Request("/predictions/strings", b"any bytes at all", {"Content-Type": "application/octet-stream"}),
        Request("/predictions/pictures", picture(), picture_type),
        Request("/predictions/pictures", photograph()),
        Request("/predictions/pictures", part % (b"image", photograph()) + b"--b--\r\n", form),
        Request("/predictions/linear", part % (b"data", b"[[1], [2]]") + b"--b--\r\n", form),
        Request("/predictions/twofold", part % (b"a", b"[1,2,3,4]") + part % (b"b", b"[1, 2]") + b"--b--", form),
        Request("/predictions/linear", b"1\n2\n3.5\n", csv),
        Request("/invocations", b"1\r\n2\r\n", csv | {"Accept": "text/csv"}),
        Request("/invocations", array.getvalue(), npy | {"Accept": "application/x-npy"}),
        Request("/invocations", value=[[1], [2]], headers={"Accept": "text/csv", "Content-Type": "application/json"}),
        Request("/invocations", value={"inputs": [ONE]}),
        Request("/predictions/linear", array.getvalue()),
    ]


def _texts() -> list[Request]:
    to = "/v1/embeddings"
    return [
        Request(to, value={"model": "texts", "input": "to be"}),
        Request(to, value={"model": "texts", "input": ["to be", "or not"], "encoding_format": "base64", "user": "me"}),
        Request(to, value={"model": "texts", "input": [3, 4], "dimensions": 1}),
        Request(to, value={"model": "texts", "input": [[3, 4], [5]], "encoding_format": "float"}),
    ]
