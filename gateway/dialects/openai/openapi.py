"""`POST /v1/embeddings` for OpenAPI 3.1, with examples."""

from __future__ import annotations

from typing import Any

from sluice.gateway.dialects.openapi_parts import BUSY, retry_after_header


def embeddings_paths() -> dict[str, Any]:
    """`paths` of the one route. Every call makes a new value."""
    return {
        "/v1/embeddings": {
            "post": {
                "tags": ["OpenAI"],
                "summary": "Embed texts",
                "operationId": "openai_embeddings",
                "description": (
                    "OpenAI's API, for models with `[text]` in their `model.toml`. Each text is a row: it is cached "
                    "and batched by itself."
                ),
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _request_schema(), "examples": _request_examples()}},
                },
                "responses": {
                    "200": {
                        "description": "The embeddings, in the order of the texts",
                        "content": {"application/json": {"schema": _response_schema(), "example": _response_example()}},
                    },
                    "400": _error("The request is malformed, or not what the model takes", "input is wrong", "input"),
                    "404": _error(
                        "No such model",
                        "Request for unknown model: 'no-such-model' is not found",
                        "model",
                        "model_not_found",
                    ),
                    "413": _error("The body or the texts are beyond a limit", "the texts have 5000000 characters"),
                    "500": _error("The model failed", "the model failed", kind="server_error"),
                    "503": _error(
                        BUSY,
                        "the queue is full",
                        kind="server_error",
                    )
                    | {"headers": retry_after_header("Seconds")},
                    "504": _error("The time that the call had is over", "no answer within 30 s", kind="server_error"),
                },
            }
        }
    }


def _request_schema() -> dict[str, Any]:
    ids = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["input", "model"],
        "properties": {
            "model": {"type": "string"},
            "input": {
                "description": "A text, up to 2048 texts, the tokens of one, or the tokens of up to 2048",
                "oneOf": [
                    text,
                    {"type": "array", "minItems": 1, "maxItems": 2048, "items": text},
                    ids,
                    {"type": "array", "minItems": 1, "maxItems": 2048, "items": ids},
                ],
            },
            "encoding_format": {"type": "string", "enum": ["float", "base64"], "default": "float"},
            "dimensions": {"type": "integer", "minimum": 1, "description": "Only for models that allow it"},
            "user": {"type": "string", "description": "Not looked at"},
        },
    }


def _request_examples() -> dict[str, Any]:
    return {
        "texts": {"value": {"model": "texts", "input": ["to be", "or not to be"]}},
        "tokens": {"value": {"model": "texts", "input": [3, 1, 4], "encoding_format": "base64"}},
    }


def _response_schema() -> dict[str, Any]:
    numbers = {"type": "array", "items": {"type": "number"}}
    encoded = {"type": "string", "description": "Base64 of float32, the lowest byte first"}
    return {
        "type": "object",
        "required": ["object", "data", "model", "usage"],
        "properties": {
            "object": {"const": "list"},
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["object", "index", "embedding"],
                    "properties": {
                        "object": {"const": "embedding"},
                        "index": {"type": "integer"},
                        "embedding": {"oneOf": [numbers, encoded]},
                    },
                },
            },
            "model": {"type": "string"},
            "usage": {
                "type": "object",
                "required": ["prompt_tokens", "total_tokens"],
                "properties": {"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}},
            },
        },
    }


def _response_example() -> dict[str, Any]:
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.6, -0.8]}],
        "model": "texts",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


def _error(
    description: str,
    message: str,
    param: str | None = None,
    code: str | None = None,
    kind: str = "invalid_request_error",
) -> dict[str, Any]:
    maybe = {"type": ["string", "null"]}
    schema = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": maybe,
                    "code": maybe,
                },
            }
        },
    }
    example = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}
