"""How much of what was written to a client it has not taken yet."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import sys
import termios
from typing import Any

_SIZE_BYTES = 4


class TransportBacklog:
    """What waits in a transport, in the one below its TLS, and in the kernel. Implements `actions.Backlog`."""

    __slots__ = ("_beneath", "_transport", "hidden")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._beneath = _beneath(transport)
        self.hidden = self._beneath is not None

    def waiting_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        waiting_bytes = self._transport.get_write_buffer_size()
        if self._beneath is not None:
            waiting_bytes += self._beneath.get_write_buffer_size()
        return waiting_bytes

    def waits_beneath(self) -> bool:
        """Whether bytes wait below TLS, of which TLS itself says nothing."""
        return self._beneath is not None and self._beneath.get_write_buffer_size() > 0

    def unsent_bytes(self) -> int:
        """Bytes that the client's side has not acknowledged: what waits here and in the kernel.

        The kernel takes no more before a good part of what it has is gone, so that what waits here alone stands still
        for a while even where a client reads on.
        """
        waiting_bytes = self.waiting_bytes()
        socket = self._transport.get_extra_info("socket")
        try:
            queued = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(_SIZE_BYTES))
        except (OSError, AttributeError, ValueError):
            return waiting_bytes
        return waiting_bytes + int.from_bytes(queued, sys.byteorder)


def _beneath(transport: asyncio.Transport) -> Any | None:
    """The transport that a connection's TLS writes to; `None` where it has no TLS, or where it is not found.

    uvloop's TLS hands everything on at once, says that nothing waits, and does not name what it has handed it on to.
    """
    if transport.get_extra_info("sslcontext") is not None:
        for protocol in gc.get_referents(transport):
            for each in gc.get_referents(protocol):
                if each is not transport and hasattr(each, "get_write_buffer_size"):
                    return each
    return None
