"""TorchServe's prediction routes for OpenAPI 3.1, with examples that can be run."""

from __future__ import annotations

from typing import Any

_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "A model's name",
    "schema": {"type": "string"},
    "example": "linear",
}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "A version's number, such as 1 or 1.0",
    "schema": {"type": "string"},
    "example": "1",
}
_PROBLEM = {
    "type": "object",
    "required": ["code", "type", "message"],
    "properties": {"code": {"type": "integer"}, "type": {"type": "string"}, "message": {"type": "string"}},
}
_REFUSALS = {
    "400": "Malformed, or not what the model takes",
    "404": "No such model or version",
    "413": "The body, or an image in it, is beyond a limit",
    "503": "Not ready, or too busy",
    "504": "The time of the call is over",
}


def prediction_paths() -> dict[str, Any]:
    """`paths` of predictions, with and without a version, and of `invoke`. Every call makes a new value."""
    return {
        "/predictions/{model}": _both("torchserve_predict", [_MODEL]),
        "/predictions/{model}/{version}": _both("torchserve_predict_version", [_MODEL, _VERSION]),
        "/models/{model}/invoke": {"post": _operation("torchserve_invoke", [_MODEL])},
    }


def _both(operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "post": _operation(operation_id, parameters),
        "put": _operation(f"{operation_id}_put", parameters),
    }


def _operation(operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    file = {"type": "string", "format": "binary"}
    return {
        "tags": ["TorchServe"],
        "summary": "Predict from a value, from rows or from a file",
        "operationId": operation_id,
        "parameters": [dict(parameter) for parameter in parameters],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {}, "examples": _examples()},
                "application/octet-stream": {"schema": file},
                "multipart/form-data": {"schema": {"type": "object", "properties": {"data": dict(file)}}},
            },
        },
        "responses": {
            "200": {
                "description": "The value of the item, or a list with one for each row",
                "content": {"application/json": {"schema": {}, "example": [5.0]}},
            },
            **{
                status: {"description": text, "content": {"application/json": {"schema": dict(_PROBLEM)}}}
                for status, text in _REFUSALS.items()
            },
        },
    }


def _examples() -> dict[str, Any]:
    return {
        "item": {"summary": "linear: y = 2x - 1, one item", "value": [3.0]},
        "rows": {"summary": "two rows", "value": [[3.0], [10.0]]},
        "named": {"summary": "two rows by the input's name", "value": {"x": [[3.0], [10.0]]}},
    }
