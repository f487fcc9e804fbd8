"""A reader answers as the gateway itself would: the same request, or the same error in the same words."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from sluice.gateway.dialects.base import Callee, Dialect
from sluice.gateway.dialects.formats.npy import MAGIC
from sluice.gateway.dialects.openai.codec import OpenAI
from sluice.gateway.dialects.sagemaker.codec import SageMaker
from sluice.gateway.dialects.tfs.codec import TfsExamples, TfsPredict
from sluice.gateway.dialects.tfs.examples import CLASSIFY, REGRESS
from sluice.gateway.dialects.torchserve.codec import TorchServe
from sluice.gateway.dialects.v2.binary import BINARY_LENGTH
from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.codec import GrpcInfer
from sluice.gateway.inputs.text.embedder import embedder_of
from sluice.gateway.inputs.text.tokenizer import load_tokenizer
from sluice.gateway.messages import Header
from sluice.gateway.reading.pool import Readers
from sluice.inference.config.model_config import ModelConfig, TextConfig
from sluice.inference.errors import ModelNotReady, SluiceError
from sluice.inference.repository.snapshot import read as file_state
from sluice.inference.types import Datatype, InferenceRequest, Signature, TensorSpec
from tests.gateway.dialects.grpc_bodies import raw_request, typed_request
from tests.gateway.inputs.images import pictures
from tests.gateway.inputs.text import embedders
from tests.gateway.reading.reading import facts, read
from tests.texts import write_tokenizer

FLOATS = Signature(
    (TensorSpec("x", Datatype.FP32, (None, 3)),), (TensorSpec("y", Datatype.FP32, (None, 3)),), batched=True
)
LABELLED = ModelConfig.model_validate({"labels": {"y": ["a", "b", "ç"]}})
pytestmark = pytest.mark.asyncio(loop_scope="module")  # one reader for all of them
CSV: Header = (b"content-type", b"text/csv")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def readers() -> AsyncIterator[Readers]:
    async with Readers(1) as made:
        yield made


def callee(datatype: Datatype = Datatype.FP32, config: ModelConfig | None = None, *, batched: bool = True) -> Callee:
    [spec] = FLOATS.inputs
    signature = msgspec.structs.replace(
        FLOATS, inputs=(msgspec.structs.replace(spec, datatype=datatype),), batched=batched
    )
    return Callee("m", 1, signature, config or ModelConfig())


def v2(data: Any, shape: Sequence[int], datatype: str = "FP32", **rest: Any) -> bytes:
    tensor = {"name": "x", "shape": list(shape), "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **rest}).encode()


def npy(array: Any) -> bytes:
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape!r}, }}\n".encode()
    return b"".join((MAGIC, b"\x01\x00", len(header).to_bytes(2, "little"), header, array.tobytes()))


async def compare(readers: Readers, dialect: Dialect, body: bytes, to: Callee, headers: Sequence[Header] = ()) -> None:
    async def here() -> InferenceRequest:
        return dialect.decode(body, headers, to)

    assert await outcome(read(readers, dialect, body, to, headers)) == await outcome(here())


async def outcome(reading: Awaitable[InferenceRequest]) -> Any:
    """A request, or an error in its words."""
    try:
        return facts(await reading)
    except SluiceError as error:
        return type(error), str(error), getattr(error, "param", None)


NUMBERS = [1.5, -2.0, 3e-7]
BODIES: dict[str, tuple[Dialect, bytes, Callee, Sequence[Header]]] = {
    "V2": (V2(), v2(NUMBERS, [1, 3], id="ü", parameters={"p": True, "q": 2**63, "timeout": 5}), callee(), ()),
    "V2 nothing": (V2(), v2([], [0, 3]), callee(), ()),
    "V2 nested": (V2(), v2([NUMBERS, NUMBERS], [2, 3]), callee(), ()),
    "V2 outputs": (
        V2(),
        v2(
            *(NUMBERS, [1, 3]),
            outputs=[
                {"name": "y", "parameters": {"classification": 2}},
                {"name": "z", "parameters": {"binary_data": True}},
            ],
        ),
        callee(config=LABELLED),
        (),
    ),
    "V2 strings": (V2(), v2(["", "ä", "x" * 300], [1, 3], "BYTES"), callee(Datatype.BYTES), ()),
    "V2 truths": (V2(), v2([True, False, True], [1, 3], "BOOL"), callee(Datatype.BOOL), ()),
    "V2 halves": (V2(), v2(NUMBERS, [1, 3], "FP16"), callee(Datatype.FP16), ()),
    "V2 brain floats": (V2(), v2(NUMBERS, [1, 3], "BF16"), callee(Datatype.BF16), ()),
    "V2 whole body": (V2(), np.array(NUMBERS, np.float32).tobytes(), callee(), ((BINARY_LENGTH, b"0"),)),
    "V2 wrong": (V2(), v2(NUMBERS, [1, 4]), callee(), ()),
    "rows": (TfsPredict(), json.dumps({"instances": [NUMBERS] * 3}).encode(), callee(), ()),
    "columns": (TfsPredict(), json.dumps({"inputs": {"x": [NUMBERS]}}).encode(), callee(), ()),
    "classify": (
        TfsExamples(CLASSIFY),
        json.dumps({"examples": [{"x": NUMBERS}]}).encode(),
        callee(config=LABELLED),
        (),
    ),
    "regress": (TfsExamples(REGRESS), json.dumps({"examples": [{"x": NUMBERS}]}).encode(), callee(), ()),
    "item": (TorchServe(), json.dumps(NUMBERS).encode(), callee(), ()),
    "labelled": (TorchServe(), json.dumps([NUMBERS]).encode(), callee(config=LABELLED), ()),
    "labelled V2": (
        TorchServe(),
        v2(NUMBERS, [1, 3], parameters={"binary_data_output": True}),
        callee(config=LABELLED),
        (),
    ),
    "item in columns": (TorchServe(), json.dumps({"instances": [NUMBERS]}).encode(), callee(config=LABELLED), ()),
    "not batched": (TorchServe(), json.dumps([NUMBERS]).encode(), callee(batched=False), ()),
    "CSV": (TorchServe(), b"1,2,3\n4,5,6\n", callee(), (CSV,)),
    "CSV for npy": (SageMaker(), b"1,2,3\n", callee(), (CSV, (b"accept", b"application/x-npy"))),
    "V2 for CSV": (SageMaker(), v2(NUMBERS, [1, 3]), callee(), ((b"accept", b"text/csv"),)),
    "npy": (TorchServe(), npy(np.array([NUMBERS])), callee(), ()),
    "a string": (TorchServe(), "grün".encode(), callee(Datatype.BYTES), ()),
    "picture": (TorchServe(), pictures.png(), pictures.callee(), ()),
    "no picture": (TorchServe(), pictures.png()[:60], pictures.callee(), ()),
    "gRPC raw": (
        GrpcInfer(),
        raw_request(np.array(NUMBERS, np.float32).tobytes(), [1, 3]).SerializeToString(),
        callee(),
        (),
    ),
    "gRPC": (GrpcInfer(), typed_request(NUMBERS, "fp32_contents", [1, 3]).SerializeToString(), callee(), ()),
    "gRPC classes": (
        GrpcInfer(),
        pb.ModelInferRequest(
            inputs=[pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])],
            raw_input_contents=[np.array(NUMBERS, np.float32).tobytes()],
            outputs=[
                pb.ModelInferRequest.InferRequestedOutputTensor(
                    name="y", parameters={"classification": pb.InferParameter(int64_param=2)}
                )
            ],
            parameters={"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)},
        ).SerializeToString(),
        callee(config=LABELLED),
        (),
    ),
    "texts of no model for texts": (OpenAI(), b'{"model": "m", "input": "hello"}', callee(), ()),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_the_same_request(readers: Readers, name: str) -> None:
    dialect, body, to, headers = BODIES[name]
    await compare(readers, dialect, body, to, headers)


def text_callee(folder: Path) -> Callee:
    write_tokenizer(folder)
    [file] = folder.iterdir()
    config = TextConfig(pooling="mean", ids="ids", mask="mask", output="vectors", tokenizer=file.name)
    signature = embedders.signature_of()
    embedder = embedder_of(config, signature, load_tokenizer(file, None))
    return Callee("texts", 1, signature, ModelConfig(text=config), embedder, tokenizer=file_state(file))


async def test_texts_are_the_same_request(readers: Readers, tmp_path: Path) -> None:
    """The embedder is the gateway's own, so that it can make answers of the model's outputs."""
    to = text_callee(tmp_path)
    for asked in ("one", ["one two", "three", "four five"], [[1, 2], [3]], [], [""], 1):
        body = json.dumps({"model": "texts", "input": asked, "encoding_format": "base64"}).encode()
        await compare(readers, OpenAI(), body, to)
    request = await read(readers, OpenAI(), b'{"model": "texts", "input": "one"}', to)
    assert getattr(request.reply, "embedder", None) is to.embedder


async def test_a_tokenizer_that_has_changed_is_not_taken(readers: Readers, tmp_path: Path) -> None:
    to = text_callee(tmp_path)
    assert to.tokenizer is not None
    to.tokenizer.file.write_bytes(to.tokenizer.file.read_bytes() + b" ")
    with pytest.raises(ModelNotReady, match="its tokenizer has changed on disk"):
        await read(readers, OpenAI(), b'{"model": "texts", "input": "one"}', to)


def values(draw: random.Random, depth: int) -> Any:
    """Any JSON at all, mostly of the kinds that bodies are made of."""
    kinds: Sequence[Callable[[], Any]] = (
        lambda: draw.choice([0, 1, -1, 1.5, 2**63, 2**64, 10**30, 1e400, None, True, "", "x", "instances", NUMBERS]),
        lambda: [values(draw, depth - 1) for _ in range(draw.randrange(4))],
        lambda: {
            draw.choice(
                ["x", "inputs", "instances", "name", "shape", "datatype", "data", "examples", "b64", "é"]
            ): values(draw, depth - 1)
            for _ in range(draw.randrange(4))
        },
    )
    return draw.choice(kinds if depth else kinds[:1])()


@pytest.mark.parametrize(
    "dialect",
    [V2(), TfsPredict(), TfsExamples(CLASSIFY), TorchServe(), SageMaker()],
    ids=lambda each: type(each).__name__,
)
async def test_any_structure_is_read_or_refused_alike(readers: Readers, dialect: Dialect) -> None:
    draw = random.Random(18)
    known = [body for codec, body, _, _ in BODIES.values() if type(codec) is type(dialect)]
    for _ in range(120):
        if draw.random() < 0.5:
            body = json.dumps(values(draw, 4)).encode()
        else:
            made = bytearray(draw.choice(known))
            for _ in range(draw.randrange(1, 4)):
                at = draw.randrange(len(made))
                made[at : at + draw.randrange(3)] = draw.choice(
                    [b"", b"[", b"}", b"9", b'"', b",", b"-", b"\xff", b"null"]
                )
            body = bytes(made)
        to = callee(draw.choice([Datatype.FP32, Datatype.INT64, Datatype.BYTES]), batched=draw.random() < 0.8)
        await compare(readers, dialect, body, to)
