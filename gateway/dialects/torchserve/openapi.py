"""TorchServe's prediction routes for OpenAPI 3.1, with examples that can be run."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from sluice.gateway.dialects.openapi_parts import file_schema, model_parameter, path_parameter, refusals

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
    version = path_parameter("version", "A version's number, such as 1 or 1.0", {"type": "string"}, example="1")
    return {
        "/predictions/{model}": _both("torchserve_predict", [model_parameter()]),
        "/predictions/{model}/{version}": _both("torchserve_predict_version", [model_parameter(), version]),
        "/models/{model}/invoke": {"post": _operation("torchserve_invoke", [model_parameter()])},
    }


def _both(operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "post": _operation(operation_id, parameters),
        "put": _operation(f"{operation_id}_put", parameters),
    }


def _operation(operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tags": ["TorchServe"],
        "summary": "Predict from a value, from rows or from a file",
        "operationId": operation_id,
        "parameters": deepcopy(parameters),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {}, "examples": _examples()},
                "application/octet-stream": {"schema": file_schema()},
                "multipart/form-data": {"schema": {"type": "object", "properties": {"data": file_schema()}}},
            },
        },
        "responses": {
            "200": {
                "description": "The value of the item, or a list with one for each row",
                "content": {"application/json": {"schema": {}, "example": [5.0]}},
            },
            **refusals(_REFUSALS, _PROBLEM),
        },
    }


def _examples() -> dict[str, Any]:
    return {
        "item": {"summary": "linear: y = 2x - 1, one item", "value": [3.0]},
        "rows": {"summary": "two rows", "value": [[3.0], [10.0]]},
        "named": {"summary": "two rows by the input's name", "value": {"x": [[3.0], [10.0]]}},
    }
