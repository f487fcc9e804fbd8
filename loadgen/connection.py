"""A keep-alive connection of HTTP/1.1 that carries one request at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import cast

import httptools

from sluice.loadgen.pacing import Pacing


class HttpLine(asyncio.Protocol):
    """Sends the next request each time `send` is called, and tells the pacing when it ends.

    It may be connected again when its connection has ended. Bodies of answers are read through and thrown away. An
    answer must say its length, by `Content-Length` or in chunks; one that is no HTTP, or that nobody asked for, ends
    the connection.
    """

    pacing: Pacing | None = None
    """The listener. To be set before anything is sent."""

    served = False
    """Whether an answer has come over this connection."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.intended_s = self.sent_s = 0.0
        self.waited = self.busy = self.open = False
        self._requests = requests
        self._complete = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._complete = 0
        self.open = True
        self.served = False

    def send(self) -> None:
        """Send the next request. The answer to the one before must have come."""
        self._transport.write(next(self._requests))

    def abandon(self) -> None:
        """End the connection at once."""
        self.open = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abandon()
            return
        if self._complete:
            self._answered()

    def on_message_complete(self) -> None:
        """Called by httptools, whose parser knows the status and the rest only until the next message begins."""
        self._status = self._parser.get_status_code()
        self._keeps = self._parser.should_keep_alive()
        if self._status >= 200:  # not `100 Continue` and the like, which are followed by the answer
            self._complete += 1

    def _answered(self) -> None:
        if self._complete > 1 or not self.busy or self.pacing is None:
            self.abandon()
            return
        self._complete = 0
        self.open = self._keeps
        self.served = True
        self.pacing.answered(self, self._status, time.monotonic())
        if not self.open:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self.pacing is not None:
            self.pacing.lost(self, time.monotonic())

    def close(self) -> None:
        """End the connection in order."""
        self._transport.close()
