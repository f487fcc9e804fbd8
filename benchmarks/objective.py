"""What becomes of a promise under load: *mlp* with a latency objective, offered more and more, beside a plain queue.

Two servers take turns: one with the objective, one without. Everything is sent by the same generator, in requests of
the same shape.

*Capacity* is the highest goodput that was found with callers who wait: the answers within the objective, per second, of
a closed loop whose number of connections was searched for, on that of the two servers that gave more. It is measured
before and after each pair of runs, as the speed of a shared machine drifts; a pair's load is set by the one before it,
and its figures are divided by the mean of both.
"""

from __future__ import annotations

import re
import statistics
import urllib.request
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.attainable import attainable
from benchmarks.open_loop import Closed, Plan, Saw, offer
from benchmarks.processes import Server, sluice
from benchmarks.promises import HEADINGS, Kept, Row, Setting, checks
from benchmarks.scenarios import Report, v2_body
from sluice.loadgen.arrivals import Arrivals, Bursts, Poisson, times
from tests.models import place

OBJECTIVE_MS = 50.0
LOADS = (0.5, 0.9, 1.2, 2.0)

ROWS = 8
"""Rows per request. The engine runs some 10,000 rows/s on one core, and two cores are shared with the gateway and the
generator. Requests of one row would come 20,000 times a second at twice the capacity, and the two would take more than
the other core; requests of eight leave it mostly idle, so that the model is the bottleneck, as it is where an objective
is of use."""

CALLERS = (8, 16, 24, 32, 48)
"""Connections of the closed loops. With 48, 384 rows wait, which is most of what fits into the objective."""

CONNECTIONS = 800
"""Of the open loop: a plain queue holds 4096 rows, or 512 requests, and two batches are out."""

CAPACITY_S = 1.0
BURST_S = 0.2
"""How long a burst lasts, and how long the time between two: four objectives, so that no queue can bridge it."""


def bursts(mean_per_s: float) -> Bursts:
    """Half of the time 1.5 times the mean rate, the other half 0.5 times."""
    return Bursts(mean_per_s * 1.5, BURST_S, BURST_S, mean_per_s * 0.5)


PATTERNS: Mapping[str, Callable[[float], Arrivals]] = {"Poisson": Poisson, "bursts": bursts}


PROMISED, PLAIN = "objective", "plain queue"


def objective(models: Path, rounds: int, duration_s: int) -> Report:
    """Open-loop load on *mlp*, with an objective and without."""
    body = v2_body(np.random.default_rng(0).standard_normal((ROWS, 64)).astype(np.float32))
    promising = _with_objective(models)
    with (
        sluice(promising) as promised,
        sluice(models / "mlp.onnx") as plain,
    ):
        bench = _Bench({PROMISED: promised, PLAIN: plain}, body, duration_s)
        settings = {setting: Row(runs) for setting, runs in bench.rounds(rounds).items()}
    capacity_per_s = statistics.median(bench.capacities_per_s)
    return Report(
        f"objective: mlp, {ROWS} rows per request, open loop, objective {OBJECTIVE_MS:g} ms, latency from the intended "
        f"time; capacity {capacity_per_s:,.0f} requests/s (closed loop, {bench.callers} connections)",
        HEADINGS,
        [[f"{each.load:g} times capacity", each.pattern, each.server, *row.cells()] for each, row in settings.items()],
        list(checks(settings, PROMISED, OBJECTIVE_MS)),
    )


def _with_objective(models: Path) -> Path:
    folder = models / "promising"
    place((models / "mlp.onnx").read_bytes(), folder / "mlp" / "1")
    (folder / "mlp" / "model.toml").write_text(f"[batching]\nlatency_objective_ms = {OBJECTIVE_MS:g}\n")
    return folder


class _Bench:
    """Two servers under measurement."""

    def __init__(self, servers: Mapping[str, Server], body: bytes, duration_s: float) -> None:
        self.capacities_per_s: list[float] = []
        self._servers = servers
        self._body = body
        self._duration_s = duration_s
        self.callers = max(CALLERS, key=self._goodput_per_s)

    def rounds(self, count: int) -> dict[Setting, list[Kept]]:
        """Every setting once in each round; the servers take turns in going first."""
        kept: dict[Setting, list[Kept]] = {}
        for number in range(count):
            order = list(self._servers)[:: 1 if number % 2 == 0 else -1]
            before_per_s = self._capacity_per_s()
            for load, pattern in product(LOADS, PATTERNS):
                arrivals = PATTERNS[pattern](load * before_per_s)
                runs = {name: self._open_loop(self._servers[name], arrivals, number) for name in order}
                after_per_s = self._capacity_per_s()
                capacity_per_s = (before_per_s + after_per_s) / 2
                for name in self._servers:
                    plan, saw, cpu_s_per_1000, late = runs[name]
                    ideal_per_s = _attainable_per_s(plan, capacity_per_s)
                    setting = Setting(load, pattern, name)
                    run = Kept(saw.figures, saw.faults, capacity_per_s, ideal_per_s, cpu_s_per_1000, late)
                    kept.setdefault(setting, []).append(run)
                before_per_s = after_per_s
        return kept

    def _open_loop(self, server: Server, arrivals: Arrivals, seed: int) -> tuple[Plan, Saw, float, float]:
        plan = self._plan(server, arrivals, CONNECTIONS, self._duration_s, seed)
        cpu_s, late = server.cpu_s(), _late(server)
        saw = offer(plan)
        cpu_s, late = server.cpu_s() - cpu_s, _late(server) - late
        return plan, saw, cpu_s / saw.counts.offered * 1000, late

    def _capacity_per_s(self) -> float:
        capacity_per_s = self._goodput_per_s(self.callers)
        self.capacities_per_s.append(capacity_per_s)
        return capacity_per_s

    def _goodput_per_s(self, callers: int) -> float:
        """Of the better server. Raises `RuntimeError` if requests went astray."""
        runs = [offer(self._plan(server, Closed(), callers, CAPACITY_S, 0)) for server in self._servers.values()]
        if faults := [fault for saw in runs for fault in saw.faults]:
            raise RuntimeError(f"the capacity could not be measured: {faults}")
        return max(saw.figures.goodput_per_s for saw in runs)

    def _plan(self, server: Server, load: Arrivals | Closed, connections: int, duration_s: float, seed: int) -> Plan:
        return Plan(
            port=server.port,
            path="/v2/models/mlp/infer",
            body=self._body,
            load=load,
            connections=connections,
            duration_s=duration_s,
            objective_s=OBJECTIVE_MS / 1e3,
            warmup_s=2 * BURST_S,
            seed=seed,
        )


def _attainable_per_s(plan: Plan, capacity_per_s: float) -> float:
    assert not isinstance(plan.load, Closed)
    due_s = times(plan.load, plan.warmup_s + plan.duration_s, plan.seed)
    answered_s = attainable(due_s, capacity_per_s, plan.objective_s)
    return int((answered_s >= plan.warmup_s).sum()) / plan.duration_s


def _late(server: Server) -> float:
    """Answers that the server itself has counted as late."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        found = re.findall(r'^sluice_requests_total\{.*outcome="late".*\} (\S+)$', answer.read().decode(), re.MULTILINE)
    return sum(map(float, found))
