"""The reference for the model path: `InferenceSession.run` alone in a loop, in a process of its own.

    python -m benchmarks.bare_run MODEL.onnx THREADS ROWS SECONDS

prints one JSON line: rows/s, and p50 and p99 of one run in milliseconds, and processor seconds per run. ROWS may be
`best`: the batch size with the most rows/s is looked for first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np


class BareRun(msgspec.Struct, frozen=True):
    """What `InferenceSession.run` does alone."""

    rows: int
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_run: float


def bare_run(model: Path, threads: int, rows: int | str, seconds: float) -> BareRun:
    """Measure in a fresh process, so that nothing of this one is in the way."""
    command = [sys.executable, "-m", "benchmarks.bare_run", str(model), str(threads), str(rows), str(seconds)]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    return msgspec.json.decode(output.splitlines()[-1], type=BareRun)


def main() -> None:
    import onnxruntime as ort

    model, threads, rows, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    inner = [size if isinstance(size, int) else 1 for size in spec.shape[1:]]
    generator = np.random.default_rng(0)

    def measure(count: int, duration_s: float) -> dict[str, float]:
        feed = {spec.name: generator.standard_normal((count, *inner)).astype(np.float32)}
        for _ in range(3):
            session.run(None, feed)
        runs_s = []
        begun_s, cpu_begun_s = time.perf_counter(), time.process_time()
        while time.perf_counter() - begun_s < duration_s:
            run_begun_s = time.perf_counter()
            session.run(None, feed)
            runs_s.append(time.perf_counter() - run_begun_s)
        total_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_begun_s
        p50, p99 = np.percentile(runs_s, [50, 99]) * 1e3
        return {
            "rows": count,
            "rows_per_s": count * len(runs_s) / total_s,
            "p50_ms": p50,
            "p99_ms": p99,
            "cpu_s_per_run": cpu_s / len(runs_s),
        }

    if rows == "best":
        tried = [measure(2**power, 0.4) for power in range(9)]
        count = int(max(tried, key=lambda each: each["rows_per_s"])["rows"])
    else:
        count = int(rows)
    print(json.dumps(measure(count, seconds)))


if __name__ == "__main__":
    main()
