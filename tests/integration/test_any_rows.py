"""Many callers, with rows new, known and equal, who wait, give up and go: every answer is the model's own."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

from sluice.inference.types import Array
from tests import models
from tests.integration.server import PATIENCE_S, SluiceProcess, serving
from tests.integration.test_bad_days import write_model
from tests.redis_server import redis_server

CALLERS = 12
MOST_ROWS = 1500
KNOWN = 400
"""Rows that callers have in common."""

MODELS: Mapping[str, bytes] = {
    "linear": models.linear(),
    "any": models.any_width(),
    "two": models.two_in_two_out(),
    "text": models.strings(),
}


class Oracle:
    """The models by themselves."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._sessions = {
            name: onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            for name, model in MODELS.items()
        }

    def outputs(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        session = self._sessions[model]
        names = [output.name for output in session.get_outputs()]
        return {name: array.ravel() for name, array in zip(names, session.run(names, dict(inputs)), strict=True)}


def some_inputs(chance: random.Random, model: str) -> dict[str, Array]:
    """Rows of which some were sent before, some stand there often, and some are new. All sums of them are exact."""
    rows = chance.choice([1, 1, 1, 2, 7, 64, 300, chance.randrange(1, MOST_ROWS)])
    seeds = [chance.randrange(KNOWN) if chance.random() < 0.6 else chance.getrandbits(20) for _ in range(rows)]
    if chance.random() < 0.3:
        seeds = [chance.choice(seeds[:3])] * rows
    numbers = np.array(seeds, np.float64).reshape(-1, 1)
    if model == "linear":
        return {"x": numbers.astype(np.float32)}
    if model == "any":
        return {"x": (numbers * np.arange(1, 1 + chance.choice([1, 2, 5]))).astype(np.float32)}
    if model == "text":
        return {"x": np.array([f"{seed}" * (seed % 5) for seed in seeds], dtype=object)}
    return {
        "a": (numbers % 97 * np.ones(4)).astype(np.float32),
        "b": (numbers * np.array([1, -1])).astype(np.int64),
    }


def body_of(inputs: Mapping[str, Array]) -> dict[str, Any]:
    kinds = {"float32": "FP32", "int64": "INT64", "object": "BYTES"}
    return {
        "inputs": [
            {"name": name, "shape": array.shape, "datatype": kinds[str(array.dtype)], "data": array.ravel().tolist()}
            for name, array in inputs.items()
        ]
    }


async def call(client: httpx.AsyncClient, oracle: Oracle, chance: random.Random, ends: Counter[str]) -> None:
    model = chance.choice(list(MODELS))
    inputs = some_inputs(chance, model)
    expected = oracle.outputs(model, inputs)
    headers = {"Cache-Control": chance.choice(["max-age=0"] * 8 + ["no-cache", "no-store"])}
    hurried = chance.random() < 0.1
    if hurried:
        headers["X-Request-Timeout-Ms"] = str(chance.choice([1, 3, 10, 50]))
    asking = asyncio.ensure_future(client.post(f"/v2/models/{model}/infer", json=body_of(inputs), headers=headers))
    if chance.random() < 0.1:
        await asyncio.sleep(chance.choice([0.0, 0.001, 0.01, 0.03]))
        if not asking.done():
            asking.cancel()
            await asyncio.wait([asking])
            ends["gone"] += 1
            return
    answer = await asking
    if answer.status_code in (429, 503, 504):
        assert hurried or answer.status_code != 504, answer.text
        ends[str(answer.status_code)] += 1
        return
    assert answer.status_code == 200, answer.text
    for output in answer.json()["outputs"]:
        right = expected[output["name"]]
        given = np.array(output["data"], dtype=right.dtype)
        assert np.array_equal(given, right), (model, len(right), answer.headers.get("x-cache"))
    ends[str(answer.headers.get("x-cache", "-")).partition(";")[0]] += 1


async def played(url: str, calls: int, seed: int) -> Counter[str]:
    """How so many calls of each caller have ended."""
    oracle, ends = Oracle(), Counter[str]()
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client, asyncio.TaskGroup() as group:

        async def caller(number: int) -> None:
            chance = random.Random(f"{seed} {number}")
            for _ in range(calls):
                await call(client, oracle, chance, ends)

        for number in range(CALLERS):
            group.create_task(caller(number))
    return ends


@contextmanager
def gateway(folder: Path, *, redis: bool, **settings: str) -> Iterator[SluiceProcess]:
    for name, model in MODELS.items():
        write_model(folder / "models", name, model)
    cache = {f"SLUICE_CACHE_{name.upper()}": value for name, value in settings.items()}
    if not redis:
        with serving(folder / "models", env=os.environ | cache) as server:
            yield server
        return
    with redis_server(folder / "redis") as store:
        cache["SLUICE_CACHE_REDIS_URL"] = store.url
        with serving(folder / "models", env=os.environ | cache) as server:
            yield server


def plays(folder: Path, calls: int, *, redis: bool, **settings: str) -> None:
    with gateway(folder, redis=redis, **settings) as server:
        ends = asyncio.run(played(server.url, calls, seed=1))
        assert ends["hit"] > 0
        assert ends["partial"] > 0
        assert ends["miss"] > 0
        assert server.client.get("/v2/health/ready").status_code == 200


def test_every_answer_is_the_models_own(tmp_path: Path) -> None:
    plays(tmp_path, 30, redis=True, memory_bytes="256KiB", adaptive="false")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("redis", "settings"),
    [
        (False, {"adaptive": "false"}),
        (False, {"adaptive": "false", "memory_bytes": "64KiB"}),
        (True, {"adaptive": "false", "memory_bytes": "0"}),
        (True, {"adaptive": "true", "redis_lease_ms": "50"}),
        (True, {"adaptive": "false", "memory_bytes": "64KiB", "redis_lease_ms": "50"}),
    ],
)
def test_every_answer_is_the_models_own_for_a_while(tmp_path: Path, redis: bool, settings: dict[str, str]) -> None:
    plays(tmp_path, 400, redis=redis, **settings)
