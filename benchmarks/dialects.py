"""*dialects*: one row in every REST dialect, beside V2. *tfs-decode*: an image in TensorFlow Serving's row format."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import orjson

from benchmarks.processes import sluice
from benchmarks.scenarios import Report, at_least, columns, median_of, medians, v2_body
from benchmarks.wrk import Load, drive
from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.tfs.codec import TfsPredict
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.types import Datatype, Signature, TensorSpec

ROW = np.array([[1.0, 2.5, 3.25, 4.125]], np.float32)
CONNECTIONS = 64
LEAST = 0.8
IMAGE_SHAPE = (1, 224, 224, 3)


class Spoken(msgspec.Struct, frozen=True):
    """One way to ask for a prediction: where it is sent, and what."""

    path: str
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


REFERENCE = "v2"
CALLS: Mapping[str, Spoken] = MappingProxyType(
    {
        REFERENCE: Spoken("/v2/models/tiny/infer", v2_body(ROW)),
        "tfs, rows": Spoken("/v1/models/tiny:predict", json.dumps({"instances": ROW.tolist()}).encode()),
        "tfs, columns": Spoken("/v1/models/tiny:predict", json.dumps({"inputs": {"x": ROW.tolist()}}).encode()),
        "torchserve": Spoken("/predictions/tiny", json.dumps(ROW[0].tolist()).encode()),
        "sagemaker": Spoken("/invocations", json.dumps({"instances": ROW.tolist()}).encode()),
        "sagemaker, CSV": Spoken("/invocations", b"1.0,2.5,3.25,4.125\n", {"Content-Type": "text/csv"}),
    }
)
"""A new dialect is one more line. Each asks for the same row of the same model."""


def dialects(models: Path, rounds: int, duration_s: int) -> Report:
    """One row of 4 numbers per request, in each dialect in turn; every second round goes backwards."""
    loads: dict[str, list[Load]] = {name: [] for name in CALLS}
    with sluice(models / "tiny.onnx") as server:
        for number in range(rounds):
            for name in list(CALLS)[:: 1 if number % 2 else -1]:
                call = CALLS[name]
                loads[name].append(drive(server, call.path, call.body, CONNECTIONS, duration_s, call.headers))
    rates = {name: _beside_reference([load.requests_per_s for load in each], loads) for name, each in loads.items()}
    return Report(
        f"dialects: one row of float32[4] in each REST dialect, {CONNECTIONS} connections",
        ["dialect", "req/s", "p50 ms", "p99 ms", "CPU s / 1000", "ratio of req/s"],
        [[name, *columns(median_of(each)), rates[name]] for name, each in loads.items()],
        [at_least(f"requests/s of {name} over {REFERENCE}", rates[name], LEAST) for name in CALLS if name != REFERENCE],
    )


def _beside_reference(rates: Sequence[float], loads: Mapping[str, Sequence[Load]]) -> float:
    """The median over the rounds: the machine's speed drifts, and a round sees one of its moods."""
    reference = [load.requests_per_s for load in loads[REFERENCE]]
    return statistics.median([a / b for a, b in zip(rates, reference, strict=True)])


def tfs_decode(rounds: int) -> Report:
    """A 224x224x3 float32 image as nested lists, whose shape is not stated, to an array."""
    image = np.random.default_rng(0).random(IMAGE_SHAPE, np.float32)
    signature = Signature((TensorSpec("x", Datatype.FP32, (None, *IMAGE_SHAPE[1:])),), (), batched=True)
    callee = Callee("image", 1, signature, ModelConfig())
    bodies = {
        "instances, json.dumps": json.dumps({"instances": image.tolist()}).encode(),
        "instances, orjson, short": orjson.dumps({"instances": image}, option=orjson.OPT_SERIALIZE_NUMPY),
        "named instances, json.dumps": json.dumps({"instances": [{"x": image[0].tolist()}]}).encode(),
        "named inputs, json.dumps": json.dumps({"inputs": {"x": image.tolist()}}).encode(),
    }
    rows: list[list[str | float]] = []
    checks = []
    for form, body in bodies.items():
        ours, quick = medians(rounds, partial(TfsPredict().decode, body, (), callee), partial(_parsed, body))
        rows.append([form, len(body) / 1e6, ours * 1e3, quick * 1e3, quick / ours])
        checks.append(at_least(f"{form}: orjson + np.array over Sluice", quick / ours, 2))
    return Report(
        "tfs-decode: a 224x224x3 float32 image as nested lists",
        ["body", "MB", "Sluice ms", "orjson ms", "orjson / Sluice"],
        rows,
        checks,
    )


def _parsed(body: bytes) -> object:
    members: dict[str, Any] = orjson.loads(body)
    if "inputs" in members:
        return np.array(members["inputs"]["x"], np.float32)
    rows = members["instances"]
    return np.array([row["x"] for row in rows] if isinstance(rows[0], dict) else rows, np.float32)
