"""What the gateway and a reader say to each other.

    gateway                        reader
    Meet (+ a description)  ->                              once for each model version
    Decode (+ the body)     ->
                            <-     Decoded (+ the request) | Refused | Broke
    Address (+ the body)    ->
                            <-     Addressed | Refused | Broke
    Forget                  ->

"+" is a memory file whose descriptor travels with the message. One question at a time. The packets and their sockets
are those of `inference.transport.channel`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from sluice.gateway.messages import Header
from sluice.gateway.reading.faults import BodyRefused, Broke

KNOWN_CALLEES = 64
"""Model versions that a reader remembers, those that it was asked about last: both sides drop the same ones."""


class Meet(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A model version whose calls will come; `callees.Description` is in the file."""

    number: int
    size_bytes: int


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A model version whose calls come no more."""

    number: int


class FindModel(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Asks which model a body names."""

    dialect: int
    size_bytes: int


class Decode(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Asks what a body asks of a model version. `limit_bytes` is what reading it may take in memory."""

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
    """The request. In the file lie its tensors, and behind them, from `head_at` on, all else that it is."""

    size_bytes: int
    head_at: int


Order: TypeAlias = Meet | Forget | FindModel | Decode
Answer: TypeAlias = ModelFound | Decoded | BodyRefused | Broke

ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
