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
    """The model and version that a request names.

    `model` is empty where the caller named none and means the gateway's default model. `version` is `None` where the
    caller left the choice to the gateway, or gave a `label` that stands for a version.
    """

    model: str
    version: int | None = None
    label: str | None = None


class Callee(msgspec.Struct, frozen=True, weakref=True):
    """What a codec may know of the model version that a call is for."""

    name: str
    version: int
    signature: Signature
    config: ModelConfig
    embedder: Embedder | None = None
    """Makes inputs out of texts; `None` for a model that does not embed texts."""
    max_rows: int = 65_536
    """Rows that one request may have. This is checked before anything is done for each of them."""
    images: Mapping[str, ImageReader] = NO_IMAGES
    """Makes inputs out of pictures: a reader for each input, by name, that is declared as a picture in `model.toml`."""
    tokenizer: FileState | None = None
    """The file that the embedder's tokenizer was read from."""

    @property
    def rows_bound(self) -> int | None:
        """Rows that one request may have; `None` where its inputs have no rows, as the model is not batched."""
        return self.max_rows if self.signature.batched else None


class Dialect(Protocol):
    """One wire protocol, or one verb of it. A dialect has no state and is hashable; every method is a pure function.

    Verbs that read the same bytes in different ways are dialects of their own with the same name. Methods that have a
    body here suit most dialects, which inherit them.
    """

    name: str
    """Its name in metrics and logs."""

    headers: frozenset[bytes]
    """The names, in lower case, of the headers that `decode` reads. Its caller may leave out all others."""

    methods: frozenset[str] = POST
    """The HTTP methods that a prediction may have."""

    client_gone: int = 499
    """The status that logs and traces have for a call whose client went away. nginx has 499 for it."""

    def recognise(self, path: str) -> Call | None:
        """The prediction call that a percent-decoded path names; `None` for a path of no prediction in this dialect.

        Raises `VersionNotFound` for a path of this dialect with a version that is no number.
        """
        ...

    def address(self, body: bytes | bytearray) -> Call:
        """The call that a body names; for paths without a model. Raises `InvalidRequest` if the body cannot be read."""
        return Call("")

    def heavy(self, body: bytes | bytearray, callee: Callee) -> bool:
        """Whether decoding may take so long that it must not run in the event loop."""
        return False

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        """The request in a body. Raises `InvalidRequest`, naming the input and what was expected.

        Its tensors have the right storage dtype and the shape that the caller stated.
        `inference.signature.conform` checks whether the model takes them.
        """
        ...

    def encode(self, request: InferenceRequest, response: InferenceResponse) -> HttpResponse:
        """The answer. Raises `InvalidRequest` if the dialect cannot express it, `RequestTooLarge` if it is too long.

        `decode` has put into `request.reply` what this needs to know of the request.
        """
        return at_once(self.encode_in_steps(request, response))

    def encode_in_steps(
        self, request: InferenceRequest, response: InferenceResponse
    ) -> Generator[None, None, HttpResponse]:
        """As `encode`, in steps of about a millisecond: the event loop can serve other calls after each."""
        ...

    def refuse(self, error: SluiceError) -> HttpResponse:
        """The status, body and headers that this dialect has for an error."""
        ...

    def openapi_paths(self) -> dict[str, Any]:
        """The OpenAPI 3.1 `paths` of the prediction routes, with schemas and examples in line."""
        ...
