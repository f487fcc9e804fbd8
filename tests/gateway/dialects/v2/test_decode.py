from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sluice.gateway.dialects.v2.body import decode_by_lists, decode_by_tape
from sluice.gateway.dialects.v2.codec import V2
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import STORAGE, Datatype, Signature
from tests.gateway.dialects.bodies import body_of, callee_of, decode, decoded, facts, signature_of

INTEGERS = [each for each in Datatype if each.startswith(("INT", "UINT"))]
FLOATS = [Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64]


def fault(body: bytes | bytearray, signature: Signature | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        V2().decode(body, (), callee_of(signature))
    return str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("BOOL", "[true,false]", [True, False]),
        ("UINT8", "[0,255]", [0, 255]),
        ("UINT16", "[0,65535]", [0, 65535]),
        ("UINT32", "[0,4294967295]", [0, 4294967295]),
        ("UINT64", "[0,18446744073709551615]", [0, 18446744073709551615]),
        ("INT8", "[-128,127]", [-128, 127]),
        ("INT16", "[-32768,32767]", [-32768, 32767]),
        ("INT32", "[-2147483648,2147483647]", [-2147483648, 2147483647]),
        ("INT64", "[-9223372036854775808,9223372036854775807]", [-9223372036854775808, 9223372036854775807]),
        ("FP16", "[1.5,-65504]", [1.5, -65504.0]),
        ("BF16", "[1.5,-2]", [0x3FC0, 0xC000]),
        ("FP32", "[0.1,-3.4028235e38]", [np.float32(0.1), np.float32(-3.4028235e38)]),
        ("FP64", "[0.1,1.7976931348623157e308]", [0.1, 1.7976931348623157e308]),
        ("BYTES", r'["grün","\u00e4\ud83d\ude00"]', ["grün".encode(), "ä😀".encode()]),
    ],
)
def test_every_datatype(datatype: str, data: str, expected: list[Any]) -> None:
    array = decoded(data, [2], Datatype(datatype))
    assert array.dtype == STORAGE[Datatype(datatype)]
    assert array.tolist() == expected
    assert array.flags.c_contiguous


def test_all_datatypes_have_been_seen_above() -> None:
    assert len(Datatype) == 14


@pytest.mark.parametrize("data", ["[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]", " [ [1, 2,\n3] ,\t[4,5,6]\r\n] "])
@pytest.mark.parametrize("datatype", [*FLOATS, *INTEGERS])
def test_flat_and_nested(data: str, datatype: Datatype) -> None:
    array = decoded(data, [2, 3], datatype)
    assert array.shape == (2, 3)
    assert np.array_equal(array, decoded("[1,2,3,4,5,6]", [6], datatype).reshape(2, 3))


def test_strings_may_hold_brackets_quotes_and_nothing() -> None:
    data = json.dumps(["[", "],[", '"', ""])
    assert decoded(data, [2, 2], Datatype.BYTES).tolist() == [[b"[", b"],["], [b'"', b""]]
    nested = json.dumps([["[", "],["], ['"', ""]])
    assert decoded(nested, [2, 2], Datatype.BYTES).tolist() == [[b"[", b"],["], [b'"', b""]]


@pytest.mark.parametrize("data", ["[7]", "7"])
@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.INT64])
def test_a_shape_without_axes_takes_one_element(data: str, datatype: Datatype) -> None:
    array = decoded(data, [], datatype)
    assert array.shape == ()
    assert array == 7


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize(("data", "shape"), [("[]", [0]), ("[]", [0, 3]), ("[]", [2, 0]), ("[[],[]]", [2, 0, 3])])
def test_no_elements(data: str, shape: list[int], datatype: Datatype) -> None:
    array = decoded(data, shape, datatype)
    assert array.shape == tuple(shape)
    assert array.dtype == STORAGE[datatype]


def test_more_axes_than_are_usual() -> None:
    shape = [1] * 64
    assert decoded("[5]", shape).shape == tuple(shape)
    assert decoded("[" * 64 + "5" + "]" * 64, shape).shape == tuple(shape)


@pytest.mark.parametrize("datatype", FLOATS)
def test_integers_and_exponents_are_numbers(datatype: Datatype) -> None:
    assert np.array_equal(decoded("[2,2e0,20E-1,0.2e+1]", [4], datatype), decoded("[2.0,2.0,2.0,2.0]", [4], datatype))


