"""The reference for a call that comes alone: `InferenceSession.run` in a process that waits between two runs.

    python -m benchmarks.waiting_run MODEL.onnx THREADS ROWS

runs as often as each byte on standard input says, and writes how long each of these runs took to standard output, as
float64 seconds. Asked for one run at a time it sleeps before each, like a worker of Sluice that serves a single caller,
and finds its caches and its core as cold; asked for many it is the loop that caches like best. It is given no input and
gives no output: only the run itself is timed.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

MOST_RUNS = 255


@contextmanager
def waiting_run(model: Path, threads: int, rows: int) -> Iterator[Callable[[int], Sequence[float]]]:
    """A process that runs the model so many times, at most `MOST_RUNS`, when it is called: the seconds of each run."""
    command = [sys.executable, "-m", "benchmarks.waiting_run", str(model), str(threads), str(rows)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asks, answers = process.stdin.fileno(), process.stdout.fileno()

        def run(times: int) -> Sequence[float]:
            os.write(asks, bytes([times]))
            return struct.unpack(f"{times}d", os.read(answers, 8 * times))

        yield run
        process.stdin.close()  # which ends it


def main() -> None:
    import onnxruntime as ort

    model, threads, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    inner = [size if isinstance(size, int) else 1 for size in spec.shape[1:]]
    feed = {spec.name: np.random.default_rng(0).standard_normal((rows, *inner)).astype(np.float32)}
    while asked := os.read(0, 1):
        runs_s = []
        for _ in range(asked[0]):
            begun_s = time.perf_counter()
            session.run(None, feed)
            runs_s.append(time.perf_counter() - begun_s)
        os.write(1, struct.pack(f"{len(runs_s)}d", *runs_s))


if __name__ == "__main__":
    main()
