"""What the two lanes and the data plane say to each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias, TypeVar

import msgspec

from sluice.gateway.connections.long_body import LongBody
from sluice.gateway.connections.loop_turns import LoopTurns
from sluice.inference.errors import SluiceError

Header: TypeAlias = tuple[bytes, bytes]
"""Name in lower case, and value, as they stand on the wire."""


Body: TypeAlias = bytes | bytearray | LongBody
"""A whole body; one of `LARGE_BYTES` and more may be in pieces."""


class HttpResponse(msgspec.Struct, frozen=True):
    """A whole answer. The lane adds `content-length`, `date`, `server` and `connection` to its headers.

    `headers` are the same few for most answers, and their text is remembered; the `request_id`, visible ASCII without
    spaces, is another one each time and stands apart: it becomes `x-request-id`. So do `cached`, `timing` and `trace`,
    for the same reason: they become `x-cache`, `server-timing` and `traceresponse`.
    """

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    request_id: bytes | None = None
    cached: bytes | None = None
    timing: bytes | None = None
    trace: bytes | None = None


RouteT = TypeVar("RouteT")


class DataPlane(Protocol[RouteT]):
    """Everything between the door and the dialects, as the lanes see it. A route is the plane's own affair."""

    max_body_bytes: int
    loop_turns: LoopTurns
    """Who lanes ask when a request may have come."""

    def recognise(self, target: bytes) -> RouteT | None:
        """The route of a prediction call, or `None` if FastAPI is to answer.

        `target` is the raw request target, query included. The same target always has the same route, which lanes
        remember. Cheap enough to be called for every request.
        """
        ...

    async def answer(
        self, route: RouteT, method: str, headers: Sequence[Header], body: Body, came_s: float = math.inf
    ) -> HttpResponse:
        """The answer to a request whose body is complete. Never raises, save for cancellation: the client has gone.

        A body of `LARGE_BYTES` or more is not kept by its lane: it is the plane that counts it, and lets it go.
        `came_s` is when its last bytes may have come, where the lane knows.
        """
        ...

    def refuse(self, route: RouteT, headers: Sequence[Header], error: SluiceError) -> HttpResponse:
        """The answer to a request that a lane turned away before it was read whole, in the dialect of its route.

        `headers` are those of the request as far as they are known.
        """
        ...
