"""How much of what was written to a client it has not taken yet."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios

_SIZE_BYTES = 4


def unsent_bytes(transport: asyncio.Transport) -> int:
    """What waits here and in the kernel: bytes that the client's side has not acknowledged.

    The kernel takes no more before a good part of what it has is gone, so that what waits here alone stands still for a
    while even where a client reads on.
    """
    waiting_bytes = transport.get_write_buffer_size()
    socket = transport.get_extra_info("socket")
    try:
        queued = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(_SIZE_BYTES))
    except (OSError, AttributeError, ValueError):
        return waiting_bytes
    return waiting_bytes + int.from_bytes(queued, sys.byteorder)
