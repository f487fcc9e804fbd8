"""The body of one call that is large, or may become large when it is inflated."""

from __future__ import annotations

import time
from concurrent.futures import Executor

from sluice.gateway.connections.held_bytes import HeldShare
from sluice.gateway.connections.long_body import LARGE_BYTES, LongBody
from sluice.gateway.headers.content_encoding import Inflating
from sluice.gateway.messages import Body
from sluice.gateway.reading.requests import RequestTaken
from sluice.gateway.reading.shared_body import SharedBody
from sluice.gateway.reading.threads import in_thread
from sluice.inference.errors import DeadlineExceeded
from sluice.inference.transport.arena import LentMemory


class LargeBody:
    """A body that is converted to the form in which it is needed. The call that owns it has to close it.

    It has one form at a time. Its bytes count in the call's share while they are held here, except those that the
    server counts itself. Copies are made in threads, which release the interpreter lock.
    """

    def __init__(self, body: Body, share: HeldShare, threads: Executor, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._body: Body | SharedBody = body
        self._memory: list[LentMemory] = []
        self._share = share
        self._threads = threads
        # A server hands a large body over for good. It keeps a shorter one, and counts that itself.
        self._share.become(len(body) if len(body) >= LARGE_BYTES else 0)

    def __len__(self) -> int:
        return len(self._body)

    async def inflate(self, encoding: bytes, max_body_bytes: int) -> None:
        """Inflate the body. Raises what `Inflating` raises, `Unavailable`, and `DeadlineExceeded`."""
        inflating = Inflating(await self.text(), encoding, max_body_bytes)
        pieces = InflatedPieces()
        try:
            # Most compressed bodies are so short that no thread is needed for the first step.
            short = len(self._body) < LARGE_BYTES // 128
            made_bytes = pieces.add(inflating) if short else await in_thread(self._threads, pieces.add, inflating)
            self._share.grow(made_bytes)
            while not inflating.ended:
                if time.monotonic() >= self.deadline_s:
                    raise DeadlineExceeded("the time for the request was over before its body was inflated")
                self._share.grow(await in_thread(self._threads, pieces.add, inflating))
        except BaseException:
            pieces.close()
            raise
        self._body = pieces.whole()
        self._share.become(len(self._body))

    async def text(self) -> bytes | bytearray:
        """Convert the body to bytes."""
        if isinstance(body := self._body, SharedBody | LongBody):
            self._share.grow(len(body))
            self._body = await in_thread(self._threads, body.whole)
            if isinstance(body, SharedBody):
                body.close()
            self._share.become(len(self._body))
            return self._body
        return body

    async def shared(self) -> SharedBody:
        """Convert the body to a memory file, which a reader can be given. Raises `Unavailable`."""
        if not isinstance(self._body, SharedBody):
            shared = SharedBody()
            try:
                if isinstance(self._body, LongBody):
                    # Each piece is freed once it is copied.
                    await in_thread(self._threads, shared.put_all, self._body.pieces())
                else:
                    self._share.grow(len(self._body))
                    await in_thread(self._threads, shared.put, self._body)
                shared.seal()
            except BaseException:
                shared.close()
                raise
            self._body = shared
            self._share.become(len(shared))
        return self._body

    def became(self, taken: RequestTaken) -> None:
        """Free the body, now that it was read, and hold the memory of the request until `close`."""
        self.close()
        self._memory.append(taken.memory)
        self._share.become(taken.size_bytes)

    def close(self) -> None:
        """Free everything, in threads: the kernel takes some milliseconds to take many pages back."""
        body, self._body = self._body, b""
        if isinstance(body, SharedBody):
            self._threads.submit(body.close)
        if self._memory:
            memory, self._memory = self._memory, []
            self._threads.submit(memory.clear)


class InflatedPieces:
    """What was inflated so far: pieces at first, and a memory file once they are many."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._shared: SharedBody | None = None

    def add(self, inflating: Inflating) -> int:
        """Inflate one more step. Returns how many bytes it made."""
        pieces = inflating.step()
        if self._shared is None and self._size_bytes >= LARGE_BYTES:
            self._shared = SharedBody()
            for piece in self._pieces:
                self._shared.put(piece)
            self._pieces = []
        if self._shared is None:
            self._pieces += pieces
        else:
            for piece in pieces:
                self._shared.put(piece)
        made_bytes = sum(map(len, pieces))
        self._size_bytes += made_bytes
        return made_bytes

    def whole(self) -> bytes | SharedBody:
        """Everything that was inflated, in the form that it has."""
        if self._shared is None:
            return b"".join(self._pieces)
        self._shared.seal()
        return self._shared

    def close(self) -> None:
        """Free the memory."""
        if self._shared is not None:
            self._shared.close()
