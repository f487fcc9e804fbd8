"""The Open Inference Protocol V2: JSON over REST."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson

from loadtests.dialects.base import Call, Dialect, Mistake
from loadtests.models import Model, Row

JSON = {"Content-Type": "application/json"}


class V2:
    """`POST /v2/models/{model}/infer`, with one input."""

    name = "v2"

    def predict(self, model: Model, rows: Sequence[Row]) -> Call:
        """The rows as one flat list, which the protocol asks of servers to take."""
        data = list(chain.from_iterable(rows))
        return _call(model.name, _input(model, model.input.name, len(rows), data))

    def fault(self, model: Model, rows: int, body: bytes) -> str | None:
        """Every output must be there, with its datatype and shape, and with as many values."""
        try:
            outputs = {output["name"]: output for output in orjson.loads(body)["outputs"]}
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return "the answer is no JSON object with named outputs"
        for expected in model.outputs:
            output = outputs.get(expected.name)
            if output is None:
                return f"the answer lacks the output {expected.name}"
            shape = [rows, *expected.row_shape]
            if output.get("shape") != shape or output.get("datatype") != expected.datatype:
                got = f"{output.get('datatype')} {output.get('shape')}"
                return f"output {expected.name}: expected {expected.datatype} {shape}, got {got}"
            data = output.get("data")
            if not isinstance(data, list) or len(data) != math.prod(shape):
                return f"output {expected.name}: expected {math.prod(shape)} values in its data"
        return None

    def reason(self, body: bytes) -> str:
        """The protocol's `error`, or the body's beginning."""
        try:
            return str(orjson.loads(body)["error"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return body[:100].decode(errors="replace")

    def mistakes(self, model: Model) -> Sequence[Mistake]:
        """A model that is not there, an input that is not there, too few values, and no JSON at all."""
        values = list(model.row(0))
        right = _input(model, model.input.name, 1, values)
        return (
            Mistake("unknown model", _call(f"no-{model.name}", right), 404),
            Mistake("unknown input", _call(model.name, _input(model, f"no-{model.input.name}", 1, values)), 400),
            Mistake("missing values", _call(model.name, _input(model, model.input.name, 2, values)), 400),
            Mistake("broken JSON", Call(f"/v2/models/{model.name}/infer", b'{"inputs": [', JSON), 400),
        )


def _input(model: Model, name: str, rows: int, data: list[float]) -> dict[str, Any]:
    shape = [rows, *model.input.row_shape]
    return {"name": name, "shape": shape, "datatype": model.input.datatype, "data": data}


def _call(model: str, tensor: dict[str, Any]) -> Call:
    return Call(f"/v2/models/{model}/infer", orjson.dumps({"inputs": [tensor]}), JSON)


DIALECT: Dialect = V2()
