"""Parts of OpenAPI 3.1 descriptions that several dialects share.

Every call makes new values, so its caller may change them.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

BUSY = "Not ready, full, or so busy that the answer would come too late. The same call may succeed later"
"""What the status 503 means."""


def path_parameter(name: str, description: str, schema: Mapping[str, Any], **example: Any) -> dict[str, Any]:
    """A parameter in the path. `example` is `example=…` for one value, or `examples=…` for several by name."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": dict(schema),
        **deepcopy(example),
    }


def header_parameter(name: str, description: str, schema: Mapping[str, Any], **example: Any) -> dict[str, Any]:
    """As `path_parameter`, of a header that may be left out."""
    return path_parameter(name, description, schema, **example) | {"in": "header", "required": False}


def model_parameter(**example: Any) -> dict[str, Any]:
    """The path's parameter `model`."""
    return path_parameter("model", "A model's name", {"type": "string"}, **(example or {"example": "linear"}))


def version_parameter() -> dict[str, Any]:
    """The path's parameter `version`, a number."""
    return path_parameter("version", "A version's number", {"type": "integer", "minimum": 0}, example=1)


def error_schema() -> dict[str, Any]:
    """The schema of `{"error": "…"}`."""
    return {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def refusals(descriptions: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The responses for errors: by status, what each means; all of them have the same schema."""
    return {
        status: {"description": text, "content": {"application/json": {"schema": deepcopy(dict(schema))}}}
        for status, text in descriptions.items()
    }


def retry_after_header(description: str) -> dict[str, Any]:
    """The `headers` of a response that says when to try again."""
    return {"Retry-After": {"description": description, "schema": {"type": "integer"}}}


def file_schema() -> dict[str, Any]:
    """The schema of a body that is a file."""
    return {"type": "string", "format": "binary"}
