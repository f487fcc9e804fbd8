from __future__ import annotations

import json

from sluice.gateway.commands.banner import zeros
from sluice.inference.types import Datatype, Signature, TensorSpec


def _signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs, (), batched=True)


def _zeros(signature: Signature) -> str:
    body = zeros(signature)
    assert body is not None
    return body


def test_zeros_are_a_request_that_the_model_takes() -> None:
    body = json.loads(
        _zeros(
            _signature(
                TensorSpec("x", Datatype.FP32, (None, 3)),
                TensorSpec("name", Datatype.BYTES, (None,)),
                TensorSpec("flag", Datatype.BOOL, (1,)),
            )
        )
    )
    assert [(each["name"], each["shape"], each["data"]) for each in body["inputs"]] == [
        ("x", [1, 3], [0, 0, 0]),
        ("name", [1], [""]),
        ("flag", [1], [False]),
    ]


def test_a_large_input_is_not_spelled_out() -> None:
    assert zeros(_signature(TensorSpec("image", Datatype.FP32, (None, 3, 224, 224)))) is None
