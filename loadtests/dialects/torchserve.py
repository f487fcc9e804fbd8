"""TorchServe: rows in, a value for each of them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from loadtests.dialects.base import Call, Dialect, Mistake
from loadtests.dialects.tfs import shape_of
from loadtests.models import Model, Row

JSON = {"Content-Type": "application/json"}


class TorchServe:
    """`POST /predictions/{model}`, with a list of rows, for models with one input."""

    name = "torchserve"

    def predict(self, model: Model, rows: Sequence[Row]) -> Call:
        """A value for each row."""
        return _call(model.name, list(rows))

    def fault(self, model: Model, rows: int, body: bytes) -> str | None:
        """There must be a value for each row, of all outputs, each with the shape of the output's rows."""
        try:
            values = orjson.loads(body)
        except orjson.JSONDecodeError:
            return "the answer is no JSON"
        if not isinstance(values, list) or len(values) != rows:
            return f"expected a list of {rows} values"
        for value in values:
            told = value if len(model.outputs) > 1 else {model.outputs[0].name: value}
            for expected in model.outputs:
                if not isinstance(told, dict) or expected.name not in told:
                    return f"a value lacks the output {expected.name}"
                if shape_of(told[expected.name]) != list(expected.row_shape):
                    return f"output {expected.name}: expected the shape {list(expected.row_shape)} for each row"
        return None

    def reason(self, body: bytes) -> str:
        """The protocol's `message`, or the body's beginning."""
        try:
            return str(orjson.loads(body)["message"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return body[:100].decode(errors="replace")

    def mistakes(self, model: Model) -> Sequence[Mistake]:
        """A model and a version that are not there, a row that is too short, and no JSON at all."""
        row = model.row(0)
        return (
            Mistake("unknown model", _call(f"no-{model.name}", [row]), 404),
            Mistake("unknown version", _call(f"{model.name}/9.0", [row]), 404),
            Mistake("missing values", _call(model.name, [[]]), 400),
            Mistake("broken JSON", Call(f"/predictions/{model.name}", b"[[", JSON), 400),
        )


def _call(target: str, rows: list[Any]) -> Call:
    return Call(f"/predictions/{target}", orjson.dumps(rows), JSON)


DIALECT: Dialect = TorchServe()
