"""What reading one body may take, in memory and time, and how a body that took more is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from sluice.gateway.dialects.base import Callee
from sluice.gateway.telemetry.labels import ReaderEnd
from sluice.inference.errors import DeadlineExceeded, InvalidRequest, RequestTooLarge, SluiceError, Unavailable

MEMORY_TIMES = 8
"""Memory that reading a body may take, as a multiple of its length."""

LEAST_BYTES = 16 << 20
"""Memory that reading any body may take: a body of many short strings takes more than `MEMORY_TIMES` its length."""

OWN_BYTES = 64 << 20
"""Memory that a reader may have besides: the interpreter, the libraries, and what is left of the last body."""

PIXEL_BYTES = 16
"""Memory that reading a picture may take for each pixel that its model allows."""

CHARACTER_BYTES, TOKENIZER_TIMES = 128, 16
"""Memory that tokenising may take for each character of a call, and a tokenizer for each byte of its file."""

READ_S = 30.0
"""How long reading one body may take."""


class ReaderBounds(msgspec.Struct, frozen=True):
    """The bounds of a reader while it reads one body: memory of its own, and monotonic times."""

    memory_bytes: int
    limit_s: float
    deadline_s: float


class ReaderFault(StrEnum):
    """How a reader was lost that was not killed for what it read."""

    KILLED = "killed"
    STALLED = "stalled"
    CRASHED = "crashed"


TRIES: Mapping[ReaderFault, int] = MappingProxyType(
    {ReaderFault.KILLED: 6, ReaderFault.STALLED: 2, ReaderFault.CRASHED: 2}
)
"""How often a body is read before it is refused. A reader may be killed from outside, or by the kernel, for reasons
that have nothing to do with this body."""


def memory_bound_bytes(callee: Callee, body_bytes: int) -> int:
    """The memory that reading a body may take, with what the libraries for pictures and texts need for its model."""
    bound_bytes = max(MEMORY_TIMES * body_bytes, LEAST_BYTES)
    pixels = [each.image.max_pixels for each in callee.config.input.values() if each.image is not None]
    bound_bytes += PIXEL_BYTES * max(pixels, default=0)
    if callee.config.text is not None and callee.tokenizer is not None:
        bound_bytes += CHARACTER_BYTES * min(body_bytes, callee.config.text.max_characters)
        bound_bytes += TOKENIZER_TIMES * callee.tokenizer.disk.size_bytes
    return bound_bytes


def reader_lost(why: ReaderEnd) -> SluiceError:
    """The refusal of a call whose reader was killed."""
    if why is ReaderEnd.DEADLINE:
        return DeadlineExceeded("the time for the request was over before its body was read")
    if why is ReaderEnd.MEMORY:
        return RequestTooLarge(
            f"reading the body takes more than {MEMORY_TIMES} times its length in memory; send fewer elements at a time"
        )
    if why is ReaderEnd.TIME:
        return RequestTooLarge(f"reading the body takes more than {READ_S:g} s; send fewer elements at a time")
    return Unavailable("the process that read the request has ended; try again")


def given_up(fault: ReaderFault, tries: int) -> SluiceError:
    """The refusal of a call whose body was tried so often without success."""
    if fault is ReaderFault.KILLED:
        return Unavailable(f"the processes that read the request were killed, {tries} times in all; try again")
    if fault is ReaderFault.STALLED:
        return reader_lost(ReaderEnd.STALLED)
    return InvalidRequest("the body crashed the process that read it, twice; expected a body that can be read")
