"""Bodies that travel compressed: `Content-Encoding` of requests and `Accept-Encoding` for answers (RFC 9110, 8.4).

gzip and deflate, as every dialect takes them. A body that grows beyond the limit is refused while it inflates, so that
a few kilobytes on the wire cannot become gigabytes in memory. What takes long goes to a thread: zlib lets go of the
interpreter.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from collections.abc import Sequence

from gateway.http.messages import Header, HttpResponse
from inference.errors import InvalidRequest, RequestTooLarge

CONTENT_ENCODING, ACCEPT_ENCODING = b"content-encoding", b"accept-encoding"

THREAD_FROM_BYTES = 32 * 1024
"""Bodies from this length on are not worked on in the event loop, which that would keep for too long."""

LEVEL = 1
"""The higher levels take several times as long for a few percent."""

MAX_MEMBERS = 65_536
"""Members of one gzip body: each costs work, be it empty, and 64 MiB would hold three million of those."""

_TAKEN_BYTES, _PIECE_BYTES = 16 * 1024, 256 * 1024
_MAGIC = b"\x1f\x8b"
_QUALITY = re.compile(rb"q=([01](?:\.[0-9]{0,3})?)")


class UnknownEncoding(InvalidRequest):
    """A body comes in an encoding that is not taken. HTTP's own affair."""


async def inflated(body: bytes | bytearray, headers: Sequence[Header], max_body_bytes: int) -> bytes | bytearray:
    """The body as it was before it was compressed; the same one if its headers say nothing of that.

    Raises `UnknownEncoding`, `InvalidRequest` if the body is not what its header says, and `RequestTooLarge`.
    """
    for name, value in headers:
        if name == CONTENT_ENCODING and (encoding := value.strip().lower()) not in (b"", b"identity"):
            if encoding not in (b"gzip", b"x-gzip", b"deflate"):
                raise UnknownEncoding(
                    f"Content-Encoding is {value.decode('latin-1')[:80]!r}; expected gzip, deflate or none"
                )
            if len(body) < THREAD_FROM_BYTES // 16:
                return inflate(body, encoding, max_body_bytes)
            return await asyncio.to_thread(inflate, body, encoding, max_body_bytes)
    return body


def inflate(body: bytes | bytearray, encoding: bytes, max_body_bytes: int) -> bytes:
    """The body before it was compressed; of gzip with several members, all of them (RFC 1952, section 2.2).

    Holds no more than the limit and one piece, and works for no longer than the limit and the body's own length allow.
    Raises as `inflated` does.
    """
    window_bits = _window(body, encoding)
    inflating, members = zlib.decompressobj(window_bits), 1
    pieces: list[bytes] = []
    size_bytes = at = 0
    # A view: what zlib does not take it gives back as a copy, which must not be one of all that is left.
    view = memoryview(body)
    while True:
        taken = view[at : at + _TAKEN_BYTES]
        try:
            piece = inflating.decompress(taken, _PIECE_BYTES)
        except zlib.error as error:
            raise InvalidRequest(f"the body is not {encoding.decode()}: {error}") from None
        at += len(taken) - len(inflating.unused_data if inflating.eof else inflating.unconsumed_tail)
        size_bytes += len(piece)
        if size_bytes > max_body_bytes:
            raise RequestTooLarge(f"the body inflates to more than the limit of {max_body_bytes} bytes")
        pieces.append(piece)
        if not inflating.eof:
            # Without more to take, zlib may still hold back what did not fit into a full piece, be it only the end.
            if not taken and len(piece) < _PIECE_BYTES:
                raise InvalidRequest(f"the body is not {encoding.decode()}: it ends too early")
        elif at == len(view):
            return b"".join(pieces)
        else:
            members += 1
            _check_member(view[at:], encoding, members)
            inflating = zlib.decompressobj(window_bits)


def _check_member(rest: memoryview, encoding: bytes, number: int) -> None:
    """Refuse what follows the end of a body, unless it is its next member and not one too many."""
    if encoding == b"deflate" or rest[: len(_MAGIC)] != _MAGIC:
        raise InvalidRequest(f"{len(rest)} bytes follow the end of the {encoding.decode()} body")
    if number > MAX_MEMBERS:
        raise RequestTooLarge(f"the gzip body has more than {MAX_MEMBERS} members; compress it as one")


async def deflated(answer: HttpResponse, headers: Sequence[Header]) -> HttpResponse:
    """The answer in the encoding that its caller likes best; the same one if it likes none."""
    encoding = preferred(headers)
    if encoding is None:
        return answer
    if len(answer.body) < THREAD_FROM_BYTES:
        body = _deflate(answer.body, encoding)
    else:
        body = await asyncio.to_thread(_deflate, answer.body, encoding)
    more = ((b"content-encoding", encoding), (b"vary", b"accept-encoding"))
    return HttpResponse(answer.status, body, (*answer.headers, *more))


def preferred(headers: Sequence[Header]) -> bytes | None:
    """Gzip or deflate, whichever a caller's `Accept-Encoding` likes better; `None` if it names neither."""
    liked: dict[bytes, float] = {}
    for name, value in headers:
        if name == ACCEPT_ENCODING:
            for item in value.lower().split(b","):
                coding, _, parameter = item.partition(b";")
                quality = _QUALITY.fullmatch(parameter.strip())
                liked[coding.strip()] = 1.0 if quality is None else float(quality[1])
    best = max((b"gzip", b"deflate"), key=lambda coding: liked.get(coding, 0.0))
    return best if liked.get(best, 0.0) > 0 else None


def _deflate(body: bytes, encoding: bytes) -> bytes:
    return gzip.compress(body, LEVEL, mtime=0) if encoding == b"gzip" else zlib.compress(body, LEVEL)


def _window(body: bytes | bytearray, encoding: bytes) -> int:
    """Zlib's name for the format. Some senders of deflate leave out the header that RFC 9110 asks for."""
    if encoding != b"deflate":
        return 16 + zlib.MAX_WBITS
    has_header = len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
