"""The prediction routes of the Open Inference Protocol V2 for OpenAPI 3.1, with examples that can be run."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from sluice.gateway.dialects.openapi_parts import (
    BUSY,
    error_schema,
    header_parameter,
    model_parameter,
    retry_after_header,
    version_parameter,
)
from sluice.inference.types import DEFAULT_PRIORITY, LOWEST_PRIORITY, Datatype


def prediction_paths() -> dict[str, Any]:
    """`paths` for the route with and the route without a version. Every call makes a new value."""
    path = "/v2/models/{model}"
    model = model_parameter(examples={"linear": {"value": "linear"}, "digits": {"value": "digits"}})
    return {
        f"{path}/infer": {"post": _operation("Predict with a model's highest version", "predict", [model])},
        f"{path}/versions/{{version}}/infer": {
            "post": _operation("Predict with one version of a model", "predict_version", [model, version_parameter()])
        },
    }


def _operation(summary: str, operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tags": ["predictions"],
        "summary": summary,
        "operationId": operation_id,
        "description": (
            "Open Inference Protocol V2. `data` holds the elements in row-major order, flat or nested as the shape is. "
            "Requests that arrive together travel to the model in one batch. An output with a number that is not "
            "finite has the token `NaN`, `Infinity` or `-Infinity` in its place."
        ),
        "parameters": deepcopy([*parameters, _TIMEOUT_HEADER, _CACHE_HEADER, _BINARY_HEADER]),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _request_schema(), "examples": _request_examples()},
                "application/octet-stream": {"schema": _BINARY_BODY},
            },
        },
        "responses": {
            "200": {
                "description": "The outputs, flat, in the order in which they were asked for",
                "content": {
                    "application/json": {"schema": _response_schema(), "examples": _response_examples()},
                    "application/octet-stream": {"schema": _BINARY_BODY},
                },
                "headers": _X_CACHE,
            },
            "400": _error("The request is malformed, or not what the model takes", _EXAMPLE_400),
            "404": _error("No such model, or no such version of it", "Request for unknown model: 'none' is not found"),
            "413": _error("The body or the number of rows is beyond a limit", "the body is larger than 67108864 bytes"),
            "500": _error("The model failed", "the model failed"),
            "503": _error(
                BUSY,
                "the queue of model 'digits' is full",
                retry_after_header("Seconds after which to try again"),
            ),
            "504": _error(
                "The time that the caller gave, or that the gateway gives any call, is over or could never be enough",
                "no answer within 30 s",
            ),
        },
    }


_TIMEOUT_HEADER = header_parameter(
    "X-Request-Timeout-Ms",
    "Milliseconds that the caller is going to wait. A call that could not be answered by then is refused instead of "
    "being answered late. The shorter of this and the parameter `timeout` counts.",
    {"type": "number", "exclusiveMinimum": 0},
)
_CACHE_HEADER = header_parameter(
    "Cache-Control",
    "`no-cache` has all rows computed anew, and stored; `no-store` keeps the cache out altogether.",
    {"type": "string"},
    examples={"no-cache": {"value": "no-cache"}, "no-store": {"value": "no-store"}},
)
_BINARY_HEADER = header_parameter(
    "Inference-Header-Content-Length",
    "How many bytes at the beginning of the body are JSON; the bytes of those inputs that have a `binary_data_size` "
    "follow, in order. 0: the body is the model's only input.",
    {"type": "integer", "minimum": 0},
)
_BINARY_BODY = {
    "type": "string",
    "format": "binary",
    "description": "JSON as in `application/json`, followed by the raw bytes of the tensors with a `binary_data_size`: "
    "little-endian, row-major; elements of BYTES have their length before them in four bytes.",
}
_X_CACHE = {
    "X-Cache": {
        "description": "How many of the rows were in the cache: `hit`, `miss` or `partial`, then `rows=` hits/rows. "
        "Left out where the cache was not asked.",
        "schema": {"type": "string", "examples": ["partial; rows=3/8"]},
    }
}
_EXAMPLE_400 = "input 'x': data has 3 elements; expected 1 element for shape [1, 1], flat or nested as the shape is"


def _error(description: str, example: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    content = {"application/json": {"schema": error_schema(), "example": {"error": example}}}
    return {"description": description, "content": content} | ({"headers": headers} if headers else {})


def _request_schema() -> dict[str, Any]:
    parameters = {
        "binary_data": {"type": "boolean", "description": "Raw bytes behind the JSON instead of `data`"},
        "classification": {"type": "integer", "minimum": 1, "description": "The so many highest values, as classes"},
    }
    output = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "parameters": {"type": "object", "properties": parameters}},
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "description": "Comes back with the answer"},
            "parameters": _parameters_schema() | {"properties": _schedule_schemas() | _BINARY_OUTPUTS},
            "inputs": {"type": "array", "items": _tensor_schema()},
            "outputs": {"type": "array", "items": output, "description": "The wanted outputs; all if left out"},
        },
    }


def _response_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": _parameters_schema(),
            "outputs": {"type": "array", "items": _tensor_schema()},
        },
    }


def _parameters_schema() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": {"type": ["boolean", "number", "string"]}}


def _schedule_schemas() -> dict[str, Any]:
    return {
        "timeout": {
            "type": "integer",
            "minimum": 0,
            "default": 0,
            "description": "Microseconds that the caller is going to wait; 0 if it did not say",
        },
        "priority": {
            "type": "integer",
            "minimum": 0,
            "maximum": LOWEST_PRIORITY,
            "default": 0,
            "description": f"From 1, the highest, to {LOWEST_PRIORITY}; 0 for the default, {DEFAULT_PRIORITY}",
        },
    }


_BINARY_OUTPUTS = {
    "binary_data_output": {"type": "boolean", "default": False, "description": "Raw bytes for all outputs"}
}


def _tensor_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string", "enum": [str(datatype) for datatype in Datatype]},
            "data": {
                "description": "The elements in row-major order, flat or nested as the shape is",
                "type": "array",
                "items": {"type": ["number", "boolean", "string", "array"]},
            },
        },
    }


def _request_examples() -> dict[str, Any]:
    return {
        "linear": {
            "summary": "linear: y = 2x - 1",
            "value": {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [3.0]}]},
        },
        "digits": {
            "summary": "digits: an 8 x 8 picture of a zero, brightness from 0 to 16",
            "value": {"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": ZERO}]},
        },
    }


def _response_examples() -> dict[str, Any]:
    linear = {"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [5.0]}
    label = {"name": "label", "datatype": "INT64", "shape": [1], "data": [0]}
    probabilities = {"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": PROBABILITIES}
    return {
        "linear": {"value": {"model_name": "linear", "model_version": "1", "outputs": [linear]}},
        "digits": {"value": {"model_name": "digits", "model_version": "1", "outputs": [label, probabilities]}},
    }


# fmt: off
ZERO = [
    0,  0,  5, 13,  9,  1,  0,  0,
    0,  0, 13, 15, 10, 15,  5,  0,
    0,  3, 15,  2,  0, 11,  8,  0,
    0,  4, 12,  0,  0,  8,  8,  0,
    0,  5,  8,  0,  0,  9,  8,  0,
    0,  4, 11,  0,  1, 12,  7,  0,
    0,  2, 14,  5, 10, 12,  0,  0,
    0,  0,  6, 13, 10,  0,  0,  0,
]
# fmt: on
"""The first sample of scikit-learn's digits: a hand-written zero."""

PROBABILITIES = [1.0, 3.5e-12, 6.9e-09, 1.3e-08, 6.2e-07, 5.8e-07, 4.4e-07, 9.8e-07, 2.4e-07, 9.3e-07]
"""The answer of the bundled model `digits` to it, rounded."""
