from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.gateway.dialects.base import Call, Callee
from sluice.gateway.dialects.formats.json_values import row_json, rows_json
from sluice.gateway.dialects.tfs.body import decode_predict
from sluice.gateway.dialects.tfs.codec import TfsExamples, TfsPredict
from sluice.gateway.dialects.tfs.examples import CLASSIFY, REGRESS
from sluice.gateway.dialects.tfs.tape import read_on_tape
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import InvalidRequest, ModelNotFound
from sluice.inference.types import STORAGE, Array, Datatype, InferenceResponse, Signature, Tensor, TensorSpec
from tests.gateway.dialects.bodies import callee_of

PREDICT = TfsPredict()
FP32, INT64, BYTES = Datatype.FP32, Datatype.INT64, Datatype.BYTES


def spec(name: str, datatype: Datatype, *row: int | None) -> TensorSpec:
    return TensorSpec(name, datatype, (None, *row))


def callee(inputs: list[TensorSpec], outputs: list[TensorSpec] | None = None, **labels: tuple[str, ...]) -> Callee:
    signature = Signature(tuple(inputs), tuple(outputs or inputs), batched=True)
    return callee_of(signature, ModelConfig(labels=labels))


X = callee([spec("x", FP32, 2)])
WORDS = callee([spec("w", BYTES)])
PAIR = callee([spec("tag", BYTES), spec("signal", FP32, 2)])


def arrays(body: Any, to: Callee = X) -> dict[str, Any]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {each.name: each.array.tolist() for each in PREDICT.decode(text, (), to).inputs}


@pytest.mark.parametrize(
    ("body", "to", "values"),
    [
        ({"instances": [[1, 2.5], [3, 4]]}, X, {"x": [[1, 2.5], [3, 4]]}),
        ({"instances": [{"x": [1, 2]}]}, X, {"x": [[1, 2]]}),
        ({"inputs": [[1, 2]], "signature_name": "serving_default"}, X, {"x": [[1, 2]]}),
        ({"inputs": {"x": [[1, 2]]}, "signature_name": ""}, X, {"x": [[1, 2]]}),
        ({"inputs": {"x": []}}, X, {"x": []}),
        ({"instances": ["a", "gr\u00fc\u00dfe"]}, WORDS, {"w": [b"a", "gr\u00fc\u00dfe".encode()]}),
        ({"instances": [{"b64": "AP8="}, "b"]}, WORDS, {"w": [b"\x00\xff", b"b"]}),
        ({"inputs": [{"b64": "AP8="}]}, WORDS, {"w": [b"\x00\xff"]}),
        (
            {"instances": [{"tag": "foo", "signal": [1, 2]}, {"tag": {"b64": "YmFy"}, "signal": [3, 4]}]},
            PAIR,
            {"tag": [b"foo", b"bar"], "signal": [[1, 2], [3, 4]]},
        ),
        ({"inputs": {"signal": [[1, 2]], "tag": ["foo"]}}, PAIR, {"tag": [b"foo"], "signal": [[1, 2]]}),
        ({"instances": [7, -9]}, callee([spec("n", INT64)]), {"n": [7, -9]}),
        ({"instances": [True, False]}, callee([spec("b", Datatype.BOOL)]), {"b": [True, False]}),
    ],
)
def test_every_form_of_the_specification(body: Any, to: Callee, values: Any) -> None:
    assert arrays(body, to) == values


def test_numbers_that_are_not_finite_are_tokens() -> None:
    [[nan, infinity], [below, one]] = arrays(b'{"instances": [[NaN, Infinity], [-Infinity, 1]]}')["x"]
    assert math.isnan(nan)
    assert (infinity, below, one) == (math.inf, -math.inf, 1)


