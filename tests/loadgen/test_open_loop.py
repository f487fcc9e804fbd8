"""The load generator reads answers as they come, and every request of a real run is accounted for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from benchmarks.arrivals import Bursts, Poisson
from benchmarks.open_loop import Closed, Plan, answer_status, offer
from benchmarks.processes import free_port
from tests import models
from tests.integration.server import SluiceProcess, serving, v2

ANSWER = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-LENGTH: 5\r\n\r\nabcde"


def test_an_answer_counts_once_it_is_whole() -> None:
    for length in range(len(ANSWER)):
        assert answer_status(ANSWER[:length]) is None
    assert answer_status(ANSWER) == 503


def test_a_length_in_the_body_is_not_taken_for_the_header() -> None:
    body = b"\r\nContent-Length: 1000\r\n"

    assert answer_status(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) == 200


def test_an_answer_that_the_generator_cannot_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="no Content-Length"):
        answer_status(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(ValueError, match="1 bytes longer"):
        answer_status(ANSWER + b"f")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    file = models.place(models.tiny(), tmp_path_factory.mktemp("models"), "tiny.onnx")
    with serving(file) as process:
        yield process


@pytest.mark.parametrize("load", [Poisson(300), Bursts(600, 0.05, 0.05), Closed()], ids=["poisson", "bursts", "closed"])
def test_every_request_is_accounted_for(server: SluiceProcess, load: Poisson | Bursts | Closed) -> None:
    answered = server.metric("sluice_requests_total", model="tiny")

    seen = offer(plan(server.port, load))

    counts = seen.counts
    assert counts.offered > 0
    assert (counts.unsent, counts.lost, counts.unanswered) == (0, 0, 0)
    assert counts.statuses == {200: counts.offered}
    assert server.metric("sluice_requests_total", model="tiny") - answered == counts.offered
    assert seen.ok is not None
    assert 0 < seen.ok.p50_ms <= seen.ok.p90_ms <= seen.ok.p99_ms <= seen.ok.max_ms


def test_answers_that_are_neither_good_nor_refusals_make_the_run_invalid(server: SluiceProcess) -> None:
    seen = offer(plan(server.port, Poisson(300), path="/v2/models/unknown/infer"))

    assert seen.counts.statuses == {404: seen.counts.offered}
    assert seen.goodput_per_s == 0
    assert any("neither answered nor refused" in fault for fault in seen.faults)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        offer(plan(free_port(), Poisson(300)))


def plan(port: int, load: Poisson | Bursts | Closed, path: str = "/v2/models/tiny/infer") -> Plan:
    body = json.dumps(v2("x", (1, 4), [1.0, 2.0, 3.0, 4.0])).encode()
    return Plan(
        port=port,
        path=path,
        body=body,
        load=load,
        connections=8,
        duration_s=0.3,
        warmup_s=0.1,
        objective_s=0.05,
        patience_s=30,
    )
