"""Messages off the wire, or what is wrong with them."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from sluice.inference.errors import InvalidRequest

MessageT = TypeVar("MessageT", bound=Message)


def parsed(kind: type[MessageT], body: bytes | bytearray) -> MessageT:
    """The message of a kind that a body holds. Raises `InvalidRequest` if it holds none."""
    try:
        return kind.FromString(bytes(body))
    except DecodeError as error:
        raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.name}: {error}") from None
