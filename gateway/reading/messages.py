"""The messages between the gateway and a reader.

    gateway                        reader
    Meet (+ a description)  ->                              once for each model version
    Decode (+ the body)     ->
                            <-     Decoded (+ the request) | BodyRefused | ReaderBug
    FindModel (+ the body)  ->
                            <-     ModelFound | BodyRefused | ReaderBug
    Forget                  ->

"+" stands for a memory file, whose descriptor travels with the message. The gateway waits for an answer before it sends
the next `Decode` or `FindModel`. `inference.transport.channel` has the packets and the sockets.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from sluice.gateway.messages import Header
from sluice.gateway.reading.faults import BodyRefused, ReaderBug

KNOWN_CALLEES = 64
"""Model versions that a reader remembers. Beyond that, both sides drop the one that was used least recently."""


class Meet(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Introduces a model version. A `CalleeDescription` is in the file."""

    number: int
    size_bytes: int


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Tells the reader to forget a model version."""

    number: int


class FindModel(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Asks which model a body names."""

    dialect: int
    size_bytes: int


class Decode(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Asks for the request in a body for a model version. Reading it may take `limit_bytes` of memory."""

    dialect: int
    callee: int
    size_bytes: int
    limit_bytes: int
    headers: tuple[Header, ...]


class ModelFound(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The model that the body names."""

    model: str
    version: int | None
    label: str | None


class Decoded(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The request. The file has its tensors, and everything else of it from `head_at` on."""

    size_bytes: int
    head_at: int


ReaderOrder: TypeAlias = Meet | Forget | FindModel | Decode
ReaderAnswer: TypeAlias = ModelFound | Decoded | BodyRefused | ReaderBug

ORDERS: msgspec.msgpack.Decoder[ReaderOrder] = msgspec.msgpack.Decoder(ReaderOrder)
ANSWERS: msgspec.msgpack.Decoder[ReaderAnswer] = msgspec.msgpack.Decoder(ReaderAnswer)
