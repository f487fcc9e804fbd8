"""Pictures that end too early, and files that would take long or much memory, are refused before they are decoded."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sluice.gateway.inputs.images import files
from sluice.inference.errors import InvalidRequest, RequestTooLarge
from sluice.inference.types import Datatype
from tests.gateway.inputs.images.pictures import bomb, jpeg, noise, reader, signature_of, written


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, lines: bytes, *, more: bytes = b"", interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    data = chunk(b"IDAT", zlib.compress(lines))
    return files.SIGNATURE + chunk(b"IHDR", header) + more + data + chunk(b"IEND", b"")


PICTURES = {
    "png": written(Image.fromarray(noise(40, 60))),
    "grey png": written(Image.fromarray(noise(40, 60, 1))),
    "palette": written(Image.fromarray(noise(40, 60)).quantize(16)),
    "one bit": written(Image.fromarray(noise(40, 60, 1)).convert("1")),
    "alpha": written(Image.fromarray(noise(40, 60)).convert("RGBA")),
    "jpeg": jpeg(),
    "progressive": written(Image.fromarray(noise(40, 60)), "JPEG", progressive=True),
    "grey jpeg": written(Image.fromarray(noise(40, 60, 1)), "JPEG"),
    "cmyk": written(Image.fromarray(noise(40, 60)).convert("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_no_picture_is_read_that_ends_too_early(kind: str) -> None:
    picture, whole = PICTURES[kind], reader()
    assert whole.read(picture).array.shape == (1, 3, 8, 8)
    cuts = {*range(1, len(picture), max(1, len(picture) // 60)), *range(len(picture) - 24, len(picture))}
    if "png" not in kind and picture.startswith(b"\xff\xd8"):
        cuts -= {len(picture) - 1, len(picture) - 2}  # the mark of the end, which has no pixels
    for cut in cuts:
        with pytest.raises(InvalidRequest, match="cannot be read"):
            whole.read(picture[:cut])


def test_a_png_with_data_for_its_first_lines_only_is_refused() -> None:
    """Pillow fills up with black what the data leave out, where these are whole by themselves."""
    line = b"\0" + bytes(3 * 100)
    with pytest.raises(InvalidRequest, match="2122050 bytes of its pixels are missing"):
        reader().read(png_of(100, 7060, line * 10))
    with pytest.raises(InvalidRequest, match="1 bytes of its pixels are missing"):
        reader().read(png_of(100, 20, (line * 20)[:-1]))
    assert reader().read(png_of(100, 20, line * 20)).array.shape == (1, 3, 8, 8)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (8, 8), (9, 1), (1, 9), (33, 17)])
def test_the_lines_of_interlaced_pictures_are_counted(width: int, height: int) -> None:
    size = 0
    for left, top, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        size += rows * (1 + 3 * columns) if columns else 0
    lines = bytes(size)
    read = reader(signature_of((None, height, width, 3), Datatype.UINT8), layout="NHWC").read
    assert not read(png_of(width, height, lines, interlaced=1)).array.any()
    with pytest.raises(InvalidRequest, match="1 bytes of its pixels are missing"):
        read(png_of(width, height, lines[:-1], interlaced=1))


def test_sides_are_bounded_and_what_lies_between_two_sizes() -> None:
    """One of 1 x 49,000,000 pixels took 2 GB, in tables of how to scale it."""
    for size in ((1, 49_000_000), (49_000_000, 1)):
        with pytest.raises(RequestTooLarge, match="a side has at most 65535"):
            reader().read(bomb(*size))
    tall = written(Image.new("RGB", (2, 6000)))
    wide = reader(signature_of((None, 3, 8, 4000)), max_pixels=1_000_000)
    with pytest.raises(RequestTooLarge, match=r"2 x 6000 pixels, and 4000 x 6000 while it is scaled"):
        wide.read(tall)


def test_files_of_many_empty_parts_are_refused() -> None:
    many = files.MOST_PARTS + 1
    with pytest.raises(RequestTooLarge, match="more than 65536 chunks"):
        reader().read(png_of(8, 8, bytes(25 * 8), more=chunk(b"teXt", b"") * many))
    with pytest.raises(RequestTooLarge, match="more than 65536 segments"):
        reader().read(b"\xff\xd8" + b"\xff\xe0\x00\x02" * many + jpeg()[2:])
    with pytest.raises(RequestTooLarge, match="bytes of filling"):
        reader().read(b"\xff\xd8" + b"\xff" * 70_000 + jpeg()[2:])


def test_a_jpeg_of_hundreds_of_scans_is_refused() -> None:
    file = written(Image.fromarray(noise(64, 64)), "JPEG", progressive=True)
    at = file.rindex(b"\xff\xda")
    scans = file[:-2] + file[at:-2] * 300 + file[-2:]
    with pytest.raises(RequestTooLarge, match="scans of 4096 pixels"):
        reader(max_pixels=5000).read(scans)
    assert reader(max_pixels=5000).read(file).array.dtype == np.float32
