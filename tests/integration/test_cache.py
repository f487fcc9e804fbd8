"""The cache as callers and operators see it, over a real socket, with real workers and a real Redis."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice.inference.types import Datatype
from tests import models
from tests.integration.server import SluiceProcess, serving, v2
from tests.integration.test_bad_days import write_model
from tests.redis_server import RedisServer, redis_server
from tests.waiting import eventually

EXAMPLES = Path("examples/models")


def ask(
    server: SluiceProcess, *numbers: float, model: str = "linear", cache_control: str = "max-age=0"
) -> httpx.Response:
    body = v2("x", [len(numbers), 1], [float(number) for number in numbers])
    answer = server.client.post(f"/v2/models/{model}/infer", json=body, headers={"Cache-Control": cache_control})
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [2 * number - 1 for number in numbers]
    return answer


def heard(answer: httpx.Response) -> str | None:
    word: str | None = answer.headers.get("x-cache")
    return word


def env(**settings: str) -> Mapping[str, str]:
    return os.environ | {f"SLUICE_CACHE_{name}": value for name, value in settings.items()}


@pytest.fixture(scope="module")
def shared() -> Iterator[SluiceProcess]:
    with serving(EXAMPLES) as server:
        yield server


@pytest.fixture
def emptied(shared: SluiceProcess) -> SluiceProcess:
    """For tests that look at answers alone, and at no sums over the time of the gateway."""
    assert shared.client.delete("/admin/cache").status_code == 200
    return shared


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


def test_what_a_caller_hears_of_the_cache(emptied: SluiceProcess) -> None:
    assert heard(ask(emptied, 1)) == "miss; rows=0/1"
    assert heard(ask(emptied, 1)) == "hit; rows=1/1"
    assert heard(ask(emptied, 1)) == "hit; rows=1/1"
    assert heard(ask(emptied, 2, 1, 3)) == "partial; rows=1/3"
    assert heard(ask(emptied, 3, 2, 1)) == "hit; rows=3/3"
    assert heard(ask(emptied, 1, cache_control="no-store")) is None
    assert heard(ask(emptied, 4, cache_control="no-store")) is None
    assert heard(ask(emptied, 4)) == "miss; rows=0/1"
    assert heard(ask(emptied, 1, cache_control="no-cache")) == "miss; rows=0/1"
    assert heard(ask(emptied, 5, cache_control="no-cache")) == "miss; rows=0/1"
    assert heard(ask(emptied, 5)) == "hit; rows=1/1"


def test_an_id_is_no_part_of_a_row_and_comes_back(emptied: SluiceProcess) -> None:
    for number in range(4):
        body = v2("x", [1, 1], [1.0]) | {"id": f"call {number // 2}"}
        answer = emptied.client.post("/v2/models/linear/infer", json=body, headers={"Cache-Control": ""})
        assert answer.json()["id"] == f"call {number // 2}"
        assert heard(answer) == ("hit; rows=1/1" if number else "miss; rows=0/1")


def test_the_same_row_in_flight_is_computed_once(tmp_path: Path) -> None:
    with (
        serving(write_model(tmp_path, "linear", models.linear(), "[workers]\ncount = 1\n")) as server,
        ThreadPoolExecutor(20) as pool,
    ):
        (worker,) = server.workers()
        worker.suspend()
        calls = [pool.submit(ask, server, 7) for _ in range(20)]
        eventually(
            lambda: server.metric("sluice_cache_lookups_total") >= 20,
            meanwhile=lambda: not any(call.done() for call in calls),
        )
        worker.resume()
        words = sorted(str(heard(call.result())) for call in calls)
        assert words == ["hit; rows=1/1"] * 19 + ["miss; rows=0/1"]
        assert server.metric("sluice_batch_rows_sum") == 1
        assert server.metric("sluice_cache_single_flight_followers_total") == 19


def test_operators_see_and_clear_it() -> None:
    with serving(EXAMPLES) as server:
        ask(server, 1, 2)
        ask(server, 1)
        page = server.client.get("/admin/cache").json()
        (linear,) = [model for model in page["models"] if model["model"] == "linear"]
        (memory,) = linear["tiers"]
        assert page["redis"] is None
        assert (page["entries"], page["max_bytes"]) == (2, 64 * 1024 * 1024)
        assert page["bytes"] == memory["bytes"] > 0
        assert (memory["lookups"], memory["hits"], memory["stores"], memory["entries"]) == (3, 1, 2, 2)
        assert memory["hit_ratio"] == 0.3333
        assert server.client.delete("/admin/cache/digits").json() == {"memory_entries": 0, "redis_entries": None}
        assert server.client.delete("/admin/cache/linear").json() == {"memory_entries": 2, "redis_entries": None}
        assert heard(ask(server, 1)) == "miss; rows=0/1"
        assert server.client.delete("/admin/cache").json() == {"memory_entries": 1, "redis_entries": None}
        assert heard(ask(server, 1)) == "miss; rows=0/1"
        unknown = server.client.delete("/admin/cache/nothing")
        assert unknown.status_code == 404
        assert "nothing" in unknown.json()["error"]
        paths = server.client.get("/openapi.json").json()["paths"]
        assert set(paths["/admin/cache"]) == {"get", "delete"}


def test_metrics_and_log_lines_tell_of_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(EXAMPLES, "--log-format", "json", log=log) as server:
        ask(server, 1, 2)
        ask(server, 2, 3, 4)
        own = {"model": "linear", "version": "1", "tier": "memory"}
        for name, value in {"lookups": 5, "hits": 1, "misses": 4, "stores": 4, "evictions": 0, "bypasses": 0}.items():
            assert server.metric(f"sluice_cache_{name}_total", **own) == value
        assert server.metric("sluice_cache_entries", **own) == 4
        assert server.metric("sluice_cache_lookup_seconds_count", **own) == 2
        assert server.metric("sluice_cache_pays", **own) == 1
        assert server.metric("sluice_cache_max_bytes") == 64 * 1024 * 1024
        assert server.stop() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(line["cache_hits"], line["cache_rows"]) for line in lines if line["event"] == "prediction"]
    assert told == [(0, 2), (1, 3)]


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    write_model(tmp_path, "kept", models.linear())
    write_model(tmp_path, "fresh", models.linear(), "[cache]\nenabled = false\n")
    with serving(tmp_path) as server:
        for _ in range(2):
            assert heard(ask(server, 1, model="fresh")) is None
        assert server.client.get("/v2/models/fresh/config").json()["sluice"]["cache"]["enabled"] is False
        assert heard(ask(server, 1, model="kept")) == "miss; rows=0/1"
    with serving(tmp_path, env=env(ENABLED="false")) as server:
        assert heard(ask(server, 1, model="kept")) is None
    with serving(tmp_path, env=env(MEMORY_BYTES="0")) as server:
        assert heard(ask(server, 1, model="kept")) is None


def test_a_model_that_draws_random_numbers_is_not_kept(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, "noisy", models.noisy())) as server:
        body = v2("x", [1, 2], [1.0, 2.0])
        answers = [server.client.post("/v2/models/noisy/infer", json=body, headers={"Cache-Control": ""}) for _ in "ab"]
        assert [heard(answer) for answer in answers] == [None, None]
        assert answers[0].json()["outputs"] != answers[1].json()["outputs"]
        shown = server.client.get("/v2/models/noisy/config").json()["sluice"]["cache"]
        assert shown["enabled"] is False
        assert "RandomNormalLike" in shown["because"]


def test_rows_that_depend_on_each_other_are_kept_together(tmp_path: Path) -> None:
    def centred(server: SluiceProcess, *rows: float) -> tuple[str | None, Any]:
        body = v2("x", [len(rows), 2], [value for row in rows for value in (row, row)])
        answer = server.client.post("/v2/models/centred/infer", json=body, headers={"Cache-Control": ""})
        return heard(answer), answer.json()["outputs"][0]["data"]

    with serving(write_model(tmp_path, "centred", models.centred())) as server:
        assert centred(server, 1, 3) == ("miss; rows=0/1", [-1, -1, 1, 1])
        assert centred(server, 1, 5) == ("miss; rows=0/1", [-2, -2, 2, 2])
        assert centred(server, 1, 3) == ("hit; rows=1/1", [-1, -1, 1, 1])
        assert server.client.get("/v2/models/centred/config").json()["sluice"]["cache"]["scope"] == "request"


def test_a_call_whose_time_is_over_is_refused_even_if_it_would_be_a_hit(emptied: SluiceProcess) -> None:
    ask(emptied, 1)
    body = v2("x", [1, 1], [1.0])
    headers = {"Cache-Control": "", "X-Request-Timeout-Ms": "0.0001"}
    assert emptied.client.post("/v2/models/linear/infer", json=body, headers=headers).status_code == 504
    assert heard(ask(emptied, 1)) == "hit; rows=1/1"


# With Redis.


def test_gateways_share_what_is_in_redis(redis: RedisServer) -> None:
    settings = env(REDIS_URL=redis.url, REDIS_PREFIX="mine:", REDIS_TIMEOUT_MS="5000", REDIS_CONNECT_TIMEOUT_MS="5000")
    with serving(EXAMPLES, env=settings) as one, serving(EXAMPLES, env=settings) as other:
        ask(one, 1, 2)
        eventually(lambda: len(redis.client.keys("mine:*")) >= 2)
        assert heard(ask(other, 1, 3, 2)) == "partial; rows=2/3"
        assert other.metric("sluice_cache_hits_total", model="linear", tier="redis") == 2
        assert heard(ask(other, 1)) == "hit; rows=1/1"
        assert other.client.get("/v2/health").json()["cache"]["redis"]["reads"] == "closed"
        eventually(lambda: len(redis.client.keys("mine:*")) >= 3)
        assert one.client.delete("/admin/cache/linear").json() == {"memory_entries": 2, "redis_entries": 3}
        assert redis.client.keys("*:*:*") == []


def test_another_model_of_the_same_name_never_answers_with_old_results(tmp_path: Path, redis: RedisServer) -> None:
    """The files decide: a version that was replaced has other keys."""
    settings = env(REDIS_URL=redis.url, REDIS_TIMEOUT_MS="5000", REDIS_CONNECT_TIMEOUT_MS="5000")
    with serving(write_model(tmp_path / "a", "m", models.linear()), env=settings) as server:
        ask(server, 1, model="m")
        eventually(lambda: bool(redis.client.keys("*:*:*")))
    with serving(write_model(tmp_path / "b", "m", models.identity(Datatype.FP32, ("N", 1))), env=settings) as server:
        body = v2("x", [1, 1], [1.0])
        answer = server.client.post("/v2/models/m/infer", json=body, headers={"Cache-Control": ""})
        assert heard(answer) == "miss; rows=0/1"
        assert answer.json()["outputs"][0]["data"] == [1.0]
    with serving(tmp_path / "a", env=settings) as server:
        assert heard(ask(server, 1, model="m")) == "hit; rows=1/1"


def last_error(server: SluiceProcess) -> str:
    told: str = server.client.get("/v2/health").json()["cache"]["redis"]["last_error"]
    return told


def test_a_password_is_never_shown(tmp_path: Path, redis: RedisServer) -> None:
    log = tmp_path / "log"
    url = f"redis://gate:s3cret-word@127.0.0.1:{redis.port}/0"
    with serving(EXAMPLES, "--log-format", "json", env=env(REDIS_URL=url), log=log) as server:
        ask(server, 1)
        eventually(lambda: "Redis alone" in log.read_text())
        # On a busy machine a connection may be late before it is refused.
        eventually(lambda: last_error(server) != "it does not answer in time")
        pages = ["/v2/health", "/admin/cache", "/metrics", "/v2/models/linear/config", "/openapi.json"]
        texts = [server.client.get(page).text for page in pages]
        health = json.loads(texts[0])
        assert health["ready"] is True
        assert health["cache"]["redis"]["reads"] != "closed"
        assert health["cache"]["redis"]["last_error"] == "it does not accept the user or the password"
        cleared = server.client.delete("/admin/cache")
        assert cleared.status_code == 503
        assert "the memory was cleared" in cleared.json()["error"]
        assert heard(ask(server, 1)) == "miss; rows=0/1"
        assert server.stop() == 0
    for text in (*texts, cleared.text, log.read_text()):
        assert "s3cret" not in text
        assert "gate:" not in text
