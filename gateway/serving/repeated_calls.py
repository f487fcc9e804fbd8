"""Calls that come again byte for byte: their answers need not be decoded, digested and encoded anew.

Most repeated rows come in repeated bodies. The same bytes make the same request, and as long as the cache holds the
very entry that it was answered from, the same answer. It is for the cache to say so each time, and to count it.
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
"""Headers that say who asks and how the answer may be packed, and nothing about the answer."""

REMEMBERED = 2048
LONGEST_BYTES = 2048
"""So many calls are remembered for each version, with bodies and answers up to this length."""

REMEMBERED_BYTES = 8 << 20
OVERHEAD_BYTES = 1024
"""All of them together take so much at the most, with the entries that they stand by, and what each costs beside."""


class Repeat(msgspec.Struct, frozen=True):
    """A call that was answered from the cache, and its answer. The `response` has no tensors any more."""

    response: InferenceResponse
    answer: HttpResponse
    size_bytes: int


_Key: TypeAlias = tuple[Dialect, bytes, tuple[Header, ...]]


class Repeats:
    """The calls of one model version that were answered from the cache lately.

    Calls are the same if their dialect, their body and the headers are that the dialect reads it by. What else a header
    may change, as a deadline does, is not remembered.
    """

    def __init__(self) -> None:
        self._repeats: OrderedDict[_Key, Repeat] = OrderedDict()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._repeats)

    @property
    def size_bytes(self) -> int:
        """What they take together, about."""
        return self._size_bytes

    def find(self, dialect: Dialect, body: bytes | bytearray, heeded: tuple[Header, ...]) -> Repeat | None:
        """The answer to a call, if it is the same as before in all that matters, and the cache stands by it."""
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
        """Remember a call, if it was answered from the cache and may be answered so again."""
        recall = response.recall
        if recall is None or request.timeout_s is not None or type(body) is not bytes:
            return
        reading = _reading(dialect, heeded)
        if reading is None:
            return
        call_bytes = sum(map(len, (body, *chain(*reading))))
        if call_bytes > LONGEST_BYTES or len(answer.body) > LONGEST_BYTES:
            return
        # An answer may tell a small part of its tensors only: they belong to the cache, which counts them.
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
        """Let go of all calls: the answers that they had are being thrown away."""
        self._repeats.clear()
        self._size_bytes = 0

    def _drop(self, key: _Key) -> None:
        self._size_bytes -= self._repeats.pop(key).size_bytes


def _reading(dialect: Dialect, heeded: tuple[Header, ...]) -> tuple[Header, ...] | None:
    """The headers that a dialect reads the body by; `None` if others make another call of it."""
    if not heeded:
        return ()
    told = tuple([header for header in heeded if header[0] not in IDENTITIES])
    return told if all([name in dialect.headers for name, _ in told]) else None
