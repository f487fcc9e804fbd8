"""Traces of a real gateway, as a collector gets them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.collector import collector
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PlainClient, SluiceProcess, serving, v2
from tests.waiting import eventually

GOOD = v2("x", [1, 1], [3])
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACED = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}


def environment(url: str, **settings: str) -> dict[str, str]:
    return {**os.environ, "SLUICE_TRACING_ENDPOINT": url, **{f"SLUICE_TRACING_{k}": v for k, v in settings.items()}}


def attributes(span: Span) -> dict[str, str | int | float | bool]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in span.attributes}


def wait_for(server: SluiceProcess, outcome: str, calls: int) -> None:
    eventually(lambda: server.metric("sluice_traced_calls_total", outcome=outcome) >= calls)


def test_a_call_is_a_span_with_a_span_for_each_phase_and_a_batch_that_links_to_it() -> None:
    with collector() as kept, serving(EXAMPLES, env=environment(kept.url, HEADERS="authorization=Bearer x")) as server:
        answer = server.client.post("/v2/models/linear/infer", json=GOOD, headers=TRACED)
        assert answer.status_code == 200
        version, trace_id, span_id, flags = answer.headers["traceresponse"].split("-")
        assert (version, trace_id, flags) == ("00", TRACE, "01")
        wait_for(server, "exported", 1)
        assert server.metric("sluice_traced_calls_total", outcome="dropped") == 0
    spans = kept.trace(TRACE)
    by_name = {span.name: span for span in spans}
    call = by_name["predict linear"]
    assert sorted(by_name) == ["batch", "compute", "decode", "encode", "predict linear", "queue"]
    assert (call.span_id.hex(), call.parent_span_id.hex(), call.trace_state) == (span_id, SPAN, "vendor=1")
    assert call.kind == Span.SPAN_KIND_SERVER
    facts = attributes(call)
    assert (facts["sluice.model"], facts["sluice.version"], facts["http.response.status_code"]) == ("linear", 1, 200)
    assert facts["sluice.request_id"] == answer.headers["x-request-id"]
    steps = [by_name[name] for name in ("decode", "queue", "batch", "encode")]
    assert all(step.parent_span_id == call.span_id for step in steps)
    for step in steps:
        assert call.start_time_unix_nano <= step.start_time_unix_nano <= step.end_time_unix_nano
        assert step.end_time_unix_nano <= call.end_time_unix_nano
    assert all(one.end_time_unix_nano <= other.start_time_unix_nano for one, other in pairwise(steps))
    compute, batch = by_name["compute"], by_name["batch"]
    assert compute.parent_span_id == batch.span_id
    assert batch.start_time_unix_nano <= compute.start_time_unix_nano <= compute.end_time_unix_nano
    (link,) = batch.links
    (whole,) = [span for span in kept.trace(link.trace_id.hex()) if span.name == "batch"]
    assert whole.span_id == link.span_id
    assert [(each.trace_id.hex(), each.span_id) for each in whole.links] == [(TRACE, call.span_id)]
    assert attributes(whole)["sluice.batch.rows"] == 1
    assert kept.resources[0]["service.name"] == "sluice"
    assert kept.headers[0]["authorization"] == "Bearer x"


def test_hits_and_errors_say_what_they_are() -> None:
    with collector() as kept, serving(EXAMPLES, env=environment(kept.url, SAMPLE_RATIO="1")) as server:
        for _ in range(3):
            server.client.post("/v2/models/linear/infer", json=GOOD, headers={"cache-control": ""})
        server.client.post("/v2/models/nowhere/infer", json=GOOD)
        untraced = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
        assert "traceresponse" not in server.client.post("/v2/models/linear/infer", json=GOOD, headers=untraced).headers
        wait_for(server, "exported", 4)
        calls = [span for span in kept.spans if span.kind == Span.SPAN_KIND_SERVER]
        assert sorted(span.name for span in calls) == ["predict", *["predict linear"] * 3]
        caches = sorted(attributes(span)["sluice.cache.hits"] for span in kept.spans if span.name == "cache")
        assert caches == [0, 1, 1]
        (stray,) = [span for span in calls if span.name == "predict"]
        assert attributes(stray)["error.type"] == "not_found"
        assert stray.status.code == Status.STATUS_CODE_UNSET
        assert not kept.trace(TRACE)


def statuses(server: SluiceProcess, calls: int) -> list[int]:
    """Of calls one after another."""
    with closing(PlainClient(server)) as client:
        return [client.infer("linear", GOOD).status for _ in range(calls)]


@pytest.mark.parametrize("state", ["down", "frozen"])
def test_a_collector_that_is_away_costs_a_count_and_nothing_else(state: str) -> None:
    with collector() as kept:
        kept.frozen.set()
        address = kept.url if state == "frozen" else "http://127.0.0.1:9"
        with serving(EXAMPLES, env=environment(address, SAMPLE_RATIO="1", TIMEOUT_S="0.5")) as server:
            with ThreadPoolExecutor(8) as pool:
                assert all(pool.map(lambda _: statuses(server, 375) == [200] * 375, range(8)))
            wait_for(server, "failed", 1)
            assert server.stop() == 0


def test_nothing_of_it_is_imported_while_it_is_off() -> None:
    """But for the API, which other libraries import by themselves where they find it installed."""
    script = "import sys, sluice.gateway.process.run, sluice.gateway.process.servers; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "sluice.gateway.prediction.data_plane" in shown
    for module in (
        "sluice.gateway.telemetry.tracing.otlp",
        "opentelemetry.sdk.trace",
        "opentelemetry.exporter",
        "requests",
    ):
        assert module not in shown


def test_without_the_extra_the_error_names_it() -> None:
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from sluice.gateway.assembly import Gateway; from sluice.gateway.settings.load import Settings\n"
        "Gateway(Settings(tracing={'endpoint': 'http://127.0.0.1:4318'}), [])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "install the extra sluice-gateway[tracing]" in shown.stderr
