"""A prediction on a connection, and what all connections of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from gateway.http.limits import LaneLimits
from gateway.http.messages import DataPlane, Header, HttpResponse
from gateway.http.sweep import Sweep
from gateway.http.wire import Heads


class Exchange:
    """A prediction on its way in, or being answered; or, with a `refusal`, the last answer of a connection.

    Stands where uvicorn has its `RequestResponseCycle`, and so carries the two fields of one that uvicorn's protocol
    reads and writes for every request: `keep_alive` and `response_complete`. `left_bytes` is what the body still
    lacks, once its announced length has been `examined`.
    """

    __slots__ = (
        "body",
        "examined",
        "expects_continue",
        "headers",
        "keep_alive",
        "left_bytes",
        "method",
        "received",
        "refusal",
        "response_complete",
        "route",
    )

    def __init__(
        self,
        route: Any,
        method: str,
        headers: list[Header],
        keep_alive: bool,
        refusal: HttpResponse | None = None,
    ) -> None:
        self.route = route
        self.method = method
        self.headers = headers
        self.keep_alive = keep_alive
        self.refusal = refusal
        self.body: bytes | bytearray = b""
        self.left_bytes = 0
        self.received = False
        self.examined = False
        self.expects_continue = False
        self.response_complete = False

    def examine(self) -> int:
        """Note what the headers say of the body; the length that they announce, or 0."""
        self.examined = True
        length_bytes = 0
        for name, value in self.headers:
            if name == b"content-length":
                length_bytes = int(value)
            elif name == b"expect":
                self.expects_continue = value.lower() == b"100-continue"
        self.left_bytes = length_bytes - len(self.body)
        return length_bytes


class Door:
    """What all connections of one server share. One server, one loop."""

    __slots__ = ("draining", "heads", "limits", "plane", "sweep")

    def __init__(self, plane: DataPlane[Any], limits: LaneLimits, draining: Callable[[], bool]) -> None:
        self.plane = plane
        self.limits = limits
        self.draining = draining
        self.heads = Heads()
        self.sweep: Sweep | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[object], keep_alive_s: float) -> None:
        """See to it that the connections' deadlines are kept."""
        if self.sweep is None:
            limits = self.limits
            self.sweep = Sweep((keep_alive_s, limits.request_read_timeout_s, limits.write_timeout_s, limits.linger_s))
        self.sweep.watch(loop, connections)
