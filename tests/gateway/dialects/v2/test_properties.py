"""Properties: what is encoded comes back bit for bit, all ways of decoding agree, and garbage is only ever refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.gateway.dialects.formats.json_forms import FORMS, array_of
from sluice.gateway.dialects.formats.json_reference import elements_of
from sluice.gateway.dialects.v2.body import decode_by_lists, decode_by_tape
from sluice.gateway.dialects.v2.codec import V2
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import STORAGE, Array, Datatype, InferenceRequest, InferenceResponse, Shape, Tensor
from tests.gateway.dialects.bodies import body_of, contents, decode, facts, nested, signature_of
from tests.gateway.dialects.formats.test_bfloat16 import nearest

DATATYPES = st.sampled_from(list(Datatype))
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def finite(array: Array, datatype: Datatype) -> Array:
    """The array with zero where JSON has no number."""
    if datatype is Datatype.BF16:
        return np.where((array & 0x7F80) == 0x7F80, np.uint16(0), array)
    return np.where(np.isfinite(array), array, array.dtype.type(0)) if array.dtype.kind == "f" else array


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    datatype, shape = draw(DATATYPES), draw(SHAPES)
    dtype, count = STORAGE[datatype], int(np.prod(shape))
    if datatype is Datatype.BYTES:
        strings: Array = np.empty(count, np.object_)
        strings[:] = [text.encode() for text in draw(st.lists(st.text(max_size=5), min_size=count, max_size=count))]
        return Tensor("x", datatype, strings.reshape(shape))
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    array: Array = np.array([byte & 1 for byte in raw], bool) if dtype == np.bool_ else np.frombuffer(raw, dtype)
    return Tensor("x", datatype, np.ascontiguousarray(finite(array, datatype)).reshape(shape))


class _Answer(msgspec.Struct):
    outputs: msgspec.Raw


def request_from_answer(tensor: Tensor) -> bytes:
    """The output that the dialect writes for a tensor, as the input of a request."""
    answer = V2().encode(InferenceRequest(()), InferenceResponse("m", 1, (tensor,)))
    return b'{"inputs":' + bytes(msgspec.json.decode(answer.body, type=_Answer).outputs) + b"}"


@given(tensors())
def test_what_is_encoded_comes_back_bit_for_bit(tensor: Tensor) -> None:
    body = request_from_answer(tensor)
    [flat] = decode(body, tensor.datatype).inputs
    assert contents(flat) == contents(tensor)
    data = json.loads(body)["inputs"][0]["data"]
    layered = body_of(json.dumps(nested(data, tensor.array.shape)), tensor.array.shape, tensor.datatype)
    [again] = decode(layered, tensor.datatype).inputs
    assert contents(again) == contents(tensor)


@given(tensors())
def test_the_tape_takes_every_flat_numeric_tensor(tensor: Tensor) -> None:
    request = decode_by_tape(request_from_answer(tensor))
    if not FORMS[tensor.datatype].carrier:
        assert request is None
        return
    assert request is not None
    assert contents(request.inputs[0]) == contents(tensor)


def test_all_16_bit_floats_come_back() -> None:
    for datatype in (Datatype.FP16, Datatype.BF16):
        bits = np.arange(2**16, dtype=np.uint16)
        tensor = Tensor("x", datatype, finite(bits.view(STORAGE[datatype]), datatype))
        assert contents(decode(request_from_answer(tensor)).inputs[0]) == contents(tensor)


NUMBERS = st.one_of(
    st.integers(-300, 300).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from([2**7, 2**8, 2**15, 2**16, 2**31, 2**32, 2**63, 2**64]).flatmap(
        lambda edge: st.integers(edge - 2, edge + 2).flatmap(lambda n: st.sampled_from([str(n), str(-n)]))
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["-0", "-0.0", "1e400", "-1e400", "1e-400", "1E5", "1.0", "65519.99", "65520", "3.4e38", "1e39"]),
    st.sampled_from(["3.4028235677973362e38", "3.4028235677973366e38", "3.3961775292304957e38", "1" + "0" * 320]),
)
LEAVES = st.one_of(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["true", "false", "null", '"a"', '"[,]"', "{}", "[]"]))
SPACE = st.sampled_from(["", "", "", " ", "\n"])


@st.composite
def texts(draw: st.DrawFn, shape: Shape) -> str:
    """JSON text that is more or less the data of a shape."""
    oddity = draw(st.integers(0, 12))
    if not shape or oddity == 0:
        return draw(LEAVES)
    size = shape[0] + (oddity == 1) - (oddity == 2 and shape[0] > 0)
    items = [draw(texts(shape[1:])) for _ in range(size)]
    space = draw(SPACE)
    return f"[{space}" + f"{space},{space}".join(items) + f"{space}]"


@st.composite
def cases(draw: st.DrawFn) -> tuple[Datatype, Shape, str]:
    datatype = draw(DATATYPES)
    shape = draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    flat: Shape = (int(np.prod(shape)),)
    return datatype, shape, draw(texts(draw(st.sampled_from([shape, flat]))))


def outcome_by_reference(datatype: Datatype, shape: Shape, text: str) -> Any:
    form = FORMS[datatype]
    try:
        array = array_of(form, elements_of("x", form, shape, text.encode()), shape)
    except InvalidRequest as error:
        return str(error)
    return contents(Tensor("x", datatype, array))


def outcome(body: bytes) -> Any:
    """What the ordinary way makes of a body: the request's facts, or the message of a refusal."""
    try:
        return facts(decode_by_lists(body, signature_of()))
    except InvalidRequest as error:
        return str(error)


