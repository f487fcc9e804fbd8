"""Credentials and bodies, sent and set in every way, stand in no line, metric or trace that the gateway gives out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path

import pytest

from sluice.inference.types import Datatype
from tests import models
from tests.collector import collector
from tests.integration.server import SluiceProcess, serving, v2
from tests.redis_server import RedisServer

CALLERS, OURS = "callers-secret", "our-own-secret"
HEADERS = {
    "Authorization": f"Bearer {CALLERS}",
    "Cookie": f"session={CALLERS}",
    "X-Api-Key": CALLERS,
    "Proxy-Authorization": CALLERS,
    "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
}
QUERY = {"token": CALLERS}
BROKEN_BODIES = (
    *(CALLERS, f'"{CALLERS}"', f'["{CALLERS}"]', f'{{"inputs": "{CALLERS}"}}', f'{{"instances": ["{CALLERS}"]}}'),
    *(f'{{"inputs": [{{"name": "x", "shape": [1], "datatype": "FP32", "data": ["{CALLERS}"]}}]}}', f"{CALLERS},1\n2"),
    *(f'{{"parameters": {{"secret": "{CALLERS}"}}, "inputs": []}}', f'{{"input": "{CALLERS}"}}', f"{{{CALLERS}"),
)
PATHS = (
    *("/v2/models/linear/infer", "/v2/models/texts/infer", "/v1/models/linear:predict", "/v1/models/texts:classify"),
    *("/predictions/linear", "/invocations", "/v1/embeddings", "/v2/models/none/infer", "/v2/repository/index"),
    *("/v2/logging", "/v2/trace/setting", "/no/such/page", "/v2/repository/models/linear/load"),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    models.place(models.linear(), folder / "linear" / "1")
    models.place(models.identity(Datatype.BYTES), folder / "texts" / "1")
    return folder


@pytest.fixture(scope="module")
def locked_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that wants a password, and another one than it gets."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), ["--requirepass", "something-else"])
    server.start()
    yield server
    server.kill()


def call_in_every_way(server: SluiceProcess) -> None:
    answer = server.client.post(
        "/v2/models/texts/infer", json=v2("x", [1, 3], [CALLERS] * 3, "BYTES"), headers=HEADERS, params=QUERY
    )
    assert answer.status_code == 200
    kinds = cycle(("application/json", "text/csv", "text/plain", "application/json"))
    for path, body in product(PATHS, BROKEN_BODIES):
        headers = HEADERS | {"Content-Type": next(kinds), "Content-Encoding": "identity"}
        assert server.client.post(path, content=body, headers=headers, params=QUERY).status_code < 500
    # A worker that dies under a call, and one that comes after it.
    for worker in server.workers():
        worker.send_signal(signal.SIGKILL)
    assert server.infer("linear", v2("x", [1, 1], [3])).status_code == 200


@pytest.mark.parametrize("form", ["json", "console"])
def test_nothing_tells_a_secret(repository: Path, locked_redis: RedisServer, tmp_path: Path, form: str) -> None:
    log = tmp_path / "log"
    with collector() as traces:
        env = {
            **os.environ,
            "SLUICE_CACHE_REDIS_URL": f"redis://me:{OURS}@127.0.0.1:{locked_redis.port}/0",
            "SLUICE_TRACING_ENDPOINT": traces.url.replace("://", f"://me:{OURS}@"),
            "SLUICE_TRACING_HEADERS": f"authorization=Basic {OURS}",
            "SLUICE_LOGS_SUCCESSES_PER_S": "10000",
            "SLUICE_LOGS_REFUSALS_PER_S": "10000",
        }
        with serving(repository, "--log-level", "debug", "--log-format", form, log=log, env=env) as server:
            call_in_every_way(server)
            pages = [server.client.get(path).text for path in ("/metrics", "/v2/health", "/admin/cache")]
            assert server.stop() == 0
        # Nobody takes traces any more.
        spans = str(traces.spans)
    told = [log.read_text(), *pages, spans]
    assert "leave Redis alone" in told[0]
    assert traces.spans
    for text in told:
        assert OURS not in text
        at = text.find(CALLERS)
        assert at < 0, text[max(0, at - 300) : at + 100]
