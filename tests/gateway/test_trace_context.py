"""Whose trace a call belongs to."""

from __future__ import annotations

import pytest

from gateway.trace_context import sampled_trace

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"


@pytest.mark.parametrize("value", [b"00-%b-%b-01", b"00-%b-%b-03", b"cc-%b-%b-01-what-the-future-will-be"])
def test_a_recorded_trace_has_an_id(value: bytes) -> None:
    assert sampled_trace([(b"host", b"a"), (b"traceparent", value % (TRACE, SPAN))]) == TRACE.decode()


@pytest.mark.parametrize(
    "value",
    [
        b"00-%b-%b-00" % (TRACE, SPAN),
        b"ff-%b-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-01" % (TRACE.upper(), SPAN),
        b"00-%b-%b-01\n" % (TRACE, SPAN),
        b"cc-%b-%b-01-%b" % (TRACE, SPAN, b"x" * 300),
        b"",
    ],
)
def test_what_is_not_recorded_or_malformed_has_none(value: bytes) -> None:
    assert sampled_trace([(b"traceparent", value)]) is None
