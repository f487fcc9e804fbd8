"""Calls that come again byte for byte: their answers need not be decoded, digested and encoded anew.

Most repeated rows come in repeated bodies. The same bytes make the same request, and as long as the cache holds the
very entry that it was answered from, the same answer. It is for the cache to say so each time, and to count it.
"""

from __future__ import annotations

from collections import OrderedDict

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


class Repeats:
    """The calls of one model version that were answered from the cache lately, by dialect and body."""

    def __init__(self) -> None:
        self._repeats: OrderedDict[tuple[Dialect, bytes], Repeat] = OrderedDict()

    def find(self, dialect: Dialect, body: bytes | bytearray, heeded: tuple[Header, ...]) -> Repeat | None:
        """The answer to a call, if it is the same as before in all that matters, and the cache stands by it."""
        if not self._repeats or type(body) is not bytes or _matter(heeded):
            return None
        repeat = self._repeats.get((dialect, body))
        if repeat is None:
            return None
        recall = repeat.response.recall
        if recall is not None and recall.again():
            return repeat
        del self._repeats[dialect, body]
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
        if response.recall is None or request.timeout_s is not None or type(body) is not bytes or _matter(heeded):
            return
        if max(len(body), len(answer.body)) <= LONGEST_BYTES:
            self._repeats[dialect, body] = Repeat(response, answer)
            if len(self._repeats) > REMEMBERED:
                self._repeats.popitem(last=False)


def _matter(heeded: tuple[Header, ...]) -> bool:
    """Whether headers make another call of the same body."""
    return bool(heeded) and any([name not in IDENTITIES for name, _ in heeded])
