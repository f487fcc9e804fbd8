"""Statistics, metrics and a client's own count agree, after calls of every kind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import models
from tests.integration.server import ASK_THE_MODEL, SluiceProcess, serving, v2

USE_THE_CACHE = {"Cache-Control": ""}


def stats(server: SluiceProcess, path: str = "") -> Any:
    [version] = server.client.get(f"/v2/models{path}/stats").json()["model_stats"]
    return version


def counts(version: Any) -> dict[str, int]:
    return {name: each["count"] for name, each in version["inference_stats"].items()}


def test_all_three_agree_on_successes_failures_hits_and_cancellations(tmp_path: Path) -> None:
    """The model counts up to `steps`, so that one call can be made to last until its client goes."""
    target = "/v2/models/loop/infer"

    def body(x: list[float], steps: int) -> dict[str, Any]:
        inputs = v2("x", [len(x), 1], x)["inputs"] + v2("steps", [len(x), 1], [steps] * len(x), "INT64")["inputs"]
        return {"inputs": inputs}

    began_ms = time.time() * 1e3
    unchecked = os.environ | {"SLUICE_BATCHING_BATCHED": "unchecked"}  # the most steps of all rows are no proof
    with serving(models.place(models.loop(), tmp_path, "loop.onnx"), env=unchecked) as server:
        post = server.client.post
        seen = [post(target, json=body([number], 1), headers=USE_THE_CACHE) for number in (1, 2, 1, 2, 1)]
        seen += [post(target, json=body([5, 6, 7], 2), headers=ASK_THE_MODEL) for _ in range(2)]
        assert [answer.status_code for answer in seen] == [200] * 7
        assert [post(target, json={"inputs": []}).status_code for _ in range(3)] == [400] * 3
        with pytest.raises(httpx.ReadTimeout):
            post(target, json=body([1], 2**62), timeout=0.5)
        deadline_s = time.monotonic() + 30
        while (version := stats(server, "/loop"))["inference_stats"]["fail"]["count"] < 4:
            assert time.monotonic() < deadline_s
        assert version == stats(server) == stats(server, "/loop/versions/1")
        assert counts(version) == {
            "success": 7,
            "fail": 4,
            "queue": 7,
            "compute_input": 4,
            "compute_infer": 4,
            "compute_output": 7 - _repeated(server),
            "cache_hit": 3,
            "cache_miss": 2,
        }
        assert (version["inference_count"], version["execution_count"]) == (1 + 1 + 3 + 3, 4)
        sizes = {each["batch_size"]: each["compute_infer"]["count"] for each in version["batch_stats"]}
        assert sizes == {1: 2, 3: 2}
        assert began_ms - 1e3 <= version["last_inference"] <= time.time() * 1e3 + 1e3
        assert all(each["ns"] > 0 for each in version["inference_stats"].values())

        def metric(name: str, **labels: str) -> float:
            return server.metric(name, model="loop", **labels)

        assert metric("sluice_requests_total", outcome="success") == 7
        assert metric("sluice_requests_total", outcome="invalid") == 3
        assert metric("sluice_requests_total", outcome="cancelled") == 1
        assert metric("sluice_batches_total", outcome="answered") == version["execution_count"]
        compute_s = version["inference_stats"]["compute_infer"]["ns"] / 1e9
        assert metric("sluice_phase_seconds_sum", phase="compute") == pytest.approx(compute_s, rel=1e-6, abs=1e-8)
        assert server.client.get("/v2/models/nobody/stats").status_code == 404


def _repeated(server: SluiceProcess) -> int:
    """Calls that were answered without being decoded, and so without being encoded."""
    phase = "sluice_phase_seconds_count"
    return 7 - int(server.metric(phase, model="loop", phase="encode"))
