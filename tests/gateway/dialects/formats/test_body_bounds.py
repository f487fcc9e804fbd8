"""What one request may hold is bounded before anything is done for each row, element or object."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from sluice.gateway.dialects.base import Callee, Dialect
from sluice.gateway.dialects.formats.body_bounds import MAX_TEXTS
from sluice.gateway.dialects.formats.npy import npy_of
from sluice.gateway.dialects.sagemaker.codec import SageMaker
from sluice.gateway.dialects.tfs.codec import TfsExamples, TfsPredict
from sluice.gateway.dialects.tfs.examples import CLASSIFY
from sluice.gateway.dialects.torchserve.codec import TorchServe
from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.dialects.v2_grpc.codec import GrpcInfer
from sluice.gateway.messages import Header
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import InvalidRequest, RequestError, RequestTooLarge
from sluice.inference.types import Datatype, Signature, Tensor, TensorSpec
from tests.gateway.dialects.bodies import body_of
from tests.gateway.dialects.grpc_bodies import raw_request, typed_request

ROWS, MIB = 10, 1 << 20
TYPE = b"content-type"
CSV, JSON, NPY = (TYPE, b"text/csv"), (TYPE, b"application/json"), (TYPE, b"application/x-npy")
PART = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n%b\r\n--b--\r\n'
FORM = (TYPE, b"multipart/form-data; boundary=b")


def callee(*own: int | None, datatype: Datatype = Datatype.FP32, max_rows: int = ROWS, batched: bool = True) -> Callee:
    shape = (None, *own) if batched else own
    outputs = (TensorSpec("y", Datatype.FP32, (None, 2)),)
    return Callee(
        "m", 1, Signature((TensorSpec("x", datatype, shape),), outputs, batched), ModelConfig(), None, max_rows
    )


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def binary(shape: Sequence[int], raw: bytes) -> tuple[bytes, tuple[Header, ...]]:
    head = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    text = json.dumps({"inputs": [head]}).encode()
    return text + raw, ((b"inference-header-content-length", b"%d" % len(text)),)


def of_rows(rows: int) -> list[tuple[Dialect, bytes, tuple[Header, ...]]]:
    """A request with so many rows of one number in each dialect, and in each form that it has."""
    column = json.dumps([[1]] * rows).encode()
    objects = json.dumps([{"x": [1]}] * rows).encode()
    raw = bytes(4 * rows)
    return [
        (V2(), body_of(column.decode(), [rows, 1]), ()),
        (V2(), body_of(json.dumps([1] * rows), [rows, 1]), ()),
        (V2(), *binary([rows, 1], raw)),
        (V2(), raw, ((b"inference-header-content-length", b"0"),)),
        (TfsPredict(), b'{"instances":%b}' % column, ()),
        (TfsPredict(), b'{"instances":%b}' % objects, ()),
        (TfsPredict(), b'{"inputs":%b}' % column, ()),
        (TfsPredict(), b'{"inputs":{"x":%b}}' % column, ()),
        (TfsPredict(), b'{"instances":%b}' % column.replace(b"1", b"NaN"), ()),
        (TfsExamples(CLASSIFY), b'{"examples":%b}' % objects, ()),
        (TorchServe(), column, (JSON,)),
        (TorchServe(), b'{"x":%b}' % column, (JSON,)),
        (TorchServe(), PART % column, (FORM,)),
        (TorchServe(), PART % saved(np.zeros((rows, 1), np.float32)), (FORM,)),
        (SageMaker(), b'{"instances":%b}' % column, (JSON,)),
        (SageMaker(), b"1\n" * rows, (CSV,)),
        (SageMaker(), b'"1"\r\n' * rows, (CSV,)),
        (SageMaker(), saved(np.zeros((rows, 1), np.float32)), (NPY,)),
        (GrpcInfer(), raw_request(raw, [rows, 1]).SerializeToString(), ()),
        (GrpcInfer(), typed_request([1.0] * rows, "fp32_contents", [rows, 1]).SerializeToString(), ()),
    ]


@pytest.mark.parametrize("number", range(len(of_rows(1))))
def test_rows_are_bounded_in_every_dialect(number: int) -> None:
    dialect, body, headers = of_rows(ROWS)[number]
    assert len(dialect.decode(body, headers, callee(1)).inputs[0].array) == ROWS
    dialect, body, headers = of_rows(ROWS + 1)[number]
    with pytest.raises(RequestTooLarge, match=rf"has {ROWS + 1} rows; one request has at most {ROWS}, .*server\.max"):
        dialect.decode(body, headers, callee(1))
    assert len(dialect.decode(body, headers, callee(1, max_rows=ROWS + 1)).inputs[0].array) == ROWS + 1


@pytest.mark.parametrize("shape", [[3_000_000, 0], [10**12, 0], [2**62, 0]])
def test_rows_without_elements_are_rows(shape: list[int]) -> None:
    """A shape of a few bytes may claim any number of them."""
    for body, headers in ((body_of("[]", shape), ()), binary(shape, b"")):
        with pytest.raises(RequestTooLarge, match="rows"):
            V2().decode(body, headers, callee(0))
    with pytest.raises(RequestTooLarge, match="rows"):
        GrpcInfer().decode(raw_request(b"", shape).SerializeToString(), (), callee(0))


TFS, TORCHSERVE, ANY = TfsPredict(), TorchServe(), (None, None)


@pytest.mark.parametrize(
    ("dialect", "own", "unit"),
    [
        (TFS, ANY, b"[0],"),
        (TFS, ANY, b"0.5,NaN,"),
        (TORCHSERVE, ANY, b"{},"),
        (TORCHSERVE, ANY, b"[],"),
        (V2(), (None,), b"0,"),
    ],
    ids=["lists", "no numbers", "objects", "empty lists", "numbers"],
)
def test_long_bodies_are_read_in_little_memory(dialect: Dialect, own: tuple[int | None, ...], unit: bytes) -> None:
    """Be they answered or refused; counted by the interpreter, so that the load of the machine does not matter."""
    text = b"[%b]" % (unit * (17 * MIB // 16 // len(unit)))[:-1]
    count = text.count(b",") + 1
    if isinstance(dialect, V2):
        shape = [ROWS, *[1] * (len(own) - 1), count // ROWS] if None in own else [count]
        body = body_of(text.decode(), shape)
    else:
        body = b'{"instances":[%b]}' % text
    tracemalloc.start()
    with pytest.MonkeyPatch.context() as patch, suppress(RequestError):
        patch.setattr("sluice.gateway.dialects.formats.body_bounds.OBJECT_FLOOR_BYTES", 0)
        dialect.decode(body, (JSON,), callee(*own))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # What is set aside for numbers is counted whole, though only what is needed of it is ever touched.
    room = 8 * (body.count(b",") + 1)
    assert peak + len(body) < 8 * len(body) + room, (peak, len(body))


def test_a_text_of_more_values_than_the_model_takes_is_not_parsed() -> None:
    model = callee(2, 3, batched=False)
    body = body_of("[" + "0," * 100_000 + "0]", [100_001])
    with pytest.raises(RequestTooLarge, match="100003 commas, and so more values than the model takes, which are 6"):
        V2().decode(body, (), model)


def test_values_in_members_that_mean_nothing_do_not_count() -> None:
    body = body_of("[[1]]", [1, 1], rest=',"mine":[' + "0," * 50_000 + "0]")
    assert V2().decode(body, (), callee(1)).inputs[0].array.tolist() == [[1]]


def test_strings_of_one_input_are_bounded() -> None:
    texts = callee(None, datatype=Datatype.BYTES)
    count = MAX_TEXTS + 1
    with pytest.raises(RequestTooLarge, match=f"{count} elements of BYTES; one request has at most"):
        V2().decode(body_of("[" + '"",' * (count - 1) + '""]', [1, count], "BYTES"), (), texts)
    with pytest.raises(RequestTooLarge, match=f"{count} elements of BYTES"):
        GrpcInfer().decode(raw_request(bytes(4 * count), [1, count], "BYTES").SerializeToString(), (), texts)


def test_an_npy_file_of_strings_that_would_be_mostly_padding_is_not_written() -> None:
    strings = np.empty(1000, np.object_)
    strings[:] = [b"a"] * 999 + [b"b" * 100_000]
    with pytest.raises(InvalidRequest, match="all are as long as the longest; accept application/json"):
        npy_of(Tensor("y", Datatype.BYTES, strings))


@pytest.mark.parametrize("content", [b"\r\n-" * 100_000, b"\r\n--" * 100_000, b"\r" * 300_000])
def test_parts_of_multipart_are_found_by_their_boundaries_alone(content: bytes) -> None:
    texts = callee(datatype=Datatype.BYTES)
    request = TorchServe().decode(PART % content, (FORM,), texts)
    assert request.inputs[0].array.tolist() == [content]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"--b\r\n" + b"a: b\r\n" * 2000 + b"\r\nx\r\n--b--\r\n", "headers do not end within 8192 bytes"),
        (b"--b\r\n\r\nx\r\n--b--", "has no name|headers do not end"),
        (b"--c\r\n\r\nx\r\n--c--", "no boundary as its content type names it"),
        (b"--bx\r\n\r\nx\r\n--b--", "not followed by the end of its line"),
        (b"", "no boundary"),
    ],
)
def test_multipart_that_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        TorchServe().decode(body, (FORM,), callee(1))


def test_a_boundary_is_no_longer_than_the_standard_has_it() -> None:
    with pytest.raises(InvalidRequest, match="boundary of 71 bytes"):
        TorchServe().decode(b"", ((TYPE, b"multipart/form-data; boundary=" + b"x" * 71),), callee(1))