@pytest.mark.parametrize(
    ("datatype", "largest", "beyond"),
    [
        (Datatype.FP16, 65504.0, 65520.0),
        (Datatype.FP16, 65504, 65520),
        (Datatype.FP16, 65519.99, 10**30),
        (Datatype.FP32, 3.4028235677973362e38, 3.4028235677973366e38),
        (Datatype.FP64, 1.7976931348623157e308, 10**309),
        (Datatype.BF16, 3.38e38, 3.4e38),
    ],
)
def test_only_what_is_written_as_infinite_becomes_infinite(datatype: Datatype, largest: float, beyond: float) -> None:
    to = callee([spec("x", datatype)])
    [tensor] = PREDICT.decode(json.dumps({"instances": [largest, -largest]}).encode(), (), to).inputs
    assert datatype is Datatype.BF16 or np.isfinite(tensor.array).all()
    for sign in (1, -1):
        with pytest.raises(InvalidRequest, match=f"beyond the range of {datatype}|not valid JSON"):
            PREDICT.decode(json.dumps({"instances": [1, sign * beyond]}).encode(), (), to)
    [tensor] = PREDICT.decode(b'{"instances": [Infinity, -Infinity, NaN, 1.00390625]}', (), to).inputs
    if datatype is Datatype.BF16:
        assert tensor.array.tolist() == [0x7F80, 0xFF80, 0x7FC0, 0x3F80]
        return
    assert repr(tensor.array.tolist()[:3]) == "[inf, -inf, nan]"


@pytest.mark.parametrize(
    ("body", "to", "said"),
    [
        (b"{", X, "not valid JSON"),
        (b"[NaN", X, "not valid JSON"),
        ([], X, "not a JSON object"),
        ({}, X, "either 'instances', a list of rows, or 'inputs'"),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, X, "either 'instances'"),
        ({"instances": []}, X, "expected a list with a value for each row"),
        ({"instances": {"x": 1}}, X, "expected a list with a value for each row"),
        ({"instances": [[1, 2]], "signature_name": "other"}, X, "the model has the signature 'serving_default'"),
        ({"instances": [[1, 2], [3]]}, X, "all rows must have one shape"),
        ({"instances": [[1, 2], 3]}, X, "all rows must have one shape"),
        ({"instances": [["1", 2]]}, X, "has the element '1'; expected a number"),
        ({"instances": [[True, 2]]}, X, "has the element True; expected a number"),
        ({"instances": [[None, 2]]}, X, "has the element None; expected a number"),
        ({"instances": [[1e39, 2]]}, X, "beyond the range of FP32"),
        ({"instances": [1.5]}, callee([spec("n", INT64)]), "expected a whole number"),
        ({"instances": [300]}, callee([spec("n", Datatype.UINT8)]), "expected a whole number from 0 to 255"),
        ({"instances": [{"b64": "not!"}]}, WORDS, "is not base64"),
        ({"instances": [5]}, WORDS, 'expected a string or {"b64"'),
        ({"instances": [{"tag": "a"}]}, PAIR, "instances[0] has 'tag'; expected an object with 'tag', 'signal'"),
        ({"instances": [{"tag": "a", "signal": [1, 2], "more": 1}]}, PAIR, "instances[0] has"),
        ({"instances": [{"tag": "a", "signal": [1, 2]}, 5]}, PAIR, "instances[1] has 5"),
        ({"instances": ["a"]}, PAIR, "the model has 'tag', 'signal'; name each of them"),
        ({"inputs": [1]}, PAIR, "name each of them"),
        ({"inputs": {"tag": ["a"]}}, PAIR, "'inputs' has 'tag'; expected 'tag', 'signal'"),
        (b'{"instances": [[1e400, 2]]}', X, "number is infinity"),
        (b'{"instances": [[NaN, 1e400]]}', X, "'1e400' is too large"),
        (b'{"instances": [[NaN, 1%b]]}' % (b"0" * 400), X, "beyond the range of FP32"),
        (b'{"instances": [[NaN, 1%b]]}' % (b"0" * 5000), X, "not valid JSON"),
        (
            {"inputs": {f"n{number}": 1 for number in range(5000)}},
            PAIR,
            "'n7', and 4992 more; expected 'tag', 'signal'",
        ),
        ({"instances": [{f"n{number}": 1 for number in range(5000)}]}, X, "'n7', and 4992 more; expected an object"),
        (b'{"instances": [[NaN, 1]}', X, "not valid JSON"),
        (b'{"instances": %b1%b}' % (b"[" * 65, b"]" * 65), X, "nested too deeply; at most 64 axes"),
        (b'{"instances": %b1%b}' % (b"[" * 4000, b"]" * 4000), X, "not valid JSON"),
    ],
)
def test_what_is_wrong_is_told(body: Any, to: Callee, said: str) -> None:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidRequest) as caught:
        PREDICT.decode(text, (), to)
    assert said in str(caught.value)


