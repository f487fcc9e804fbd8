"""SageMaker's `/invocations`: what bodies mean, and what comes back."""

from __future__ import annotations

import io
import json
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sluice.gateway.dialects.base import Call
from sluice.gateway.dialects.formats.csv_rows import csv_in_steps, tensor_from_csv
from sluice.gateway.dialects.formats.npy import npy_of, tensor_from_npy
from sluice.gateway.dialects.formats.slices import at_once
from sluice.gateway.dialects.sagemaker.codec import BINARY, SageMaker
from sluice.gateway.messages import HttpResponse
from sluice.inference.errors import InvalidRequest, ModelNotFound
from sluice.inference.types import STORAGE, Array, Datatype, InferenceResponse, Tensor, TensorSpec
from tests.gateway.dialects.bodies import callee_of
from tests.gateway.dialects.torchserve.test_codec import ROWS, TWO, floats

SAGEMAKER = SageMaker()
NPY, CSV = b"application/x-npy", b"text/csv"


def typed(content_type: bytes, accept: bytes = b"*/*") -> tuple[tuple[bytes, bytes], ...]:
    return (b"content-type", content_type), (b"accept", accept)


def saved(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def loaded(file: bytes) -> Array:
    array: Array = np.load(io.BytesIO(file), allow_pickle=False)
    return array


def told(body: bytes, headers: Any, *outputs: Tensor) -> HttpResponse:
    request = SAGEMAKER.decode(body, headers, callee_of(ROWS))
    return SAGEMAKER.encode(request, InferenceResponse("m", 1, outputs or (floats("y", [[1, 2], [3, 4.5]]),)))


def test_recognise() -> None:
    assert SAGEMAKER.recognise("/invocations") == SAGEMAKER.recognise("/invocations/") == Call("")
    assert SAGEMAKER.recognise("/invocations/x") is None


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        (b"", b"application/json", b"[[1.0,2.0],[3.0,4.5]]"),
        (b"text/html, */*", b"application/json", b"[[1.0,2.0],[3.0,4.5]]"),
        (b"text/csv", CSV, b"1.0,2.0\n3.0,4.5\n"),
        (b"Text/CSV; q=0.5, application/json", CSV, b"1.0,2.0\n3.0,4.5\n"),
    ],
)
def test_the_answer_is_what_is_accepted(accept: bytes, kind: bytes, body: bytes) -> None:
    answer = told(b"1,2\n3,4\n", typed(CSV, accept))
    assert (dict(answer.headers)[b"content-type"], answer.body) == (kind, body)


def test_npy_in_and_out() -> None:
    answer = told(saved(np.ones((2, 2))), typed(NPY, NPY))
    assert dict(answer.headers)[b"content-type"] == NPY
    assert np.array_equal(loaded(answer.body), np.array([[1, 2], [3, 4.5]], np.float32))
    with pytest.raises(InvalidRequest, match="one array; accept application/json"):
        told(saved(np.ones((2, 2))), typed(NPY, NPY), floats("y", [1]), floats("z", [1]))


def test_vertex_and_columns() -> None:
    assert json.loads(told(b'{"instances": [[1, 2], [3, 4]]}', ()).body) == {"predictions": [[1, 2], [3, 4.5]]}
    assert json.loads(told(b'{"inputs": {"x": [[1, 2]]}}', ()).body) == {"outputs": [[1, 2], [3, 4.5]]}


def test_v2_with_binary_tensors() -> None:
    head = json.dumps(
        {
            "parameters": {"binary_data_output": True},
            "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
        }
    ).encode()
    body = head + struct.pack("<2f", 1, 2)
    answer = told(body, typed(b"%b;json-header-size=%d" % (BINARY, len(head)), CSV))
    kind, _, size = dict(answer.headers)[b"content-type"].partition(b";json-header-size=")
    assert kind == BINARY
    assert json.loads(answer.body[: int(size)])["model_name"] == "m"
    assert np.frombuffer(answer.body[int(size) :], np.float32).tolist() == [1, 2, 3, 4.5]
    for content_type in (BINARY, BINARY + b";json-header-size=x", BINARY + b";json-header-size=9999999"):
        with pytest.raises(InvalidRequest, match=r"json-header-size|Content-Length"):
            told(body, typed(content_type))


def test_v2_json_is_answered_as_v2() -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
    assert json.loads(told(body, typed(b"application/json", CSV)).body)["outputs"][0]["name"] == "y"


def test_errors_are_objects_with_an_error() -> None:
    refused = SAGEMAKER.refuse(ModelNotFound("e"))
    assert (refused.status, json.loads(refused.body)) == (404, {"error": "e"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no lines"),
        (b"\n\n", "no lines"),
        (b"a,b\n1,2\n", "line 1, value 1 is 'a'; expected a number, and no line with names"),
        (b"1,2\n3\n", "line 2 has 1 values, and line 1 has 2"),
        (b"1_0,2\n", "line 1, value 1"),
        (b"1,\n", "line 1, value 2"),
        (b"1,2,3\n", "lines have 3 values"),
        (b"\xff\n", "no CSV"),
        (b'"1\n', "no CSV"),
    ],
)
def test_csv_that_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        tensor_from_csv(ROWS.inputs[0], body)


