"""Answers on their way to a client, and how fast it takes them."""

from __future__ import annotations

import logging
import math

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http import wire
from sluice.gateway.http.actions import Backlog, ClientStream, ServerHeaders
from sluice.gateway.http.wire import Heads
from sluice.gateway.messages import HttpResponse

_logger = logging.getLogger("sluice.http")

BARE_500 = wire.plain(500, "Internal Server Error")


class AnswerWriter:
    """Writes answers, and knows how much memory those take that the client has not read."""

    __slots__ = ("_backlog", "_heads", "_server", "_spare_bytes", "_spare_until_s", "_stream", "_whole_bytes")

    def __init__(self, stream: ClientStream, backlog: Backlog, heads: Heads, server: ServerHeaders) -> None:
        self._stream = stream
        self._backlog = backlog
        self._heads = heads
        self._server = server
        # The size of the last long answer, of which anything may be unsent.
        self._whole_bytes = 0
        # While too much is held: how much may be unsent at what time.
        self._spare_bytes, self._spare_until_s = 0, math.inf

    def write(self, method: str, response: HttpResponse, connection: bytes) -> None:
        """Write a whole answer; `connection` is `wire.CLOSE` or empty.

        One with a control character in its headers is logged, and replaced by a 500.
        """
        start = self._heads.start(response.status, self._server.default_headers)
        try:
            head = wire.head(start, response, connection)
        except ValueError:
            _logger.exception("an answer could not be written")
            self.write(method, BARE_500, connection)
            return
        body = response.body if wire.has_body(method, response.status) else b""
        if len(body) <= wire.JOINED_BYTES:
            self._stream.write(head + body)
        else:
            self._stream.write(head)
            self._whole_bytes = len(body)
            self._stream.write(body)

    def note_long(self, size_bytes: int) -> None:
        """A page writes this much in one piece."""
        self._whole_bytes = size_bytes

    def held_bytes(self) -> int:
        """The memory that unsent answers take."""
        unsent_bytes = self._backlog.waiting_bytes()
        # The transport keeps an answer whole until its last byte is gone.
        return max(unsent_bytes, self._whole_bytes) if unsent_bytes else 0

    def taken(self) -> None:
        """The client has taken everything that waited."""
        self._spare_until_s = math.inf

    def is_stuck(self, now_s: float, limits: ConnectionLimits) -> bool:
        """Whether the client has taken too little since this was first asked, `crowded_grace_s` ago.

        Asked again and again while too much is held. `False` until that time is over, and then the time begins anew.
        """
        waiting_bytes = self._backlog.waiting_bytes()
        if not waiting_bytes:
            return False
        if now_s > self._spare_until_s + limits.crowded_grace_s or self._spare_until_s == math.inf:
            self._spare_until_s = now_s + limits.crowded_grace_s
            due_bytes = int(limits.min_body_bytes_per_s * limits.crowded_grace_s)
            self._spare_bytes = self._backlog.unsent_bytes() - due_bytes
            return False
        if now_s < self._spare_until_s:
            return False
        self._spare_until_s = math.inf
        return self._backlog.unsent_bytes() > self._spare_bytes