def told(body: Any, to: Callee, *outputs: Tensor, dialect: Any = PREDICT) -> Any:
    request = dialect.decode(json.dumps(body).encode(), (), to)
    return json.loads(dialect.encode(request, InferenceResponse("m", 1, outputs)).body)


Y = Tensor("y", FP32, np.array([[0.1, 2], [np.nan, -np.inf]], np.float32))
N = Tensor("n", INT64, np.array([7, 8]))


def test_answers_have_the_form_of_their_question() -> None:
    rows, columns = {"instances": [[1, 2], [3, 4]]}, {"inputs": [[1, 2], [3, 4]]}
    assert told(rows, X, N) == {"predictions": [7, 8]}
    assert told(columns, X, N) == {"outputs": [7, 8]}
    first, second = told(rows, X, Y, N)["predictions"]
    assert first == {"y": [0.1, 2.0], "n": 7}
    assert math.isnan(second["y"][0])
    assert second["y"][1] == -math.inf
    assert told(columns, X, N, Tensor("w", BYTES, np.array([b"a", b"b"], object))) == {
        "outputs": {"n": [7, 8], "w": ["a", "b"]}
    }


def test_strings_that_are_bytes_are_base64() -> None:
    raw = Tensor("image_bytes", BYTES, np.array([b"\xff", b"a"], object))
    rows = {"instances": [[1, 2], [3, 4]]}
    assert told(rows, X, raw) == {"predictions": [{"b64": "/w=="}, {"b64": "YQ=="}]}
    with pytest.raises(InvalidRequest, match="is told as base64"):
        told(rows, X, Tensor("image", BYTES, raw.array))


@given(st.integers(1, 9), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 99))
def test_many_rows_are_written_as_few_are(rows: int, row: list[int], seed: int) -> None:
    values = nested((rows, *row), seed)
    values.ravel()[::3] = np.nan
    outputs = (
        Tensor("50 %b", Datatype.FP64, values),
        Tensor("text", BYTES, np.array([b"],[", b"%b", b"x"] * 3, object)[:rows]),
        Tensor("n", INT64, np.arange(rows)),
    )
    assert rows_json(outputs, rows) == b"[%b]" % b",".join([row_json(outputs, each) for each in range(rows)])


