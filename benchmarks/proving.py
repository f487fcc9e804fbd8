"""*proving*: what the proof from the graph costs, by itself and of a worker's load."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx.parser
from onnx import helper, numpy_helper

from benchmarks.scenarios import Check, Report, at_most
from sluice.inference.backends.onnx.proof import prove
from tests import models

LAYERS, WIDTH = 25, 1024
"""Weights of 100 MiB."""

OPERATORS = 20_000

_LOAD = """
import sys, time
began_s = time.perf_counter()
if sys.argv[2] == "without":
    import types
    from sluice.inference.findings import Independence, RowsProof
    stub = types.ModuleType("sluice.inference.backends.onnx.proof")
    stub.prove = lambda *_: RowsProof(Independence.PROVEN, "taken for granted")
    sys.modules[stub.__name__] = stub
from sluice.inference.planning.options import WorkerOptions, plan_terms
from sluice.inference.transport.messages import Load
from sluice.inference.worker.main import load_model
from sluice.inference.backends.registry import engine_of
from pathlib import Path
file = Path(sys.argv[1])
terms = plan_terms(WorkerOptions(count=1, intra_op_threads=1, max_rows=1))
loaded = load_model(Load(str(file), "cpu", terms, None), engine_of(file).model(file))
assert loaded.trial.signature.batched
print(time.perf_counter() - began_s)
"""
"""A worker's load in a process of its own, with its imports; `without` takes the proof for granted, unread."""


def large() -> bytes:
    """float32[N,1024] -> float32[N,1024], by 25 layers of 4 MiB."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(LAYERS):
        weights.append(numpy_helper.from_array(rng.random((WIDTH, WIDTH), np.float32) / WIDTH, f"w{layer}"))
        nodes += [helper.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"])]
        nodes += [helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"])]
        value = f"r{layer}"
    shapes = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", WIDTH]) for name in ("x", value)]
    graph = helper.make_graph(nodes, "large", shapes[:1], shapes[1:], weights)
    made: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()
    return made


def long() -> bytes:
    """float32[N,4] -> float32[N,4], by 20,000 operators."""
    body = "\n".join([f"t{place + 1} = Relu (t{place})" for place in range(OPERATORS)])
    text = f'<ir_version: 9, opset_import: ["" : 18]>\ng (float[N,4] t0) => (float[N,4] t{OPERATORS}) {{\n{body}\n}}'
    made: bytes = onnx.parser.parse_model(text).SerializeToString()
    return made


MODELS: Mapping[str, Callable[[], bytes]] = {
    "tiny": models.tiny,
    "mlp": models.mlp,
    "image": models.image,
    "texts": models.texts,
    "100 MiB, 50 operators": large,
    "20,000 operators": long,
}


def proving(folder: Path, rounds: int) -> Report:
    """Milliseconds; the loads with and without the proof alternate, and their medians are compared."""
    rows: list[list[str | float]] = []
    checks: list[Check] = []
    for name, build in MODELS.items():
        file = models.place(build(), folder / name)
        alone_s = min(_timed(lambda file=file: prove(file)) for _ in range(rounds))  # type: ignore[misc]
        if build is long:  # the engine takes minutes to load it
            rows.append([name, 1e3 * alone_s, "", "", ""])
            continue
        loads: dict[str, list[float]] = {"with": [], "without": []}
        for _ in range(rounds):
            for way, seen in loads.items():
                seen.append(_load_s(file, way))
        medians = [1e3 * statistics.median(seen) for seen in loads.values()]
        grown = medians[0] - medians[1]
        rows.append([name, 1e3 * alone_s, *medians, grown])
        if build is large:
            checks.append(at_most("ms that the proof adds to the load of 100 MiB", grown, 50.0))
    return Report(
        "proving: milliseconds of the proof by itself, and of a worker's load with it and without",
        ["model", "proof", "load with", "load without", "grown by"],
        rows,
        checks,
    )


def _timed(run: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    run()
    return time.perf_counter() - began_s


def _load_s(file: Path, way: str) -> float:
    done = subprocess.run([sys.executable, "-c", _LOAD, str(file), way], capture_output=True, text=True, check=True)
    return float(done.stdout)
