"""The methods of services as the server calls them, and calls as methods see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeAlias

import msgspec

from sluice.gateway.dialects.v2_grpc.codec import GrpcInfer
from sluice.gateway.grpc.codes import Code
from sluice.gateway.messages import Header
from sluice.inference.errors import SluiceError

MessageBody: TypeAlias = bytes | bytearray
"""A serialized message, without the five bytes that frame it."""


class CallEnded(Exception):
    """Ends a call with a status, a text for its caller, and trailing metadata. Raised by methods."""

    def __init__(self, code: int, told: bytes, trailing: tuple[Header, ...] = ()) -> None:
        super().__init__(code, told)
        self.code = code
        self.told = told
        self.trailing = trailing


class Context(Protocol):
    """One call, as its method sees it. It ends with what the method returns, or with a `CallEnded`."""

    headers: tuple[Header, ...]
    """The call's metadata, with names in lower case. Metadata that frame the call or are binary are left out, as are
    HTTP's headers about content codings."""

    trailing: tuple[Header, ...]
    """Metadata to send at the end of the call, if it ends well."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline, below 0 after it; `None` without one."""
        ...

    async def write(self, body: MessageBody) -> None:
        """Send one of several messages. Waits while the caller takes too little of what was sent before."""
        ...


INTERNAL = CallEnded(Code.INTERNAL, b"internal error")
"""The end of a call whose method failed in a way that is no business of its caller."""

_DIALECT = GrpcInfer()


def refusal(error: SluiceError, _: tuple[Header, ...]) -> CallEnded:
    """How an error ends a call: the status and text that predictions would have, but no trailing metadata."""
    answer = _DIALECT.refuse(error)
    return CallEnded(answer.status, answer.body)


Refuse: TypeAlias = Callable[[SluiceError, tuple[Header, ...]], CallEnded]
"""Makes the end of a call out of an error and the call's metadata."""


class Unary(msgspec.Struct, frozen=True):
    """A method that takes one message and returns one answer."""

    answer: Callable[[MessageBody, Context], Awaitable[bytes]]
    refuse: Refuse = refusal


class ServerStream(msgspec.Struct, frozen=True):
    """A method that takes one message and writes its answers to the context."""

    answer: Callable[[MessageBody, Context], Awaitable[None]]
    refuse: Refuse = refusal


class Stream(msgspec.Struct, frozen=True):
    """A method that takes messages as they come and writes its answers to the context."""

    answer: Callable[[AsyncIterator[MessageBody], Context], Awaitable[None]]
    refuse: Refuse = refusal


Method: TypeAlias = Unary | ServerStream | Stream


def unimplemented(path: bytes) -> CallEnded:
    """The end of a call to a method that no service has."""
    shown = path[:128].decode("ascii", "backslashreplace")
    return CallEnded(Code.UNIMPLEMENTED, f"there is no method {shown}".encode())