@given(st.integers(1, 5), st.integers(0, 9), st.lists(st.integers(0, 3), max_size=2), st.integers(0, 2), st.data())
def test_predictions_are_as_long_as_the_outputs(
    instances: int, rows: int, row: list[int], more: int, data: st.DataObject
) -> None:
    """Whatever the number of the instances: detectors give a row for each thing that they find, be it none."""
    found = nested((rows, *row), instances)
    words: Array = np.array([f"w{place}".encode() for place in range(rows)], object)
    y, w = Tensor("y", FP32, found.astype(np.float32)), Tensor("w", BYTES, words)
    wanted = [y, w, Tensor("n", INT64, np.ones(rows))][: more + 1]
    predictions = told({"instances": [[1, 2]] * instances}, X, *wanted)["predictions"]
    assert len(predictions) == rows
    if not more:
        assert predictions == found.tolist()
        return
    assert [each["y"] for each in predictions] == found.tolist()
    assert [each["w"] for each in predictions] == [word.decode() for word in words]
    other = Tensor("z", INT64, np.ones((data.draw(st.integers(0, 9).filter(lambda others: others != rows)), 1)))
    with pytest.raises(InvalidRequest, match="ask with 'inputs' instead of 'instances'"):
        told({"instances": [[1, 2]] * instances}, X, *wanted, other)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([Tensor("s", FP32, np.array(1, np.float32))], r"output 's' has shape \[\]: 'predictions' need"),
        ([N, Tensor("s", FP32, np.array(1, np.float32))], r"output 's' has shape \[\], and others have 2 rows"),
        ([N, Tensor("e", INT64, np.ones((0, 2)))], r"output 'e' has shape \[0, 2\], and others have 2 rows"),
        ([Tensor("e", INT64, np.ones((0, 2))), N], r"output 'n' has shape \[2\], and others have 0 rows"),
    ],
)
def test_outputs_of_no_common_length_have_no_rows(outputs: list[Tensor], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        told({"instances": [[1, 2], [3, 4]]}, X, *outputs)
    assert told({"inputs": [[1, 2], [3, 4]]}, X, *outputs)["outputs"] is not None


def test_classes_and_values_for_examples() -> None:
    scores = spec("scores", FP32, 2)
    to = callee([spec("a", FP32, 1), spec("b", FP32)], [scores, spec("n", INT64)], scores=("no", "yes"))
    body = {"context": {"b": 5}, "examples": [{"a": 1}, {"a": [2]}]}
    classify = TfsExamples(CLASSIFY)
    request = classify.decode(json.dumps(body).encode(), (), to)
    assert [each.array.tolist() for each in request.inputs] == [[[1], [2]], [5, 5]]
    assert request.outputs == ("scores",)
    answer = Tensor("scores", FP32, np.array([[0.25, 0.75], [1, 0]], np.float32))
    assert told(body, to, answer, dialect=classify) == {
        "results": [[["no", 0.25], ["yes", 0.75]], [["no", 1.0], ["yes", 0.0]]]
    }
    value = callee([spec("a", FP32, 1)], [spec("v", FP32, 1)])
    one = Tensor("v", FP32, np.array([[0.5], [2]], np.float32))
    assert told({"examples": [{"a": 1}, {"a": 2}]}, value, one, dialect=TfsExamples(REGRESS)) == {"results": [0.5, 2.0]}
    for odd in (one.array[:1], one.array[:0], np.ones((2, 0)), np.array(1)):
        with pytest.raises(InvalidRequest, match="for 2 examples; results need a value for each"):
            told({"examples": [{"a": 1}, {"a": 2}]}, value, Tensor("v", FP32, odd), dialect=TfsExamples(REGRESS))
    for odd in (answer.array[:1], answer.array[0], np.ones((2, 2, 2))):
        with pytest.raises(InvalidRequest, match="for 2 examples; results need a list of scores for each"):
            told(body, to, Tensor("scores", FP32, odd), dialect=classify)
    for wanted, model in ((CLASSIFY, WORDS), (REGRESS, WORDS)):
        with pytest.raises(InvalidRequest, match="use :predict"):
            TfsExamples(wanted).decode(b'{"examples": [{}]}', (), model)
    mistakes: list[dict[str, Any]] = [{"examples": []}, {"examples": [5]}, {"examples": [{"a": 1}], "context": 5}, {}]
    for wrong in mistakes:
        with pytest.raises(InvalidRequest):
            classify.decode(json.dumps(wrong).encode(), (), to)


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v1/models/m:predict", Call("m")),
        ("/v1/models/m/versions/2:predict", Call("m", 2)),
        ("/v1/models/m/labels/stable:predict", Call("m", None, "stable")),
        ("/v1/models/m:classify", None),
        ("/v1/models/m", None),
        ("/v1/models/m/metadata", None),
        ("/v2/models/m/infer", None),
    ],
)
def test_paths(path: str, call: Call | None) -> None:
    assert PREDICT.recognise(path) == call


