"""A prediction on a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sluice.gateway.messages import Body, Header, HttpResponse


class Prediction(msgspec.Struct, eq=False):
    """A prediction on its way in, or being answered; or, with a `refusal`, the last answer of a connection.

    Stands where uvicorn has its `RequestResponseCycle`, and so carries the two fields of one that uvicorn's protocol
    reads and writes for every request: `keep_alive` and `response_complete`. `left_bytes` is what the body still
    lacks, once its announced length has been `examined`; `timed_bytes` is how much of it has been allowed time for.
    `came_s` is when its last bytes may have come.
    """

    route: Any
    method: str
    headers: Sequence[Header]
    keep_alive: bool
    refusal: HttpResponse | None = None
    body: Body = b""
    left_bytes: int = 0
    timed_bytes: int = 0
    received: bool = False
    examined: bool = False
    expects_continue: bool = False
    response_complete: bool = False
    came_s: float = 0.0

    def examine(self, http_version: str) -> int:
        """Note what the headers say of the body; the length that they announce, or 0."""
        self.examined = True
        length_bytes = 0
        for name, value in self.headers:
            if name == b"content-length":
                length_bytes = int(value)
        self.expects_continue = expects_continue(http_version, self.headers)
        self.left_bytes = length_bytes - len(self.body)
        return length_bytes


def expects_continue(http_version: str, headers: Sequence[Header]) -> bool:
    """Whether a client waits for `100 Continue`; one of HTTP/1.0 does not (RFC 9110, section 10.1.1)."""
    return http_version >= "1.1" and any(
        name == b"expect" and value.lower() == b"100-continue" for name, value in headers
    )
