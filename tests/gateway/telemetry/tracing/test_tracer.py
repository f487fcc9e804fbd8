"""Which calls are traced, and what becomes of them when nobody takes them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from sluice.batching.policy import Reason
from sluice.batching.report import BatchOutcome, BatchReport
from sluice.gateway.headers.trace_context import TraceParent
from sluice.gateway.telemetry.call_record import CallRecord
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.traces import CallTrace
from sluice.gateway.telemetry.tracing.tracer import WAITING_CALLS, Tracer

PARENT = TraceParent("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)


class Gate:
    """An exporter that lets nothing through until it is opened."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.sent: list[CallRecord] = []
        self.holding = threading.Event()
        self.opened = threading.Event()
        self.given_up = False

    def send(self, calls: Sequence[CallRecord]) -> bool:
        self.holding.set()
        assert self.opened.wait(60)
        self.sent.extend(calls)
        return self.works

    def give_up(self) -> None:
        self.given_up = True
        self.opened.set()


class Bench:
    def __init__(self, gate: Gate, ratio: float = 1.0, max_per_s: int = 1_000_000) -> None:
        self.metrics = Metrics("0")
        self.counts = self.metrics.traced_calls()
        self.tracer = Tracer(gate, ratio, max_per_s, self.counts)

    def call(self) -> CallRecord:
        trace = self.tracer.begin(None)
        return CallRecord("v2", "m", None, b"id", self.metrics.unknown_model, 0.0, None, trace)

    def end(self, calls: int) -> None:
        for _ in range(calls):
            self.tracer.call_ended(self.call())


def report(*traced: tuple[object, float]) -> BatchReport:
    return BatchReport(2, 2, Reason.FULL, BatchOutcome.ANSWERED, 0.0, 0.1, 0.2, 0.2, 0.0, traced=traced)


def test_a_caller_that_records_is_followed_and_one_that_does_not_is_left_alone() -> None:
    never, always = Bench(Gate(), 0.0).tracer, Bench(Gate(), 1.0).tracer
    trace = never.begin(PARENT)
    assert trace is not None
    assert trace.id == PARENT.trace_id
    assert trace.response.startswith(b"00-%b-" % PARENT.trace_id.encode())
    assert PARENT.span_id.encode() not in trace.response
    assert always.begin(TraceParent(PARENT.trace_id, PARENT.span_id, sampled=False)) is None
    assert never.begin(None) is None


def test_a_part_of_the_others_is_traced() -> None:
    tracer = Bench(Gate(), 0.25).tracer
    traced = sum(tracer.begin(None) is not None for _ in range(20_000))
    assert traced == pytest.approx(5000, rel=0.1)


def test_no_more_are_traced_than_were_allowed() -> None:
    bench = Bench(Gate(), max_per_s=3)
    begun = [bench.tracer.begin(PARENT) for _ in range(100)]
    traced = sum(each is not None for each in begun)
    assert traced in {3, 6}  # the clock may have come to another second
    assert bench.counts.dropped.value == 100 - traced


def test_all_traced_calls_of_a_batch_share_it() -> None:
    tracer = Bench(Gate()).tracer
    first, second = tracer.begin(None), tracer.begin(None)
    assert isinstance(first, CallTrace)
    assert isinstance(second, CallTrace)
    tracer.batch_ended(report((first, 1.0), (second, 2.0)))
    tracer.batch_ended(report())
    ((first_s, batch),), ((second_s, same),) = first.batches, second.batches
    assert (first_s, second_s) == (1.0, 2.0)
    assert batch is same
    assert batch.trace_id not in (first.trace_id, second.trace_id)


async def test_calls_are_sent_before_the_end() -> None:
    gate = Gate()
    gate.opened.set()
    bench = Bench(gate)
    async with bench.tracer:
        bench.end(300)
    assert len(gate.sent) == bench.counts.exported.value == 300


async def test_what_the_collector_did_not_take_is_counted() -> None:
    gate = Gate(works=False)
    gate.opened.set()
    bench = Bench(gate)
    async with bench.tracer:
        bench.end(5)
    assert (bench.counts.exported.value, bench.counts.failed.value) == (0, 5)


async def test_calls_beyond_the_bound_are_dropped_and_leaving_does_not_wait_for_a_collector_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sluice.gateway.telemetry.tracing.tracer.FLUSH_S", 0.01)
    gate = Gate()
    bench = Bench(gate)
    async with bench.tracer:
        bench.end(128)
        assert gate.holding.wait(60)
        bench.end(WAITING_CALLS + 50)
        assert bench.counts.dropped.value == 50
    assert gate.given_up
