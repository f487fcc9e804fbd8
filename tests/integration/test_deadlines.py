"""Deadlines, priorities and the configuration page, over a real socket and with real workers.

A worker is made slow by suspending its process, so that no test depends on how fast this machine is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import models
from tests.integration.server import SluiceProcess, serving, v2
from tests.integration.test_bad_days import LINEAR, loop_request, write_model
from tests.waiting import eventually

ONE_WORKER = "[workers]\ncount = 1\n[batching]\nmax_rows = 1\n"


def call(server: SluiceProcess, timeout_ms: float | str | None = None, **parameters: Any) -> httpx.Response:
    """One row for the model `linear`, with a timeout in the header and parameters in the body."""
    headers = {} if timeout_ms is None else {"X-Request-Timeout-Ms": str(timeout_ms)}
    body = LINEAR | ({"parameters": parameters} if parameters else {})
    return server.client.post("/v2/models/linear/infer", json=body, headers=headers)


@contextmanager
def suspended(server: SluiceProcess) -> Iterator[None]:
    (worker,) = server.workers()
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()


def wait_until_in_flight(server: SluiceProcess, batches: int, calls: list[Future[httpx.Response]]) -> None:
    def none_ended() -> bool:
        ended = [each.result().text for each in calls if each.done()]
        assert not ended
        return True

    eventually(lambda: server.metric("sluice_batches_in_flight", model="linear") >= batches, meanwhile=none_ended)


@pytest.mark.parametrize(
    ("timeout_ms", "parameters"),
    [(60_000, {}), ("59999.5", {}), (None, {"timeout": 60_000_000}), (60_000, {"timeout": 50_000_000}), (None, {})],
)
def test_who_has_time_is_answered(
    examples: SluiceProcess, timeout_ms: float | str | None, parameters: Mapping[str, Any]
) -> None:
    answer = call(examples, timeout_ms, **parameters)
    assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [5.0])


@pytest.mark.parametrize(
    ("timeout_ms", "parameters"),
    [("0.001", {}), (None, {"timeout": 1}), (60_000, {"timeout": 1}), ("0.001", {"timeout": 60_000_000})],
)
def test_a_timeout_that_could_never_be_kept_is_a_504(
    examples: SluiceProcess, timeout_ms: float | str | None, parameters: Mapping[str, Any]
) -> None:
    """A millionth of a second is over before the body is decoded; the shorter of two counts."""
    before = examples.metric("sluice_refusals_total", model="linear", reason="deadline")
    answer = call(examples, timeout_ms, **parameters)
    assert answer.status_code == 504
    assert "deadline" in answer.json()["error"]
    assert examples.metric("sluice_refusals_total", model="linear", reason="deadline") == before + 1


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1e3", "nan", "9" * 50])
def test_a_header_that_is_no_timeout_is_a_400(examples: SluiceProcess, value: str) -> None:
    answer = call(examples, value)
    assert answer.status_code == 400
    assert "X-Request-Timeout-Ms" in answer.json()["error"]


@pytest.mark.parametrize(
    "parameters",
    [{"timeout": -1}, {"timeout": 1.5}, {"timeout": True}, {"priority": 10}, {"priority": -1}, {"priority": "high"}],
)
def test_parameters_out_of_range_are_a_400_that_names_them(
    examples: SluiceProcess, parameters: Mapping[str, Any]
) -> None:
    answer = call(examples, **parameters)
    assert answer.status_code == 400
    assert f"parameter '{next(iter(parameters))}'" in answer.json()["error"]


def test_every_priority_is_answered(examples: SluiceProcess) -> None:
    assert [call(examples, priority=priority).status_code for priority in range(10)] == [200] * 10


def test_a_caller_with_a_stuck_worker_is_told_when_its_time_is_over(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models", "linear", models.linear(), ONE_WORKER)
    with serving(folder) as server, suspended(server):
        answer = call(server, 300)
        assert answer.status_code == 504
        assert "deadline" in answer.json()["error"]


def test_late_answers_are_sent_and_counted_as_late(tmp_path: Path) -> None:
    """Two batches are with the worker, and come late; what waits behind them is not begun once its time is over."""
    log = tmp_path / "log"
    config = f"{ONE_WORKER}latency_objective_ms = 500\n"
    folder = write_model(tmp_path / "models", "linear", models.linear(), config)
    with serving(folder, "--log-format", "json", log=log) as server, ThreadPoolExecutor(2) as pool:
        with suspended(server):
            calls: list[Future[httpx.Response]] = []
            for batches in (1, 2):
                calls.append(pool.submit(call, server))
                wait_until_in_flight(server, batches, calls)
            behind = call(server)
            assert behind.status_code == 503
        for each in calls:
            answer = each.result()
            assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [5.0])
        assert server.metric("sluice_requests_total", model="linear", outcome="late") == 2
        assert server.metric("sluice_requests_total", model="linear", outcome="success") == 0
        assert server.metric("sluice_refusals_total", model="linear") == 1
        assert server.metric("sluice_batches_total", model="linear") == 2
        assert server.stop() == 0
    lines = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "prediction"]
    assert sorted((line["level"], line["status"]) for line in lines if line["outcome"] == "late") == [
        ("warning", 200),
        ("warning", 200),
    ]


def test_with_an_objective_nobody_waits_in_vain(tmp_path: Path) -> None:
    """Callers say nothing; the model's own promise decides."""
    config = f"{ONE_WORKER}latency_objective_ms = 500\n"
    with (
        serving(write_model(tmp_path, "linear", models.linear(), config)) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        assert server.metric("sluice_latency_objective_seconds", model="linear", version="1") == 0.5
        with suspended(server):
            calls: list[Future[httpx.Response]] = []
            for batches in (1, 2):
                calls.append(pool.submit(call, server))
                wait_until_in_flight(server, batches, calls)
            refused = call(server)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
        assert [each.result().status_code for each in calls] == [200, 200]
        assert server.metric("sluice_requests_total", model="linear", outcome="late") == 2
        assert server.metric("sluice_refusals_total", model="linear", reason="overloaded") == 1
        assert call(server).status_code == 200


def test_what_has_proved_too_slow_is_refused_before_it_is_run(tmp_path: Path) -> None:
    """At first nobody knows how long so many steps take. Late answers teach it."""
    config = "[workers]\ncount = 1\n[batching]\nbatched = false\n"
    with serving(write_model(tmp_path, "loop", models.loop(), config)) as server:
        statuses = []
        for _ in range(100):
            answer = server.client.post(
                "/v2/models/loop/infer", json=loop_request(100_000), headers={"X-Request-Timeout-Ms": "10"}
            )
            statuses.append(answer.status_code)
            if answer.status_code == 504:
                break
        assert statuses == [200] * (len(statuses) - 1) + [504]
        assert server.metric("sluice_requests_total", model="loop", outcome="late") == len(statuses) - 1
        assert server.metric("sluice_requests_total", model="loop", outcome="success") == 0


def test_the_configuration_page_shows_what_is_in_force(tmp_path: Path) -> None:
    config = "[batching]\nlatency_objective_ms = 50\nmax_queue_bytes = '1MiB'\n[workers]\ncount = 1\n"
    with serving(write_model(tmp_path, "linear", models.linear(), config)) as server:
        assert server.outputs("linear", v2("x", [2, 1], [3, 4])) == {"y": [5.0, 7.0]}
        page = server.client.get("/v2/models/linear/config").json()
        assert page == server.client.get("/v2/models/linear/versions/1/config").json()
        ours, plan = page["sluice"], page["sluice"]["plan"]
        assert page["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [1], "format": "FORMAT_NONE"}]
        assert page["max_batch_size"] == plan["max_rows"] == ours["config"]["batching"]["max_rows"]
        assert page["instance_group"][0]["count"] == plan["workers"] == len(server.workers()) == 1
        assert (ours["latency_objective_ms"], ours["batched"], ours["rows"]["missing"]) == (50, True, None)
        assert ours["config"]["batching"]["max_queue_bytes"] == 1024 * 1024
        assert ours["config"]["workers"]["intra_op_threads"] == plan["intra_op_threads"] >= 1
        assert plan["reasons"]
        run_ms = [knot["run_ms"] for knot in plan["knots"]]
        assert plan["knots"][0]["rows"] == 1
        assert all(each > 0 for each in run_ms)
        [curve] = ours["curves"]
        p95_ms = [knot["p95_ms"] for knot in curve["knots"]]
        assert p95_ms == sorted(p95_ms)
        assert p95_ms[0] > 0


def test_the_configuration_page_says_why_a_model_is_not_batched(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, "centred", models.centred())) as server:
        page = server.client.get("/v2/models/centred/config").json()
    assert page["max_batch_size"] == 0
    assert "dynamic_batching" not in page
    assert page["sluice"]["batched"] is False
    assert page["sluice"]["rows"]["because"]


def test_the_configuration_page_of_nothing_is_a_404(examples: SluiceProcess) -> None:
    for path in ("nowhere/config", "linear/versions/9/config", "linear/versions/x/config"):
        assert examples.client.get(f"/v2/models/{path}").status_code == 404


def test_the_server_says_which_extensions_it_has(examples: SluiceProcess) -> None:
    assert examples.client.get("/v2").json()["extensions"] == [
        *("binary_tensor_data", "classification", "logging", "model_configuration", "schedule_policy"),
        *("statistics", "trace"),
    ]
    paths = examples.client.get("/openapi.json").json()["paths"]
    assert "/v2/models/{model}/config" in paths
    assert "/v2/models/{model}/versions/{version}/config" in paths
