from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.coding import UnknownEncoding, deflated, inflate, inflated, preferred
from gateway.http.messages import HttpResponse
from inference.errors import InvalidRequest, RequestTooLarge

TEXT = b"the same again and again " * 4000
MIB = 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


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
async def test_a_body_is_what_it_was_before(encoding: bytes, packed: bytes) -> None:
    assert await inflated(packed, ((b"content-encoding", encoding),), MIB) == TEXT
    assert await inflated(bytearray(packed), ((b"content-encoding", encoding),), MIB) == TEXT


async def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(UnknownEncoding, match="Content-Encoding is 'br'; expected gzip, deflate or none"):
        await inflated(b"x", ((b"content-encoding", b"br"),), MIB)


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (b"nonsense", "the body is not gzip"),
        (gzip.compress(TEXT)[:-3], "it ends too early"),
        (gzip.compress(TEXT) + b"more", "4 bytes follow the end"),
        (b"", "it ends too early"),
    ],
)
def test_what_is_not_whole(packed: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        inflate(packed, b"gzip", MIB)


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
    answer = await deflated(HttpResponse(200, TEXT, ((b"a", b"b"),)), headers)
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
