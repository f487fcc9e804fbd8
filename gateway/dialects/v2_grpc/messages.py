"""Parses messages of protocol buffers."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from sluice.inference.errors import InvalidRequest

MessageT = TypeVar("MessageT", bound=Message)


def parsed(kind: type[MessageT], body: bytes | bytearray) -> MessageT:
    """The message of this kind in a body. Raises `InvalidRequest` if the body is none."""
    try:
        return kind.FromString(bytes(body))
    except DecodeError as error:
        raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.name}: {error}") from None
