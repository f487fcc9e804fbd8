"""W3C trace context as a caller sends it (https://www.w3.org/TR/trace-context-1/). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.http.messages import Header

TRACEPARENT = b"traceparent"
_FORM = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")


def sampled_trace(headers: Iterable[Header]) -> str | None:
    """The id of the caller's trace, 32 hexadecimal digits, if it is well formed and the caller records it."""
    for name, value in headers:
        if name == TRACEPARENT and len(value) <= 256:
            match = _FORM.fullmatch(value)
            if match is not None and int(match[2], 16) & 1:
                return match[1].decode("ascii")
    return None
