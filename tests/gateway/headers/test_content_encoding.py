from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.gateway.headers import content_encoding as coding
from sluice.gateway.headers.content_encoding import (
    MAX_MEMBERS,
    STEP_BYTES,
    STEP_PIECES,
    Inflating,
    UnknownEncoding,
    deflated,
    encoding_of,
    inflate,
    preferred,
)
from sluice.gateway.messages import HttpResponse
from sluice.inference.errors import InvalidRequest, RequestTooLarge

TEXT = b"the same again and again " * 4000
MIB = 1024 * 1024


EMPTY_MEMBER = gzip.compress(b"", mtime=0)


def raw_deflate(data: bytes, level: int = 6) -> bytes:
    made = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


def packed_as(form: str, data: bytes, level: int = 6) -> tuple[bytes, bytes]:
    """The encoding's name and the body, in each form that senders write."""
    if form == "gzip":
        return b"gzip", gzip.compress(data, level)
    return b"deflate", zlib.compress(data, level) if form == "zlib" else raw_deflate(data, level)


FORMS = ("gzip", "zlib", "raw")


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (b"gzip", gzip.compress(TEXT)),
        (b"X-GZIP ", gzip.compress(TEXT)),
        (b"deflate", zlib.compress(TEXT)),
        (b"deflate", raw_deflate(TEXT)),
        (b"identity", TEXT),
        (b"", TEXT),
    ],
)
def test_a_body_is_what_it_was_before(encoding: bytes, packed: bytes) -> None:
    named = encoding_of(((b"content-encoding", encoding),))
    assert (packed if named is None else inflate(packed, named, MIB)) == TEXT
    assert (packed if named is None else inflate(bytearray(packed), named, MIB)) == TEXT


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(UnknownEncoding, match="Content-Encoding is 'br'; expected gzip, deflate or none"):
        encoding_of(((b"content-encoding", b"br"),))


