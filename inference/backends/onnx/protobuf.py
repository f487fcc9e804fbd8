"""Reads and writes the encoding of protocol buffers, field by field, without loading whole messages.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import BinaryIO, NamedTuple

_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5


class Field(NamedTuple):
    """A length-delimited field of a file: its number, where its content starts and ends, and where it begins itself."""

    number: int
    start: int
    end: int
    begins: int


def fields_of(file: BinaryIO, start: int, end: int, last: Sequence[int] = ()) -> Iterator[Field]:
    """The length-delimited fields in order, up to the first whose number is in `last`.

    Raises `ValueError` or `EOFError` if there is no valid message.
    """
    at = start
    while at < end:
        file.seek(at)
        begins = at
        kind, number = _tag(file)
        if number in last:
            return
        if kind == _DELIMITED:
            size = varint(file)
            begin = file.tell()
            at = begin + size
            if at > end:
                raise EOFError
            yield Field(number, begin, at, begins)
        else:
            at = _skipped(file, kind)


def values_of(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The numbers and contents of a small message's fields, in order: integers as numbers, other contents as bytes.

    Floats are left out. Raises as `fields_of` does.
    """
    file = BytesIO(message)
    while file.tell() < len(message):
        kind, number = _tag(file)
        if kind == _DELIMITED:
            size = varint(file)
            content = file.read(size)
            if len(content) < size:
                raise EOFError
            yield number, content
        elif kind == _VARINT:
            yield number, varint(file)
        else:
            file.seek(_skipped(file, kind))


def varints_of(content: bytes) -> list[int]:
    """The integers of a packed list."""
    file = BytesIO(content)
    found: list[int] = []
    while file.tell() < len(content):
        found.append(varint(file))
    return found


def only(file: BinaryIO, start: int, end: int, number: int) -> list[Field]:
    """The length-delimited fields with this number."""
    return [field for field in fields_of(file, start, end) if field.number == number]


def read(file: BinaryIO, field: Field) -> bytes:
    """The content of a field."""
    file.seek(field.start)
    return file.read(field.end - field.start)


def varint(file: BinaryIO) -> int:
    """The integer of variable length at the file's position."""
    value = shift = 0
    while shift < 70:
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    raise ValueError("an integer of more than ten bytes")


def signed(value: int) -> int:
    """The int64 that a decoded varint stands for."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def head(number: int, size: int) -> bytes:
    """The tag and the length that come before the content of a length-delimited field."""
    return _varint_bytes(number << 3 | _DELIMITED) + _varint_bytes(size)


def written(number: int, content: bytes) -> bytes:
    """A length-delimited field, encoded."""
    return head(number, len(content)) + content


def _tag(file: BinaryIO) -> tuple[int, int]:
    tag = varint(file)
    if tag >> 3 == 0:
        raise ValueError("there is no field 0")
    return tag & 7, tag >> 3


def _skipped(file: BinaryIO, kind: int) -> int:
    """The position after a value that is not length-delimited."""
    if kind == _VARINT:
        varint(file)
        return file.tell()
    if kind in (_EIGHT_BYTES, _FOUR_BYTES):
        return file.tell() + (8 if kind == _EIGHT_BYTES else 4)
    raise ValueError(f"there is no kind of field {kind}")


def _varint_bytes(value: int) -> bytes:
    coded = bytearray()
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)