def test_csv_of_each_kind() -> None:
    def array(datatype: Datatype, axes: tuple[int | None, ...], text: bytes) -> Any:
        return tensor_from_csv(TensorSpec("x", datatype, axes), text).array.tolist()

    assert array(Datatype.FP32, (None, 2, 2), b"1, 2,3e0,-4\r\n5,6,7,8") == [[[1, 2], [3, -4]], [[5, 6], [7, 8]]]
    assert array(Datatype.INT64, (None,), b"7\n8\n") == [7, 8]
    assert array(Datatype.BOOL, (None, 2), b"true,0\n") == [[True, False]]
    assert array(Datatype.BYTES, (None, 2), '"a,b",ü\n'.encode()) == [[b"a,b", "ü".encode()]]
    assert array(Datatype.FP32, (None, None), b"1,2,3\n") == [[1, 2, 3]]
    with pytest.raises(InvalidRequest, match="whole number from 0 to 255"):
        array(Datatype.UINT8, (None,), b"256\n")
    with pytest.raises(InvalidRequest, match="does not say which input"):
        SAGEMAKER.decode(b"1\n", typed(CSV), callee_of(TWO))


def test_csv_of_several_outputs_and_of_strings() -> None:
    names = Tensor("n", Datatype.BYTES, np.array([b"a,b", b"c"], np.object_))
    assert at_once(csv_in_steps((floats("y", [[1, float("nan")], [3, 4]]), names))) == b'1.0,NaN,"a,b"\n3.0,4.0,c\n'
    with pytest.raises(InvalidRequest, match="no rows in common"):
        at_once(csv_in_steps((floats("y", [1, 2]), floats("z", [1]))))
    with pytest.raises(InvalidRequest, match="no rows in common"):
        at_once(csv_in_steps((floats("y", 1.0),)))


NUMBERS = st.sampled_from([each for each in Datatype if each not in (Datatype.BYTES, Datatype.BF16)])


@given(NUMBERS.flatmap(lambda datatype: hnp.arrays(STORAGE[datatype], hnp.array_shapes(min_side=0, max_side=4))))
def test_an_array_comes_as_numpy_saved_it_and_goes_as_numpy_loads_it(array: Array) -> None:
    datatype = next(each for each, dtype in STORAGE.items() if dtype == array.dtype and each is not Datatype.BF16)
    tensor = tensor_from_npy(TensorSpec("x", datatype, array.shape), saved(array))
    assert tensor.array.tobytes() == array.tobytes()
    again = loaded(npy_of(tensor))
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("array", [np.asfortranarray([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]], ">f8")])
def test_order_and_byte_order_do_not_matter(array: Array) -> None:
    tensor = tensor_from_npy(ROWS.inputs[0], saved(array))
    assert tensor.array.tolist() == [[1, 2], [3, 4]]
    assert tensor.array.dtype == np.float32
    assert tensor.array.flags.c_contiguous


def _objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}], np.object_), allow_pickle=True)
    return file.getvalue()


GOOD = saved(np.ones((2, 2), np.float32))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"hello", "no .npy file"),
        (GOOD[:9], "no .npy file"),
        (GOOD[:-1], "has 15 bytes of data"),
        (GOOD.replace(b"(2, 2)", b"(9, 9)"), "has 16 bytes of data"),
        (GOOD.replace(b"(2, 2), }", b"(9223372036854775807, 9223372036854775807), }"), "header|bytes of data"),
        (_objects(), "never read"),
        (saved(np.zeros(2, [("a", "f4")])), "never read"),
        (saved(np.ones((2, 2), np.complex64)), "never read"),
        (saved(np.array([[1e300]])), "beyond the range"),
        (saved(np.array([["a"]])), "expected FP32"),
    ],
)
def test_npy_that_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        tensor_from_npy(ROWS.inputs[0], body)


def test_numbers_are_converted_by_value() -> None:
    integers = TensorSpec("x", Datatype.UINT8, (None,))
    assert tensor_from_npy(integers, saved(np.array([255]))).array.tolist() == [255]
    for wrong in (np.array([256]), np.array([-1]), np.array([1.0]), np.array([True])):
        with pytest.raises(InvalidRequest, match=r"beyond the range|expected UINT8"):
            tensor_from_npy(integers, saved(wrong))
    words = TensorSpec("x", Datatype.BYTES, (None,))
    assert tensor_from_npy(words, saved(np.array(["ü", "b"]))).array.tolist() == ["ü".encode(), b"b"]
    bfloat = TensorSpec("x", Datatype.BF16, (None,))
    assert tensor_from_npy(bfloat, saved(np.array([1.0, -np.inf]))).array.tolist() == [0x3F80, 0xFF80]
    with pytest.raises(InvalidRequest, match="beyond the range of BF16"):
        tensor_from_npy(bfloat, saved(np.array([1e39])))
    assert loaded(npy_of(Tensor("y", Datatype.BYTES, np.array([b"a", b"bc"], np.object_)))).tolist() == [b"a", b"bc"]


@given(
    st.binary(max_size=200), st.sampled_from([b"", NPY, CSV, BINARY, b"image/png"]), st.sampled_from([b"", NPY, CSV])
)
def test_whatever_comes_is_answered_or_refused(body: bytes, kind: bytes, accept: bytes) -> None:
    for prefix in (b"", GOOD[:20], b"1,"):
        with suppress(InvalidRequest):
            SAGEMAKER.decode(prefix + body, typed(kind, accept), callee_of(ROWS))
