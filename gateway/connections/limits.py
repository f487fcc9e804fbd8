"""How much one client may ask of a connection, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

_MIN_SURPLUS, _SURPLUS_SHARE = 16, 8


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The bounds of every connection, for predictions and for pages.

    The idle time between two requests is uvicorn's `timeout_keep_alive`; the size of a prediction's body is the data
    plane's `max_body_bytes`. A deadline is noticed up to a quarter of the shortest time late, at most one second.
    """

    max_header_bytes: int = 64 * 1024
    """Request line and headers, and the framing of a body (chunk extensions, trailers). Beyond it: 431, and close."""

    max_headers: int = 256
    """Headers of a request, or trailers: even one of a letter takes some hundred bytes of memory. Beyond it: 431."""

    request_read_timeout_s: float = 30.0
    """From the first byte of a request to the last of its body. Beyond it: 408, and close."""

    write_timeout_s: float = 30.0
    """How long a client may take no byte of an answer. Beyond it the connection is cut."""

    min_body_bytes_per_s: int = 64 * 1024
    """How fast a long body has to come in: so many bytes that came extend `request_read_timeout_s` by a second."""

    max_connections: int = 10_000
    """Open connections. Up to `surplus_connections` more are answered with 503 at a time, and closed; any beyond those
    are closed without an answer."""

    max_buffered_bytes: int = 1024 * 1024 * 1024
    """How much all connections together hold: what was read and cannot be parsed yet, requests that wait behind
    others, bodies until they are answered, and the unsent part of answers. A request that would pass this bound is
    answered with 503, and its connection closed; while more is held, no prediction is begun. A request that comes
    whole, alone, and in at most 4 KiB is not counted, nor are the first 4 KiB of a head."""

    crowded_grace_s: float = 1.0
    """While more than `max_buffered_bytes` is held, a client that takes its answers more slowly than
    `min_body_bytes_per_s` for this time is cut off. Those with most unsent go first, until there is room."""

    linger_s: float = 2.0
    """How long a refused client may go on sending, so that it can read the refusal before the connection is closed."""

    linger_bytes: int = 4 * 1024 * 1024
    """How much of what a refused client goes on sending is read and thrown away."""

    farewell_s: float = 0.5
    """How long an idle connection stays open once the server stops, for a request that is already on its way."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "linger_bytes" and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} is {value!r}; expected a number greater than 0")
        if self.linger_bytes < 0:
            raise ValueError(f"linger_bytes is {self.linger_bytes!r}; expected 0 or more")


def surplus_connections(max_connections: int) -> int:
    """How many connections beyond `max_connections` are answered with a refusal; to answer more would cost too much."""
    return max(_MIN_SURPLUS, max_connections // _SURPLUS_SHARE)


def connection_cap(max_connections: int, descriptor_limit: int, reserved: int) -> int:
    """How many connections may be open in a process of so many descriptors: 1 to `max_connections`.

    Leaves room for those that are answered with a refusal, and `reserved` descriptors for everything else: files and
    workers. It is 1 even where there is no room. A `descriptor_limit` below 0 is none (`resource.RLIM_INFINITY`).
    """
    if descriptor_limit < 0:
        return max_connections
    room = descriptor_limit - reserved
    return max(1, min(max_connections, room - _MIN_SURPLUS, room * _SURPLUS_SHARE // (_SURPLUS_SHARE + 1)))
