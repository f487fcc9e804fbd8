"""TensorFlow Serving's verbs for OpenAPI 3.1, with examples that can be run."""

from __future__ import annotations

from typing import Any

from sluice.gateway.dialects.openapi_parts import (
    error_schema,
    model_parameter,
    path_parameter,
    refusals,
    version_parameter,
)

_REFUSALS = {
    "400": "Malformed, or not what the model takes",
    "404": "No such model, version or label",
    "503": "Not ready, or too busy",
    "504": "The time of the call is over",
}
_SUMMARIES = {
    "predict": "Predict, row by row or in columns",
    "classify": "Labels and scores for examples of named features",
    "regress": "A value for each example of named features",
}


def verb_paths(verb: str) -> dict[str, Any]:
    """`paths` of a verb: for the default version, for a number and for a label. Every call makes a new value."""
    path = "/v1/models/{model}"
    label = path_parameter(
        "label", "A version's label, from [version_labels] in model.toml", {"type": "string"}, example="stable"
    )
    return {
        f"{path}:{verb}": {"post": _operation(verb, "", [model_parameter()])},
        f"{path}/versions/{{version}}:{verb}": {
            "post": _operation(verb, "_version", [model_parameter(), version_parameter()])
        },
        f"{path}/labels/{{label}}:{verb}": {"post": _operation(verb, "_label", [model_parameter(), label])},
    }


def _operation(verb: str, suffix: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    body = _predict_body() if verb == "predict" else _examples_body()
    answer = {"type": "object", "properties": {name: {} for name in _answers(verb)}}
    return {
        "tags": ["TensorFlow Serving"],
        "summary": _SUMMARIES[verb],
        "operationId": f"tfs_{verb}{suffix}",
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {"description": "The answer", "content": {"application/json": {"schema": answer}}},
            **refusals(_REFUSALS, error_schema()),
        },
    }


def _answers(verb: str) -> list[str]:
    return ["predictions", "outputs"] if verb == "predict" else ["results"]


def _predict_body() -> dict[str, Any]:
    name = {"type": "string", "enum": ["", "serving_default"]}
    rows = {"type": "array", "minItems": 1, "items": {}, "description": "A value, or an object of values, for each row"}
    columns = {"description": "A tensor, or an object of tensors"}
    return {
        "schema": {
            "type": "object",
            "properties": {"signature_name": name, "instances": rows, "inputs": columns},
            "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        },
        "examples": {
            "rows": {"summary": "linear: y = 2x - 1", "value": {"instances": [[3.0], [10.0]]}},
            "columns": {"summary": "the same, whole tensors", "value": {"inputs": {"x": [[3.0], [10.0]]}}},
        },
    }


def _examples_body() -> dict[str, Any]:
    features = {"type": "object", "description": "Values by the names of the model's inputs"}
    return {
        "schema": {
            "type": "object",
            "required": ["examples"],
            "properties": {"context": features, "examples": {"type": "array", "minItems": 1, "items": dict(features)}},
        },
        "example": {"examples": [{"x": 3.0}, {"x": 10.0}]},
    }