@pytest.mark.parametrize("count", [1, 2000])
def test_integers_beyond_64_bits_are_numbers(count: int) -> None:
    data = "[" + ",".join(["100000000000000000000"] * count) + "]"
    assert decoded(data, [count], Datatype.FP64).tolist() == [1e20] * count


def test_numbers_below_the_smallest_are_zero() -> None:
    assert decoded("[1e-400,1e-60,-1e-60]", [3]).tolist() == [0.0, 0.0, 0.0]


def test_everything_beside_the_inputs() -> None:
    rest = ',"id":"a-1","parameters":{"a":true,"b":1,"c":1.5,"d":"x"},"outputs":[{"name":"y","extra":[]},{"name":"z"}]'
    request = decode(body_of("[1]", [1], rest=rest))
    assert request.id == "a-1"
    assert request.outputs == ("y", "z")
    assert dict(request.parameters) == {"a": True, "b": 1, "c": 1.5, "d": "x"}
    assert type(request.parameters["a"]) is bool


def test_what_is_left_out_or_null() -> None:
    for rest in ("", ',"id":null,"parameters":null,"outputs":null'):
        request = decode(body_of("[1]", [1], rest=rest))
        assert (request.id, request.outputs, dict(request.parameters)) == (None, (), {})


def test_unknown_members_are_ignored() -> None:
    rest = ',"unknown":{"a":[[[1]]]}'
    assert facts(decode(body_of("[1]", [1], rest=rest))) == facts(decode(body_of("[1]", [1])))
    body = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"a":[]},"more":{},"data":[1]}]}'
    assert facts(decode(body)) == facts(decode(body_of("[1]", [1])))


def test_many_unknown_members_cost_no_more_than_their_length() -> None:
    # Looked up one by one they would take minutes, and the time limit of the test run would end this test.
    unknown = "".join(f',"{n}":0' for n in range(300_000))
    assert facts(decode(body_of("[1]", [1], rest=unknown))) == facts(decode(body_of("[1]", [1])))


def test_inputs_keep_the_order_of_the_caller() -> None:
    inputs = [{"name": name, "shape": [1], "datatype": "INT8", "data": [n]} for n, name in enumerate("zax")]
    request = decode(json.dumps({"inputs": inputs}).encode())
    assert [(tensor.name, tensor.array.tolist()) for tensor in request.inputs] == [("z", [0]), ("a", [1]), ("x", [2])]


def test_a_model_without_inputs_takes_a_request_without_inputs() -> None:
    assert V2().decode(b'{"inputs":[]}', (), callee_of(Signature((), (), batched=False))).inputs == ()


@pytest.mark.parametrize("layout", ["flat", "nested"])
def test_an_image_needs_no_python_object_for_each_number(layout: str) -> None:
    image = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    data = json.dumps(image.ravel().tolist() if layout == "flat" else image.tolist())
    body = body_of(data, image.shape, rest=',"id":"i","outputs":[{"name":"y"}],"parameters":{"p":"q"}')
    request = decode_by_tape(body)
    assert request is not None
    assert request.inputs[0].array.tobytes() == image.tobytes()
    assert facts(request) == facts(decode_by_lists(body, signature_of())) == facts(decode(bytearray(body)))


@pytest.mark.parametrize("lengths", [(1001, 999), (1000, 999, 1), (2000,), (1000, 1001), (999, 1000)])
def test_large_ragged_tensors(lengths: tuple[int, ...]) -> None:
    body = body_of(json.dumps([[0.5] * length for length in lengths]), [2, 1000])
    assert decode_by_tape(body) is None
    assert "expected " in fault(body)


@pytest.mark.parametrize(
    "row", ['"[",' + "1," * 999 + "1", "1," * 999 + "[1]", "[" + "1," * 999 + "1],[]", "[1]," * 999 + "[1]"]
)
def test_large_tensors_with_a_list_too_many(row: str) -> None:
    body = body_of(f"[{row},[{'1,' * 999}1]]", [2, 1000])
    assert decode_by_tape(body) is None
    assert fault(body).startswith("input 'x': data")


def test_many_short_rows() -> None:
    values = np.arange(6000).reshape(-1, 3)
    body = body_of(json.dumps(values.tolist()), values.shape)
    assert decode_by_tape(body) is None
    assert np.array_equal(decode(body).inputs[0].array, values)


