"""HTTP requests and answers as values: what the two lanes and the data plane hand to each other."""

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

    Most answers have one of a few sets of `headers`, whose text is remembered. What differs from answer to answer
    stands apart: `request_id` (visible ASCII without spaces) becomes the header `x-request-id`, `cached` becomes
    `x-cache`, `timing` becomes `server-timing`, and `trace` becomes `traceresponse`.
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
    """Answers predictions. A route is whatever the plane makes of a request target; lanes only hand it back."""

    max_body_bytes: int
    loop_turns: LoopTurns
    """Lanes ask it when a request may have come."""

    def recognise(self, target: bytes) -> RouteT | None:
        """The route of a prediction call, or `None` if FastAPI is to answer.

        `target` is the raw request target, query included. The same target always has the same route, which lanes
        remember. Cheap enough to be called for every request.
        """
        ...

    async def answer(
        self, route: RouteT, method: str, headers: Sequence[Header], body: Body, came_s: float = math.inf
    ) -> HttpResponse:
        """The answer to a request whose body is complete. Raises nothing; it is cancelled when the client has gone.

        A lane does not keep a body of `LARGE_BYTES` or more: the plane counts it, and drops it as early as it can.
        `came_s` is when the last bytes may have come, in the event loop's time; `math.inf` where that is not known.
        """
        ...

    def refuse(self, route: RouteT, headers: Sequence[Header], error: SluiceError) -> HttpResponse:
        """The answer to a request that a lane refused before it was read whole, in the dialect of its route.

        `headers` are those of the request that have been read.
        """
        ...
