"""Protocol buffers written by hand, so that what no library would write can be sent."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

VARINT, LENGTH, FIXED64, FIXED32 = 0, 2, 1, 5


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field of an integer."""
    return varint(field << 3 | VARINT) + varint(value)


def text(field: int, value: bytes) -> bytes:
    """A field of bytes, of text or of a message."""
    return varint(field << 3 | LENGTH) + varint(len(value)) + value


def packed(field: int, values: Iterable[int]) -> bytes:
    return text(field, b"".join(map(varint, values)))


def tensor(name: bytes, datatype: bytes, shape: Sequence[int], contents: bytes = b"", more: bytes = b"") -> bytes:
    """An `InferInputTensor`, as field 5 of a request."""
    inner = text(1, name) + text(2, datatype) + packed(3, shape) + more
    return text(5, inner + (text(5, contents) if contents else b""))


def floats(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def infer(model: bytes, *parts: bytes, version: bytes = b"") -> bytes:
    """A `ModelInferRequest` of these parts."""
    return text(1, model) + (text(2, version) if version else b"") + b"".join(parts)


def raw(content: bytes) -> bytes:
    """An entry of `raw_input_contents`."""
    return text(7, content)


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a well-formed message: their numbers and values."""
    at = 0

    def read() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(message):
        tag = read()
        if tag & 7 == VARINT:
            yield tag >> 3, read()
            continue
        length = read() if tag & 7 == LENGTH else {FIXED64: 8, FIXED32: 4}[tag & 7]
        yield tag >> 3, message[at : at + length]
        at += length


def first_output(message: bytes) -> bytes:
    """The first tensor of a `ModelInferResponse`, raw."""
    return next(value for place, value in fields(message) if place == 6 and isinstance(value, bytes))
