"""What a method of a service is to the server, and what a call is to a method."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeAlias

import msgspec

from sluice.gateway.dialects.v2_grpc.codec import status_of
from sluice.gateway.grpc.codes import Code
from sluice.gateway.messages import Header
from sluice.inference.errors import SluiceError

Body: TypeAlias = bytes | bytearray
"""A message as it stands on the wire, without what frames it."""


class CallEnded(Exception):
    """Ends a call with a status, what its caller is told, and trailing metadata. Raised by methods."""

    def __init__(self, code: int, told: bytes, trailing: tuple[Header, ...] = ()) -> None:
        super().__init__(code, told)
        self.code = code
        self.told = told
        self.trailing = trailing


class Context(Protocol):
    """One call, as its method sees it. It ends with what the method returns, or with a `CallEnded`."""

    headers: tuple[Header, ...]
    """Its metadata, names in lower case. Those that frame the call, binary ones, and HTTP's own of content codings are
    left out."""

    trailing: tuple[Header, ...]
    """What it tells at its end, if it ends well."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline, below 0 after it; `None` without one."""
        ...

    async def write(self, body: Body) -> None:
        """Send one message of several. Waits until the caller has taken it, as far as the network tells."""
        ...


def refusal(error: SluiceError, _: tuple[Header, ...]) -> CallEnded:
    """The end of a call that the server turns away before its method has it."""
    return CallEnded(status_of(error), str(error).encode("utf-8", "backslashreplace"))


Refuse: TypeAlias = Callable[[SluiceError, tuple[Header, ...]], CallEnded]


class Unary(msgspec.Struct, frozen=True):
    """One message, one answer."""

    answer: Callable[[Body, Context], Awaitable[bytes]]
    refuse: Refuse = refusal


class ServerStream(msgspec.Struct, frozen=True):
    """One message, and answers that are written to the context."""

    answer: Callable[[Body, Context], Awaitable[None]]
    refuse: Refuse = refusal


class Stream(msgspec.Struct, frozen=True):
    """Messages as they come, and answers that are written to the context."""

    answer: Callable[[AsyncIterator[Body], Context], Awaitable[None]]
    refuse: Refuse = refusal


Method: TypeAlias = Unary | ServerStream | Stream


def unimplemented(path: bytes) -> CallEnded:
    """The end of a call to a method that there is not."""
    shown = path[:128].decode("ascii", "backslashreplace")
    return CallEnded(Code.UNIMPLEMENTED, f"there is no method {shown}".encode())