def test_a_large_body_is_as_strict_as_a_small_one() -> None:
    image = body_of(json.dumps([0.5] * 3000), [3000])
    assert "invalid character at byte 0" in fault(b"\xef\xbb\xbf" + image)
    twice = image.replace(b'"data"', b'"data":[1],"data"')
    assert decode(twice).inputs[0].array.shape == (3000,)
    assert "data has 1 element" in fault(image.replace(b"}]}", b',"data":[1]}]}'))


@pytest.mark.parametrize("datatype", [*FLOATS, *INTEGERS])
def test_large_tensors_of_every_numeric_datatype(datatype: Datatype) -> None:
    values = [n % 120 for n in range(6000)]
    body = body_of(json.dumps(values), [60, 100], datatype)
    request = decode_by_tape(body)
    assert request is not None
    assert facts(request) == facts(decode_by_lists(body, signature_of()))


def test_arrays_outlive_the_body() -> None:
    body = bytearray(body_of(json.dumps(list(range(3000))), [3000], "FP64"))
    array = decode(body).inputs[0].array
    body[:] = b" " * len(body)
    body.clear()
    assert array.tolist() == list(range(3000))


BAD_DATA = [
    ("FP32", "[1]", "[1,2]", "data has 2 elements; expected 1 element for shape [1]"),
    ("FP32", "[1,4]", "[1,2,3]", "data has 3 elements; expected 4 elements for shape [1, 4]"),
    ("FP32", "[]", "[1,2]", "data has 2 elements; expected 1 element for shape []"),
    ("FP32", "[2,2]", "[]", "data has 0 elements; expected 4"),
    ("FP32", "[2,2]", "[[1,2],[3]]", "data[1] has 1 element; expected 2"),
    ("FP32", "[2,2]", "[[1,2],3]", "data[1] is 3; expected a list of 2 elements"),
    ("FP32", "[2,2]", "[[1,2],[3,4],[5,6]]", "data has 3 elements; expected 2"),
    ("FP32", "[2,2]", "[[[1],[2]],[[3],[4]]]", "data[0][0] is a list of 1 element; expected a number"),
    ("FP32", "[2,2,2]", "[[1,2],[3,4],[5,6],[7,8]]", "data has 4 elements; expected 2"),
    ("FP32", "[1,1]", "[[]]", "data[0] has 0 elements; expected 1"),
    ("FP32", "[2]", "[1,[2]]", "data[1] is a list of 1 element; expected a number"),
    ("FP32", "[2]", '[1,"2"]', "data[1] is '2'; expected a number"),
    ("FP32", "[2]", "[true,1]", "data[0] is true; expected a number"),
    ("FP32", "[1]", "[null]", "data[0] is null; expected a number"),
    ("FP32", "[1]", "[{}]", "data[0] is an object; expected a number"),
    ("FP32", "[1]", "{}", "data is an object; expected a list of 1 element"),
    ("FP32", "[1]", '"abc"', "data is 'abc'; expected a list"),
    ("FP32", "[1]", "[1e39]", "data[0] is 1e+39, beyond the range of FP32"),
    ("FP32", "[1,2]", "[[1,-1e39]]", "data[0][1] is -1e+39, beyond the range of FP32"),
    ("FP32", "[1]", "[1e400]", "data[0] is 1e400, beyond the range of FP32"),
    ("FP64", "[1]", "[1e400]", "data[0] is 1e400, beyond the range of FP64"),
    ("FP64", "[1]", "[1" + "0" * 400 + "]", "beyond the range of FP64"),
    ("FP64", "[1]", "[1" + "0" * 5000 + "]", "data[0]: integer value out of range"),
    ("FP16", "[2]", "[0,65520]", "data[1] is 65520, beyond the range of FP16"),
    ("BF16", "[2]", "[0,3.4e38]", "data[1] is 3.4e+38, beyond the range of BF16"),
    ("INT32", "[2]", "[1,1.5]", "data[1] is 1.5; expected a whole number from -2147483648 to 2147483647"),
    ("INT32", "[1]", "[1.0]", "data[0] is 1.0; expected a whole number"),
    ("INT32", "[1]", "[1e2]", "data[0] is 100.0; expected a whole number"),
    ("INT32", "[1]", "[2147483648]", "data[0] is 2147483648; expected a whole number"),
    ("INT64", "[1]", "[9223372036854775808]", "data[0] is 9223372036854775808; expected a whole number"),
    ("UINT8", "[1]", "[-1]", "data[0] is -1; expected a whole number from 0 to 255"),
    ("UINT64", "[1]", "[-1]", "data[0] is -1; expected a whole number from 0"),
    ("INT8", "[1]", "[true]", "data[0] is true; expected a whole number"),
    ("INT8", "[1]", '["5"]', "data[0] is '5'; expected a whole number"),
    ("BOOL", "[1]", "[1]", "data[0] is 1; expected true or false"),
    ("BOOL", "[1]", '["true"]', "data[0] is 'true'; expected true or false"),
    ("BYTES", "[1]", "[5]", "data[0] is 5; expected a string"),
    ("BYTES", "[2,1]", '[["a"],[null]]', "data[1][0] is null; expected a string"),
    ("FP32", "[-1]", "[1]", "shape [-1]; every axis must be 0 or more"),
    ("FP32", "[-1,-1]", "[1]", "shape [-1, -1]; every axis must be 0 or more"),
    ("FP32", "[100000000000000000000]", "[1]", "every axis must be 0 or more, and below 2^63"),
    ("FP32", "[9223372036854775807]", "[1]", "data has 1 element; expected 9223372036854775807 elements"),
    ("FP32", "[0,9223372036854775807]", "[]", "shape [0, 9223372036854775807]; no array has so large an axis"),
    ("FP32", "[" + "1," * 64 + "1]", "[1]", "a shape of 65 axes; at most 64"),
    ("FP32", "[1.5]", "[1]", "inputs[0].shape[0]: expected an integer, got a number"),
    ("FP32", "[1.0]", "[1]", "inputs[0].shape[0]: expected an integer, got a number"),
    ("FP32", "[true]", "[1]", "inputs[0].shape[0]: expected an integer, got true or false"),
    ("FP32", '["1"]', "[1]", "inputs[0].shape[0]: expected an integer, got a string"),
    ("FP32", "1", "[1]", "inputs[0].shape: expected a list, got an integer"),
    ("FP31", "[1]", "[1]", "datatype 'FP31'; expected one of BOOL, UINT8"),
    ("FP32", "[1]", "[" * 500 + "]" * 500, "data[0] is a list of 1 element; expected a number"),
    ("FP32", "[3]", "[1,NaN,2]", "data[1] is NaN, which JSON does not have; expected a number"),
    ("FP32", "[1,1]", "[[-Infinity]]", "data[0][0] is -Infinity, which JSON does not have"),
    ("FP32", "[1]", "[Infinity]", "data[0] is Infinity, which JSON does not have"),
]