def assert_decoded_alike_or_refused(body: bytes) -> None:
    expected = outcome(body)
    assert expected
    by_tape = decode_by_tape(body)
    assert by_tape is None or facts(by_tape) == expected


def outcome_by_json(datatype: Datatype, shape: Shape, text: str) -> Any:
    """A second opinion that shares no code with the dialect: Python's json, and one number after the other."""
    value = json.loads(text, parse_constant=lambda token: None)
    flat: list[Any] = []

    def walk(item: Any, dims: Shape) -> bool:
        if not dims:
            flat.append(item)
            return True
        return isinstance(item, list) and len(item) == dims[0] and all([walk(each, dims[1:]) for each in item])

    count = int(np.prod(shape))
    is_flat = isinstance(value, list) and not any([isinstance(item, list) for item in value])
    if not (walk(value, (count,)) if is_flat else walk(value, shape)):
        return None
    elements = [found for item in flat if (found := element_by_json(datatype, item)) is not None]
    if len(elements) < len(flat):
        return None
    if datatype is Datatype.BYTES:
        return "x", datatype, shape, "object", elements
    return "x", datatype, shape, str(STORAGE[datatype]), b"".join(elements)


def element_by_json(datatype: Datatype, item: Any) -> bytes | None:
    """The bytes of one element, or `None` if it does not fit."""
    dtype = STORAGE[datatype]
    if datatype is Datatype.BYTES:
        return item.encode() if isinstance(item, str) else None
    if datatype is Datatype.BOOL:
        return np.bool_(item).tobytes() if isinstance(item, bool) else None
    if isinstance(item, bool) or not isinstance(item, int | float):
        return None
    if dtype.kind in "iu" and datatype is not Datatype.BF16:
        limits = np.iinfo(dtype)
        fits = isinstance(item, int) and limits.min <= item <= limits.max
        return np.array(item, dtype).tobytes() if fits else None
    try:
        number = float(item)
    except OverflowError:
        return None
    if datatype is Datatype.BF16:
        return None if abs(number) >= (2**9 - 1) * 2**119 else np.uint16(nearest(number)).tobytes()
    with np.errstate(over="ignore"):
        rounded = np.float64(number).astype(dtype)
    return rounded.tobytes() if np.isfinite(rounded) else None


@settings(max_examples=600)
@given(cases())
def test_all_ways_of_decoding_agree(case: tuple[Datatype, Shape, str]) -> None:
    datatype, shape, text = case
    body = body_of(text, shape, datatype)
    expected = outcome_by_reference(datatype, shape, text)
    assert outcome(body) == (expected if isinstance(expected, str) else ([expected], (), None, {}))
    assert_decoded_alike_or_refused(body)
    second_opinion = outcome_by_json(datatype, shape, text)
    assert second_opinion == (None if isinstance(expected, str) else expected)


BODIES = [
    body_of("[1.5, -2, 3e2, 4]", [1, 4], rest=',"id":"i","outputs":[{"name":"y"}],"parameters":{"a":1,"b":"["}'),
    body_of(json.dumps([[n / 7 for n in range(20)]] * 3), [3, 20]),
    body_of(json.dumps(list(range(-30, 30))), [3, 20], "INT16"),
    body_of('[["a","[b"],["",null]]', [2, 2], "BYTES"),
    body_of("[[true],[false]]", [2, 1], "BOOL"),
    json.dumps(
        {
            "inputs": [
                {"name": "a", "shape": [2, 16], "datatype": "FP64", "data": [[0.1] * 16, [0.2] * 16]},
                {"name": "b", "shape": [40], "datatype": "UINT8", "data": list(range(40))},
            ]
        }
    ).encode(),
]
SPLICES = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 3),
        st.one_of(
            st.sampled_from([b"[", b"]", b",", b"{", b"}", b'"', b"[]", b"[1]", b"1", b"-", b"e", b".", b" ", b"null"]),
            st.sampled_from([b"NaN", b'"data":[1],', b'"name":"z",', b'"shape":[1],', b"\\", b"\xff", b"\0", b"true"]),
            st.binary(max_size=3),
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=800)
@given(st.sampled_from(BODIES), SPLICES)
def test_mutated_bodies_are_decoded_alike_or_refused(body: bytes, splices: list[tuple[float, int, bytes]]) -> None:
    for where, drop, insert in splices:
        position = int(where * len(body))
        body = body[:position] + insert + body[position + drop :]
    assert_decoded_alike_or_refused(body)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.text(alphabet='[]{}",:0123456789.eE+-truefalsn \n', max_size=200)))
def test_garbage_is_refused(garbage: bytes | str) -> None:
    body = garbage if isinstance(garbage, bytes) else garbage.encode()
    for inserted in (body, body_of("[1]", [1]).replace(b"[1]}", body), body_of("[1]", [1]).replace(b'"x"', body)):
        assert_decoded_alike_or_refused(inserted)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "inputs": JSON_VALUES
            | st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "name": st.just("x") | JSON_VALUES,
                        "shape": st.just([1, 2]) | JSON_VALUES,
                        "datatype": DATATYPES | JSON_VALUES,
                        "data": st.just([1, 2]) | JSON_VALUES,
                    },
                ),
                max_size=3,
            ),
            "id": JSON_VALUES,
            "parameters": JSON_VALUES,
            "outputs": JSON_VALUES,
        },
    )
)
def test_json_of_any_structure_is_decoded_alike_or_refused(document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    assert_decoded_alike_or_refused(body)
