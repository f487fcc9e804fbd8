"""What is written down of a traced call and of a traced batch until their spans are made."""

from __future__ import annotations

import msgspec

from sluice.batching.report import BatchReport
from sluice.gateway.headers.trace_context import TraceParent


class BatchTrace(msgspec.Struct, eq=False):
    """A batch with traced calls in it: a trace of its own, linked to theirs, since it belongs to all of them.

    `told` is for the exporter: with the first of its calls, the batch is sent too.
    """

    trace_id: int
    span_id: int
    report: BatchReport
    told: bool = False


class CallTrace(msgspec.Struct, eq=False):
    """A traced call: its own span, and the batches that it travelled in, with when it came to the queue (monotonic)."""

    trace_id: int
    span_id: int
    parent: TraceParent | None
    batches: list[tuple[float, BatchTrace]]

    @property
    def id(self) -> str:
        """The id of the trace, 32 hexadecimal digits."""
        return f"{self.trace_id:032x}"

    @property
    def response(self) -> bytes:
        """The value of `traceresponse`, by which the caller finds the span.

        https://w3c.github.io/trace-context/#traceresponse-header
        """
        return b"00-%032x-%016x-01" % (self.trace_id, self.span_id)
