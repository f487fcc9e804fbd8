"""What a dialect is: a codec over `InferenceRequest` and `InferenceResponse`, with a table of routes and statuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from gateway.http.messages import Header, HttpResponse
from inference.errors import SluiceError
from inference.types import InferenceRequest, InferenceResponse, Signature


class Call(msgspec.Struct, frozen=True):
    """Whom a request target names. `version` is `None` where the caller left the choice to the gateway."""

    model: str
    version: int | None


class Dialect(Protocol):
    """One wire protocol. Holds no state; every method is a pure function."""

    name: str
    """As it stands in metrics and logs."""

    headers: frozenset[bytes]
    """The names, in lower case, of the headers that `decode` reads. It need not be given any others."""

    def recognise(self, path: str) -> Call | None:
        """The prediction call that a percent-decoded path names, or `None` if it names none of this dialect.

        Raises `ModelNotFound` for a path of this dialect with a version that is no number.
        """
        ...

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], signature: Signature) -> InferenceRequest:
        """The request in a body. Raises `InvalidRequest`, naming the input and what was expected.

        Its tensors have the right storage dtype and the shape that the caller stated; whether the model takes them
        is for `inference.signature.conform` to say.
        """
        ...

    def encode(self, request: InferenceRequest, response: InferenceResponse) -> HttpResponse:
        """The answer. Raises `InvalidRequest` if the dialect cannot carry it."""
        ...

    def refuse(self, error: SluiceError) -> HttpResponse:
        """The status, body and headers that this dialect has for an error."""
        ...

    def openapi_paths(self) -> dict[str, Any]:
        """The OpenAPI 3.1 `paths` of the prediction routes, with schemas and examples in line."""
        ...
