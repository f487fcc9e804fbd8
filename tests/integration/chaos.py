"""A storm: a real gateway with four models, callers who check every answer, and somebody who ends and stops workers.

python -m tests.integration.chaos --for-s 720 --every-s 1 --poisons-every-s 5
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil
from onnx.reference import ReferenceEvaluator

from tests import models
from tests.integration.server import PATIENCE_S, SluiceProcess, serving

ENDLESS, LEAST = 2**62, -(2**63)
MOST_DEATHS = 8
"""What one poison may cost in any case, as `batching.recovery` has it."""

CONFIG = {
    "linear": "[workers]\ncount = 2\nintra_op_threads = 1\n",
    "tiny": "[workers]\ncount = 1\nintra_op_threads = 1\n",
    "divide": "[workers]\ncount = 2\nintra_op_threads = 1\n",
    "loop": "[workers]\ncount = 1\nintra_op_threads = 1\nrun_timeout_s = 2\n",
}
MODELS = {"linear": models.linear, "tiny": models.tiny, "divide": models.divide, "loop": models.loop}


@dataclass(frozen=True, slots=True)
class Call:
    """One call, and the answer that it is to have; `None` for a poison, which is to fail."""

    model: str
    body: bytes
    expected: list[float] | None


@dataclass(slots=True)
class Toll:
    """What came of a storm. `failed` and `wrong` are of calls that are no poison, in words."""

    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    poisons: Counter[str] = field(default_factory=Counter)
    unlike_poison: list[str] = field(default_factory=list)
    """Poisons that did not end as one has to."""
    deaths: Counter[int] = field(default_factory=Counter)
    """Poisons by how many workers each of them cost."""
    slowest_s: float = 0.0
    causes: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, call: Call, status: int, answer: Mapping[str, Any], took_s: float) -> None:
        with self.lock:
            self.calls += 1
            self.slowest_s = max(self.slowest_s, took_s)
            if call.expected is None:
                self._note_poison(call, status, str(answer.get("error")))
            elif status != 200:
                self.failed.append(f"{call.model}: {status} after {took_s:.2f} s: {answer}")
            elif not np.allclose(answer["outputs"][0]["data"], call.expected, rtol=1e-5, atol=1e-6):
                self.wrong.append(f"{call.model}: {answer} in place of {call.expected}")

    def _note_poison(self, call: Call, status: int, told: str) -> None:
        self.poisons[f"{call.model} {status}"] += 1
        died = re.search(r"died in ([0-9]+) runs", told)
        if status == 504:
            return
        if status != 500 or died is None or int(died[1]) > MOST_DEATHS:
            self.unlike_poison.append(f"{call.model}: {status} {told}")
        elif not told.startswith("the same input"):
            self.deaths[int(died[1])] += 1


def repository(folder: Path) -> Path:
    """Four models, of one worker and of two."""
    for name, config in CONFIG.items():
        models.place(MODELS[name](), folder / name / "1")
        (folder / name / "model.toml").write_text(config)
    return folder


def storm(
    server: SluiceProcess,
    *,
    for_s: float,
    every_s: float,
    seed: int = 0,
    clients: int = 6,
    poisons_every_s: float | None = None,
) -> Toll:
    """A worker is ended or stopped about every `every_s` for so long, while clients call and check the answers.

    Returns once the last call has ended; faults end before that.
    """
    toll, stop = Toll(), threading.Event()
    with ThreadPoolExecutor(clients + 2) as pool:
        parts = [
            pool.submit(_call, server, toll, stop, Random(f"{seed} {client}"), _calls) for client in range(clients)
        ]
        if poisons_every_s is not None:
            parts.append(
                pool.submit(_call, server, toll, stop, Random(f"{seed} poison"), _poisons, poisons_every_s, PATIENCE_S)
            )
        parts.append(pool.submit(_harm, server, toll, stop, Random(f"{seed} harm"), every_s))
        with suppress(KeyboardInterrupt):
            stop.wait(for_s)
        stop.set()
        for part in parts:
            part.result()
    toll.causes = _causes(server)
    return toll


def _call(
    server: SluiceProcess,
    toll: Toll,
    stop: threading.Event,
    random: Random,
    calls: Callable[[Random], Iterator[Call]],
    pause_s: float = 0.0,
    patience_s: float = 2 * PATIENCE_S,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=patience_s)
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    for call in calls(random):
        if stop.wait(pause_s) if pause_s else stop.is_set():
            break
        began_s = time.monotonic()
        connection.request("POST", f"/v2/models/{call.model}/infer", call.body, headers)
        response = connection.getresponse()
        toll.note(call, response.status, json.loads(response.read()), time.monotonic() - began_s)
    connection.close()


def _calls(random: Random) -> Iterator[Call]:
    """Innocent calls of one to three rows."""
    reference = ReferenceEvaluator(models.tiny())
    while True:
        rows = random.randint(1, 3)
        x = [random.randint(-1000, 1000) for _ in range(rows)]
        match random.choice(list(MODELS)):
            case "linear":
                yield _made("linear", {"x": ("FP32", 1, x)}, [2.0 * each - 1 for each in x])
            case "tiny":
                values = [random.random() for _ in range(4 * rows)]
                (y,) = reference.run(None, {"x": np.array(values, np.float32).reshape(rows, 4)})
                yield _made("tiny", {"x": ("FP32", 4, values)}, np.asarray(y).ravel().tolist())
            case "divide":
                by = [random.randint(1, 50) for _ in range(rows)]
                quotients = [float(int(each / other)) for each, other in zip(x, by, strict=True)]
                yield _made("divide", {"x": ("INT64", 1, x), "by": ("INT64", 1, by)}, quotients)
            case "loop":
                steps = [random.randint(0, 20) for _ in range(rows)]
                sums = [float(each + count) for each, count in zip(x, steps, strict=True)]
                yield _made("loop", {"x": ("FP32", 1, x), "steps": ("INT64", 1, steps)}, sums)


def _poisons(random: Random) -> Iterator[Call]:
    """Poisons that crash a worker or never end, each with something of its own in it; the last one comes again."""
    while True:
        own = random.randint(1, 10**6)
        if random.random() < 0.7:
            call = _made("divide", {"x": ("INT64", 1, [LEAST, own]), "by": ("INT64", 1, [-1, 1])}, None)
        else:
            call = _made("loop", {"x": ("FP32", 1, [own]), "steps": ("INT64", 1, [ENDLESS])}, None)
        for _ in range(random.choice([1, 1, 3])):
            yield call


def _made(model: str, inputs: Mapping[str, tuple[str, int, list[Any]]], expected: list[float] | None) -> Call:
    body = [
        {"name": name, "datatype": datatype, "shape": [len(data) // width, width], "data": data}
        for name, (datatype, width, data) in inputs.items()
    ]
    return Call(model, json.dumps({"inputs": body}).encode(), expected)


def _harm(server: SluiceProcess, toll: Toll, stop: threading.Event, random: Random, every_s: float) -> None:
    """Ends and stops workers, whatever they are at; some that were stopped go on after a while, and some never."""
    stopped: list[tuple[float, psutil.Process]] = []
    while not stop.wait(random.uniform(0.5, 1.5) * every_s):
        for due_s, worker in list(stopped):
            if due_s <= time.monotonic():
                stopped.remove((due_s, worker))
                _signal(worker, signal.SIGCONT)
        workers = [worker for worker in server.workers() if _is_worker(worker)]
        if not workers:
            continue
        kind = random.choices(["killed", "all killed", "paused", "stopped"], [55, 5, 20, 20])[0]
        toll.faults[kind] += 1
        if kind == "all killed":
            for worker in workers:
                _signal(worker, signal.SIGKILL)
            continue
        worker = random.choice(workers)
        _signal(worker, signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
        if kind == "paused":
            stopped.append((time.monotonic() + random.uniform(0.0, 4.0), worker))
    for _, worker in stopped:
        _signal(worker, signal.SIGCONT)


def _signal(worker: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(number)


def _is_worker(process: psutil.Process) -> bool:
    """Whether it is past `exec`: one that is stopped before holds up whoever forks it."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return any("sluice.inference.worker.main" in argument for argument in process.cmdline())
    return False


