"""Calls that repeat an earlier one byte for byte, and so can be answered without decoding, digesting and encoding.

Most repeated rows come in repeated bodies. The same bytes make the same request. They also have the same answer as long
as the cache holds the entry from which it was made: the cache is asked each time, and counts it.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from sluice.gateway.dialects.base import Dialect
from sluice.gateway.headers.content_encoding import ACCEPT_ENCODING
from sluice.gateway.headers.request_ids import REQUEST_ID
from sluice.gateway.headers.trace_context import TRACEPARENT, TRACESTATE
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.types import InferenceRequest, InferenceResponse

IDENTITIES = frozenset({REQUEST_ID, TRACEPARENT, TRACESTATE, ACCEPT_ENCODING})
"""Headers that identify a call or say how its answer may be compressed. They do not change the answer."""

REMEMBERED = 2048
LONGEST_BYTES = 2048
"""How many calls are remembered for each version, and how long their bodies and answers may be."""

REMEMBERED_BYTES = 8 << 20
OVERHEAD_BYTES = 1024
"""How much memory they may take together, with the cache entries that they refer to and the overhead of each."""


class Repeat(msgspec.Struct, frozen=True):
    """A call that was answered from the cache, and its answer. The `response` has no tensors."""

    response: InferenceResponse
    answer: HttpResponse
    size_bytes: int


_Key: TypeAlias = tuple[Dialect, bytes, tuple[Header, ...]]


class Repeats:
    """Recent calls of one model version that were answered from the cache.

    Calls are the same if they have the same dialect, body, and headers that the dialect reads. Calls with any other
    header that matters, such as a deadline, are not remembered.
    """

    def __init__(self) -> None:
        self._repeats: OrderedDict[_Key, Repeat] = OrderedDict()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._repeats)

    @property
    def size_bytes(self) -> int:
        """The approximate memory of all remembered calls."""
        return self._size_bytes

    def find(self, dialect: Dialect, body: bytes | bytearray, heeded: tuple[Header, ...]) -> Repeat | None:
        """The answer to a call, if it repeats a remembered one and the cache still has what that was answered from."""
        if not self._repeats or type(body) is not bytes:
            return None
        reading = _reading(dialect, heeded)
        if reading is None:
            return None
        repeat = self._repeats.get((dialect, body, reading))
        if repeat is None:
            return None
        recall = repeat.response.recall
        if recall is not None and recall.again():
            return repeat
        self._drop((dialect, body, reading))
        return None

    def keep(
        self,
        dialect: Dialect,
        body: bytes | bytearray,
        heeded: tuple[Header, ...],
        request: InferenceRequest,
        response: InferenceResponse,
        answer: HttpResponse,
    ) -> None:
        """Remember a call, if it was answered from the cache and can be again."""
        recall = response.recall
        if recall is None or request.timeout_s is not None or type(body) is not bytes:
            return
        reading = _reading(dialect, heeded)
        if reading is None:
            return
        call_bytes = sum(map(len, (body, *chain(*reading))))
        if call_bytes > LONGEST_BYTES or len(answer.body) > LONGEST_BYTES:
            return
        # The entry may be much larger than the answer: it is kept alive by `recall`, even after the cache drops it.
        size_bytes = call_bytes + len(answer.body) + recall.size_bytes + OVERHEAD_BYTES
        if size_bytes > REMEMBERED_BYTES // 8:
            return
        key = (dialect, body, reading)
        if key in self._repeats:
            self._drop(key)
        self._repeats[key] = Repeat(replace(response, outputs=()), answer, size_bytes)
        self._size_bytes += size_bytes
        while len(self._repeats) > REMEMBERED or self._size_bytes > REMEMBERED_BYTES:
            self._drop(next(iter(self._repeats)))

    def forget(self) -> None:
        """Forget all calls, since the answers that they had are being deleted."""
        self._repeats.clear()
        self._size_bytes = 0

    def _drop(self, key: _Key) -> None:
        self._size_bytes -= self._repeats.pop(key).size_bytes


def _reading(dialect: Dialect, heeded: tuple[Header, ...]) -> tuple[Header, ...] | None:
    """The headers by which the dialect reads the body; `None` if there are others that may change the answer."""
    if not heeded:
        return ()
    told = tuple([header for header in heeded if header[0] not in IDENTITIES])
    return told if all([name in dialect.headers for name, _ in told]) else None
