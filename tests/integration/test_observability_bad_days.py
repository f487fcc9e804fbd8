"""Whoever watches must not disturb, and must see most on the worst day."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import EXAMPLES
from tests.integration.server import PlainClient, SluiceProcess, serving, v2
from tests.waiting import eventually

GOOD = v2("x", [1, 1], [3])
SCRAPE_S = 5.0


@contextmanager
def hammered(server: SluiceProcess, callers: int) -> Iterator[list[int]]:
    """Callers that come again as soon as they are answered; the statuses that they got so far."""
    over = threading.Event()
    statuses: list[int] = []

    def call() -> None:
        with closing(PlainClient(server)) as client:
            while not over.is_set():
                statuses.append(client.infer("linear", GOOD).status)

    with ThreadPoolExecutor(callers) as pool:
        for _ in range(callers):
            pool.submit(call)
        try:
            yield statuses
        finally:
            over.set()
            for worker in server.workers():
                worker.resume()


def test_a_scrape_is_answered_while_everything_else_is_refused() -> None:
    environment = {**os.environ, "SLUICE_BATCHING_MAX_QUEUE_ROWS": "1"}
    with serving(EXAMPLES, env=environment) as server:
        for worker in server.workers():
            worker.suspend()
        with hammered(server, callers=16) as statuses:
            eventually(lambda: statuses.count(503) >= 500)
            for _ in range(10):
                scrape = httpx.get(f"{server.url}/metrics", timeout=SCRAPE_S)
                families = {family.name for family in text_string_to_metric_families(scrape.text)}
                assert {"sluice_requests", "sluice_refusals", "sluice_queue_rows"} <= families
        assert server.metric("sluice_refusals_total", model="linear", reason="queue_full") >= 500


def test_nobody_who_reads_the_log_can_stop_predictions(tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        environment = {**os.environ, "SLUICE_LOGS_REFUSALS_PER_S": "1000000"}
        with serving(EXAMPLES, "--log-format", "json", env=environment, log=log) as server:
            for _ in range(1000):  # a pipe holds some 250 of their lines
                assert server.infer("nowhere", GOOD).status_code == 404
            assert server.infer("linear", GOOD).status_code == 200
            assert server.metric("sluice_log_lines_dropped_total") == 0
            assert server.stop() == 0
        assert os.read(reader, 1 << 20).count(b'"outcome": "not_found"') > 50
    finally:
        os.close(reader)