def _causes(server: SluiceProcess) -> dict[str, float]:
    causes = ("crashed", "out_of_memory", "too_long", "garbled", "killed", "frozen", "dismissed")
    return {cause: server.metric("sluice_worker_deaths_total", cause=cause) for cause in causes}


@contextmanager
def stormy(folder: Path, log: Path | None = None) -> Iterator[SluiceProcess]:
    """A gateway for a storm."""
    with serving(repository(folder), "--log-format", "json", log=log) as server:
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--for-s", type=float, default=60.0)
    parser.add_argument("--every-s", type=float, default=1.0)
    parser.add_argument("--poisons-every-s", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--log", type=Path)
    options = vars(parser.parse_args())
    log = options.pop("log")
    with tempfile.TemporaryDirectory() as folder, stormy(Path(folder), log) as server:
        toll = storm(server, **options)
    print(f"calls {toll.calls}, slowest {toll.slowest_s:.1f} s, faults {dict(toll.faults)}, deaths {toll.causes}")
    print(f"poisons {dict(toll.poisons)}, by the workers that each cost {dict(sorted(toll.deaths.items()))}")
    for name in ("failed", "wrong", "unlike_poison"):
        found = getattr(toll, name)
        print(f"{name} {len(found)}", *found[:10], sep="\n  ")


if __name__ == "__main__":
    main()
