"""Answers that are made in steps are the same as those that are made at once, and no step is long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from sluice.cache.turns import Turns
from sluice.gateway.dialects.base import Callee, Dialect
from sluice.gateway.dialects.formats import slices
from sluice.gateway.dialects.formats.slices import STEP_ELEMENTS, Text, at_once
from sluice.gateway.dialects.sagemaker.codec import SageMaker
from sluice.gateway.dialects.tfs.codec import TfsExamples, TfsPredict
from sluice.gateway.dialects.tfs.examples import CLASSIFY
from sluice.gateway.dialects.torchserve.codec import TorchServe
from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.messages import Header, HttpResponse
from sluice.gateway.prediction.encoding_steps import LARGE_ELEMENTS, in_turns, is_large
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import RequestTooLarge
from sluice.inference.types import Array, Datatype, InferenceResponse, Signature, Tensor, TensorSpec
from tests.gateway.dialects.bodies import body_of

FP32, BYTES = Datatype.FP32, Datatype.BYTES
X = TensorSpec("x", FP32, (None, 1))
LABELS = ModelConfig(labels={"y": ("a", "b")})
JSON: Header = (b"content-type", b"application/json")


def callee(*outputs: Tensor, config: ModelConfig | None = None) -> Callee:
    specs = tuple([TensorSpec(each.name, each.datatype, (None, *each.array.shape[1:])) for each in outputs])
    return Callee("m", 1, Signature((X,), specs, True), config or ModelConfig())


def floats(*shape: int, name: str = "y") -> Tensor:
    array: Array = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    array.flat[::7] = np.nan
    return Tensor(name, FP32, array)


def words(*shape: int, name: str = "w") -> Tensor:
    array: Array = np.array([f"w{place}é".encode() for place in range(int(np.prod(shape)))], object)
    return Tensor(name, BYTES, array.reshape(shape))


V2_BODY = body_of("[[1]]", [1, 1])
CLASSES = body_of("[[1]]", [1, 1], rest=',"outputs":[{"name":"y","parameters":{"classification":3}}]')
BINARY = body_of("[[1]]", [1, 1], rest=',"parameters":{"binary_data_output":true}')
EXAMPLES = b'{"examples":[%b]}' % b",".join([b'{"x":[1]}'] * 200)

CASES: list[tuple[Dialect, bytes, tuple[Header, ...], tuple[Tensor, ...], ModelConfig | None]] = [
    (V2(), V2_BODY, (), (floats(40, 50), words(100, 3)), None),
    (V2(), CLASSES, (), (floats(400, 50),), LABELS),
    (V2(), BINARY, (), (words(100, 30), floats(3, 7, name="z")), None),
    (TfsPredict(), b'{"instances":[[1]]}', (), (floats(60, 2, 50),), None),
    (TfsPredict(), b'{"instances":[[1]]}', (), (floats(2, 900),), None),
    (TfsPredict(), b'{"instances":[[1]]}', (), (floats(600, 0),), None),
    (TfsPredict(), b'{"instances":[[1]]}', (), (floats(90, 20), words(90)), None),
    (TfsPredict(), b'{"instances":[[1]]}', (), (floats(3, 900), words(3, 400)), None),
    (TfsPredict(), b'{"inputs":[[1]]}', (), (floats(90, 20), words(90)), None),
    (TfsExamples(CLASSIFY), EXAMPLES, (), (floats(200, 5),), LABELS),
    (TorchServe(), b"[[1]]", (), (floats(200, 5), words(200)), None),
    (TorchServe(), b"[[1]]", (), (floats(200, 5),), LABELS),
    (TorchServe(), b"[1]", (), (floats(1, 900, name="z"), words(1, 300)), None),
    (SageMaker(), b"[[1]]", (JSON, (b"accept", b"text/csv")), (floats(200, 5), words(200)), None),
    (SageMaker(), b"[[1]]", (JSON, (b"accept", b"text/csv")), (floats(0, 5),), None),
    (SageMaker(), b"[[1]]", (JSON, (b"accept", b"text/csv")), (floats(5, 0),), None),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_an_answer_in_many_steps_is_the_one_in_few(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dialect, body, headers, outputs, config = CASES[number]
    request = dialect.decode(body, headers, callee(*outputs, config=config))
    response = InferenceResponse("m", 1, outputs)
    whole = dialect.encode(request, response)
    for module in ("formats.slices", "formats.json_values", "formats.json_tensors", "formats.raw_tensors", "v2.codec"):
        monkeypatch.setattr(f"sluice.gateway.dialects.{module}.STEP_ELEMENTS", 64)

    def driven() -> Generator[None, None, None]:
        made.append((yield from dialect.encode_in_steps(request, response)))

    made: list[HttpResponse] = []
    stops = sum([1 for _ in driven()])
    assert made == [whole]
    assert stops >= min(8, sum([each.array.size for each in outputs]) // 200)


async def test_others_have_a_turn_after_each_step() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    outputs = (floats(40, STEP_ELEMENTS // 4),)
    request = TfsPredict().decode(b'{"instances":[[1]]}', (), callee(*outputs))
    busy = asyncio.create_task(other())
    answer: HttpResponse = await in_turns(
        TfsPredict().encode_in_steps(request, InferenceResponse("m", 1, outputs)), Turns()
    )
    busy.cancel()
    assert turns >= 10
    assert len(json.loads(answer.body)["predictions"]) == 40


async def test_of_many_answers_one_step_is_made_in_a_turn() -> None:
    turns, made = Turns(), 0
    most = 0

    def steps() -> Generator[None, None, None]:
        nonlocal made
        for _ in range(5):
            made += 1
            yield

    async def other() -> None:
        nonlocal made, most
        while True:
            most, made = max(most, made), 0
            await asyncio.sleep(0)

    making = [asyncio.create_task(in_turns(steps(), turns)) for _ in range(20)]
    await asyncio.sleep(0)  # the first step of each is made when it begins
    made = 0
    busy = asyncio.create_task(other())
    await asyncio.gather(*making)
    busy.cancel()
    assert most == 1


def test_small_answers_are_made_at_once() -> None:
    size = LARGE_ELEMENTS // 2
    assert not is_large(InferenceResponse("m", 1, (floats(size), floats(size))))
    assert is_large(InferenceResponse("m", 1, (floats(size), floats(size + 1))))
    assert is_large(InferenceResponse("m", 1, (floats(1),), parts=((floats(2 * size),),)))


def test_a_text_beyond_all_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "MOST_TEXT_BYTES", 1000)
    text = Text()
    text.add(b"a" * 1000)
    with pytest.raises(RequestTooLarge, match="longer than 1000 bytes; ask for fewer rows"):
        text.add(b"b")
    outputs = (floats(STEP_ELEMENTS + 1, 1),)
    request = V2().decode(V2_BODY, (), callee(*outputs))
    with pytest.raises(RequestTooLarge):
        V2().encode(request, InferenceResponse("m", 1, outputs))


def test_a_generator_that_does_not_stop_gives_what_it_makes() -> None:
    def made() -> Any:
        return 5
        yield

    assert at_once(made()) == 5
