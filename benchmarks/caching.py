"""*hit*, *redis*, *zipf*, *identical* and *frozen*: what the cache costs and what it saves."""

from __future__ import annotations

import asyncio
import re
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np

from benchmarks.processes import Server, bare_uvicorn, sluice, sluice_with_gets, uvicorn_with_gets
from benchmarks.redis_lookups import CALLERS, looked_up
from benchmarks.scenarios import Check, Report, at_least, at_most, columns, headings, interleave, median_of, v2_body
from benchmarks.streams import drawn, unique, zipf
from benchmarks.wrk import Load, drive_script
from tests.redis_server import RedisServer, redis_server

CACHE: dict[str, str] = {}
"""The defaults: a cache in memory."""

ROW_OF_TINY = np.array([[1.0, 2.5, 3.25, 4.125]], np.float32)
DISTINCT_ROWS, EXPONENT = 100_000, 1.1
IDENTICAL = 200
ROWS_IN_REDIS = 2000
"""So many that hardly ever two callers want the same one at the same time."""
COLUMNS = {"tiny": 4, "mlp": 64}

_starts = count(1)


def hit(models: Path, rounds: int, duration_s: int) -> Report:
    """One row that is in memory, against a handler that answers a constant, and against computing it."""
    body, path = v2_body(ROW_OF_TINY), "/v2/models/tiny/infer"
    model = models / "tiny.onnx"
    connections = (1, 16, 64, 256)
    with sluice(model, settings=CACHE) as ours, sluice(model) as computing, bare_uvicorn() as bare:
        seen = interleave([ours, bare, computing], path, body, connections, rounds, duration_s)
    rows: list[list[str | float]] = []
    for number in connections:
        a, b, c = seen[ours, number], seen[bare, number], seen[computing, number]
        rows.append([number, *columns(a), *columns(b), *columns(c), a.requests_per_s / b.requests_per_s])
    a, b = seen[ours, 64], seen[bare, 64]
    return Report(
        "hit: one row of float32[4] that is in memory, against a bare uvicorn ASGI handler",
        ["connections", *headings("hit"), *headings("bare uvicorn"), *headings("no cache"), "hit / bare req/s"],
        rows,
        [
            at_least("requests/s at 64 connections over bare uvicorn", a.requests_per_s / b.requests_per_s, 1.0),
            at_most("CPU per request at 64 connections over bare uvicorn", a.cpu_s_per_1000 / b.cpu_s_per_1000, 1.0),
        ],
    )


def redis(models: Path, rounds: int, duration_s: int) -> Report:
    """Rows that are in Redis, against one awaited GET for each request."""
    path = "/v2/models/tiny/infer"
    with _redis() as server:
        alone = {way: [looked_up(server.url, way, 1.0) for _ in range(rounds)] for way in ("get", "tier")}
        redis_alone = {
            "SLUICE_CACHE_REDIS_URL": server.url,
            "SLUICE_CACHE_MEMORY_BYTES": "0",
            "SLUICE_CACHE_ADAPTIVE": "false",
            "SLUICE_CACHE_REDIS_TIMEOUT_MS": "1000",
        }
        server.client.set("sluice:benchmark:0123456789abcdef0123456789abcdef", b"x" * 200)
        with (
            tempfile.TemporaryDirectory() as folder,
            sluice(models / "tiny.onnx", settings=redis_alone) as ours,
            sluice_with_gets(models / "tiny.onnx", redis_alone) as gets,
            uvicorn_with_gets(server.url) as bare_gets,
        ):
            file = Path(folder, "numbers")
            file.write_text("\n".join(map(str, range(ROWS_IN_REDIS))))
            loads: dict[Server, list[Load]] = {ours: [], gets: [], bare_gets: []}
            drive_script(ours, path, drawn(COLUMNS["tiny"], 1, file, 0), CALLERS, 2)
            known = [_metric(ours, f"sluice_cache_{each}_total") for each in ("hits", "lookups")]
            for number in range(rounds):
                for each, seen in loads.items():
                    seen.append(drive_script(each, path, drawn(COLUMNS["tiny"], 1, file, number), CALLERS, duration_s))
            hits = _metric(ours, "sluice_cache_hits_total") - known[0]
            asked = _metric(ours, "sluice_cache_lookups_total") - known[1]
    get_per_s, tier_per_s = (statistics.median([each.per_s for each in alone[way]]) for way in ("get", "tier"))
    get_cpu_s, tier_cpu_s = (statistics.median([each.cpu_s_per_1000 for each in alone[way]]) for way in ("get", "tier"))
    a, b, c = (median_of(loads[each]) for each in (ours, gets, bare_gets))
    rows: list[list[str | float]] = [
        ["64 callers, one awaited GET each", get_per_s, "", "", get_cpu_s],
        ["64 callers, the tier's shared MGETs", tier_per_s, "", "", tier_cpu_s],
        ["64 connections, a bare handler that awaits one GET and decodes nothing", *columns(c)],
        ["64 connections, Sluice that awaits one GET for each", *columns(b)],
        ["64 connections, Sluice", *columns(a)],
    ]
    return Report(
        "redis: rows that are in Redis, against one awaited GET per request",
        ["what", "per s", "p50 ms", "p99 ms", "CPU s / 1000"],
        rows,
        [
            at_least("lookups/s of 64 callers over one GET each", tier_per_s / get_per_s, 3.0),
            at_least("requests/s over Sluice with one GET for each", a.requests_per_s / b.requests_per_s, 3.0),
            at_least("part of the rows that were found in Redis", hits / asked, 0.99),
        ],
    )