@pytest.mark.parametrize("version", ["latest", "", "-1", "9" * 30])
def test_a_version_is_a_number(version: str) -> None:
    with pytest.raises(ModelNotFound, match="versions are whole numbers"):
        PREDICT.recognise(f"/v1/models/m/versions/{version}:predict")


@pytest.mark.parametrize("path", ["/v1/models/m:foo", "/v1/models/m/versions/1:", "/v1/models/m/labels/a:Predict/"])
def test_a_verb_that_is_not_there_is_told_so(path: str) -> None:
    with pytest.raises(InvalidRequest, match=r"expected one of .*'predict', 'classify', 'regress'"):
        PREDICT.recognise(path)


def test_classes_without_labels_are_called_by_their_number() -> None:
    scores = Tensor("scores", FP32, np.array([[0.5, np.nan, 1]], np.float32))
    to = callee([spec("a", FP32, 1)], [spec("scores", FP32, 3)], scores=("no",))
    [[first, second, third]] = told({"examples": [{"a": 1}]}, to, scores, dialect=TfsExamples(CLASSIFY))["results"]
    assert (first, second[0], third) == (["no", 0.5], "1", ["2", 1.0])
    assert math.isnan(second[1])


def nested(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).integers(-9, 9, shape) / 4


MASK = TensorSpec("m1", Datatype.INT32, (None, None))


def written(form: str, x: Array, mask: Array) -> Any:
    """A body with these rows, in each form that the specification has."""
    named = [{"m1": m, "x": row} for m, row in zip(mask.tolist(), x.tolist(), strict=True)]
    bodies: dict[str, Any] = {
        "rows": {"instances": x.tolist()},
        "columns": {"signature_name": "serving_default", "inputs": x.tolist()},
        "named rows": {"instances": [{"x": row} for row in x.tolist()], "signature_name": ""},
        "named columns": {"inputs": {"x": x.tolist()}},
        "two in rows": {"instances": named},
        "two in columns": {"inputs": {"m1": mask.tolist(), "x": x.tolist()}},
    }
    return bodies[form]


FORMS = ["rows", "columns", "named rows", "named columns", "two in rows", "two in columns"]


def on_tape(body: bytes, signature: Signature) -> tuple[str, tuple[Tensor, ...]] | None:
    """What the tape makes of a body, of one with short rows too, which are usually left to others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sluice.gateway.dialects.tfs.tape.MIN_LIST_BYTES", 0)
        return read_on_tape(body, signature)


def test_only_long_named_rows_are_read_on_the_tape() -> None:
    signature = Signature((TensorSpec("x", FP32, (None, None)),), (), batched=True)
    for size, taken in ((4, False), (2000, True)):
        body = json.dumps(written("named rows", nested((20, size), 1), np.zeros((20, 1)))).encode()
        assert (read_on_tape(body, signature) is not None) is taken
        assert on_tape(body, signature) is not None


def decided(body: bytes, signature: Signature) -> dict[str, Any] | None:
    """What a slow reader makes of a body: arrays by name, or nothing."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sluice.gateway.dialects.tfs.body.read_on_tape", lambda *_: None)
            request = decode_predict(body, signature)
    except InvalidRequest:
        return None
    return {each.name: each.array for each in request.inputs} | {"rows": request.reply}


