"""How much of what was written to a client it has not taken yet."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import sys
import termios
from typing import cast

_SIZE_BYTES = 4


def beneath(transport: asyncio.Transport) -> asyncio.Transport:
    """The transport that a connection's TLS writes to, or the same one where it has none, or where it is not found.

    uvloop's TLS hands everything on at once, says that nothing waits, and tells nobody what it has handed it on to.
    """
    if transport.get_extra_info("sslcontext") is not None:
        for protocol in gc.get_referents(transport):
            for each in gc.get_referents(protocol):
                if each is not transport and hasattr(each, "get_write_buffer_size"):
                    return cast(asyncio.Transport, each)
    return transport


def unsent_bytes(transport: asyncio.Transport, waiting_bytes: int) -> int:
    """What waits here and in the kernel: bytes that the client's side has not acknowledged.

    The kernel takes no more before a good part of what it has is gone, so that what waits here alone stands still for a
    while even where a client reads on.
    """
    socket = transport.get_extra_info("socket")
    try:
        queued = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(_SIZE_BYTES))
    except (OSError, AttributeError, ValueError):
        return waiting_bytes
    return waiting_bytes + int.from_bytes(queued, sys.byteorder)
