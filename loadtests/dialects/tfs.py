"""TensorFlow Serving's REST API: rows in, predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from loadtests.dialects.base import Call, Dialect, Mistake
from loadtests.models import Model, Row

JSON = {"Content-Type": "application/json"}


class Tfs:
    """`POST /v1/models/{model}:predict`, in rows, for models with one input."""

    name = "tfs"

    def predict(self, model: Model, rows: Sequence[Row]) -> Call:
        """A value for each row."""
        return _call(model.name, list(rows))

    def fault(self, model: Model, rows: int, body: bytes) -> str | None:
        """There must be a prediction for each row, of all outputs, each with the shape of the output's rows."""
        try:
            predictions = orjson.loads(body)["predictions"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return "the answer is no JSON object with predictions"
        if not isinstance(predictions, list) or len(predictions) != rows:
            return f"expected {rows} predictions"
        for prediction in predictions:
            values = prediction if len(model.outputs) > 1 else {model.outputs[0].name: prediction}
            for expected in model.outputs:
                if not isinstance(values, dict) or expected.name not in values:
                    return f"a prediction lacks the output {expected.name}"
                if shape_of(values[expected.name]) != list(expected.row_shape):
                    return f"output {expected.name}: expected the shape {list(expected.row_shape)} for each row"
        return None

    def reason(self, body: bytes) -> str:
        """The protocol's `error`, or the body's beginning."""
        try:
            return str(orjson.loads(body)["error"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return body[:100].decode(errors="replace")

    def mistakes(self, model: Model) -> Sequence[Mistake]:
        """A model that is not there, a row that is too short, no rows, and no JSON at all."""
        row = model.row(0)
        path = f"/v1/models/{model.name}:predict"
        return (
            Mistake("unknown model", _call(f"no-{model.name}", [row]), 404),
            Mistake("missing values", _call(model.name, [[]]), 400),
            Mistake("no rows", _call(model.name, []), 400),
            Mistake("broken JSON", Call(path, b'{"instances": [', JSON), 400),
        )


def _call(model: str, rows: list[Any]) -> Call:
    return Call(f"/v1/models/{model}:predict", orjson.dumps({"instances": rows}), JSON)


def shape_of(value: object) -> list[int]:
    """The shape of nested lists, by the first of each."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


DIALECT: Dialect = Tfs()
