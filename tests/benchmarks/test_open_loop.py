"""Every request of a real run is accounted for, with callers who wait and with those who do not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from benchmarks.open_loop import Closed, Plan, offer
from benchmarks.processes import free_port
from sluice.loadgen.arrivals import Bursts, Poisson
from tests import models
from tests.integration.server import SluiceProcess, serving, v2


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
    assert (counts.unsent, counts.lost, counts.timed_out) == (0, 0, 0)
    assert counts.statuses == {200: counts.offered}
    assert server.metric("sluice_requests_total", model="tiny") - answered == counts.offered
    ok = seen.figures.ok
    assert ok is not None
    assert 0 < ok.p50_ms <= ok.p90_ms <= ok.p99_ms <= ok.max_ms


def test_answers_that_are_neither_good_nor_refusals_make_the_run_invalid(server: SluiceProcess) -> None:
    seen = offer(plan(server.port, Poisson(300), path="/v2/models/unknown/infer"))

    assert seen.counts.statuses == {404: seen.counts.offered}
    assert seen.figures.goodput_per_s == 0
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
