"""The five measurements of `make bench`. Each interleaves Sluice with its reference and keeps the medians."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson

from benchmarks.bare_run import bare_run
from benchmarks.processes import NO_CACHE, Server, bare_uvicorn, silent_sluice, sluice
from benchmarks.wrk import Load, drive
from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.v2.codec import V2
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.types import Datatype, Signature, TensorSpec

CONNECTIONS = (1, 16, 64, 256)
IMAGE_SHAPE = (1, 3, 224, 224)


class Check(msgspec.Struct, frozen=True):
    """One claim: what was measured, the bound it was held against, and whether it holds."""

    what: str
    measured: float
    bound: str
    holds: bool


class Report(msgspec.Struct, frozen=True):
    """A table and the claims that it supports."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    checks: Sequence[Check]


def at_least(what: str, measured: float, bound: float) -> Check:
    return Check(what, measured, f"≥ {bound:g}", measured >= bound)


def at_most(what: str, measured: float, bound: float) -> Check:
    return Check(what, measured, f"≤ {bound:g}", measured <= bound)


def v2_body(array: np.ndarray[Any, Any], name: str = "x") -> bytes:
    """As a Python client writes it: float32 values in their float64 digits."""
    data = array.ravel().tolist()
    return json.dumps(
        {"inputs": [{"name": name, "shape": list(array.shape), "datatype": "FP32", "data": data}]}
    ).encode()


def median_of(loads: Iterable[Load]) -> Load:
    each = list(loads)
    return Load(
        *[statistics.median(getattr(load, field) for load in each) for field in Load.__struct_fields__],
    )


def tiny(models: Path, rounds: int, duration_s: int) -> Report:
    """One row of 4 numbers per request: what HTTP, JSON, batching and the worker cost together."""
    body = v2_body(np.array([[1.0, 2.5, 3.25, 4.125]], np.float32))
    path = "/v2/models/tiny/infer"
    with sluice(models / "tiny.onnx") as ours, bare_uvicorn() as theirs:
        seen = interleave([ours, theirs], path, body, CONNECTIONS, rounds, duration_s)
    rows: list[list[str | float]] = []
    for connections in CONNECTIONS:
        a, b = seen[ours, connections], seen[theirs, connections]
        rows.append([connections, *columns(a), *columns(b), a.requests_per_s / b.requests_per_s])
    a, b = seen[ours, 64], seen[theirs, 64]
    return Report(
        "tiny: one row of float32[4] as V2 JSON, against a bare uvicorn ASGI handler",
        ["connections", *headings("Sluice"), *headings("bare uvicorn"), "ratio of req/s"],
        rows,
        [
            at_least("requests/s at 64 connections over bare uvicorn", a.requests_per_s / b.requests_per_s, 1.2),
            at_most(
                "server CPU per request at 64 connections over bare uvicorn", a.cpu_s_per_1000 / b.cpu_s_per_1000, 1.0
            ),
        ],
    )