@settings(max_examples=40)  # each is thousands of numbers long
@given(
    st.sampled_from(FORMS),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(0, 99),
    st.booleans(),
    st.data(),
)
def test_large_bodies_are_read_as_small_ones_are(
    form: str, row: list[int], seed: int, spaced: bool, data: st.DataObject
) -> None:
    """Long enough to be read without objects; then letters change, and both ways still say the same."""
    values = nested((4096 // (4 * math.prod(row)) + 600, *row), seed)
    mask = np.random.default_rng(seed).integers(0, 9, (len(values), 2))
    specs = (TensorSpec("x", FP32, (None, *row)), MASK)[: 2 if "two" in form else 1]
    signature = Signature(specs, (), batched=True)
    body = json.dumps(written(form, values, mask), indent=1 if spaced else None).encode()
    read = on_tape(body, signature)
    assert read is not None
    np.testing.assert_array_equal(read[1][0].array, values.astype(np.float32))
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, 60) | st.integers(0, len(body) - 1))
        letter = data.draw(st.sampled_from(b'[]{},:"\\0123456789.eE+- tx'))
        body = body[:place] + bytes([letter]) + body[place + data.draw(st.integers(0, 1)) :]
    expected = decided(body, signature)
    read = on_tape(body, signature)
    if read is None:
        return
    assert expected is not None
    for tensor in read[1]:
        assert tensor.array.dtype == STORAGE[tensor.datatype]
        np.testing.assert_array_equal(tensor.array, expected[tensor.name])


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[[1, 2], [3]]]},
        {"instances": [[[1, 2], [3, 4], 5]]},
        {"instances": [[[1], [2, 3, 4]]]},
        {"instances": [[[[1, 2]], [3, 4]]]},
        {"instances": [[[1, 2], [3, None]]]},
        {"instances": [[[1, 2], [3, "4"]]]},
        {"instances": [[[1, 2], [3, True]]]},
        {"instances": [[[]]]},
        {"instances": []},
        {"instances": [[1]], "inputs": [[1]]},
        {"instances": [{"x": [1]}, {"y": [1]}]},
        {"instances": [{"x": [1]}, {"x": [1], "y": [1]}]},
        {"instances": [{"x": [1]}, [1]]},
        {"instances": [[1]], "signature_name": "other"},
        {"instances": [[1]], "signature_name": None},
        {"instances": [[1]], "more": 1},
        {"inputs": {"x1": [1]}},
        {"inputs": 5},
        5,
    ],
)
def test_what_is_not_even_is_not_read_on_the_tape(body: Any) -> None:
    signature = Signature((TensorSpec("x", FP32, (None, None)),), (), batched=True)
    assert on_tape(json.dumps(body).encode(), signature) is None


def test_names_that_differ_in_digits_are_told_apart() -> None:
    """They have the same skeleton, which is all that is compared of the text."""
    specs = (TensorSpec("x1", FP32, (None, 1)), TensorSpec("x2", FP32, (None, 1)))
    signature = Signature(specs, (), batched=True)
    read = on_tape(b'{"instances": [{"x1": [1], "x2": [2]}, {"x1": [3], "x2": [4]}]}', signature)
    assert read is not None
    assert [each.array.tolist() for each in read[1]] == [[[1], [3]], [[2], [4]]]
    assert on_tape(b'{"instances": [{"x1": [1], "x2": [2]}, {"x2": [3], "x1": [4]}]}', signature) is None
    assert on_tape(b'{"instances": [{"x1": [1], "x3": [2]}]}', signature) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["x", "b64", "tag", "signal", "instances"]), inner, max_size=3)
        ),
        max_leaves=12,
    ),
    st.sampled_from(["instances", "inputs", "examples"]),
    st.sampled_from([X, WORDS, PAIR]),
)
def test_any_json_is_a_request_or_refused(value: Any, key: str, to: Callee) -> None:
    body = json.dumps({key: value}).encode()
    for dialect in (PREDICT, TfsExamples(CLASSIFY), TfsExamples(REGRESS)):
        try:
            dialect.decode(body, (), to)
        except InvalidRequest:
            continue
