"""Compressed bodies: `Content-Encoding` of requests and `Accept-Encoding` for answers (RFC 9110, 8.4).

All dialects take gzip and deflate. The work is done in steps of a bounded size. Between two steps other calls have
their turn, and a body that has grown beyond its limit is refused. zlib releases the interpreter's lock, so steps may
run in threads.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Sequence
from concurrent.futures import Executor

from sluice.gateway.connections.held_bytes import HeldBytes, HeldShare
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.errors import InvalidRequest, RequestTooLarge

CONTENT_ENCODING, ACCEPT_ENCODING = b"content-encoding", b"accept-encoding"

THREAD_FROM_BYTES = 32 * 1024
"""Answers of this length and more are compressed in threads: they would block the event loop for too long."""

STEP_BYTES = 1024 * 1024
"""Bytes that one step reads or makes, at most: a few milliseconds of work."""

LEVEL = 1
"""Higher levels take several times as long for a few percent less."""

STEP_PIECES = 512
"""Pieces that one step makes, at most. Each takes some microseconds, even an empty one."""

MAX_MEMBERS = 65_536
"""Members of one gzip body, at most. Even an empty one takes time, and 64 MiB could hold three million of those."""

_TAKEN_BYTES, _PIECE_BYTES = 16 * 1024, 256 * 1024
_GZIP_BITS = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"
_QUALITY = re.compile(rb"q=([01](?:\.[0-9]{0,3})?)")


class UnknownEncoding(InvalidRequest):
    """A body has an encoding that is not supported. Over HTTP the status is 415."""


def encoding_of(headers: Sequence[Header]) -> bytes | None:
    """The encoding of a body; `None` if it is not compressed. Raises `UnknownEncoding`."""
    for name, value in headers:
        if name == CONTENT_ENCODING and (encoding := value.strip().lower()) not in (b"", b"identity"):
            if encoding not in (b"gzip", b"x-gzip", b"deflate"):
                raise UnknownEncoding(
                    f"Content-Encoding is {value.decode('latin-1')[:80]!r}; expected gzip, deflate or none"
                )
            return encoding
    return None


class Inflating:
    """Decompresses a body in steps; of gzip all members, if there are several (RFC 1952, section 2.2).

    Each `step` makes about `STEP_BYTES` at most, of `STEP_BYTES` of the compressed body at most. It raises
    `InvalidRequest` if the body does not have its encoding, and `RequestTooLarge`. `ended` is true after the last step.
    Steps may run in any thread, one at a time.
    """

    def __init__(self, body: bytes | bytearray, encoding: bytes, max_body_bytes: int) -> None:
        self.ended = False
        self._encoding = encoding
        self._max_body_bytes = max_body_bytes
        self._window_bits = _window(body, encoding)
        self._inflating = zlib.decompressobj(self._window_bits)
        self._members = 1
        self._size_bytes = self._at = 0
        # zlib returns what it did not take as a copy. It gets small slices, so that this is never the whole rest.
        self._view = memoryview(body)

    def step(self) -> list[bytes]:
        """The next pieces, each of 256 KiB at most."""
        pieces: list[bytes] = []
        made_bytes, stop_at = 0, self._at + STEP_BYTES
        while not self.ended and made_bytes < STEP_BYTES and self._at < stop_at and len(pieces) < STEP_PIECES:
            piece = self._piece()
            made_bytes += len(piece)
            pieces.append(piece)
        return pieces

    def _piece(self) -> bytes:
        inflating, view = self._inflating, self._view
        taken = view[self._at : self._at + _TAKEN_BYTES]
        try:
            piece = inflating.decompress(taken, _PIECE_BYTES)
        except zlib.error as error:
            raise InvalidRequest(f"the body is not {self._encoding.decode()}: {error}") from None
        self._at += len(taken) - len(inflating.unused_data if inflating.eof else inflating.unconsumed_tail)
        self._size_bytes += len(piece)
        if self._size_bytes > self._max_body_bytes:
            raise RequestTooLarge(
                f"the body inflates to more than the limit of {self._max_body_bytes} bytes (server.max_body_bytes)"
            )
        if not inflating.eof:
            # With no input left, zlib may still hold output that did not fit into a full piece, or only the end mark.
            if not taken and len(piece) < _PIECE_BYTES:
                raise InvalidRequest(f"the body is not {self._encoding.decode()}: it ends too early")
        elif self._at == len(view):
            self.ended = True
        else:
            self._members += 1
            _check_member(view[self._at :], self._encoding, self._members)
            self._inflating = zlib.decompressobj(self._window_bits)
        return piece


def inflate(body: bytes | bytearray, encoding: bytes, max_body_bytes: int) -> bytes:
    """The decompressed body, in one go. Raises as `Inflating` does."""
    inflating = Inflating(body, encoding, max_body_bytes)
    pieces: list[bytes] = []
    while not inflating.ended:
        pieces += inflating.step()
    return b"".join(pieces)


def _check_member(rest: memoryview, encoding: bytes, number: int) -> None:
    """Raise if what follows the end of a body is not its next member, or is one member too many."""
    if encoding == b"deflate" or rest[: len(_MAGIC)] != _MAGIC:
        raise InvalidRequest(f"{len(rest)} bytes follow the end of the {encoding.decode()} body")
    if number > MAX_MEMBERS:
        raise RequestTooLarge(f"the gzip body has more than {MAX_MEMBERS} members; compress it as one")


async def inflated(
    body: bytes | bytearray, encoding: bytes, max_body_bytes: int, held: HeldBytes, threads: Executor
) -> bytes:
    """The decompressed body, counted in `held` as it grows. Raises as `Inflating` does.

    Raises `Unavailable` if all bodies together would take too much memory.
    """
    inflating, loop = Inflating(body, encoding, max_body_bytes), asyncio.get_running_loop()
    pieces: list[bytes] = []
    with HeldShare(held) as share:
        while not inflating.ended:
            step = await loop.run_in_executor(threads, inflating.step)
            share.grow(sum(map(len, step)))
            pieces += step
    return b"".join(pieces)


async def deflated(answer: HttpResponse, headers: Sequence[Header], threads: Executor | None = None) -> HttpResponse:
    """The answer in the encoding that its caller prefers; the same answer if it accepts neither.

    A long one is compressed in `threads`, or in the event loop's default executor if there are none.
    """
    encoding = preferred(headers)
    if encoding is None:
        return answer
    deflating = zlib.compressobj(LEVEL, wbits=_GZIP_BITS if encoding == b"gzip" else zlib.MAX_WBITS)
    view = memoryview(answer.body)
    if len(view) < THREAD_FROM_BYTES:
        pieces = [deflating.compress(view)]
    else:
        loop = asyncio.get_running_loop()
        pieces = [
            await loop.run_in_executor(threads, deflating.compress, view[at : at + STEP_BYTES])
            for at in range(0, len(view), STEP_BYTES)
        ]
    pieces.append(deflating.flush())
    more = ((b"content-encoding", encoding), (b"vary", b"accept-encoding"))
    return HttpResponse(answer.status, b"".join(pieces), (*answer.headers, *more))


def preferred(headers: Sequence[Header]) -> bytes | None:
    """The one of gzip and deflate that a caller's `Accept-Encoding` prefers; `None` if it accepts neither."""
    liked: dict[bytes, float] = {}
    for name, value in headers:
        if name == ACCEPT_ENCODING:
            for item in value.lower().split(b","):
                coding, _, parameter = item.partition(b";")
                quality = _QUALITY.fullmatch(parameter.strip())
                liked[coding.strip()] = 1.0 if quality is None else float(quality[1])
    best = max((b"gzip", b"deflate"), key=lambda coding: liked.get(coding, 0.0))
    return best if liked.get(best, 0.0) > 0 else None


def _window(body: bytes | bytearray, encoding: bytes) -> int:
    """The format as the number that zlib has for it. Some senders of deflate omit the header that RFC 9110 demands."""
    if encoding != b"deflate":
        return _GZIP_BITS
    has_header = len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
