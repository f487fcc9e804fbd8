"""The plane with readers: what is held of a call while it is on its way, and when that ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from sluice.cache.cache import Cache, CacheOptions
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.long_body import LARGE_BYTES
from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.sagemaker.codec import SageMaker
from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.headers.request_ids import RequestIds
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.messages import Header, HttpResponse
from sluice.gateway.prediction.data_plane import PredictionPlane
from sluice.gateway.prediction.observer import Observer
from sluice.gateway.reading import codecs
from sluice.gateway.reading.body_reading import BodyReading
from sluice.gateway.reading.pool import Readers
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.repeated_calls import Repeats
from sluice.gateway.settings.load import Settings
from sluice.gateway.telemetry.call_log import CallLog
from sluice.gateway.telemetry.metrics import Metrics
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import ModelNotReady
from sluice.inference.types import Datatype, InferenceRequest, InferenceResponse, Tensor, Trace
from tests.gateway.dialects.bodies import callee_of
from tests.gateway.reading.reading import pids, stopped, until

pytestmark = pytest.mark.asyncio(loop_scope="module")  # the same readers for all of them
MIB = 1 << 20
ANSWER = InferenceResponse("m", 1, (Tensor("y", Datatype.FP32, np.zeros(1, np.float32)),))
GZIP: Header = (b"content-encoding", b"gzip")


class OneModel(Catalogue):
    """Serves the model `m`, which answers once it may; a test may put another version in its place."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__((), Settings(), metrics, Cache(CacheOptions(0)))
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked: list[InferenceRequest] = []
        self._meters = metrics.of_model("m", 1)
        self.served = self.version(callee_of())

    def version(self, callee: Callee) -> Any:
        return SimpleNamespace(
            callee=callee, walk=self._answer, metrics=self._meters, repeats=Repeats(), gate=None, objective_s=None
        )

    def resolve(self, model: str, version: int | None, label: str | None = None) -> Any:
        return self.served if model in ("m", "") else super().resolve(model, version, label)

    async def _answer(self, request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        self.asked.append(request)
        await self.may_answer.wait()
        return ANSWER


class Bench:
    def __init__(self, readers: Readers | None, limit_bytes: int = 256 * MIB) -> None:
        metrics = Metrics("0")
        self._readers = readers
        self._bodies = 0 if readers is None else readers.statistics().bodies
        self.held = HeldBytes(limit_bytes)
        self.model = OneModel(metrics)
        self.plane = PredictionPlane(
            self.model,
            (V2(), SageMaker()),
            Observer(metrics.unknown_model, CallLog(0, 0, slow_s=60.0), RequestIds()),
            max_body_bytes=64 * MIB,
            intake=BodyReading(self.held, 64 * MIB, readers),
        )

    async def call(self, body: bytes, *headers: Header, path: bytes = b"/v2/models/m/infer") -> HttpResponse:
        route = self.plane.recognise(path)
        assert route is not None
        return await self.plane.answer(route, "POST", headers, body)

    @property
    def read_apart(self) -> int:
        """Bodies that readers were given since."""
        return 0 if self._readers is None else self._readers.statistics().bodies - self._bodies

    async def waiting(self, calls: int) -> None:
        """Until so many calls wait for their model."""
        await until(lambda: len(self.model.asked) >= calls)


@pytest.fixture(autouse=True)
def _sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies of 1 MiB are read apart, so that tests are quick."""
    monkeypatch.setattr(codecs, "PLAIN_BYTES", MIB)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def readers() -> AsyncIterator[Readers]:
    async with Readers(2) as made:
        yield made


def v2(size_bytes: int, parameters: str = "") -> bytes:
    """About so many bytes, of which the tensor is two fifths."""
    count = size_bytes // 10
    data = b",".join([b"1.2345678"] * count)
    head = b'{"inputs":[{"name":"x","shape":[1,%d],"datatype":"FP32","data":[' % count
    return head + data + b"]}]" + parameters.encode() + b"}"


@pytest.mark.parametrize("size_bytes", [LARGE_BYTES // 2, LARGE_BYTES * 2, MIB * 2])
@pytest.mark.parametrize("packed", [False, True])
async def test_sizes_around_the_thresholds_are_one_and_the_same(
    readers: Readers, size_bytes: int, packed: bool
) -> None:
    with_readers, without = Bench(readers), Bench(None)
    body = v2(size_bytes, ',"id":"i","parameters":{"a":1}')
    for bench in (with_readers, without):
        sent, headers = (gzip.compress(body), (GZIP,)) if packed else (body, ())
        assert (await bench.call(sent, *headers)).status == 200
        assert bench.held.now_bytes == 0
    [one], [other] = with_readers.model.asked, without.model.asked
    assert np.array_equal(one.inputs[0].array, other.inputs[0].array)
    assert (one.id, dict(one.parameters)) == (other.id, dict(other.parameters)) == ("i", {"a": 1})
    assert bool(with_readers.read_apart) == (size_bytes >= MIB)


async def test_what_is_counted_is_the_tensor_once_the_body_is_read(readers: Readers) -> None:
    bench = Bench(readers)
    bench.model.may_answer.clear()
    body = v2(4 * MIB)
    call = asyncio.create_task(bench.call(body))
    await bench.waiting(1)
    tensor_bytes = bench.model.asked[0].inputs[0].array.nbytes
    assert tensor_bytes <= bench.held.now_bytes < tensor_bytes + 4096 < len(body)
    bench.model.may_answer.set()
    assert (await call).status == 200
    assert bench.held.now_bytes == 0


async def test_what_is_inflated_counts_until_it_is_answered(readers: Readers) -> None:
    """A few kilobytes on the wire are held against the bound by what they become."""
    bench = Bench(readers, limit_bytes=12 * MIB)
    bench.model.may_answer.clear()
    packed = gzip.compress(v2(8 * MIB))
    assert len(packed) < 64 * 1024
    calls = [asyncio.create_task(bench.call(packed, GZIP)) for _ in range(12)]
    most_bytes = 0
    while sum(call.done() for call in calls) + len(bench.model.asked) < len(calls):
        most_bytes = max(most_bytes, bench.held.now_bytes)
        await asyncio.sleep(0)
    assert most_bytes <= bench.held.limit_bytes
    refused = [call.result() for call in calls if call.done()]
    assert refused
    for answer in refused:
        assert answer.status == 503
        assert b"over the limit of 12582912 bytes" in answer.body
        assert any(name == b"retry-after" for name, _ in answer.headers)
    bench.model.may_answer.set()
    answers = await asyncio.gather(*calls)
    assert {answer.status for answer in answers} <= {200, 503}
    assert bench.held.now_bytes == 0


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"[" * LARGE_BYTES, (), 400),
        (v2(2 * MIB)[:-9], (), 400),
        (gzip.compress(v2(2 * MIB))[:-5], (GZIP,), 400),
        (gzip.compress(bytes(65 * MIB)), (GZIP,), 413),
        (v2(2 * MIB), ((b"content-encoding", b"br"),), 415),
        (v2(2 * MIB), ((b"x-request-timeout-ms", b"soon"),), 400),
        (gzip.compress(v2(2 * MIB)), (GZIP, (b"x-request-timeout-ms", b"0.001")), 504),
    ],
)
async def test_nothing_is_held_after_an_error(
    readers: Readers, body: bytes, headers: Sequence[Header], status: int
) -> None:
    bench = Bench(readers)
    assert (await bench.call(body, *headers)).status == status
    assert bench.held.now_bytes == 0


@pytest.mark.parametrize("headers", [(), (GZIP,)])
async def test_nothing_is_held_for_a_client_that_has_gone(readers: Readers, headers: Sequence[Header]) -> None:
    bench = Bench(readers)
    body = v2(4 * MIB)
    sent = gzip.compress(body) if headers else body
    await bench.call(sent, *headers)
    for turns in range(0, 60, 3):
        call = asyncio.create_task(bench.call(sent, *headers))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert bench.held.now_bytes == 0
    assert (await bench.call(sent, *headers)).status == 200


async def test_others_are_answered_while_one_is_read(readers: Readers) -> None:
    bench = Bench(readers)
    assert (await bench.call(v2(2 * MIB))).status == 200
    with stopped(*pids()):
        large = asyncio.create_task(bench.call(v2(2 * MIB), (b"x-request-timeout-ms", b"30000")))
        await until(lambda: readers.statistics().busy > 0)
        for _ in range(20):
            assert (await bench.call(v2(100))).status == 200
        assert not large.done()
    assert (await large).status == 200


async def test_a_call_whose_time_is_over_while_it_is_read_is_told_so(readers: Readers) -> None:
    bench = Bench(readers)
    await bench.call(v2(2 * MIB))
    with stopped(*pids()):
        answer = await bench.call(v2(2 * MIB), (b"x-request-timeout-ms", b"200"))
    assert answer.status == 504
    assert bench.held.now_bytes == 0


async def test_a_reader_that_dies_is_not_the_callers_affair(readers: Readers) -> None:
    bench = Bench(readers)
    await bench.call(v2(2 * MIB))
    there = pids()
    with stopped(*there):
        call = asyncio.create_task(bench.call(v2(2 * MIB)))
        await until(lambda: readers.statistics().busy > 0)
        for pid in there:
            os.kill(pid, signal.SIGKILL)
        assert (await call).status == 200


async def test_no_step_of_the_loop_is_long(readers: Readers) -> None:
    """By turns and not by the clock: while 16 MiB become a request, others have their turn hundreds of times."""
    bench = Bench(readers)
    await bench.call(v2(2 * MIB))
    for sent, headers in ((v2(16 * MIB), ()), (gzip.compress(v2(16 * MIB)), (GZIP,))):
        turns = 0
        call = asyncio.create_task(bench.call(sent, *headers))
        while not call.done():
            turns += 1
            await asyncio.sleep(0)
        assert call.result().status == 200
        assert turns > 200


async def test_a_successor_answers_what_it_would_have_read_alike(readers: Readers) -> None:
    bench = Bench(readers)
    model = bench.model
    old = model.served

    async def replaced(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        model.served = successors.pop()
        raise ModelNotReady("it is being replaced")

    old.walk = replaced
    labelled = callee_of(config=ModelConfig.model_validate({"labels": {"y": ["a"]}}))
    successors = [model.version(labelled), model.version(callee_of())]
    for status in (200, 503):
        model.served = old
        assert (await bench.call(v2(2 * MIB))).status == status
        assert bench.held.now_bytes == 0


async def test_files_of_a_short_body_are_read_apart_too(readers: Readers) -> None:
    bench = Bench(readers)
    body = b"\n".join([b"1,2,3"] * 10_000)
    assert LARGE_BYTES > len(body) > 32 * 1024
    answer = await bench.call(body, (b"content-type", b"text/csv"), path=b"/invocations")
    assert answer.status == 200, answer.body
    assert bench.model.asked[0].inputs[0].array.shape == (10_000, 3)
    assert bench.read_apart == 1


async def test_an_asgi_server_is_served_the_same(readers: Readers) -> None:
    bench = Bench(readers)
    sent: list[Any] = []
    body = v2(2 * MIB)
    messages = [
        {"type": "http.request", "body": body[:MIB], "more_body": True},
        {"type": "http.request", "body": body[MIB:]},
    ]
    never = asyncio.Event()

    async def receive() -> Any:
        if not messages:
            await never.wait()
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def pages(*_: object) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": []}
    await AsgiLane(bench.plane, pages)(scope, receive, send)
    assert sent[0]["status"] == 200
    assert json.loads(sent[1]["body"])["outputs"]
    assert bench.read_apart == 1
    assert bench.held.now_bytes == 0
