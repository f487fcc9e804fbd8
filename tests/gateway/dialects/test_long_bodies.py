"""Bodies that are read in pieces: they are read as short ones are, and what is wrong with them is found."""

from __future__ import annotations

from itertools import islice
from typing import Any

import orjson
import pytest

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.formats import json_pieces
from sluice.gateway.dialects.sagemaker.codec import SageMaker
from sluice.gateway.dialects.tfs.codec import TfsExamples, TfsPredict
from sluice.gateway.dialects.tfs.examples import CLASSIFY
from sluice.gateway.dialects.torchserve.codec import TorchServe
from sluice.gateway.dialects.v2.codec import V2
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import InvalidRequest, RequestTooLarge, SluiceError
from sluice.inference.types import Datatype, InferenceRequest, Signature, TensorSpec
from tests.gateway.dialects.bodies import contents
from tests.hostile_bodies import MODELS, bodies

READERS = ("formats.json_tensors", "v2.body", "tfs.body", "tfs.examples", "untyped.body")


def outcome(dialect: Any, body: bytes, callee: Callee, headers: Any = ()) -> Any:
    try:
        request: InferenceRequest = dialect.decode(body, headers, callee)
    except SluiceError as error:
        return 413 if isinstance(error, RequestTooLarge) else dialect.refuse(error).status
    return [contents(each) for each in request.inputs], request.parameters, request.id, request.outputs


def callee_for(model: str) -> Callee:
    datatype, axes = MODELS[model]
    spec = tuple([size if isinstance(size, int) else None for size in axes])
    signature = Signature((TensorSpec("x", datatype, spec),), (TensorSpec("y", datatype, spec),), "N" in axes)
    return Callee(model, 1, signature, ModelConfig())


def is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(("seed", "most"), [(3, 700), pytest.param(3, 3000, marks=pytest.mark.nightly)])
def test_pieces_are_read_as_the_whole_is(seed: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd bodies, each read in one go and in pieces of a few bytes."""
    dialects = (V2(), TfsPredict(), TfsExamples(CLASSIFY), TorchServe(), SageMaker())
    cases = []
    protocols = ("v2", "tfs", "tfs-examples", "torchserve", "sagemaker")
    for case in islice(bodies(seed=seed, protocols=protocols), most):
        if len(case.body) < 20_000:
            dialect = next(
                (each for each in dialects if each.recognise(case.target) is not None), TfsExamples(CLASSIFY)
            )
            cases.append((dialect, case, outcome(dialect, case.body, callee_for(case.model), case.headers)))
    for reader in READERS:
        monkeypatch.setattr(f"sluice.gateway.dialects.{reader}.PIECES_FROM_BYTES", 1)
    monkeypatch.setattr(json_pieces, "PIECE_BYTES", 4)
    monkeypatch.setattr(json_pieces, "LONG_ROW_BYTES", 16)
    answered = 0
    for dialect, case, whole in cases:
        pieces = outcome(dialect, case.body, callee_for(case.model), case.headers)
        if isinstance(pieces, tuple) and not isinstance(whole, tuple) and not is_json(case.body):
            continue  # what is wrong stands in a member that means nothing
        if isinstance(pieces, tuple) and case.protocol == "tfs-examples" and whole == 400:
            continue  # values and lists of one value are the same, in a whole body only if all are one of them
        assert pieces == whole, (case.number, case.body)
        answered += isinstance(whole, tuple)
    assert answered > most / 6


@pytest.mark.parametrize("names", [("NaN", "y"), ("Infinity", "a\u0041"), ("xNaN", "x0.0"), ("x0.0", "xNaN")])
@pytest.mark.parametrize("value", ["1", "NaN", "-Infinity"])
def test_inputs_may_be_called_what_numbers_are(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], value: str
) -> None:
    """What JSON does not have is looked past in a long body, be it in a name."""
    for reader in READERS:
        monkeypatch.setattr(f"sluice.gateway.dialects.{reader}.PIECES_FROM_BYTES", 1)
    specs = tuple([TensorSpec(name, Datatype.FP32, (None,)) for name in names])
    callee = Callee("m", 1, Signature(specs, (), True), ModelConfig())
    told = f"{orjson.dumps(names[0]).decode()}: [{value}, 2], {orjson.dumps(names[1]).decode()}: [3, 4]"
    rows = f"{orjson.dumps(names[0]).decode()}: {value}, {orjson.dumps(names[1]).decode()}: 3"
    for body, wanted in ((f'{{"inputs": {{{told}}}}}', [2, 4]), (f'{{"instances": [{{{rows}}}]}}', None)):
        request = TfsPredict().decode(body.encode(), (), callee)
        assert [each.name for each in request.inputs] == list(names)
        assert [str(float(each.array[0])) for each in request.inputs] == [str(float(value)), "3.0"]
        assert wanted is None or [each.array[1] for each in request.inputs] == wanted


def test_rows_are_all_named_or_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they come in different pieces."""
    for reader in READERS:
        monkeypatch.setattr(f"sluice.gateway.dialects.{reader}.PIECES_FROM_BYTES", 1)
    monkeypatch.setattr(json_pieces, "PIECE_BYTES", 4)
    for dialect in (TfsPredict(), TorchServe()):
        for body in (b'{"instances": [{"x": [1, 2, 3]}, [4, 5, 6]]}', b'{"instances": [[4, 5, 6], {"x": [1, 2, 3]}]}'):
            with pytest.raises(InvalidRequest):
                dialect.decode(body, ((b"content-type", b"application/json"),), callee_for("floats"))


def test_short_rows_before_a_long_one_are_read_once() -> None:
    """Where a row ends is looked for once, however far it is."""
    callee = Callee("m", 1, Signature((TensorSpec("x", Datatype.FP32, (None, None)),), (), True), ModelConfig())
    rows = [[0]] * 30_000 + [[0] * 600_000]
    body = orjson.dumps(rows)
    assert len(body) > json_pieces.PIECES_FROM_BYTES
    text = memoryview(body)
    pieces = list(json_pieces.pieces_of(text))
    assert b",".join([bytes(piece.text) for piece in pieces]) == body[1:-1]
    assert [piece.long for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) < 6
    with pytest.raises(InvalidRequest, match="rows differ in shape"):
        TorchServe().decode(body, ((b"content-type", b"application/json"),), callee)
