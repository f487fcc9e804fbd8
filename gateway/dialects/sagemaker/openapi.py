"""SageMaker's route for OpenAPI 3.1, with examples that can be run."""

from __future__ import annotations

from typing import Any

from sluice.gateway.dialects.openapi_parts import error_schema, file_schema, header_parameter, refusals

_REFUSALS = {
    "400": "Malformed, or not what the model takes",
    "404": "No default model",
    "413": "The body, or an image in it, is beyond a limit",
    "503": "Not ready, or too busy",
    "504": "The time of the call is over",
}


def invocation_paths() -> dict[str, Any]:
    """`paths` of the one route. Every call makes a new value."""
    accept = header_parameter(
        "Accept",
        "What the answer is: JSON, CSV or .npy",
        {"type": "string", "enum": ["application/json", "text/csv", "application/x-npy"]},
    )
    return {
        "/invocations": {
            "post": {
                "tags": ["SageMaker"],
                "summary": "Predict with the default model",
                "operationId": "sagemaker_invocations",
                "parameters": [accept],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {}, "examples": _examples()},
                        "text/csv": {"schema": {"type": "string"}, "example": "3.0\n10.0\n"},
                        "application/x-npy": {"schema": file_schema()},
                        "image/jpeg": {"schema": file_schema()},
                    },
                },
                "responses": {
                    "200": {
                        "description": "The answer, in the form of the question",
                        "content": {
                            "application/json": {"schema": {}, "example": {"predictions": [[5.0], [19.0]]}},
                            "text/csv": {"schema": {"type": "string"}, "example": "5.0\n19.0\n"},
                            "application/x-npy": {"schema": file_schema()},
                        },
                    },
                    **refusals(_REFUSALS, error_schema()),
                },
            }
        }
    }


def _examples() -> dict[str, Any]:
    return {
        "instances": {"summary": "rows, as Vertex AI sends them", "value": {"instances": [[3.0], [10.0]]}},
        "inputs": {"summary": "whole tensors", "value": {"inputs": {"x": [[3.0], [10.0]]}}},
        "rows": {"summary": "a list of rows", "value": [[3.0], [10.0]]},
        "v2": {
            "summary": "Open Inference Protocol V2",
            "value": {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [3.0, 10.0]}]},
        },
    }