def zipf_stream(models: Path, rounds: int, duration_s: int) -> Report:
    """A stream in which few rows are frequent and most are rare, with and without a cache that begins empty."""
    path = "/v2/models/mlp/infer"
    table: list[list[str | float]] = []
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "numbers")
        file.write_text("\n".join(map(str, zipf(EXPONENT, DISTINCT_ROWS, 1_000_000, seed=1))))
        for rows_each in (1, 8):
            with_cache, without, ratios = [], [], []
            for number in range(rounds):
                script = drawn(COLUMNS["mlp"], rows_each, file, number * 100_000)
                with sluice(models / "mlp.onnx", settings=CACHE) as ours, sluice(models / "mlp.onnx") as plain:
                    with_cache.append(drive_script(ours, path, script, 64, duration_s))
                    without.append(drive_script(plain, path, script, 64, duration_s))
                    ratios.append(
                        _metric(ours, "sluice_cache_hits_total") / _metric(ours, "sluice_cache_lookups_total")
                    )
            a, b = median_of(with_cache), median_of(without)
            ratio = a.requests_per_s / b.requests_per_s
            table.append([rows_each, *columns(a), *columns(b), statistics.median(ratios), ratio])
            checks.append(at_least(f"requests/s with {rows_each} rows each, with over without cache", ratio, 1.0))
    return Report(
        f"zipf: Zipf({EXPONENT}) over {DISTINCT_ROWS:,} distinct rows on mlp, 64 connections, the cache empty at first",
        ["rows / request", *headings("cache"), *headings("no cache"), "hit ratio", "ratio of req/s"],
        table,
        checks,
    )


def identical(models: Path, rounds: int) -> Report:
    """Many callers at the same moment with the same row, which is computed once."""
    same_s, distinct_s, most_rows = [], [], 0.0
    with sluice(models / "mlp.onnx", settings=CACHE) as ours:
        for number in range(rounds * 4):
            row = np.random.default_rng(number).standard_normal((1, 64)).astype(np.float32)
            before = _metric(ours, "sluice_batch_rows_sum")
            same_s.append(asyncio.run(_at_once(ours, [v2_body(row)] * IDENTICAL)))
            most_rows = max(most_rows, _metric(ours, "sluice_batch_rows_sum") - before)
            others = [v2_body(row + 1 + place) for place in range(IDENTICAL)]
            distinct_s.append(asyncio.run(_at_once(ours, others)))
    return Report(
        f"identical: {IDENTICAL} callers at the same moment, on mlp",
        ["what", "until all were answered, ms"],
        [
            ["the same row for all", 1e3 * statistics.median(same_s)],
            ["a row of its own for each", 1e3 * statistics.median(distinct_s)],
        ],
        [at_most("rows computed for the same row, at the most", most_rows, 1)],
    )


def frozen(models: Path, rounds: int, duration_s: int) -> Report:
    """Rows that never repeat and a Redis that freezes in the middle of each run, against no cache at all."""
    table: list[list[str | float]] = []
    checks: list[Check] = []
    with _redis() as server:
        for model in ("tiny", "mlp"):
            path = f"/v2/models/{model}/infer"
            settings = {"SLUICE_CACHE_REDIS_URL": server.url}
            with (
                sluice(models / f"{model}.onnx", settings=settings) as ours,
                sluice(models / f"{model}.onnx") as plain,
            ):
                # What a cache that cannot help costs until it is known not to is part of no steady state.
                drive_script(ours, path, _unseen(model), 64, 2)
                seen: dict[Server, list[Load]] = {ours: [], plain: []}
                for _ in range(rounds):
                    for each in (plain, ours):
                        with _freezing(server, duration_s / 3):
                            seen[each].append(drive_script(each, path, _unseen(model), 64, duration_s))
                bypassed = _metric(ours, "sluice_cache_bypasses_total")
            pairs = zip(seen[ours], seen[plain], strict=True)
            ratio = statistics.median([mine.requests_per_s / other.requests_per_s for mine, other in pairs])
            a, b = median_of(seen[ours]), median_of(seen[plain])
            table.append([model, *columns(a), *columns(b), bypassed, ratio])
            checks.append(at_least(f"requests/s on {model}, with over without cache", ratio, 0.95))
    return Report(
        "frozen: rows that never repeat, 64 connections, and a Redis that freezes in the middle of each run",
        ["model", *headings("cache"), *headings("no cache"), "rows bypassed", "ratio of req/s"],
        table,
        checks,
    )


def _unseen(model: str) -> str:
    return unique(COLUMNS[model], 1, next(_starts) * 1_000_000)


@contextmanager
def _redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
        yield server


@contextmanager
def _freezing(server: RedisServer, after_s: float) -> Iterator[None]:
    """Redis works for a while, then freezes, and is well again at the end."""
    timer = threading.Timer(after_s, server.freeze)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        server.thaw()
        time.sleep(0.5)


async def _at_once(server: Server, bodies: list[bytes]) -> float:
    """Seconds until all bodies, sent at the same moment over connections of their own, were answered."""
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in bodies]
    head = "POST /v2/models/mlp/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    began_s = time.perf_counter()
    for (_, writer), body in zip(connections, bodies, strict=True):
        writer.write((head % len(body)).encode() + body)
    try:
        for reader, _ in connections:
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"a request failed: {answer!r}")
        return time.perf_counter() - began_s
    finally:
        for _, writer in connections:
            writer.close()


def _metric(server: Server, name: str) -> float:
    """A metric of a server, summed over all labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum([float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)])
