"""The encoding of protocol buffers: where the fields of a message lie in a file, and what small messages hold.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import BinaryIO, NamedTuple

_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5


class Field(NamedTuple):
    """A field that has a length, where it begins in the file, and where its content lies there."""

    number: int
    start: int
    end: int
    begins: int


def fields_of(file: BinaryIO, start: int, end: int, last: Sequence[int] = ()) -> Iterator[Field]:
    """The fields with a length, in their order, up to one of the numbers `last`.

    Raises `ValueError` or `EOFError` for what is no message.
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
    """The numbers and contents of a small message's fields, in their order: integers as they stand, the rest as bytes.

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
    """The fields of one number."""
    return [field for field in fields_of(file, start, end) if field.number == number]


def read(file: BinaryIO, field: Field) -> bytes:
    """A field's content."""
    file.seek(field.start)
    return file.read(field.end - field.start)


def varint(file: BinaryIO) -> int:
    """The integer of variable length that begins here."""
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
    """An int64 from the integer that stands for it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def head(number: int, size: int) -> bytes:
    """What stands before the content of a field that has this length."""
    return _varint_bytes(number << 3 | _DELIMITED) + _varint_bytes(size)


def written(number: int, content: bytes) -> bytes:
    """A field that has a length, as it is written."""
    return head(number, len(content)) + content


def _tag(file: BinaryIO) -> tuple[int, int]:
    tag = varint(file)
    if tag >> 3 == 0:
        raise ValueError("there is no field 0")
    return tag & 7, tag >> 3


def _skipped(file: BinaryIO, kind: int) -> int:
    """Where a value without a length ends."""
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
