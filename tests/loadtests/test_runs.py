"""Real runs of Locust, in processes of its own, against real gateways."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from loadtests.dialects import dialects
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SluiceProcess, serving
from tests.integration.test_tls import Authority

ROOT = Path(__file__).parents[2]

PROMISE_MS = 2000
PAUSE_S = 3.0
"""Longer than what is promised, so that a service which stops for so long must fail, on any machine."""


def run_locust(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A short headless run. Its last lines on standard output are the gate's."""
    command = [sys.executable, "-m", "loadtests", "--host", url, "--headless", "--only-summary", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=ROOT)


def one_row_a_call(seconds: float, *more: str) -> tuple[str, ...]:
    """A user of each dialect who asks the smallest model, and keeps the cache out."""
    return (
        "--tags",
        "small",
        "--exclude-tags",
        "many",
        "--no-store",
        "--peak-users",
        f"{len(dialects())}",
        "--duration-s",
        f"{seconds}",
        *more,
    )


def promise(latency_ms: float) -> tuple[str, ...]:
    return ("--objective-ms", f"{latency_ms}", "--objective-percentile", "95")


@contextmanager
def paused(server: SluiceProcess) -> Iterator[None]:
    """Workers that stand still until the block is left, and those too that take their places meanwhile."""
    left = threading.Event()

    def hold() -> None:
        while not left.is_set():
            still(server)
            left.wait(0.02)
        for worker in server.workers():
            with suppress(psutil.NoSuchProcess):
                worker.resume()

    still(server)
    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        try:
            yield
        finally:
            left.set()
            holding.result()


def still(server: SluiceProcess) -> None:
    for worker in server.workers():
        with suppress(psutil.NoSuchProcess):
            # One that is stopped before it is past `exec` would hold up whoever forks it.
            if any("sluice.inference.worker.main" in argument for argument in worker.cmdline()):
                worker.suspend()


def stop_for_a_while(server: SluiceProcess, ended: threading.Event) -> None:
    """From before the first batch until `PAUSE_S` after it has come."""
    with paused(server):
        while server.metric("sluice_batches_in_flight") < 1:
            assert not ended.is_set(), "no call came while the workers stood still"
        ended.wait(PAUSE_S)


def test_the_gate_lets_a_healthy_service_pass_and_stops_the_same_one_slowed_down(tmp_path: Path) -> None:
    with serving(EXAMPLES) as server:
        healthy = run_locust(server.url, *one_row_a_call(3, "--csv", str(tmp_path / "run")), *promise(PROMISE_MS))
        assert healthy.returncode == 0, healthy.stdout + healthy.stderr
        assert "gate: PASS" in healthy.stdout
        with (tmp_path / "run_stats.csv").open() as file:
            rows = {row["Name"]: row for row in csv.DictReader(file)}
        assert int(rows["v2 linear, 1 row"]["Request Count"]) > 0

        ended = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            pause = pool.submit(stop_for_a_while, server, ended)
            slow = run_locust(server.url, *one_row_a_call(PAUSE_S + 3, "--rate-per-user", "2"), *promise(PROMISE_MS))
            ended.set()
            pause.result()
    assert slow.returncode == 1, slow.stdout + slow.stderr
    assert f"<= {PROMISE_MS} ms" in slow.stdout
    failing = [line.split("  ")[0] for line in slow.stdout.splitlines() if line.endswith("FAIL")]
    assert failing == ["p95 of predictions", "gate: FAIL"]


def test_every_scenario_is_answered_rightly_and_workers_figures_meet_in_the_master() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    with serving(EXAMPLES) as server:
        ended = run_locust(
            server.url,
            *("--processes", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port),
            *("--shape", "step", "--steps", "2", "--peak-users", "8", "--duration-s", "6", *promise(PROMISE_MS)),
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stdout.count("gate: PASS") == 1
        assert "(8 users) or more: every step was kept" in ended.stdout
        counted = next(line.split()[4] for line in ended.stdout.splitlines() if line.startswith("calls answered"))
        assert 0 < int(counted) <= server.metric("sluice_requests_total")


def test_refusals_are_told_apart_from_failures(tmp_path: Path) -> None:
    full = os.environ | {"SLUICE_BATCHING_MAX_QUEUE_ROWS": "1", "SLUICE_BATCHING_MAX_ROWS": "1"}
    prefix = tmp_path / "run"
    with serving(EXAMPLES, env=full) as server, paused(server):
        ended = run_locust(server.url, *one_row_a_call(3, "--peak-users", "8", "--csv", str(prefix)))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    lines = {line[:24].strip(): line for line in ended.stdout.splitlines()}
    assert lines["failed"].endswith("pass")
    assert lines["refused"].endswith("FAIL")
    with Path(f"{prefix}_failures.csv").open() as file:
        failures = list(csv.DictReader(file))
    assert failures
    assert all(each["Name"].endswith(", refused") for each in failures)
    assert all("503, Retry-After" in each["Error"] for each in failures)


def test_certificates_are_looked_at(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    with serving(EXAMPLES, "--tls-cert", str(certificate), "--tls-key", str(key), verify=False) as server:
        for options, status in ((("--ca", str(authority.file)), 0), (("--insecure",), 0), ((), 1)):
            ended = run_locust(server.url, *one_row_a_call(2), *options)
            assert ended.returncode == status, ended.stdout + ended.stderr
        assert "certificate verify failed" in ended.stderr
