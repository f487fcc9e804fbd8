"""A prediction on a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sluice.gateway.messages import Body, Header, HttpResponse


class Prediction(msgspec.Struct, eq=False):
    """A prediction that is coming in or being answered; or, with a `refusal`, the last answer of a connection."""

    route: Any
    method: str
    headers: Sequence[Header]
    keep_alive: bool
    refusal: HttpResponse | None = None
    body: Body = b""
    left_bytes: int = 0
    """What the body still lacks of its announced length, once that is `examined`."""
    received: bool = False
    """Whether the body is complete."""
    examined: bool = False
    expects_continue: bool = False
    came_s: float = 0.0
    """When its last bytes may have come, in the event loop's time."""

    def examine(self, http_version: str) -> int:
        """Note what the headers say of the body. Returns the length that they announce, or 0."""
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
