"""Metrics and logs say what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import EXAMPLES
from tests.integration.server import SLUICE, PlainClient, serving, v2

GOOD = v2("x", [2, 1], [3, 4])


def test_metrics_count_what_clients_saw() -> None:
    with serving(EXAMPLES) as server:
        for _ in range(7):
            server.infer("linear", GOOD)
        for _ in range(3):
            server.infer("linear", v2("z", [1, 1], [3]))
        for number in range(5):
            server.infer(f"unknown-{number}", GOOD)
        text = server.client.get("/metrics").text
        assert server.metric("sluice_requests_total", model="linear", version="1", outcome="success") == 7
        assert server.metric("sluice_requests_total", model="linear", outcome="invalid") == 3
        assert server.metric("sluice_requests_total", model="", outcome="not_found") == 5
        assert server.metric("sluice_request_duration_seconds_count", model="linear") == 10
        assert server.metric("sluice_batch_rows_sum", model="linear") == 14
        assert server.metric("sluice_queue_rows", model="linear") == 0
        assert server.metric("sluice_worker_restarts_total", model="linear") == 0
        assert "unknown-" not in text, "a name from outside became a label"
        assert list(text_string_to_metric_families(text))


def test_one_json_line_per_request_with_its_id(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(EXAMPLES, "--log-format", "json", log=log) as server:
        headers = {"X-Request-Id": "good-1"}
        server.client.post("/v2/models/linear/infer", json=GOOD, headers=headers)
        server.client.post("/v2/models/nowhere/infer", json=GOOD, headers={"X-Request-Id": "bad-1"})
        assert server.stop() == 0
    written = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "prediction"]
    assert len(written) == 2
    lines = {line["request_id"]: line for line in written}
    assert lines["good-1"]["model"] == "linear"
    assert lines["good-1"]["outcome"] == "success"
    assert lines["good-1"]["duration_ms"] > 0
    assert lines["bad-1"]["outcome"] == "not_found"
    assert lines["bad-1"]["status"] == 404
    assert "nowhere" in lines["bad-1"]["error"]


def test_a_call_turned_away_unread_is_counted_and_logged_like_any_other(tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = os.environ | {"SLUICE_SERVER_MAX_BODY_BYTES": "1000"}
    with serving(EXAMPLES, "--log-format", "json", env=environment, log=log) as server:
        answer = server.client.post("/v2/models/linear/infer", content=b"x" * 2000, headers={"X-Request-Id": "big-1"})
        assert answer.status_code == 413
        assert answer.headers["x-request-id"] == "big-1"
        assert server.metric("sluice_requests_total", model="linear", outcome="too_large") == 1
        assert server.stop() == 0
    assert [line["status"] for line in map(json.loads, log.read_text().splitlines()) if "status" in line] == [413]


def test_a_caller_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(EXAMPLES, "--log-format", "console", log=log) as server:
        server.client.post("/v2/models/%1b%5B31mFAKE%0aline/infer", json=GOOD)
        assert server.stop() == 0
    text = log.read_text()
    assert "FAKE" in text
    assert "\x1b" not in text
    assert not any(line.startswith("line") for line in text.splitlines())


def test_success_lines_are_sampled_and_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = os.environ | {"SLUICE_LOGS_SUCCESSES_PER_S": "0"}
    with serving(EXAMPLES, "--log-format", "json", env=environment, log=log) as server:
        server.infer("linear", GOOD)
        server.infer("nowhere", GOOD)
        assert server.stop() == 0
    outcomes = [line.get("outcome") for line in map(json.loads, log.read_text().splitlines())]
    assert "success" not in outcomes
    assert "not_found" in outcomes


def test_config_tells_where_each_value_comes_from(tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text("[server]\nport = 9000\nhost = '127.0.0.2'\n")
    environment = os.environ | {"SLUICE_SERVER_PORT": "9001"}
    command = [str(Path(sys.executable).with_name("sluice")), "config", "--log-level", "debug"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment).stdout
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "9001" in lines["server.port"]
    assert "SLUICE_SERVER_PORT" in lines["server.port"]
    assert "sluice.toml" in lines["server.host"]
    assert "--log-level" in lines["logs.level"]
    assert "default" in lines["server.max_body_bytes"]


def test_every_answer_says_where_its_time_went() -> None:
    with serving(EXAMPLES) as server:
        computed = server.infer("linear", GOOD).headers["server-timing"]
        phases = [part.split(";")[0] for part in computed.split(", ")]
        assert phases[-1] == "total"
        assert {"queue", "batch", "compute"} <= set(phases)
        assert server.infer("nowhere", GOOD).headers["server-timing"].startswith("total;dur=")
        for phase in ("decode", "queue", "transport", "compute", "encode"):
            assert server.metric("sluice_phase_seconds_count", model="linear", phase=phase) == 1
        assert server.metric("sluice_workers_resident_bytes", model="linear") > 1_000_000
        assert server.metric("sluice_model_load_seconds", model="linear") > 0
        assert server.metric("sluice_event_loop_lag_seconds_count") > 0


def test_a_trace_goes_from_the_caller_to_the_log_and_to_an_exemplar(tmp_path: Path) -> None:
    log, trace = tmp_path / "log", "4bf92f3577b34da6a3ce929d0e0e4736"
    with serving(EXAMPLES, "--log-format", "json", log=log) as server:
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        server.client.post("/v2/models/linear/infer", json=GOOD, headers=headers)
        text = server.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}).text
        assert f'{{trace_id="{trace}"}}' in text
        assert text.endswith("# EOF\n")
        assert server.stop() == 0
    assert trace in [line.get("trace_id") for line in map(json.loads, log.read_text().splitlines())]


def test_slow_calls_are_always_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = os.environ | {"SLUICE_LOGS_SUCCESSES_PER_S": "0", "SLUICE_LOGS_SLOW_MS": "0"}
    with serving(EXAMPLES, "--log-format", "json", env=environment, log=log) as server:
        for _ in range(3):
            server.infer("linear", GOOD)
        assert server.stop() == 0
    lines = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "prediction"]
    assert [(line["outcome"], line["slow"], line["level"]) for line in lines] == [("success", True, "warning")] * 3


def test_a_full_disk_for_logs_does_not_stop_predictions() -> None:
    with serving(EXAMPLES, "--log-format", "json", log=Path("/dev/full")) as server:
        for _ in range(5):
            assert server.infer("linear", GOOD).status_code == 200
        assert server.infer("nowhere", GOOD).status_code == 404
        assert server.stop() == 0


def test_a_label_bomb_adds_no_series() -> None:
    with serving(EXAMPLES) as server, closing(PlainClient(server)) as client:

        def bang(number: int) -> None:
            client.infer(f"bomb-{number}", GOOD, {f"X-Bomb-{number}": str(number)})
            client.infer(f"linear/versions/{number + 2}", GOOD)

        bang(0)
        before = server.client.get("/metrics").text.count("\n")
        for number in range(1, 5000):
            bang(number)
        assert server.client.get("/metrics").text.count("\n") == before


def test_the_health_check_of_a_container_knows_whether_it_is_ready() -> None:
    with serving(EXAMPLES) as server:
        command = [str(SLUICE), "ready", "--port", str(server.port)]
        assert subprocess.run(command, check=False).returncode == 0
        server.stop()
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "does not answer" in refused.stderr
