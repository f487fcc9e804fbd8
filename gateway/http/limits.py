"""How much, and for how long, one client may ask of the door."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """The bounds that the lane holds every connection to, prediction or not.

    The idle time between two requests is uvicorn's `timeout_keep_alive`; the size of a prediction's body is the data
    plane's `max_body_bytes`. Times are kept to within a quarter of the shortest of them, at most one second late.
    """

    max_header_bytes: int = 64 * 1024
    """Request line and headers, and what frames a body (chunk extensions, trailers). Beyond it: 431, and close."""

    request_read_timeout_s: float = 30.0
    """From the first byte of a request to the last of its body. Beyond it: 408, and close. FastAPI's bodies may take
    longer, as long as they never pause for this time."""

    write_timeout_s: float = 30.0
    """How long a client may leave an answer unread without taking one byte of it. Beyond it the connection is cut."""

    max_connections: int = 4096
    """Open connections. A further one is told 503 and closed."""

    linger_s: float = 2.0
    """How long a refused client may go on sending, so that it reads the refusal instead of a reset."""

    linger_bytes: int = 4 * 1024 * 1024
    """How much of what a refused client goes on sending is read and thrown away."""

    def __post_init__(self) -> None:
        for name in ("max_header_bytes", "request_read_timeout_s", "write_timeout_s", "max_connections", "linger_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value!r}; expected a number greater than 0")
        if self.linger_bytes < 0:
            raise ValueError(f"linger_bytes is {self.linger_bytes!r}; expected 0 or more")
