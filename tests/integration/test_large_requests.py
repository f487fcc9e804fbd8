"""Requests that are short on the wire and large in what they ask for: refused at once, with what would be right."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from sluice.inference.types import Datatype
from tests import models
from tests.integration.server import SluiceProcess, serving, v2
from tests.integration.test_bad_days import write_model

MAX_ANSWER_BYTES = 1 << 20
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    repository = tmp_path_factory.mktemp("large")
    write_model(repository, "any", models.identity(Datatype.FP32, ("N", "W")))
    write_model(repository, "widened", models.widened(1000))
    write_model(repository, "repeated", models.repeated())
    write_model(repository, "texts", models.identity(Datatype.BYTES, ("N", "W")))
    write_model(repository, "fixed", models.fixed_rows(2))
    settings = {"SLUICE_SERVER_MAX_ANSWER_BYTES": str(MAX_ANSWER_BYTES), "SLUICE_SERVER_MAX_ROWS": "3000"}
    with serving(repository, env=os.environ | settings) as one:
        yield one


def refused(server: SluiceProcess, model: str, body: dict[str, Any], *, cached: bool = True) -> str:
    """What is said of a request that is too large."""
    cache_control = "max-age=0" if cached else "no-store"
    answer = server.client.post(f"/v2/models/{model}/infer", json=body, headers={"Cache-Control": cache_control})
    assert answer.status_code == 413, answer.text
    text: str = answer.json()["error"]
    return text


@pytest.mark.parametrize("rows", [3001, 3_000_000, 10**12])
@pytest.mark.parametrize("cached", [True, False])
def test_rows_of_no_length(server: SluiceProcess, rows: int, cached: bool) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    said = refused(server, "any", v2("x", [rows, 0], []), cached=cached)
    assert said == (
        f"input 'x' has {rows} rows; one request has at most 3000, the lower one of server.max_rows and the model's "
        "batching.max_queue_rows"
    )
    assert process.memory_info().rss - before < 50 * MIB
    assert server.client.get("/admin/cache").json()["entries"] == 0


def test_equal_rows_are_as_many_as_they_are(server: SluiceProcess) -> None:
    assert "5000 rows" in refused(server, "any", v2("x", [5000, 1], [1.0] * 5000))
    assert server.metric("sluice_cache_lookups_total", model="any") == 0


def test_an_answer_of_known_size_is_refused_before_it_runs(server: SluiceProcess) -> None:
    ran = server.metric("sluice_batches_total", model="widened")
    said = refused(server, "widened", v2("x", [300, 1], [1.0] * 300))
    assert said == (
        "the answer would have 1200000 bytes; it may have at most 1048576 (server.max_answer_bytes): send at most 262 "
        "rows, or ask for fewer outputs"
    )
    assert server.metric("sluice_batches_total", model="widened") == ran
    assert np.shape(server.outputs("widened", v2("x", [262, 1], [1.0] * 262))["y"]) == (262_000,)


@pytest.mark.parametrize("cached", [True, False])
def test_an_answer_of_any_size_is_refused_when_it_comes(server: SluiceProcess, cached: bool) -> None:
    """However large it is: the gateway does not take it from its worker, which goes on."""
    workers = {worker.pid for worker in server.workers()}
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    for columns in (MAX_ANSWER_BYTES // 4 + 1, 64 * MIB):
        body = v2("x", [1, 1], [1.0])
        body["inputs"].append({"name": "repeats", "shape": [2], "datatype": "INT64", "data": [1, columns]})
        said = refused(server, "repeated", body, cached=cached)
        assert f"has {4 * columns} bytes; it may have at most {MAX_ANSWER_BYTES} (server.max_answer_bytes)" in said
    assert process.memory_info().rss - before < 50 * MIB
    body["inputs"][1]["data"] = [1, 3]
    assert server.outputs("repeated", body)["y"] == [1.0] * 3
    assert {worker.pid for worker in server.workers()} == workers


def test_texts_without_number(server: SluiceProcess) -> None:
    body = v2("x", [1, 140_000], [""] * 140_000, "BYTES")
    assert refused(server, "texts", body).startswith(
        "input 'x' has 140000 elements of BYTES; one request has at most 131072"
    )


def test_parameters_without_number(server: SluiceProcess) -> None:
    body = v2("x", [1, 1], [1.0]) | {"parameters": {f"p{number}": number for number in range(2000)}}
    assert refused(server, "any", body) == "the request has 2000 parameters; it may have at most 1024"


def test_other_dialects_say_the_same(server: SluiceProcess) -> None:
    answer = server.client.post("/v1/models/any:predict", json={"instances": [[1.0]] * 4000})
    assert (answer.status_code, "4000 rows" in answer.text) == (413, True)


def test_everybody_else_is_answered(server: SluiceProcess) -> None:
    assert server.outputs("any", v2("x", [3000, 1], [2.0] * 3000))["y"] == [2.0] * 3000
    assert server.outputs("fixed", v2("x", [2, 4], [1.0] * 8))["y"] == [2.0] * 8
