"""Calls that come again byte for byte: their answers need not be decoded, digested and encoded anew.

Most repeated rows come in repeated bodies. The same bytes make the same request, and as long as the cache holds the
very entry that it was answered from, the same answer. It is for the cache to say so each time, and to count it.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain
from typing import TypeAlias

import msgspec

from gateway.dialects.base import Dialect
from gateway.http.coding import ACCEPT_ENCODING
from gateway.http.messages import Header, HttpResponse
from gateway.http.request_ids import REQUEST_ID
from gateway.trace_context import TRACEPARENT, TRACESTATE
from inference.types import InferenceRequest, InferenceResponse

IDENTITIES = frozenset({REQUEST_ID, TRACEPARENT, TRACESTATE, ACCEPT_ENCODING})
"""Headers that say who asks and how the answer may be packed, and nothing about the answer."""

REMEMBERED = 2048
LONGEST_BYTES = 2048
"""So many calls are remembered for each version, with bodies and answers up to this length: 8 MiB at the most."""


class Repeat(msgspec.Struct, frozen=True):
    """A call that was answered from the cache, and its answer."""

    response: InferenceResponse
    answer: HttpResponse


_Key: TypeAlias = tuple[Dialect, bytes, tuple[Header, ...]]


class Repeats:
    """The calls of one model version that were answered from the cache lately.

    Calls are the same if their dialect, their body and the headers are that the dialect reads it by. What else a header
    may change, as a deadline does, is not remembered.
    """

    def __init__(self) -> None:
        self._repeats: OrderedDict[_Key, Repeat] = OrderedDict()

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
        del self._repeats[dialect, body, reading]
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
        if response.recall is None or request.timeout_s is not None or type(body) is not bytes:
            return
        reading = _reading(dialect, heeded)
        if reading is not None and sum(map(len, (body, *chain(*reading)))) <= LONGEST_BYTES >= len(answer.body):
            self._repeats[dialect, body, reading] = Repeat(response, answer)
            if len(self._repeats) > REMEMBERED:
                self._repeats.popitem(last=False)

    def forget(self) -> None:
        """Let go of all calls: the answers that they had are being thrown away."""
        self._repeats.clear()


def _reading(dialect: Dialect, heeded: tuple[Header, ...]) -> tuple[Header, ...] | None:
    """The headers that a dialect reads the body by; `None` if others make another call of it."""
    if not heeded:
        return ()
    told = tuple([header for header in heeded if header[0] not in IDENTITIES])
    return told if all([name in dialect.headers for name, _ in told]) else None