@pytest.mark.parametrize(("datatype", "shape", "data", "expected"), BAD_DATA)
def test_bad_data_is_refused_by_name(datatype: str, shape: str, data: str, expected: str) -> None:
    message = fault(body_of(data, shape, datatype))
    assert message.startswith("input 'x'")
    assert expected in message
    assert len(message) < 400


@pytest.mark.parametrize(("datatype", "shape", "data", "expected"), BAD_DATA)
def test_bad_data_is_refused_alike_in_a_large_body(datatype: str, shape: str, data: str, expected: str) -> None:
    padding = f',"unknown":"{"-" * 5000}"'
    body = body_of(data, shape, datatype, rest=padding)
    assert fault(body) == fault(body_of(data, shape, datatype))
    assert decode_by_tape(body_of(data, shape, datatype)) is None


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.INT8, Datatype.UINT32])
@pytest.mark.parametrize("position", [0, 1234, 2999])
def test_one_number_out_of_range_among_many(datatype: Datatype, position: int) -> None:
    values = ["1"] * 3000
    values[position] = "1" + "0" * 39
    message = fault(body_of(f"[{','.join(values)}]", [3000], datatype), signature_of(datatype))
    assert f"data[{position}] is 1000000000000000000000000000000000000000" in message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b"{", "not valid JSON: it ends too early, at byte 1 (line 1, column 2)"),
        (b'{"inputs":[\n\n  ,]}', "not valid JSON: invalid character at byte 15 (line 3, column 3)"),
        (b'{"inputs":[]} x', "not valid JSON: trailing characters"),
        (b"\xef\xbb\xbf{}", "not valid JSON: invalid character at byte 0"),
        (b"\xff", "not valid JSON: invalid character at byte 0"),
        (b'{"id":"\xff","inputs":[]}', "not UTF-8: invalid start byte at byte 7 (line 1, column 8)"),
        (b'{"id":"\\ud800"}', "half of a surrogate pair at byte 7"),
        (b'{"parameters":{"a":NaN},"inputs":[]}', "NaN at byte 19 (line 1, column 20); JSON has finite numbers only"),
        (b"[]", "the request is wrong: expected an object, got a list"),
        (b"null", "the request is wrong: expected an object, got null"),
        (b"{}", "missing required field inputs"),
        (b'{"inputs":[]}', "the request has no inputs; expected 'x'"),
        (b'{"inputs":5}', "wrong at inputs: expected a list, got an integer"),
        (b'{"inputs":[5]}', "input number 0 is wrong"),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32"}]}', "input 'x' is wrong at inputs[0]: object missing"),
        (b'{"inputs":[{"name":7,"shape":[1],"datatype":"FP32","data":[1]}]}', "inputs[0].name: expected a string"),
        (body_of("[1]", [1], rest=',"id":5'), "wrong at id: expected a string or null, got an integer"),
        (body_of("[1]", [1], rest=',"parameters":{"a":[]}'), "wrong at parameters[...]: expected"),
        (body_of("[1]", [1], rest=',"outputs":["y"]'), "wrong at outputs[0]: expected an object, got a string"),
        (body_of("[1]", [1], rest=',"outputs":[{"name":"y"},{"name":"y"}]'), "output 'y' is listed 2 times"),
        (body_of('["\\u00e4"]', [1], "BYTES").replace(b"\\u00e4", b"\xe4"), "input 'x': data has a string that is not"),
        (body_of("[" * 100_000, [1]), "nested too deeply"),
        (body_of("[" * 100_000 + "]" * 100_000, [1]), "nested too deeply"),
        (body_of("[1]", [1], rest=',"unknown":' + '{"a":' * 100_000 + "1" + "}" * 100_000), "nested too deeply"),
    ],
)
def test_bad_bodies(body: bytes, expected: str) -> None:
    assert expected in fault(body)
    assert fault(bytearray(body)) == fault(body)


