"""How much, and for how long, one client may ask of the door."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

_MIN_SURPLUS, _SURPLUS_SHARE = 16, 8


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """The bounds that the lane holds every connection to, prediction or not.

    The idle time between two requests is uvicorn's `timeout_keep_alive`; the size of a prediction's body is the data
    plane's `max_body_bytes`. Times are kept to within a quarter of the shortest of them, at most one second late.
    """

    max_header_bytes: int = 64 * 1024
    """Request line and headers, and what frames a body (chunk extensions, trailers). Beyond it: 431, and close."""

    max_headers: int = 256
    """Headers of a request, or trailers: each takes some hundred bytes here, be it one letter long. Beyond it: 431."""

    request_read_timeout_s: float = 30.0
    """From the first byte of a request to the last of its body. Beyond it: 408, and close."""

    write_timeout_s: float = 30.0
    """How long a client may leave an answer unread without taking one byte of it. Beyond it the connection is cut."""

    min_body_bytes_per_s: int = 64 * 1024
    """How fast a body has to come in where it is too long for `request_read_timeout_s`: this many bytes received allow
    a second more."""

    max_connections: int = 10_000
    """Open connections. A further one is told 503 and closed; so many more than that are closed without a word that
    `surplus_connections` are told at a time."""

    max_buffered_bytes: int = 1024 * 1024 * 1024
    """How much all connections together hold: what was read but may not be parsed yet, requests that wait behind
    others, bodies until they are answered, and what of answers is not sent yet. A request that would pass it is told
    503 to, and its connection closed; while more is held, no prediction is begun. A request that comes whole, alone,
    and in at most 4 KiB is not counted, nor are the first 4 KiB of a head."""

    crowded_grace_s: float = 1.0
    """While more than `max_buffered_bytes` is held, a client that takes less of its answers than `min_body_bytes_per_s`
    for this time is cut off; those with most unsent go first, until there is room."""

    linger_s: float = 2.0
    """How long a refused client may go on sending, so that it reads the refusal instead of a reset."""

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
    """How many connections beyond `max_connections` are told so at a time. To tell more of them would be a burden."""
    return max(_MIN_SURPLUS, max_connections // _SURPLUS_SHARE)


def connection_cap(max_connections: int, descriptor_limit: int, reserved: int) -> int:
    """How many connections may be open, at most `max_connections`, where a process may have so many descriptors.

    Leaves room for those that are told that there are too many, and `reserved` descriptors for everything else: files,
    workers, and what the kernel has accepted before anybody could look at it. At least 1, even where there is no room
    for it. A `descriptor_limit` below 0 is none (`resource.RLIM_INFINITY`).
    """
    if descriptor_limit < 0:
        return max_connections
    room = descriptor_limit - reserved
    return max(1, min(max_connections, room - _MIN_SURPLUS, room * _SURPLUS_SHARE // (_SURPLUS_SHARE + 1)))
