"""A model whose rows mix only late is found out while it serves: real workers, sockets, Redis."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sluice.batching.batcher import Batcher, BatchLimits
from sluice.gateway.serving.audit.auditor import Auditor, RowAudit
from sluice.gateway.serving.audit.examine import AuditFinding
from sluice.gateway.telemetry.labels import AuditOutcome
from sluice.inference.types import Array
from sluice.inference.workers.pool import WorkerOptions
from tests import models
from tests.inference.running import PATIENCE_S, nothing_left, running, until
from tests.integration.server import SluiceProcess, serving, v2
from tests.integration.test_bad_days import write_model
from tests.redis_server import redis_server
from tests.waiting import eventually

UNCHECKED = WorkerOptions(count=1, intra_op_threads=1, batched="unchecked")

ON = '[batching]\nbatched = "unchecked"\naudit_share = 1.0\n[workers]\ncount = 1\n[cache]\nadaptive = false\n'
"""As if the model had passed its trial: its rows are audited although they were never compared."""

CACHED = {"Cache-Control": ""}


class Parts:
    """Real workers, an auditor and a batcher, put together as a version does it."""

    def __init__(self, auditor: Auditor, batcher: Batcher) -> None:
        self.auditor, self.batcher = auditor, batcher
        self.looks: list[RowAudit] = []
        self.found: AuditFinding | None = None

    async def ask(self, x: Array) -> Array:
        result = await self.batcher.submit((x,), len(x), ((2,), ("y",)), ("y",))
        return result.outputs[0]


@asynccontextmanager
async def parts(model: bytes, folder: Path, share: float = 1.0) -> AsyncIterator[tuple[Parts, list[int]]]:
    """The parts, and the ids of the worker processes."""
    async with running(model, folder, UNCHECKED) as (workers, _):
        auditor = Auditor(
            workers,
            workers.signature.outputs,
            share,
            on_audit=lambda look: made.looks.append(look),
            on_mixed=lambda finding: mixed(finding),
        )
        batcher = Batcher(auditor, BatchLimits(64), on_batch=lambda report: auditor.ran(report.compute_s))
        made = Parts(auditor, batcher)

        async def mixed(finding: AuditFinding) -> None:
            made.found = finding
            batcher.unbatch()

        auditor.on_vacancy, workers.on_vacancy = batcher.wake, auditor.room
        async with auditor, batcher:
            yield made, list(workers.statistics().pids)


def large(rows: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(60, 900, (rows, 2)).astype(np.float32)


async def test_a_late_mixer_is_found_out_with_real_workers(tmp_path: Path) -> None:
    with nothing_left():
        async with asyncio.timeout(PATIENCE_S), parts(models.mixes_late(), tmp_path) as (made, _):
            seed = 0
            while made.found is None:
                seed += 1
                await asyncio.gather(*[made.ask(large(1, 100 * seed + n)) for n in range(4)])
            assert (made.found.outcome, made.found.output) == (AuditOutcome.MIXED, "y")
            rows = [large(1, n) for n in range(16)]
            answers = await asyncio.gather(*[made.ask(row) for row in rows])
            assert all(np.array_equal(row, answer) for row, answer in zip(rows, answers, strict=True))


async def test_a_worker_that_is_killed_during_a_look_fails_nobody(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_S), parts(models.mlp(), tmp_path) as (made, (pid,)):
        rows = np.ones((8, 64), np.float32)
        await made.ask(rows)
        await made.ask(rows)
        await until(lambda: made.auditor.kept is not None)
        os.kill(pid, signal.SIGSTOP)
        calls = [asyncio.ensure_future(made.ask(rows)) for _ in range(3)]
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        for answer in await asyncio.gather(*calls):
            assert answer.shape == (8, 10)
        await until(lambda: bool(made.looks))
        assert made.found is None
        assert {look.finding.outcome for look in made.looks} <= {AuditOutcome.UNFINISHED, AuditOutcome.ALIKE}


async def test_it_is_left_during_a_look(tmp_path: Path) -> None:
    with nothing_left():
        async with parts(models.mlp(), tmp_path) as (made, _):
            rows = np.ones((8, 64), np.float32)
            await made.ask(rows)
            await made.ask(rows)
            await until(lambda: made.auditor.kept is not None)


# The whole gateway.


def ask(server: SluiceProcess, rows: Array) -> httpx.Response:
    body = v2("x", list(rows.shape), rows.ravel().tolist())
    return server.client.post("/v2/models/m/infer", json=body, headers=CACHED)


def numbers(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    data: list[float] = answer.json()["outputs"][0]["data"]
    return data


def provoke(server: SluiceProcess, until: Callable[[], bool], seed: int = 0) -> None:
    """Call with several clients at once, two rows each, until a condition holds. No call may fail."""
    deadline_s = time.monotonic() + PATIENCE_S
    with ThreadPoolExecutor(8) as pool:
        while not until():
            assert time.monotonic() < deadline_s, "nothing was found"
            seed += 1
            for answer in pool.map(ask, [server] * 8, [large(2, 1000 * seed + n) for n in range(8)]):
                assert answer.status_code == 200, answer.text


def config(server: SluiceProcess) -> dict[str, Any]:
    page: dict[str, Any] = server.client.get("/v2/models/m/config").json()
    return page


def unbatched(server: SluiceProcess) -> bool:
    return not config(server)["sluice"]["batched"]


def log_lines(log: Path, event: str) -> Sequence[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if str(line.get("event", "")).startswith(event)]


@pytest.fixture
def mixer(tmp_path: Path) -> Iterator[SluiceProcess]:
    repository = write_model(tmp_path / "models", "m", models.mixes_late(), ON)
    with serving(repository, log=tmp_path / "log", env=os.environ | {"SLUICE_SERVER_MODEL_CONTROL": "true"}) as server:
        yield server


def test_once_found_out_nothing_is_answered_from_company(mixer: SluiceProcess, tmp_path: Path) -> None:
    before = config(mixer)
    assert before["sluice"]["batched"]
    assert before["max_batch_size"] > 1
    together = large(2, 1)
    wrong = numbers(ask(mixer, together))
    assert wrong != together.ravel().tolist()
    # The cache has the first row as it was beside the other.
    assert numbers(ask(mixer, together[:1])) == wrong[:2]
    provoke(mixer, lambda: unbatched(mixer))

    assert numbers(ask(mixer, together[:1])) == together[0].tolist()
    assert ask(mixer, together[:1]).headers["x-cache"] == "hit; rows=1/1"
    assert numbers(ask(mixer, together)) == wrong  # which is what the model says of these two
    with ThreadPoolExecutor(16) as pool:
        rows = [large(1, n) for n in range(64)]
        assert [numbers(answer) for answer in pool.map(lambda row: ask(mixer, row), rows)] == [
            row.ravel().tolist() for row in rows
        ]

    page = config(mixer)
    because = "while serving, a row of output 'y' changes with the rows beside it"
    assert page["sluice"]["unbatched_because"] == because
    assert page["sluice"]["cache"] == {
        "enabled": True,
        "scope": "request",
        "because": f"by whole requests: {because}",
    }
    assert page["max_batch_size"] == 0
    assert "dynamic_batching" not in page
    assert [tensor["dims"] for tensor in page["input"]] == [[-1, 2]]
    (health,) = mixer.client.get("/v2/health").json()["models"]
    assert (health["batched"], health["unbatched_because"]) == (False, because)
    (statistics,) = mixer.client.get("/v2/models/m/stats").json()["model_stats"]
    assert statistics["sluice"]["unbatched_because"] == because
    assert statistics["sluice"]["row_audits"]["mixed"] == 1
    assert mixer.metric("sluice_row_audits_total", model="m", outcome="mixed") == 1
    assert mixer.metric("sluice_rows_mixed", model="m", version="1") == 1
    assert mixer.metric("sluice_row_audit_seconds_total") > 0
    (line,) = log_lines(tmp_path / "log", "rows influence each other")
    assert (line["model"], line["version"], line["output"], line["because"]) == ("m", 1, "y", because)
    assert line["level"] == "error"


def test_a_load_anew_begins_anew(mixer: SluiceProcess) -> None:
    provoke(mixer, lambda: unbatched(mixer))
    assert mixer.client.post("/v2/repository/models/m/load").status_code == 200
    assert unbatched(mixer), "the same files: nothing was loaded"
    assert mixer.client.post("/v2/repository/models/m/unload").status_code == 200
    assert mixer.client.post("/v2/repository/models/m/load").status_code == 200
    assert not unbatched(mixer)
    assert config(mixer)["sluice"]["cache"]["scope"] == "row"
    assert mixer.metric("sluice_rows_mixed") == 0
    provoke(mixer, lambda: unbatched(mixer), seed=500)


def is_in_flight(server: SluiceProcess, batches: int) -> bool:
    return server.metric("sluice_batches_in_flight") >= batches


def in_company(server: SluiceProcess, rows: Sequence[Array]) -> list[list[float]]:
    """The answers to calls that wait for the worker together, and then share one batch."""
    (worker,) = server.workers()
    worker.suspend()
    with ThreadPoolExecutor(len(rows) + 2) as pool:
        for first in (1, 2):  # they take the worker's places
            pool.submit(ask, server, large(1, -first % 1000))
            eventually(partial(is_in_flight, server, first))
        calls = [pool.submit(ask, server, row) for row in rows]
        eventually(
            lambda: server.metric("sluice_queue_rows") >= len(rows),
            meanwhile=lambda: not any(call.done() for call in calls),
        )
        worker.resume()
        return [numbers(call.result()) for call in calls]


def test_what_another_gateway_keeps_of_rows_in_company_is_not_read(tmp_path: Path) -> None:
    by_request = ON + 'scope = "request"\n'
    repository = write_model(tmp_path / "models", "m", models.mixes_late(), by_request)
    unaudited = write_model(tmp_path / "others", "m", models.mixes_late(), by_request.replace("1.0", "0.0"))
    with redis_server(tmp_path / "redis") as redis:
        env = os.environ | {"SLUICE_CACHE_REDIS_URL": redis.url, "SLUICE_CACHE_MEMORY_BYTES": "0"}
        with serving(repository, env=env) as server, serving(unaudited, env=env) as other:
            provoke(server, lambda: unbatched(server))
            rows = [large(1, n) for n in range(8)]
            wrong = in_company(other, rows)
            eventually(lambda: len(redis.client.keys("sluice:*")) >= len(rows))
            assert sum(answer != row.ravel().tolist() for answer, row in zip(wrong, rows, strict=True)) >= 5
            assert [numbers(ask(server, row)) for row in rows] == [row.ravel().tolist() for row in rows]


def test_redis_is_emptied_of_what_was_kept_before(tmp_path: Path) -> None:
    repository = write_model(tmp_path / "models", "m", models.mixes_late(), ON.replace("1.0", "0.0"))
    with redis_server(tmp_path / "redis") as redis:
        env = os.environ | {"SLUICE_CACHE_REDIS_URL": redis.url}
        with serving(repository, env=env) as server:
            ask(server, large(8, 1))
            eventually(lambda: len(redis.client.keys("sluice:*")) >= 8)
            old = set(redis.client.keys("sluice:*"))
        (repository / "m" / "model.toml").write_text(ON)
        with serving(repository, env=env) as server:
            provoke(server, lambda: unbatched(server))
            eventually(lambda: not old & set(redis.client.keys("sluice:*")))


def test_off_for_unchecked_and_for_who_turns_it_off(tmp_path: Path) -> None:
    for place, text in enumerate(('batched = "unchecked"', "audit_share = 0")):
        repository = write_model(tmp_path / str(place), "m", models.linear(), f"[batching]\n{text}\n")
        with serving(repository) as server:
            assert config(server)["sluice"]["config"]["batching"]["audit_share"] == 0
            for number in range(20):
                body = v2("x", [8, 1], [float(number)] * 8)
                assert server.infer("m", body).status_code == 200
            assert server.metric("sluice_row_audits_total") == 0
    repository = write_model(tmp_path / "default", "m", models.linear())
    with serving(repository) as server:
        assert config(server)["sluice"]["config"]["batching"]["audit_share"] == 0.01


def test_sigterm_amid_looks(mixer: SluiceProcess) -> None:
    provoke(mixer, lambda: mixer.metric("sluice_row_audits_total") > 0)
    assert mixer.stop() == 0