@pytest.mark.parametrize(
    ("data", "members"),
    [(bytes(5 * MIB), 1), (random.Random(1).randbytes(5 * MIB), 1), (b"", MAX_MEMBERS), (b"x", 9000)],
)
def test_no_step_is_long(data: bytes, members: int) -> None:
    """However little or much a body holds for its length, others have their turn after so much of it."""
    inflating, whole = Inflating(gzip.compress(data, mtime=0) * members, b"gzip", 8 * MIB), b""
    while not inflating.ended:
        pieces = inflating.step()
        assert len(pieces) <= STEP_PIECES
        assert sum(map(len, pieces)) < STEP_BYTES + coding._PIECE_BYTES
        whole += b"".join(pieces)
    assert whole == data * members


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (b"nonsense", "the body is not gzip"),
        (gzip.compress(TEXT)[:-3], "it ends too early"),
        (gzip.compress(TEXT) + b"more", "4 bytes follow the end"),
        (gzip.compress(TEXT) + bytes(512), "512 bytes follow the end"),
        (gzip.compress(TEXT) + b"\x1f", "1 bytes follow the end"),
        (gzip.compress(TEXT) + b"\x1f\x8b", "it ends too early"),
        (gzip.compress(TEXT) + EMPTY_MEMBER[:-1], "it ends too early"),
        (gzip.compress(TEXT) + gzip.compress(TEXT)[:-8] + bytes(8), "incorrect data check"),
        (gzip.compress(TEXT) + zlib.compress(TEXT), "bytes follow the end"),
        (b"", "it ends too early"),
    ],
)
def test_what_is_not_whole(packed: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        inflate(packed, b"gzip", MIB)


@pytest.mark.parametrize("packed", [zlib.compress(TEXT), raw_deflate(TEXT)])
def test_deflate_has_no_members(packed: bytes) -> None:
    with pytest.raises(InvalidRequest, match=f"{len(packed)} bytes follow the end of the deflate body"):
        inflate(packed * 2, b"deflate", MIB)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("unit", [b"0,0,0,0\n", b"\0", bytes(range(256)), zlib.compress(TEXT)[:251]])
def test_whole_bodies_about_a_piece_long_are_whole(form: str, level: int, unit: bytes) -> None:
    """The end of a body may be left inside zlib when its last byte fills a piece, or when a little more follows."""
    for pieces in (1, 2, 3):
        for beyond in (-259, -1, 0, 1, 2, 143, 258):
            data = (unit * (MIB // len(unit) + 1))[: pieces * 256 * 1024 + beyond]
            encoding, packed = packed_as(form, data, level)
            assert inflate(packed, encoding, MIB) == data
            with pytest.raises(InvalidRequest):
                inflate(packed[:-1], encoding, MIB)
            with pytest.raises(RequestTooLarge):
                inflate(packed, encoding, len(data) - 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("taken", "piece"), [(1, 1), (1, 64), (7, 16), (64, 1), (4096, 32)])
def test_every_length_is_whole_whatever_is_taken_at_a_time(
    form: str, taken: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coding, "_TAKEN_BYTES", taken)
    monkeypatch.setattr(coding, "_PIECE_BYTES", piece)
    for length in range(200):
        for data in (b"0,0,0,0\n" * 25, TEXT, zlib.compress(TEXT * 2)):
            encoding, packed = packed_as(form, data[:length])
            assert inflate(packed, encoding, MIB) == data[:length]


@given(
    st.lists(st.binary(max_size=300) | st.integers(0, 40_000).map(bytes), min_size=1, max_size=8),
    st.binary(max_size=4),
    st.integers(1, 60),
)
def test_members_are_one_body_and_what_is_cut_or_added_is_not(parts: list[bytes], more: bytes, cut: int) -> None:
    packed = b"".join(map(gzip.compress, parts))
    assert inflate(packed, b"gzip", MIB) == b"".join(parts) == gzip.decompress(packed)
    if more:
        with pytest.raises(InvalidRequest):
            inflate(packed + more, b"gzip", MIB)
    last_bytes = len(gzip.compress(parts[-1]))
    if cut < last_bytes:
        with pytest.raises(InvalidRequest):
            inflate(packed[:-cut], b"gzip", MIB)
    whole_bytes = sum(map(len, parts))
    if whole_bytes:
        with pytest.raises(RequestTooLarge):
            inflate(packed, b"gzip", whole_bytes - 1)


def test_members_may_be_empty_and_are_bounded_in_number() -> None:
    assert inflate(EMPTY_MEMBER * 3, b"gzip", MIB) == b""
    assert inflate(EMPTY_MEMBER * (MAX_MEMBERS - 1) + gzip.compress(TEXT), b"gzip", MIB) == TEXT
    tracemalloc.start()
    with pytest.raises(RequestTooLarge, match=f"more than {MAX_MEMBERS} members"):
        inflate(EMPTY_MEMBER * (MAX_MEMBERS + 1), b"gzip", MIB)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 * MIB


class Watched:
    """A decompressor, and the longest copy that it has made of what it did not take."""

    longest_bytes = 0

    def __init__(self, window_bits: int) -> None:
        self._inner = real_decompressor(window_bits)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._inner.decompress(data, max_length)
        Watched.longest_bytes = max(Watched.longest_bytes, len(self.unconsumed_tail), len(self.unused_data))
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


real_decompressor = zlib.decompressobj


@pytest.mark.parametrize("members", [1, 400])
def test_what_zlib_does_not_take_at_once_is_not_copied_each_time(members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long body that does not compress was copied once for each of its pieces; its members must not do so either."""
    monkeypatch.setattr("zlib.decompressobj", Watched)
    Watched.longest_bytes = 0
    data = random.Random(1).randbytes(4 * MIB // members)
    assert inflate(gzip.compress(data, 0) * members, b"gzip", 5 * MIB) == data * members
    assert Watched.longest_bytes <= 16 * 1024


def test_a_bomb_of_members_is_refused_while_it_inflates() -> None:
    bomb = gzip.compress(bytes(MIB)) * 256
    tracemalloc.start()
    with pytest.raises(RequestTooLarge, match=f"limit of {4 * MIB} bytes"):
        inflate(bomb, b"gzip", 4 * MIB)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 6 * MIB


def test_a_bomb_is_refused_while_it_inflates() -> None:
    bomb = gzip.compress(bytes(256 * MIB))
    assert len(bomb) < MIB
    tracemalloc.start()
    with pytest.raises(RequestTooLarge, match=f"limit of {4 * MIB} bytes"):
        inflate(bomb, b"gzip", 4 * MIB)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 6 * MIB


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (b"gzip, deflate", b"gzip"),
        (b"deflate", b"deflate"),
        (b"gzip;q=0.5, deflate;q=0.8", b"deflate"),
        (b"GZIP;q=0", None),
        (b"br, zstd", None),
        (b"gzip;q=nonsense", b"gzip"),
        (b"", None),
    ],
)
async def test_an_answer_is_packed_as_its_caller_likes(accept: bytes, chosen: bytes | None) -> None:
    headers = ((b"accept-encoding", accept),)
    assert preferred(headers) == chosen
    with ThreadPoolExecutor(1) as threads:
        answer = await deflated(HttpResponse(200, TEXT, ((b"a", b"b"),)), headers, threads)
    assert dict(answer.headers).get(b"content-encoding") == chosen
    unpacked = answer.body
    if chosen is not None:
        unpacked = gzip.decompress(answer.body) if chosen == b"gzip" else zlib.decompress(answer.body)
    assert unpacked == TEXT
    assert (b"a", b"b") in answer.headers


@given(st.binary(max_size=500), st.sampled_from([b"gzip", b"deflate"]))
def test_any_bytes_inflate_or_are_refused(body: bytes, encoding: bytes) -> None:
    try:
        assert len(inflate(body, encoding, 1000)) <= 1000
    except (InvalidRequest, RequestTooLarge):
        return
