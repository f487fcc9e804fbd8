"""The W3C trace context that a caller sends (https://www.w3.org/TR/trace-context-1/). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from sluice.gateway.messages import Header

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
LONGEST_STATE_BYTES = 512
_FORM = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceParent(msgspec.Struct, frozen=True):
    """The caller's span, which is the parent of the call's spans. `sampled`: the caller records it.

    The ids are 32 and 16 hexadecimal digits. `state` is the caller's `tracestate`, to be passed on unchanged; empty if
    there is none, or one longer than `LONGEST_STATE_BYTES`, which nobody has to pass on.
    """

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""


def trace_parent(headers: Sequence[Header]) -> TraceParent | None:
    """The caller's span, if it names one in a well-formed `traceparent`."""
    for name, value in headers:
        if name == TRACEPARENT and len(value) <= 256:
            match = _FORM.fullmatch(value)
            if match is not None:
                trace_id, span_id, flags = match[1].decode(), match[2].decode(), int(match[3], 16)
                return TraceParent(trace_id, span_id, bool(flags & 1), _state(headers))
    return None


def _state(headers: Sequence[Header]) -> str:
    state = b",".join([value for name, value in headers if name == TRACESTATE])
    return state.decode("ascii", "replace") if len(state) <= LONGEST_STATE_BYTES else ""
