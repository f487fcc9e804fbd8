"""Checks of the files of pictures before they are decoded.

Pillow decodes missing data of a PNG as black pixels, and takes time for each part of a file, even an empty one. So the
data of a PNG are counted first, a little at a time, and the parts are counted in both formats.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice

from sluice.inference.errors import InvalidRequest, RequestTooLarge

MOST_PARTS = 65_536
"""Chunks of a PNG, and segments of a JPEG before its first scan, at most."""

FEW_SCANS, MOST_SCANS = 16, 1000
"""A progressive JPEG has about ten scans, and decoding each takes time for all pixels. If it has more than `FEW_SCANS`,
its pixels times its scans may be `FEW_SCANS` times the pixels of the largest allowed picture, at most."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_HEADER = struct.Struct(">IIBBBBB")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of interlaced pictures: the first column and row, and the steps to the next column and row."""

_TAKEN_BYTES, _PIECE_BYTES = 64 * 1024, 256 * 1024
_SCANS = re.compile(rb"\xff\xda")
_FILL = re.compile(rb"\xff+")
_START, _SCAN, _END = b"\xff\xd8", 0xDA, 0xD9


def check_parts(body: memoryview) -> None:
    """Raises `RequestTooLarge` for a file of too many parts, since opening it takes time for each."""
    if body[: len(SIGNATURE)] == SIGNATURE:
        for _ in _chunks(body):
            pass
    elif body[: len(_START)] == _START:
        _check_segments(body)


def check_pixels(body: memoryview) -> None:
    """Raises `InvalidRequest` unless a PNG has data for all of its pixels, and an end. Accepts all other files.

    The caller has checked that the picture is not too large to be decoded.
    """
    if body[: len(SIGNATURE)] != SIGNATURE:
        return
    inflating, missing = zlib.decompressobj(), -1
    for kind, data in _chunks(body):
        if kind == b"IHDR" and missing < 0:
            missing = _data_bytes(data)
        elif kind == b"IDAT" and missing > 0:
            missing -= _inflated_bytes(inflating, data, missing)
        elif kind == b"IEND":
            if missing > 0:
                raise InvalidRequest(
                    f"the image cannot be read: {missing} bytes of its pixels are missing; expected a whole PNG file"
                )
            return
    raise InvalidRequest("the image cannot be read: the file ends too early; expected a whole PNG file")


def check_scans(body: memoryview, pixels: int, max_pixels: int) -> None:
    """Raises `RequestTooLarge` for a JPEG of too many scans. Accepts all other files."""
    if body[: len(_START)] != _START:
        return
    scans = sum([1 for _ in islice(_SCANS.finditer(body), MOST_SCANS)])
    if scans == MOST_SCANS or (scans > FEW_SCANS and scans * pixels > FEW_SCANS * max_pixels):
        raise RequestTooLarge(
            f"the image has {scans} scans of {pixels} pixels; a progressive JPEG has about ten, and more than "
            f"{FEW_SCANS} only if it is small"
        )


def _chunks(body: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The kind and the data of each complete chunk. Raises `RequestTooLarge` for too many."""
    at, count = len(SIGNATURE), 0
    while at + _CHUNK.size <= len(body):
        count += 1
        if count > MOST_PARTS:
            raise RequestTooLarge(f"the image's file has more than {MOST_PARTS} chunks")
        size, kind = _CHUNK.unpack_from(body, at)
        end = at + _CHUNK.size + size
        if end + 4 > len(body):
            return
        yield kind, body[at + _CHUNK.size : end]
        at = end + 4


def _check_segments(body: memoryview) -> None:
    at = len(_START)
    for _ in range(MOST_PARTS):
        fill = _FILL.match(body, at)
        if fill is None or fill.end() >= len(body):
            return
        if fill.end() - at > MOST_PARTS:
            raise RequestTooLarge(f"the image's file has more than {MOST_PARTS} bytes of filling in one place")
        kind, at = body[fill.end()], fill.end() + 1
        if kind in (_SCAN, _END):
            return
        if not (0xD0 <= kind <= 0xD7 or kind == 1):  # those have no length
            at += int.from_bytes(body[at : at + 2], "big")
    raise RequestTooLarge(f"the image's file has more than {MOST_PARTS} segments")


def _data_bytes(header: memoryview) -> int:
    """The bytes of all lines of a picture, each with one byte for its filter."""
    if len(header) != _HEADER.size:
        raise InvalidRequest("the image cannot be read: its header is broken; expected a whole PNG file")
    width, height, depth, color, _, _, interlaced = _HEADER.unpack(header)
    bits = depth * _CHANNELS.get(color, 1)
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _inflated_bytes(inflating: zlib._Decompress, data: memoryview, most: int) -> int:
    """The number of bytes in a piece of compressed data. Counting stops soon after `most`."""
    found = at = 0
    rest = b""
    while found < most and not inflating.eof and (at < len(data) or rest):
        taken = rest or bytes(data[at : at + _TAKEN_BYTES])
        at += 0 if rest else len(taken)
        try:
            found += len(inflating.decompress(taken, _PIECE_BYTES))
        except zlib.error as error:
            raise InvalidRequest(f"the image cannot be read: {error}; expected a whole PNG file") from None
        rest = inflating.unconsumed_tail
    return found
