"""What is recorded of traced calls and batches, until spans are made of it."""

from __future__ import annotations

import msgspec

from sluice.batching.report import BatchReport
from sluice.gateway.headers.trace_context import TraceParent


class BatchTrace(msgspec.Struct, eq=False):
    """A batch that has traced calls in it. It is a trace of its own, linked to theirs, since it belongs to all of them.

    `told` is for the exporter: it sends the batch together with the first of its calls.
    """

    trace_id: int
    span_id: int
    report: BatchReport
    told: bool = False


class CallTrace(msgspec.Struct, eq=False):
    """A traced call: the ids of its span, and its batches, each with when the call came to the queue (monotonic)."""

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
        """The value of the header `traceresponse`, which tells the caller the ids of the span.

        https://w3c.github.io/trace-context/#traceresponse-header
        """
        return b"00-%032x-%016x-01" % (self.trace_id, self.span_id)
