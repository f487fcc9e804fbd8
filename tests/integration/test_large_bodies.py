"""Large bodies on a real server: others are answered meanwhile, and readers come and go with it."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests import models
from tests.gateway.reading.reading import is_reader, stopped
from tests.integration.server import SluiceProcess, serving, v2
from tests.waiting import eventually

COLUMNS = 500_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    folder = tmp_path_factory.mktemp("models")
    models.place(models.any_width(), folder / "wide" / "1")
    models.place(models.tiny(), folder / "tiny" / "1")
    with serving(folder, env={**os.environ, "SLUICE_MODELS_DEFAULT": "wide"}) as process:
        yield process


def large() -> bytes:
    values = np.random.default_rng(1).random(COLUMNS).round(7).tolist()
    return json.dumps(v2("x", [1, COLUMNS], values)).encode()


def readers(server: SluiceProcess) -> list[int]:
    return [child.pid for child in psutil.Process(server.process.pid).children() if is_reader(child)]


def shorter() -> bytes:
    """For TensorFlow Serving's API, whose bodies are large from 256 KiB on."""
    return json.dumps({"instances": [np.random.default_rng(1).random(COLUMNS // 10).round(7).tolist()]}).encode()


def post(server: SluiceProcess, body: bytes, **headers: str) -> int:
    return server.client.post("/v1/models/wide:predict", content=body, headers=headers).status_code


def test_predictions_are_answered_while_a_large_body_is_read(server: SluiceProcess) -> None:
    body = shorter()
    assert not readers(server)
    assert post(server, body) == 200
    [pid] = readers(server)
    asked = v2("x", [1, 2], [1, 2])
    with ThreadPoolExecutor(1) as callers:
        with stopped(pid):
            call = callers.submit(post, server, gzip.compress(body), **{"Content-Encoding": "gzip"})
            eventually(lambda: server.metric("sluice_readers_busy") > 0)
            for _ in range(20):
                assert server.infer("wide", asked).status_code == 200
            assert not call.done()
            assert server.metric("sluice_held_bytes") >= len(body)
        assert call.result() == 200
    assert server.metric("sluice_reader_bodies_total") == 2
    assert server.metric("sluice_held_bytes") == 0


def test_the_answer_is_that_of_the_same_values_in_binary(server: SluiceProcess) -> None:
    """Read in a reader and lent to the worker, or read where it is and copied."""
    body = json.loads(large())
    [tensor] = body["inputs"]
    raw = np.array(tensor.pop("data"), np.float32).tobytes()
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps(body).encode()
    answers = [
        server.client.post("/v2/models/wide/infer", content=content, headers=headers).json()["outputs"]
        for content, headers in (
            (large(), {}),
            (head + raw, {"Inference-Header-Content-Length": str(len(head))}),
        )
    ]
    assert answers[0] == answers[1]


def test_a_reader_that_is_killed_at_work_costs_nobody_an_answer(server: SluiceProcess) -> None:
    assert post(server, shorter()) == 200
    [pid] = readers(server)
    with ThreadPoolExecutor(1) as callers, stopped(pid):
        call = callers.submit(post, server, shorter())
        eventually(lambda: server.metric("sluice_readers_busy") > 0)
        os.kill(pid, signal.SIGKILL)
        assert call.result() == 200
    assert server.metric("sluice_reader_ends_total", reason="died") == 1
    assert server.metric("sluice_held_bytes") == 0


def test_no_reader_outlives_its_gateway(tmp_path: Path) -> None:
    models.place(models.any_width(), tmp_path / "wide" / "1")
    for number in (signal.SIGTERM, signal.SIGKILL):
        with serving(tmp_path) as server:
            assert post(server, shorter()) == 200
            [reader] = map(psutil.Process, readers(server))
            server.stop(number)
            reader.wait(20)
