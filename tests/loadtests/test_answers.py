"""Every dialect's calls and its eye for wrong answers; what is common to all of them."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

import pytest

from loadtests.answers import Answer, in_general
from loadtests.dialects import dialects
from loadtests.dialects.tfs import DIALECT as TFS
from loadtests.dialects.torchserve import DIALECT as TORCHSERVE
from loadtests.dialects.v2 import DIALECT as V2
from loadtests.models import DIGITS, LINEAR
from loadtests.options import OPTIONS, Options, add_options, weights

LABEL = {"name": "label", "datatype": "INT64", "shape": [2], "data": [7, 6]}
PROBABILITIES = {"name": "probabilities", "datatype": "FP32", "shape": [2, 10], "data": [0.1] * 20}


def answer(*outputs: object) -> bytes:
    return json.dumps({"outputs": outputs}).encode()


def test_every_dialect_is_found() -> None:
    assert [dialect.name for dialect in dialects()] == ["tfs", "torchserve", "v2"]


def test_a_call_holds_its_rows() -> None:
    call = V2.predict(LINEAR, [(1.0,), (2.5,)])
    assert call.path == "/v2/models/linear/infer"
    assert json.loads(call.body) == {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1.0, 2.5]}]}


def test_a_right_answer_is_right() -> None:
    assert Answer(200, answer(LABEL, PROBABILITIES), None).of_prediction(V2, DIGITS, 2).fault is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "no JSON object"),
        (b"[]", "no JSON object"),
        (answer(LABEL), "lacks the output probabilities"),
        (answer(LABEL | {"shape": [1]}, PROBABILITIES), r"expected INT64 \[2\], got INT64 \[1\]"),
        (answer(LABEL | {"datatype": "FP32"}, PROBABILITIES), r"got FP32 \[2\]"),
        (answer(LABEL, PROBABILITIES | {"data": [0.1] * 19}), "expected 20 values"),
        (answer(LABEL, PROBABILITIES | {"data": None}), "expected 20 values"),
    ],
)
def test_a_wrong_answer_of_status_200_is_seen(body: bytes, words: str) -> None:
    judged = Answer(200, body, None).of_prediction(V2, DIGITS, 2)
    assert not judged.refused
    assert re.search(words, judged.fault or "")


ROW = {"label": 7, "probabilities": [0.1] * 10}


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        ([ROW, ROW], None),
        ([ROW], "expected 2 predictions"),
        ([ROW, {"label": 7}], "lacks the output probabilities"),
        ([ROW, 5], "lacks the output label"),
        ([ROW, ROW | {"label": [7]}], r"label: expected the shape \[\]"),
        ([ROW, ROW | {"probabilities": [0.1]}], r"probabilities: expected the shape \[10\]"),
    ],
)
def test_tensorflow_servings_predictions_are_looked_at_row_by_row(predictions: Any, words: str | None) -> None:
    body = json.dumps({"predictions": predictions}).encode()
    fault = Answer(200, body, None).of_prediction(TFS, DIGITS, 2).fault
    assert fault is None if words is None else re.search(words, fault or "")
    assert Answer(200, b'{"predictions": [[5.0]]}', None).of_prediction(TFS, LINEAR, 1).fault is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([ROW, ROW], None),
        ([ROW], "expected a list of 2 values"),
        ([ROW, {"label": 7}], "lacks the output probabilities"),
        ([ROW, ROW | {"label": [7]}], r"label: expected the shape \[\]"),
    ],
)
def test_torchserves_values_are_looked_at_row_by_row(values: Any, words: str | None) -> None:
    fault = Answer(200, json.dumps(values).encode(), None).of_prediction(TORCHSERVE, DIGITS, 2).fault
    assert fault is None if words is None else re.search(words, fault or "")
    assert Answer(200, b"[[5.0]]", None).of_prediction(TORCHSERVE, LINEAR, 1).fault is None
    assert TORCHSERVE.reason(b'{"code": 404, "message": "no such model"}') == "no such model"


@pytest.mark.parametrize(
    ("status", "retry_after", "refused"), [(503, "1", True), (429, "2", True), (503, None, False), (500, "1", False)]
)
def test_only_a_refusal_that_says_when_to_come_back_is_overload(
    status: int, retry_after: str | None, refused: bool
) -> None:
    judged = Answer(status, b'{"error": "the queue is full: 4096 rows"}', retry_after).of_prediction(V2, LINEAR, 1)
    assert judged.refused is refused
    assert "the queue is full: # rows" in (judged.fault or "")


def test_an_answer_that_never_came_says_why() -> None:
    judged = Answer(0, b"ConnectionRefusedError(111)", None).of_prediction(V2, LINEAR, 1)
    assert judged.fault == "no answer: ConnectionRefusedError(#)"


def test_a_mistake_must_be_refused_as_it_deserves() -> None:
    mistake = V2.mistakes(LINEAR)[0]
    right = Answer(mistake.status, b'{"error": "no such model"}', None)
    assert right.of_mistake(V2, mistake).fault is None
    for wrong in (Answer(200, b"{}", None), Answer(500, b"", None), Answer(mistake.status, b"", None)):
        assert wrong.of_mistake(V2, mistake).fault
    assert Answer(503, b"", "1").of_mistake(V2, mistake).refused


def test_a_reason_is_bounded_and_general() -> None:
    assert in_general("after 12.5 ms " + "x" * 1000) == ("after # ms " + "x" * 1000)[:160]


class Parser:
    """argparse, and the words that only Locust's parser knows."""

    def __init__(self) -> None:
        self.argparse = ArgumentParser()

    def add_argument(self, *names: str, env_var: str, is_secret: bool = False, **settings: Any) -> Any:
        assert env_var.startswith("LOADTEST_")
        return self.argparse.add_argument(*names, **settings)


def parsed(*arguments: str) -> Namespace:
    parser = Parser()
    add_options(parser)
    return parser.argparse.parse_args(arguments)


def options(*arguments: str) -> Options:
    return Options.of(parsed(*arguments))


def test_every_shape_has_defaults_of_its_own() -> None:
    assert options().load.duration_s == 30
    assert options("--shape", "soak").load.duration_s == 1800
    assert options("--shape", "soak", "--duration-s", "5").load.duration_s == 5


def test_text_from_the_web_form_is_read_like_the_command_line() -> None:
    given = parsed()
    vars(given).update(objective_ms="50", peak_users="7", duration_s="", ca="")
    read = Options.of(given)
    assert (read.objective.latency_ms, read.load.peak_users, read.load.duration_s) == (50.0, 7, 30.0)
    assert read.ca is None


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ((), {}),
        (("--api-key", "k"), {"Authorization": "Bearer k"}),
        (("--api-key", "k", "--api-key-header", "X-API-Key"), {"X-API-Key": "k"}),
    ],
)
def test_the_key_travels_in_the_header_that_was_named(arguments: tuple[str, ...], headers: dict[str, str]) -> None:
    assert options(*arguments).headers == headers


def test_weights_name_models() -> None:
    assert weights("digits=3, linear=0") == {"digits": 3, "linear": 0}


@pytest.mark.parametrize("text", ["", "digits", "digits=x", "nobody=1", "digits=0", "digits=101"])
def test_wrong_weights_are_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="expected"):
        weights(text)


def test_nothing_that_is_tested_here_has_brought_locust_in() -> None:
    """It patches the process that imports it, which this one would not survive unchanged."""
    assert OPTIONS
    assert "locust" not in sys.modules
