"""Which model a serialized `ModelInferRequest` names, read without its tensors.

The data plane must know the model before it can decode, and parsing a large message twice would copy it twice. So this
reads only the tags and lengths of the fields (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from sluice.gateway.dialects.base import Call
from sluice.gateway.dialects.targets import quoted, version_number
from sluice.inference.errors import InvalidRequest, VersionNotFound

MODEL_NAME, MODEL_VERSION = 1 << 3 | 2, 2 << 3 | 2
"""The tags of the fields of these names."""

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5

MAX_FIELDS = 4096
"""Fields of a message, at most. Every input, output, parameter and raw tensor is one."""


def address_of(message: bytes | bytearray) -> Call:
    """The model and version that a message names. Of a field that occurs twice, the last one counts.

    Raises `InvalidRequest` for bytes that are no message, and `VersionNotFound` for a version that is no number.
    """
    name = version = b""
    at, end = 0, len(message)
    fields = 0
    while at < end:
        fields += 1
        if fields > MAX_FIELDS:
            raise InvalidRequest(f"the message has more than {MAX_FIELDS} fields")
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == DELIMITED:
            size, at = _varint(message, at)
            if tag == MODEL_NAME:
                name = bytes(message[at : at + size])
            elif tag == MODEL_VERSION:
                version = bytes(message[at : at + size])
            at += size
        elif kind == VARINT:
            _, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise InvalidRequest(f"the message is no ModelInferRequest: wire type {kind} in it")
    if at != end:
        raise InvalidRequest("the message is no ModelInferRequest: it ends within a field")
    return call_of(_text(name), _text(version))


def call_of(model: str, version: str) -> Call:
    """The call for a model and a version out of a message; an empty version leaves the choice to the gateway.

    Raises `VersionNotFound` for a version that is no number.
    """
    if not version:
        return Call(model)
    number = version_number(version)
    if number is None:
        raise VersionNotFound(
            f"model {quoted(model)}: failed to get model version from specified version string {quoted(version)}; "
            "versions are whole numbers"
        )
    return Call(model, number)


def _varint(message: bytes | bytearray, at: int) -> tuple[int, int]:
    """The number at an offset, seven bits per byte, lowest first, and the offset behind it."""
    value = shift = 0
    try:
        while shift < 70:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
    except IndexError:
        raise InvalidRequest("the message is no ModelInferRequest: it ends within a number") from None
    raise InvalidRequest("the message is no ModelInferRequest: a number in it is longer than ten bytes")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the model's name or version is not UTF-8") from None
