"""The transport as uvicorn's cycle sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sluice.gateway.http import wire


class PageTransport:
    """A transport whose end is the connection's own affair: closed at once, a client that still sends sees a reset.

    Stands where uvicorn's `RequestResponseCycle` has the transport, of which it uses no more than this.
    """

    __slots__ = ("_finish", "_note_long", "_transport")

    def __init__(
        self, transport: asyncio.Transport, note_long: Callable[[int], None], finish: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._note_long = note_long
        self._finish = finish

    def write(self, data: bytes) -> None:
        """Have it written."""
        if len(data) > wire.JOINED_BYTES:
            self._note_long(len(data))
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing is written any more."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End the connection once what was written is sent."""
        if not self._transport.is_closing():
            self._finish()
