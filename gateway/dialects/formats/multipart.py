"""The parts of a `multipart/form-data` body (RFC 7578, in the form of RFC 2046)."""

from __future__ import annotations

from collections.abc import Mapping

from python_multipart.multipart import parse_options_header

from sluice.gateway.dialects.formats.json_forms import shown
from sluice.inference.errors import InvalidRequest

MAX_PARTS = 64
MAX_PART_HEAD_BYTES = 8192
MAX_BOUNDARY_BYTES = 70
"""The bound of RFC 2046."""

_LINE, _BLANK = b"\r\n", b" \t"


def parts_of(body: bytes | bytearray, content_type: bytes) -> Mapping[str, bytes]:
    """The contents of the parts, by name. Raises `InvalidRequest` for a broken body, and for two parts with one name.

    It searches for boundaries only, so its time does not depend on what is between them.
    """
    delimiter = b"\r\n--" + _boundary(content_type)
    # The first boundary may be at the very beginning. Text before it and after the last one is ignored.
    at = -len(_LINE) if body.startswith(delimiter[len(_LINE) :]) else body.find(delimiter)
    if at == -1:
        raise InvalidRequest("the multipart body has no boundary as its content type names it")
    at += len(delimiter)
    parts: dict[str, bytes] = {}
    while not body.startswith(b"--", at):
        begin = _line_end(body, at)
        end = body.find(delimiter, begin - len(_LINE))
        if end < 0:
            raise InvalidRequest("the multipart body ends before its last boundary")
        if len(parts) == MAX_PARTS:
            raise InvalidRequest(f"the multipart body has more than {MAX_PARTS} parts")
        name, content = _part(body, begin, end)
        if name in parts:
            raise InvalidRequest(f"the multipart body has two parts called {shown(name)}; every name may stand once")
        parts[name] = content
        at = end + len(delimiter)
    return parts


def _boundary(content_type: bytes) -> bytes:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("the content type multipart/form-data names no boundary")
    if len(boundary) > MAX_BOUNDARY_BYTES:
        raise InvalidRequest(
            f"the content type multipart/form-data names a boundary of {len(boundary)} bytes; it has at most "
            f"{MAX_BOUNDARY_BYTES}"
        )
    return boundary


def _line_end(body: bytes | bytearray, at: int) -> int:
    """The offset of the line after a boundary, which blanks may follow."""
    while body[at : at + 1] in (b" ", b"\t"):
        at += 1
    if not body.startswith(_LINE, at):
        raise InvalidRequest("the multipart body is broken: a boundary is not followed by the end of its line")
    return at + len(_LINE)


def _part(body: bytes | bytearray, begin: int, end: int) -> tuple[str, bytes]:
    """The name and the content of a part."""
    # A part without a line before the empty one has no headers, and so no name.
    head_end = body.find(_LINE + _LINE, begin, min(end, begin + MAX_PART_HEAD_BYTES))
    if head_end < 0:
        raise InvalidRequest(
            f"the multipart body is broken: a part's headers do not end within {MAX_PART_HEAD_BYTES} bytes"
        )
    name = b""
    for line in bytes(body[begin:head_end]).split(_LINE):
        field, colon, value = line.partition(b":")
        if not colon or not field.strip(_BLANK):
            raise InvalidRequest(f"the multipart body is broken: {shown(line)} is no header")
        if field.strip(_BLANK).lower() == b"content-disposition":
            name = parse_options_header(value.strip(_BLANK))[1].get(b"name", b"")
    if not name:
        raise InvalidRequest("a part of the multipart body has no name")
    return name.decode("utf-8", "replace"), bytes(body[head_end + 2 * len(_LINE) : end])
