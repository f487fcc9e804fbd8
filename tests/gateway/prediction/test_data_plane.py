from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from sluice.cache.cache import Cache, CacheOptions
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.dialects.base import Call, Callee
from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.headers.request_ids import RequestIds
from sluice.gateway.messages import Header, HttpResponse
from sluice.gateway.prediction.data_plane import PredictionPlane
from sluice.gateway.prediction.observer import Observer
from sluice.gateway.reading.body_reading import BodyReading
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.repeated_calls import Repeats
from sluice.gateway.settings.load import Settings
from sluice.gateway.telemetry.call_log import CallLog
from sluice.gateway.telemetry.logs import configure_logs
from sluice.gateway.telemetry.metrics import Metrics
from sluice.inference import errors
from sluice.inference.types import DEFAULT_PRIORITY, Datatype, InferenceRequest, InferenceResponse, Tensor, Trace
from tests import logs
from tests.gateway.dialects.bodies import body_of, callee_of
from tests.gateway.telemetry.scrape import scrape

Walk = Callable[[InferenceRequest], InferenceResponse]


class OneModel(Catalogue):
    """Serves the model `m`, which answers with a plain function."""

    def __init__(self, metrics: Metrics, walk: Walk) -> None:
        super().__init__((), Settings(), metrics, Cache(CacheOptions(0)))
        self._walk = walk
        self._meters = metrics.of_model("m", 1)
        self._served = SimpleNamespace(
            callee=callee_of(), walk=self._answer, metrics=self._meters, repeats=Repeats(), gate=None, objective_s=None
        )

    def resolve(self, model: str, version: int | None, label: str | None = None) -> Any:
        if model != "m":
            return super().resolve(model, version, label)
        return self._served

    async def _answer(self, request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        return self._walk(request)


class Bench:
    """A plane with one model, and what it was asked and counted."""

    def __init__(self, walk: Walk | None = None, dialect: V2 | None = None) -> None:
        self.metrics = Metrics("0")
        self.asked: list[InferenceRequest] = []
        self.held = HeldBytes(1 << 30)
        self._walk = walk or (lambda _: ANSWER)
        self.plane = PredictionPlane(
            OneModel(self.metrics, self._keep),
            (dialect or V2(),),
            Observer(self.metrics.unknown_model, CallLog(100, 100, slow_s=1.0), RequestIds()),
            max_body_bytes=1000,
            intake=BodyReading(self.held, 1000),
        )

    def _keep(self, request: InferenceRequest) -> InferenceResponse:
        self.asked.append(request)
        return self._walk(request)

    async def call(self, *headers: Header, rest: str = "") -> HttpResponse:
        route = self.plane.recognise(b"/v2/models/m/infer")
        return await self.plane.answer(route, "POST", headers, body_of("[1]", [1], rest=rest))  # type: ignore[arg-type]

    def counted(self, series: str) -> bool:
        return series in scrape(self.metrics)[0].decode().splitlines()


ANSWER = InferenceResponse("m", 1, (Tensor("y", Datatype.FP32, np.zeros(1, np.float32)),))
LATE = msgspec.structs.replace(ANSWER, late=True)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The log, as JSON lines."""
    stream = io.StringIO()
    with logs.restored():
        configure_logs("json", "info", stream)
        yield stream


def refuses(error: Exception) -> Walk:
    def walk(_: InferenceRequest) -> InferenceResponse:
        raise error

    return walk


async def test_a_target_that_names_no_version_costs_no_more_each_time() -> None:
    """Its route is remembered with the error, which must not collect a traceback per call, nor keep a body alive."""
    plane = Bench().plane
    route = plane.recognise(b"/v2/models/digits/versions/latest/infer")
    assert route is not None
    for _ in range(3):
        answer = await plane.answer(route, "POST", (), b"")
        assert answer.status == 404
        assert route.fault is not None
        assert route.fault.__traceback__ is None


async def test_every_answer_carries_a_request_id() -> None:
    plane = Bench().plane
    route = plane.recognise(b"/v2/models/digits/infer?x=1")
    assert route is not None
    assert (await plane.answer(route, "POST", ((b"x-request-id", b"mine"),), b"{}")).request_id == b"mine"
    assert (await plane.answer(route, "GET", (), b"")).request_id
    assert plane.refuse(route, (), errors.RequestTooLarge("x")).request_id


def test_pages_are_not_predictions() -> None:
    plane = Bench().plane
    for target in (b"/", b"/v2", b"/v2/models/digits", b"/v2/models/digits/ready", b"/v2/models//infer", b"\xff"):
        assert plane.recognise(target) is None


async def test_the_headers_that_matter_are_found_among_others() -> None:
    bench = Bench()
    others = [(b"host", b"h"), (b"x-request-timeout", b"nonsense"), (b"accept", b"*/*")]
    answer = await bench.call(*others, (b"x-request-timeout-ms", b"1000"), (b"x-request-id", b"mine"))
    assert (answer.status, answer.request_id) == (200, b"mine")
    refused = await bench.call(*others, (b"inference-header-content-length", b"80"))
    assert refused.status == 400
    [request] = bench.asked
    assert request.timeout_s is not None
    assert 0 < request.timeout_s <= 1


async def test_a_caller_says_how_long_it_waits_in_a_header_or_in_the_body() -> None:
    bench = Bench()
    await bench.call()
    await bench.call((b"x-request-timeout-ms", b"60000"))
    await bench.call(rest=',"parameters":{"timeout":30000000,"priority":2}')
    await bench.call((b"x-request-timeout-ms", b"60000"), rest=',"parameters":{"timeout":30000000}')
    await bench.call((b"x-request-timeout-ms", b"20000.5"), rest=',"parameters":{"timeout":30000000}')
    granted_s = [request.timeout_s for request in bench.asked]
    assert granted_s[0] is None
    # The time that decoding took is over already.
    for left_s, whole_s in zip(granted_s[1:], (60, 30, 30, 20.0005), strict=True):
        assert left_s is not None
        assert whole_s - 10 < left_s < whole_s
    assert [request.priority for request in bench.asked] == [DEFAULT_PRIORITY] * 2 + [2] + [DEFAULT_PRIORITY] * 2


@pytest.mark.parametrize("value", [b"soon", b"0", b"-5"])
async def test_a_timeout_that_is_none_is_refused(value: bytes) -> None:
    bench = Bench()
    answer = await bench.call((b"x-request-timeout-ms", value))
    assert answer.status == 400
    assert "X-Request-Timeout-Ms" in json.loads(answer.body)["error"]
    assert bench.asked == []


async def test_a_late_answer_is_sent_and_counted_and_logged_as_late(written: io.StringIO) -> None:
    bench = Bench(lambda _: LATE)
    answer = await bench.call()
    assert answer.status == 200
    assert json.loads(answer.body)["outputs"][0]["name"] == "y"
    assert bench.counted('sluice_requests_total{dialect="v2",model="m",outcome="late",version="1"} 1.0')
    assert 'outcome="success"' not in scrape(bench.metrics)[0].decode()
    line = json.loads(written.getvalue())
    assert (line["level"], line["outcome"], line["status"]) == ("warning", "late", 200)


@pytest.mark.parametrize(
    ("error", "status", "outcome", "reason"),
    [
        (errors.QueueFull("x"), 503, "refused", "queue_full"),
        (errors.Overloaded("x", 7.0), 503, "refused", "overloaded"),
        (errors.ModelNotReady("x"), 503, "refused", "not_ready"),
        (errors.DeadlineExceeded("x"), 504, "timeout", "deadline"),
    ],
)
async def test_a_refusal_is_counted_with_its_reason(error: Exception, status: int, outcome: str, reason: str) -> None:
    bench = Bench(refuses(error))
    answer = await bench.call()
    assert answer.status == status
    assert (b"retry-after" in dict(answer.headers)) == (status == 503)
    assert bench.counted(f'sluice_requests_total{{dialect="v2",model="m",outcome="{outcome}",version="1"}} 1.0')
    assert bench.counted(f'sluice_refusals_total{{model="m",reason="{reason}",version="1"}} 1.0')


async def test_what_is_no_refusal_has_no_reason() -> None:
    bench = Bench(refuses(errors.InvalidRequest("x")))
    await bench.call()
    assert "sluice_refusals_total{" not in scrape(bench.metrics)[0].decode()


def test_a_call_turned_away_unread_has_a_reason_if_there_was_no_room() -> None:
    bench = Bench()
    route = bench.plane.recognise(b"/v2/models/m/infer")
    assert route is not None
    bench.plane.refuse(route, (), errors.Unavailable("x"))
    bench.plane.refuse(route, (), errors.RequestTooLarge("x"))
    assert bench.counted('sluice_refusals_total{model="m",reason="crowded",version="1"} 1.0')
    assert bench.counted('sluice_requests_total{dialect="v2",model="m",outcome="too_large",version="1"} 1.0')


class Nameless(V2):
    """Takes PUT, at one path for all models; the body's first word names the model, and threads do the decoding."""

    methods = frozenset({"PUT"})
    decoded_in = ""

    def recognise(self, path: str) -> Call | None:
        return Call("") if path == "/ask" else None

    def address(self, body: bytes | bytearray) -> Call:
        return Call(body.split(b" ")[0].decode())

    def heavy(self, body: bytes | bytearray, callee: Callee) -> bool:
        return True

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        Nameless.decoded_in = threading.current_thread().name
        return super().decode(body.partition(b" ")[2], headers, callee)


async def test_a_body_may_name_the_model_and_be_decoded_elsewhere() -> None:
    bench = Bench(dialect=Nameless())
    route = bench.plane.recognise(b"/ask")
    assert route is not None
    body = body_of("[1]", [1])
    assert (await bench.plane.answer(route, "PUT", (), b"m " + body)).status == 200
    assert Nameless.decoded_in != threading.current_thread().name
    assert bench.counted('sluice_requests_total{dialect="v2",model="m",outcome="success",version="1"} 1.0')
    assert (await bench.plane.answer(route, "PUT", (), b"other " + body)).status == 404
    refused = await bench.plane.answer(route, "POST", (), b"m " + body)
    assert (refused.status, dict(refused.headers)[b"allow"]) == (405, b"PUT")


async def test_a_large_answer_is_counted_while_it_is_put_into_words() -> None:
    large = InferenceResponse("m", 1, (Tensor("y", Datatype.FP32, np.zeros(100_000, np.float32)),))
    bench = Bench(lambda _: large)
    answering = asyncio.create_task(bench.call())
    most = 0
    while not answering.done():
        most = max(most, bench.held.now_bytes)
        await asyncio.sleep(0)
    assert len((await answering).body) > 300_000
    assert (most, bench.held.now_bytes) == (800_000, 0)
