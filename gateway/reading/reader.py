"""The reader process: it decodes one body after another.

`gateway.reading.spawn` starts it. It ends when the gateway closes its ends of the sockets, and when the gateway ends,
even in the middle of a body. It may be killed at any time, since it holds nothing that would be lost.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.openai.codec import OpenAI
from sluice.gateway.reading.callees import KnownCallee
from sluice.gateway.reading.codecs import codec_of
from sluice.gateway.reading.faults import message_of
from sluice.gateway.reading.messages import (
    KNOWN_CALLEES,
    ORDERS,
    Decode,
    Decoded,
    FindModel,
    Forget,
    Meet,
    ModelFound,
    ReaderOrder,
)
from sluice.gateway.reading.requests import shared
from sluice.inference.transport.arena import SharedMemory
from sluice.inference.transport.channel import Channel, Ends, PeerGone, WireError
from sluice.inference.types import InferenceRequest

RESERVED_TIMES, RESERVED_BYTES = 3, 256 << 20
"""Address space that reading may reserve: so many times the memory that it may take, and so much more. It is generous
since parsers reserve for the worst case and use a part of it. The limit stops growth that is faster than the gateway's
checks."""

_PR_SET_PDEATHSIG = 1

TRIM_FROM_BYTES = 8 << 20
"""Memory of bodies from this length on is given back at once. That of shorter ones is kept for the next body."""


def main(sends: int, receives: int, gateway: int) -> None:
    """Read bodies for the gateway at the other ends of the two sockets, until these are closed."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != gateway:
        return  # the gateway ended before `prctl` took effect
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, while the gateway still needs its readers
        signal.signal(stop, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("700")  # before a worker, and long before the gateway
    channel = Channel(Ends(socket.socket(fileno=sends), socket.socket(fileno=receives)), ORDERS)
    reader = Reader(channel, lambda: libc.malloc_trim(0))
    with suppress(PeerGone):
        while True:
            reader.serve()


class Reader:
    """Carries out one order after another. `trim` gives free memory back to the system."""

    def __init__(self, channel: Channel[ReaderOrder], trim: Callable[[], object]) -> None:
        self._channel = channel
        self._trim = trim
        self._known: OrderedDict[int, KnownCallee] = OrderedDict()

    def serve(self) -> None:
        """Receive one order and carry it out. Raises `PeerGone` when the gateway has closed the sockets."""
        order, descriptor = self._channel.receive()
        if isinstance(order, Forget):
            self._known.pop(order.number, None)
            return
        if descriptor is None:
            raise WireError("an order came without its file: this process has too many open files")
        try:
            content = _content(descriptor, order.size_bytes)
        finally:
            os.close(descriptor)
        if isinstance(order, Meet):
            self._known[order.number] = KnownCallee(content)
            if len(self._known) > KNOWN_CALLEES:
                self._known.popitem(last=False)
            return
        memory = None
        try:
            if isinstance(order, FindModel):
                call = codec_of(order.dialect).address(content)
                self._channel.send(ModelFound(call.model, call.version, call.label))
                return
            decoded, memory = self._decoded(order, content)
            self._channel.send(decoded, memory.descriptor)
        except (PeerGone, WireError):
            raise
        except Exception as error:
            self._channel.send(message_of(error))
        finally:
            if memory is not None:
                memory.close()
            del content
            _reserve(None)
            if order.size_bytes >= TRIM_FROM_BYTES:
                self._trim()

    def _decoded(self, order: Decode, content: bytes) -> tuple[Decoded, SharedMemory]:
        callee = self._callee(order)
        _reserve(RESERVED_TIMES * order.limit_bytes + RESERVED_BYTES)
        request: InferenceRequest = codec_of(order.dialect).decode(content, order.headers, callee)
        return shared(request, order.limit_bytes)

    def _callee(self, order: Decode) -> Callee:
        known = self._known[order.callee]
        self._known.move_to_end(order.callee)
        return known.embedding() if isinstance(codec_of(order.dialect), OpenAI) else known.callee()


def _content(descriptor: int, size_bytes: int) -> bytes:
    pieces: list[bytes] = []
    at = 0
    while at < size_bytes:
        piece = os.pread(descriptor, size_bytes - at, at)
        if not piece:
            raise WireError("a file is shorter than its order says")
        pieces.append(piece)
        at += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _reserve(more_bytes: int | None) -> None:
    """Limit the address space for data to what this process has and so much more; `None` lifts the limit."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if more_bytes is None:
        soft = hard
    else:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        soft = pages * resource.getpagesize() + more_bytes
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
