"""Reads bodies that would block the event loop: in a reader process, or in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sluice.gateway.connections.held_bytes import HeldBytes, HeldShare
from sluice.gateway.connections.long_body import LARGE_BYTES
from sluice.gateway.dialects.base import Call, Callee, Dialect
from sluice.gateway.headers.content_encoding import encoding_of
from sluice.gateway.messages import Body, Header
from sluice.gateway.reading.codecs import heavy_apart, number_of, read_apart
from sluice.gateway.reading.large_body import LargeBody
from sluice.gateway.reading.pool import Readers
from sluice.inference.types import InferenceRequest

CODING_THREADS, TEXT_THREADS = 2, 4
"""Threads that inflate, deflate and copy, in steps, and threads that tokenise. They are apart, so that neither work
holds up the other."""


class BodyReading:
    """Reads bodies that are large, compressed, or take long to decode.

    `max_body_bytes` bounds the length of a body after it was inflated. Bytes of bodies that are held here count in
    `held`. Without `readers`, as in tests, everything is read in this process.
    """

    def __init__(self, held: HeldBytes, max_body_bytes: int, readers: Readers | None = None) -> None:
        self.coders = ThreadPoolExecutor(CODING_THREADS, "coding")
        self.held = held
        self._max_body_bytes = max_body_bytes
        self._readers = readers
        self._texts = ThreadPoolExecutor(TEXT_THREADS, "texts")

    def takes(self, body: Body, heeded: Sequence[Header]) -> bytes | None:
        """The content encoding of a body that has to become a `LargeBody`, empty if it has none.

        `None` for a body that is short and not compressed. Raises `UnknownEncoding`.
        """
        encoding = encoding_of(heeded) if heeded else None
        if encoding is None and len(body) >= LARGE_BYTES:
            return b""
        return encoding

    def body(self, body: Body, share: HeldShare, deadline_s: float) -> LargeBody:
        """The body of one call, which the caller has to close."""
        return LargeBody(body, share, self.coders, deadline_s)

    async def inflated(self, body: LargeBody, encoding: bytes) -> bytes | bytearray | LargeBody:
        """The inflated body, as plain bytes where it is short. Raises what `LargeBody.inflate` raises."""
        await body.inflate(encoding, self._max_body_bytes)
        return await body.text() if len(body) < LARGE_BYTES else body

    async def address(self, dialect: Dialect, body: LargeBody) -> Call:
        """The call that a large body names. Raises what `Dialect.address` raises."""
        number = number_of(dialect)
        if self._readers is None or number is None:
            return dialect.address(await body.text())
        return await self._readers.address(number, await body.shared(), body.deadline_s)

    async def decode(
        self, dialect: Dialect, body: LargeBody, headers: Sequence[Header], callee: Callee
    ) -> InferenceRequest:
        """The request in a large body. Raises what `Dialect.decode` and `Readers.decode` raise."""
        number = number_of(dialect)
        if self._readers is None or number is None or not read_apart(dialect, len(body), headers, callee):
            text = await body.text()
            if dialect.heavy(text, callee):
                return await self._in_thread(dialect, text, headers, callee)
            return dialect.decode(text, headers, callee)
        told = _told(dialect, headers)
        read = await self._readers.decode(number, await body.shared(), told, callee, body.deadline_s)
        body.became(read)
        return read.request

    async def heavy(
        self,
        dialect: Dialect,
        body: bytes | bytearray,
        headers: Sequence[Header],
        callee: Callee,
        share: HeldShare,
        deadline_s: float,
    ) -> InferenceRequest:
        """The request in a short body that takes long to decode. Raises as `decode` does."""
        number = number_of(dialect)
        if self._readers is None or number is None or not heavy_apart(dialect):
            return await self._in_thread(dialect, body, headers, callee)
        apart = self.body(body, share, deadline_s)
        try:
            told = _told(dialect, headers)
            read = await self._readers.decode(number, await apart.shared(), told, callee, deadline_s)
            apart.became(read)
            return read.request
        finally:
            apart.close()

    async def _in_thread(
        self, dialect: Dialect, body: bytes | bytearray, headers: Sequence[Header], callee: Callee
    ) -> InferenceRequest:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._texts, dialect.decode, body, headers, callee)


def _told(dialect: Dialect, headers: Sequence[Header]) -> Sequence[Header]:
    return [header for header in headers if header[0] in dialect.headers]
