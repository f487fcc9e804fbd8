"""Whose trace a call belongs to."""

from __future__ import annotations

import pytest

from sluice.gateway.headers.trace_context import TraceParent, trace_parent

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"


@pytest.mark.parametrize("value", [b"00-%b-%b-01", b"00-%b-%b-03", b"cc-%b-%b-01-what-the-future-will-be"])
def test_a_recorded_trace_is_known(value: bytes) -> None:
    parent = trace_parent([(b"host", b"a"), (b"traceparent", value % (TRACE, SPAN))])
    assert parent == TraceParent(TRACE.decode(), SPAN.decode(), sampled=True)


def test_a_caller_may_say_that_it_records_nothing() -> None:
    parent = trace_parent([(b"traceparent", b"00-%b-%b-00" % (TRACE, SPAN))])
    assert parent is not None
    assert not parent.sampled


@pytest.mark.parametrize(
    "value",
    [
        b"ff-%b-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-01" % (TRACE.upper(), SPAN),
        b"00-%b-%b-01\n" % (TRACE, SPAN),
        b"cc-%b-%b-01-%b" % (TRACE, SPAN, b"x" * 300),
        b"",
    ],
)
def test_what_is_malformed_names_nobody(value: bytes) -> None:
    assert trace_parent([(b"traceparent", value)]) is None


def test_the_callers_state_is_kept_unless_it_is_too_long() -> None:
    span = (b"traceparent", b"00-%b-%b-01" % (TRACE, SPAN))
    parent = trace_parent([span, (b"tracestate", b"a=1"), (b"tracestate", b"b=2")])
    assert parent is not None
    assert parent.state == "a=1,b=2"
    parent = trace_parent([span, (b"tracestate", b"a=" + b"x" * 600)])
    assert parent is not None
    assert parent.state == ""