def observing(models: Path, rounds: int, duration_s: int) -> Report:
    """What metrics, log lines, `Server-Timing` and traces cost, on the model on which they weigh most."""
    body = v2_body(np.array([[1.0, 2.5, 3.25, 4.125]], np.float32))
    path, connections, model = "/v2/models/tiny/infer", 64, models / "tiny.onnx"
    with ExitStack() as stack:
        collector = stack.enter_context(bare_uvicorn())  # it takes whatever it is sent
        endpoint = {**NO_CACHE, "SLUICE_TRACING_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
        servers = {
            "none": stack.enter_context(silent_sluice(model)),
            "all but traces": stack.enter_context(sluice(model)),
            "and traces of 1 %": stack.enter_context(sluice(model, settings=endpoint)),
            "and traces of all": stack.enter_context(
                sluice(model, settings=endpoint | {"SLUICE_TRACING_SAMPLE_RATIO": "1"})
            ),
        }
        loads: dict[str, list[Load]] = {name: [] for name in servers}
        for number in range(rounds):
            for name in list(servers)[:: 1 if number % 2 else -1]:
                loads[name].append(drive(servers[name], path, body, connections, duration_s))

    def beside_none(name: str, of: Callable[[Load], float]) -> float:
        return statistics.median([of(a) / of(b) for a, b in zip(loads[name], loads["none"], strict=True)])

    ratios = {name: beside_none(name, lambda load: load.requests_per_s) for name in servers}
    return Report(
        "observing: tiny at 64 connections, with more and more instrumentation",
        ["instrumentation", *headings("Sluice"), "ratio of req/s", "ratio of CPU"],
        [
            [name, *columns(median_of(loads[name])), ratios[name], beside_none(name, lambda load: load.cpu_s_per_1000)]
            for name in servers
        ],
        [at_least("requests/s with all but traces over none", ratios["all but traces"], 0.95)],
    )


def mlp(models: Path, rounds: int, duration_s: int) -> Report:
    """64 → 2048 → 2048 → 10, so that batching pays: against the engine alone at its best batch size."""
    model = models / "mlp.onnx"
    threads = _default_threads()
    body = v2_body(np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32))
    path = "/v2/models/mlp/infer"
    bare, single = [], []
    loads: dict[int, list[Load]] = {connections: [] for connections in CONNECTIONS}
    with sluice(model) as ours:
        for _ in range(rounds):
            bare.append(bare_run(model, threads, "best", duration_s))
            single.append(bare_run(model, threads, 1, duration_s))
            for connections in CONNECTIONS:
                loads[connections].append(drive(ours, path, body, connections, duration_s))
    best = sorted(bare, key=lambda run: run.rows_per_s)[len(bare) // 2]
    one_p50_ms = statistics.median(run.p50_ms for run in single)
    one_p99_ms = statistics.median(run.p99_ms for run in single)
    seen = {connections: median_of(each) for connections, each in loads.items()}
    rows: list[list[str | float]] = [
        [
            f"bare run, {best.rows} rows",
            best.rows_per_s,
            best.p50_ms,
            best.p99_ms,
            best.cpu_s_per_run / best.rows * 1e3,
        ],
        ["bare run, 1 row", 1e3 / one_p50_ms, one_p50_ms, one_p99_ms, single[0].cpu_s_per_run * 1e3],
        *_rows(seen),
    ]
    return Report(
        f"mlp: one row of float32[64] per request, {threads} intra-op threads, against the engine alone",
        ["what", "rows/s", "p50 ms", "p99 ms", "CPU s / 1000 rows"],
        rows,
        [
            at_least(
                "rows/s at 64 connections over the best bare run", seen[64].requests_per_s / best.rows_per_s, 0.75
            ),
            at_most("p50 at 1 connection minus bare run of 1 row, ms", seen[1].p50_ms - one_p50_ms, 0.3),
            at_most("p99 at 1 connection minus bare run of 1 row, ms", seen[1].p99_ms - one_p99_ms, 1.0),
        ],
    )


def decode(rounds: int) -> Report:
    """A 3x224x224 float32 image in JSON, to an array."""
    image = np.random.default_rng(0).random(IMAGE_SHAPE, np.float32)
    callee = _image_callee()
    dialect = V2()
    rows: list[list[str | float]] = []
    checks: list[Check] = []
    for form, data in (("flat", image.ravel().tolist()), ("nested", image.tolist())):
        document = {"inputs": [{"name": "x", "shape": list(IMAGE_SHAPE), "datatype": "FP32", "data": data}]}
        for writer, body in (("json.dumps", json.dumps(document).encode()), ("orjson, short", _short(image, form))):
            ours, plain, quick = medians(
                rounds,
                partial(dialect.decode, body, (), callee),
                partial(_parsed, json.loads, body),
                partial(_parsed, orjson.loads, body),
            )
            rows.append(
                [f"{form}, {writer}", len(body) / 1e6, ours * 1e3, plain * 1e3, quick * 1e3, plain / ours, quick / ours]
            )
            checks.append(at_least(f"{form}, {writer}: json.loads + np.array over Sluice", plain / ours, 8))
            checks.append(at_least(f"{form}, {writer}: orjson + np.array over Sluice", quick / ours, 2))
    return Report(
        "decode: a 3x224x224 float32 image as V2 JSON",
        ["body", "MB", "Sluice ms", "json ms", "orjson ms", "json / Sluice", "orjson / Sluice"],
        rows,
        checks,
    )


def _image_callee() -> Callee:
    signature = Signature((TensorSpec("x", Datatype.FP32, (None, 3, 224, 224)),), (), batched=True)
    return Callee("image", 1, signature, ModelConfig())


def image(models: Path, rounds: int, duration_s: int) -> Report:
    """A small convolutional network on that image, end to end as JSON."""
    model = models / "image.onnx"
    body = v2_body(np.random.default_rng(0).random(IMAGE_SHAPE, np.float32), "image")
    threads = _default_threads()
    callee = _image_callee()
    dialect = V2()
    connections = (1, 16)
    loads: dict[int, list[Load]] = {count: [] for count in connections}
    references = []
    with sluice(model) as ours:
        for _ in range(rounds):
            run = bare_run(model, threads, 1, duration_s)
            references.append(run.cpu_s_per_run + _cpu_s(lambda: dialect.decode(body, (), callee)))
            for count in connections:
                loads[count].append(drive(ours, "/v2/models/image/infer", body, count, duration_s))
    reference_s = statistics.median(references)
    seen = {count: median_of(each) for count, each in loads.items()}
    rows: list[list[str | float]] = [["decode + bare run", "", "", "", reference_s * 1e3]]
    rows += _rows(seen)
    return Report(
        f"image: a convolutional network on 3x224x224 as V2 JSON, {len(body) / 1e6:.1f} MB per request",
        ["what", "req/s", "p50 ms", "p99 ms", "CPU s / 1000 requests"],
        rows,
        [
            at_most(
                f"server CPU per request at {count} connections over decode + bare run",
                load.cpu_s_per_1000 / 1e3 / reference_s,
                1.3,
            )
            for count, load in seen.items()
        ],
    )


def rest(models: Path, rounds: int) -> Report:
    """From the start of the process to readiness, and what the gateway holds when it does nothing."""
    ready_s, rss_mb = [], []
    for _ in range(rounds):
        with sluice(models / "tiny.onnx") as ours:
            ready_s.append(ours.ready_after_s)
            rss_mb.append(ours.gateway_rss_bytes() / 1e6)
    start, memory = statistics.median(ready_s), statistics.median(rss_mb)
    return Report(
        "rest: start and memory",
        ["start to ready, s", "gateway memory at rest, MB"],
        [[start, memory]],
        [at_most("start to ready, s", start, 2.0), at_most("gateway memory without the workers, MB", memory, 120.0)],
    )


def interleave(
    servers: Sequence[Server], path: str, body: bytes, connections: Iterable[int], rounds: int, duration_s: int
) -> dict[tuple[Server, int], Load]:
    loads: dict[tuple[Server, int], list[Load]] = {}
    for _ in range(rounds):
        for count in connections:
            for server in servers:
                loads.setdefault((server, count), []).append(drive(server, path, body, count, duration_s))
    return {key: median_of(each) for key, each in loads.items()}


def headings(who: str) -> list[str]:
    return [f"{who} req/s", f"{who} p50 ms", f"{who} p99 ms", f"{who} CPU s / 1000"]


def columns(load: Load) -> list[float]:
    return [load.requests_per_s, load.p50_ms, load.p99_ms, load.cpu_s_per_1000]


def _rows(seen: Mapping[int, Load]) -> list[list[str | float]]:
    return [[f"Sluice, {connections} connections", *columns(load)] for connections, load in seen.items()]


def medians(rounds: int, *calls: Callable[[], object]) -> list[float]:
    """Median seconds per call, the calls taken in turn."""
    seen: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, each in zip(calls, seen, strict=True):
            begun_s = time.perf_counter()
            call()
            each.append(time.perf_counter() - begun_s)
    return [statistics.median(each) for each in seen]


def _parsed(parse: Callable[[bytes], Any], body: bytes) -> object:
    return np.array(parse(body)["inputs"][0]["data"], np.float32)


def _cpu_s(call: Callable[[], object], repeats: int = 50) -> float:
    call()
    begun_s = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - begun_s) / repeats


def _short(image: np.ndarray[Any, Any], form: str) -> bytes:
    data = image.ravel() if form == "flat" else image
    document = {"inputs": [{"name": "x", "shape": list(image.shape), "datatype": "FP32", "data": data}]}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _default_threads() -> int:
    """What a worker gets by default here: all cores but the gateway's, as one worker is the default."""
    return max(1, len(os.sched_getaffinity(0)) - 1)
