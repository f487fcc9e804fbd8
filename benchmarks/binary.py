"""*binary*: a large V2 tensor as raw bytes, beside the same one as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.processes import NO_CACHE, sluice
from benchmarks.scenarios import IMAGE_SHAPE, Report, at_least, columns, median_of, v2_body
from benchmarks.wrk import Load, drive
from tests import models as built

CONNECTIONS = (1, 8)


def binary(models: Path, rounds: int, duration_s: int) -> Report:
    """A 3x224x224 float32 image to a model that does next to nothing, so that the codec is what is measured."""
    file = built.place(built.corner(), models / "corner", "corner.onnx")
    image = np.random.default_rng(0).random(IMAGE_SHAPE, np.float32)
    tensor = {"name": "x", "shape": image.shape, "datatype": "FP32", "parameters": {"binary_data_size": image.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    bodies = {
        "binary": (head + image.tobytes(), {"Inference-Header-Content-Length": str(len(head))}),
        "JSON": (v2_body(image), {}),
    }
    loads: dict[tuple[str, int], list[Load]] = {}
    with sluice(file, settings=NO_CACHE) as server:
        for _ in range(rounds):
            for connections in CONNECTIONS:
                for form, (body, headers) in bodies.items():
                    load = drive(server, "/v2/models/corner/infer", body, connections, duration_s, headers)
                    loads.setdefault((form, connections), []).append(load)
    seen = {key: median_of(each) for key, each in loads.items()}
    saved = {n: seen["JSON", n].cpu_s_per_1000 / seen["binary", n].cpu_s_per_1000 for n in CONNECTIONS}
    return Report(
        "binary: a 3x224x224 float32 image to a model that picks three values, as raw bytes and as JSON",
        ["form", "connections", "req/s", "p50 ms", "p99 ms", "CPU s / 1000"],
        [[form, connections, *columns(load)] for (form, connections), load in seen.items()],
        [at_least(f"requests per CPU-second at {n} connections, binary over JSON", saved[n], 10) for n in CONNECTIONS],
    )
