"""Connections that the kernel has accepted and the process has not, at the moment when a server stops listening."""

from __future__ import annotations

import asyncio
import ctypes
import select
import socket
import struct
from collections.abc import Iterable

QUIET_S = 0.05
"""The queue has to be empty for so long: a handshake that has begun ends within a round trip or never."""

PATIENCE_S = 1.0

# Berkeley packet filter, as in linux/filter.h. A segment begins with TCP's header, whose byte 13 has the flags.
_FLAGS_AT, _SYN = 13, 0x02
_LOAD_BYTE, _JUMP_IF_SET, _RETURN = 0x30, 0x45, 0x06
_REFUSE_NEW = (
    (_LOAD_BYTE, 0, 0, _FLAGS_AT),
    (_JUMP_IF_SET, 0, 1, _SYN),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, 0xFFFFFFFF),
)
_SO_ATTACH_FILTER = 26


async def accept_the_last(listeners: Iterable[socket.socket]) -> None:
    """Keep new connections from beginning, and wait until all that have begun are accepted. Then close the listeners.

    The kernel queues connections before the process accepts them, and resets those that are in the queue when the
    listener is closed. So a filter drops the first segment of new ones (their clients try again in a second, and are
    refused), and the event loop goes on accepting until the queue has been empty for `QUIET_S`, or for `PATIENCE_S` at
    most. Where the filter cannot be set, the queue is emptied all the same; what comes right after that is lost.
    """
    poll = select.poll()
    for listener in listeners:
        _refuse_new(listener)
        poll.register(listener, select.POLLIN)
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_S
    quiet_since = loop.time()
    while (now := loop.time()) < end and now - quiet_since < QUIET_S:
        # The event loop accepts them before this task runs again.
        await asyncio.sleep(QUIET_S / 10)
        if poll.poll(0):
            quiet_since = loop.time()


def _refuse_new(listener: socket.socket) -> None:
    code = b"".join([struct.pack("HBBI", *step) for step in _REFUSE_NEW])
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_REFUSE_NEW), ctypes.addressof(buffer))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return
