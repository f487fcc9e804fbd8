"""What the two lanes and the data plane say to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, TypeVar

import msgspec

from inference.errors import SluiceError

Header: TypeAlias = tuple[bytes, bytes]
"""Name in lower case, and value, as they stand on the wire."""


class HttpResponse(msgspec.Struct, frozen=True):
    """A whole answer. The lane adds `content-length`, `date`, `server` and `connection` to `headers`."""

    status: int
    body: bytes
    headers: Sequence[Header] = ()


RouteT = TypeVar("RouteT")


class DataPlane(Protocol[RouteT]):
    """Everything between the door and the dialects, as the lanes see it. A route is the plane's own affair."""

    max_body_bytes: int

    def recognise(self, target: bytes) -> RouteT | None:
        """The route of a prediction call, or `None` if FastAPI is to answer.

        `target` is the raw request target, query included. Cheap enough to be called for every request.
        """
        ...

    async def answer(
        self, route: RouteT, method: str, headers: Sequence[Header], body: bytes | bytearray
    ) -> HttpResponse:
        """The answer to a request whose body is complete. Never raises, save for cancellation: the client has gone."""
        ...

    def refuse(self, route: RouteT, error: SluiceError) -> HttpResponse:
        """The answer to a request that a lane turned away, in the dialect of its route."""
        ...