def test_repeated_inputs() -> None:
    one = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
    assert "input 'x' is listed 2 times" in fault(json.dumps({"inputs": [one, one]}).encode())
    many = one | {"shape": [2000], "data": [1.5] * 2000}
    assert "input 'x' is listed 2 times" in fault(json.dumps({"inputs": [many, many]}).encode())


@pytest.mark.parametrize("count", [1, 3000])
def test_tensors_in_shared_memory_are_refused(count: int) -> None:
    """An answer in the body would leave the client with what lies in its memory."""
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 4 * count}
    good = {"name": "x", "shape": [count], "datatype": "FP32", "data": [0.5] * count}
    shared = {"name": "s", "shape": [count], "datatype": "FP32", "parameters": region}
    body = json.dumps({"inputs": [good], "outputs": [{"name": "z"}, {"name": "y", "parameters": region}]})
    assert "output 'y': shared memory is not served" in fault(body.encode())
    for inputs in ([good, shared], [shared, good], [shared]):
        assert "input 's': shared memory is not served" in fault(json.dumps({"inputs": inputs}).encode())
    odd = shared | {"parameters": ["shared_memory_region"]}
    assert "input 's' is wrong at inputs[0]: object missing" in fault(json.dumps({"inputs": [odd]}).encode())


def test_the_input_at_fault_is_the_one_named() -> None:
    good = {"name": "good", "shape": [1], "datatype": "FP32", "data": [1]}
    for change in ({"data": ["x"]}, {"shape": [2]}, {"shape": ["1"]}, {"datatype": "?"}, {"data": [float("nan")]}):
        body = json.dumps({"inputs": [good, good | {"name": "bad"} | change]}).encode()
        assert fault(body).startswith("input 'bad'")


def test_a_misplaced_token_in_a_long_body_is_told_by_its_place() -> None:
    body = body_of("[" + "1.5, " * 300_000 + "NaN]", [300_001])
    assert f"NaN at byte {body.index(b'NaN')} (line 1" in fault(body)


def test_names_and_values_of_any_length_make_short_messages() -> None:
    body = json.dumps({"inputs": [{"name": "n" * 10**6, "shape": [1], "datatype": "d" * 10**6, "data": [1]}]})
    assert len(fault(body.encode())) < 400
    assert len(fault(body_of(json.dumps(["v" * 10**6]), [1]))) < 400


def test_no_content_type_is_looked_at() -> None:
    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    assert V2().decode(body_of("[1]", [1]), headers, callee_of()).inputs[0].array.tolist() == [1.0]
