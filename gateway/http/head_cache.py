"""Heads of requests that were parsed before."""

from __future__ import annotations

from typing import Any

import msgspec

from sluice.gateway.http.prediction import Prediction
from sluice.gateway.messages import Header

_REMEMBERED = frozenset(
    {
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"dnt",
        b"forwarded",
        b"host",
        b"inference-header-content-length",
        b"keep-alive",
        b"origin",
        b"pragma",
        b"priority",
        b"referer",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"user-agent",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
"""Headers that are no secret, are the same in many requests, and do not change how a body is read."""


class CachedHead(msgspec.Struct, frozen=True):
    """What the parser made of a prediction's request line and headers."""

    route: Any
    method: str
    headers: tuple[Header, ...]
    body_bytes: int


class HeadCache:
    """Finds a prediction's head by its bytes if it was parsed before.

    A client sends the same head again and again, and the same bytes between two requests mean the same: to look them up
    costs a tenth of parsing them. Kept are heads with a `content-length`, of connections that stay open, all of whose
    headers are known to be no secret and not to differ from request to request. So credentials are in memory no longer
    than their request, and a caller that numbers or traces its requests does not displace the others.

    Holds at most `max_heads` of at most `MAX_HEAD_BYTES` each, a few MiB in all. When it is full it is emptied: a
    client that never repeats itself makes the heads of others be parsed once more, and does no other harm.
    """

    MAX_HEAD_BYTES = 1024

    __slots__ = ("_known", "_max_heads")

    def __init__(self, max_heads: int = 1024) -> None:
        self._known: dict[bytes, CachedHead] = {}
        self._max_heads = max_heads

    def __len__(self) -> int:
        return len(self._known)

    def complete(self, data: bytes) -> Prediction | None:
        """The prediction of which `data` is the whole request, if its head is known; otherwise `None`."""
        end = data.find(b"\r\n\r\n") + 4
        known = self._known.get(data[:end])
        if known is None or len(data) - end != known.body_bytes:
            return None
        return Prediction(known.route, known.method, known.headers, True, None, data[end:], received=True)

    def learn(self, data: bytes, prediction: Prediction) -> None:
        """Keep the head of a prediction of which `data` is the whole request, if it is of a kind that is kept."""
        names = {name for name, _ in prediction.headers}
        if not names <= _REMEMBERED or b"content-length" not in names or not prediction.keep_alive:
            return
        end = data.find(b"\r\n\r\n") + 4
        body_bytes = len(prediction.body)
        if end > self.MAX_HEAD_BYTES or len(data) - end != body_bytes:
            return
        if len(self._known) >= self._max_heads:
            self._known.clear()
        if self._max_heads:
            headers = tuple(prediction.headers)
            self._known[data[:end]] = CachedHead(prediction.route, prediction.method, headers, body_bytes)
