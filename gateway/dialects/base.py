"""What a dialect is: a codec over `InferenceRequest` and `InferenceResponse`, with a table of routes and statuses."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from sluice.gateway.dialects.formats.slices import at_once
from sluice.gateway.inputs.images.reader import ImageReader
from sluice.gateway.inputs.text.embedder import Embedder
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import InvalidRequest, SluiceError
from sluice.inference.repository.snapshot import FileState
from sluice.inference.types import InferenceRequest, InferenceResponse, Signature

JSON: tuple[Header, ...] = ((b"content-type", b"application/json"),)
"""The headers of an answer in JSON."""

POST = frozenset({"POST"})
NO_IMAGES: Mapping[str, ImageReader] = MappingProxyType({})


class MethodNotAllowed(InvalidRequest):
    """A prediction route was called with a method that it does not have."""


class Call(msgspec.Struct, frozen=True):
    """Whom a request names.

    `model` is empty where the caller named none: the gateway's default model is meant then. `version` is `None` where
    the caller left the choice to the gateway, or named a `label` that stands for a version.
    """

    model: str
    version: int | None = None
    label: str | None = None


class Callee(msgspec.Struct, frozen=True, weakref=True):
    """The model version that a call has come to, as far as its codec may know it."""

    name: str
    version: int
    signature: Signature
    config: ModelConfig
    embedder: Embedder | None = None
    """How texts become its inputs, where it embeds texts."""
    max_rows: int = 65_536
    """Rows that one request may have. This is checked before anything is done for each of them."""
    images: Mapping[str, ImageReader] = NO_IMAGES
    """How pictures become inputs, by the input's name, where `model.toml` declares it."""
    tokenizer: FileState | None = None
    """The file that the embedder's tokenizer was read from."""

    @property
    def rows_bound(self) -> int | None:
        """Rows that one request may have; `None` where its inputs have no rows, as the model is not batched."""
        return self.max_rows if self.signature.batched else None


class Dialect(Protocol):
    """One wire protocol, or one verb of it. Holds no state, hashable; every method is a pure function.

    Verbs that read the same bytes differently are dialects of their own, and share a name. What has a body here is
    right for most dialects, which inherit it.
    """

    name: str
    """As it stands in metrics and logs."""

    headers: frozenset[bytes]
    """The names, in lower case, of the headers that `decode` reads. It need not be given any others."""

    methods: frozenset[str] = POST
    """The HTTP methods that a prediction may have."""

    client_gone: int = 499
    """What logs and traces say as the status of an answer that nobody waited for; over HTTP, what nginx says."""

    def recognise(self, path: str) -> Call | None:
        """The prediction call that a percent-decoded path names, or `None` if it names none of this dialect.

        Raises `VersionNotFound` for a path of this dialect with a version that is no number.
        """
        ...

    def address(self, body: bytes | bytearray) -> Call:
        """The call that a body names, where its path names no model. Raises `InvalidRequest` if that cannot be told."""
        return Call("")

    def heavy(self, body: bytes | bytearray, callee: Callee) -> bool:
        """Whether decoding takes so long that it must not keep the event loop, and so goes to a thread."""
        return False

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        """The request in a body. Raises `InvalidRequest`, naming the input and what was expected.

        Its tensors have the right storage dtype and the shape that the caller stated; whether the model takes them
        is for `inference.signature.conform` to say.
        """
        ...

    def encode(self, request: InferenceRequest, response: InferenceResponse) -> HttpResponse:
        """The answer. Raises `InvalidRequest` if the dialect cannot carry it, and `RequestTooLarge` if it is too long.

        What it needs to know of the call, beside the outputs, `decode` has put into `request.reply`.
        """
        return at_once(self.encode_in_steps(request, response))

    def encode_in_steps(
        self, request: InferenceRequest, response: InferenceResponse
    ) -> Generator[None, None, HttpResponse]:
        """As `encode`, in steps of about a millisecond, after each of which the event loop may turn to others."""
        ...

    def refuse(self, error: SluiceError) -> HttpResponse:
        """The status, body and headers that this dialect has for an error."""
        ...

    def openapi_paths(self) -> dict[str, Any]:
        """The OpenAPI 3.1 `paths` of the prediction routes, with schemas and examples in line."""
        ...
