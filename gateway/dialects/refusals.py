"""How dialects tell errors: which entry of a dialect's table an error has, its text, and when to try again.

Each dialect has a table from kinds of errors to what its protocol says of them. What is alike in all of them is here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

import orjson

from sluice.gateway.dialects.base import JSON
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    ModelFailed,
    ModelNotFound,
    NoSuchRegion,
    RequestTooLarge,
    SluiceError,
    StartError,
    Unavailable,
)

HTTP_STATUSES: Mapping[type[SluiceError], int] = MappingProxyType(
    {
        InvalidRequest: 400,
        ModelNotFound: 404,
        NoSuchRegion: 404,
        Forbidden: 403,
        RequestTooLarge: 413,
        Unavailable: 503,
        DeadlineExceeded: 504,
        SluiceError: 500,
    }
)
"""HTTP's statuses in the protocols whose errors are `{"error": "…"}`: V2, TensorFlow Serving's and SageMaker's."""

EntryT = TypeVar("EntryT")


def entry_of(error: SluiceError, table: Mapping[type[SluiceError], EntryT]) -> EntryT:
    """What a table says of an error: the entry of its nearest ancestor. The table has one for `SluiceError`.

    A `ModelFailed` that blamed the input has the entry of `InvalidRequest`.
    """
    kind = InvalidRequest if isinstance(error, ModelFailed) and error.invalid_input else type(error)
    return next(table[ancestor] for ancestor in kind.__mro__ if ancestor in table)


def text_of(error: SluiceError) -> str:
    """What a caller is told of an error. It can be encoded as UTF-8, whatever the caller sent."""
    if isinstance(error, StartError):
        # It is for the operator, and names files. Only a mistake of ours can bring it to a caller.
        return "internal error"
    return encodable(str(error))


def encodable(text: str) -> str:
    """The text with escapes for what UTF-8 cannot encode: a path can be percent-decoded to half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()


def retry_after(error: SluiceError) -> tuple[Header, ...]:
    """The header `Retry-After` in whole seconds, at least one, of an `Unavailable`; none for other errors."""
    if not isinstance(error, Unavailable):
        return ()
    return ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))),)


def json_refusal(error: SluiceError, status: int, body: bytes) -> HttpResponse:
    """The answer with a JSON body that tells an error."""
    return HttpResponse(status, body, (*JSON, *retry_after(error)))


def error_object(error: SluiceError) -> HttpResponse:
    """The refusal `{"error": "…"}` with a status out of `HTTP_STATUSES`."""
    return json_refusal(error, entry_of(error, HTTP_STATUSES), orjson.dumps({"error": text_of(error)}))
