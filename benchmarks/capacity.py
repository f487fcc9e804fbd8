"""How much load one gateway takes: `python -m benchmarks.capacity`, for each bundled model.

The step ramp of `sluice load` rises from a tenth of what a closed loop gets to more than that, and the capacity is the
last step before the first in which too little was answered within the objective. The closed loop is wrk, which asks as
fast as it gets answers and promises nobody anything. Gateway and generator share the machine.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec
import numpy as np

from benchmarks.processes import SLUICE, Server, sluice
from benchmarks.scenarios import v2_body
from benchmarks.wrk import Load, drive
from sluice.loadgen.report import Report

EXAMPLES = Path(__file__).parents[1] / "examples" / "models"
INPUTS: Mapping[str, tuple[str, int]] = {"digits": ("pixels", 64), "linear": ("x", 1)}
"""Each bundled model's input and the numbers in one row of it."""

ROWS = (1, 32)
"""In one request."""

CONNECTIONS = 64
OBJECTIVE_MS = 50
LOWEST, HIGHEST, STEPS = 0.1, 1.2, 12
"""The ramp, in parts of what the closed loop got."""


class Taken(msgspec.Struct, frozen=True):
    """What was measured for one model and size of request: the closed loop, and one or more ramps."""

    model: str
    rows: int
    closed: Load
    ramps: Sequence[Report]

    @property
    def capacity_per_s(self) -> float:
        """The median of the ramps; 0 stands for one whose first step did not hold."""
        return statistics.median(ramp.capacity_per_s or 0.0 for ramp in self.ramps)

    @property
    def middle(self) -> Report:
        """The ramp whose capacity is that, or the nearest below."""
        ordered = sorted(self.ramps, key=lambda ramp: ramp.capacity_per_s or 0.0)
        return ordered[(len(ordered) - 1) // 2]


def measured(model: str, rows: int, rounds: int, step_s: float) -> Taken:
    """One closed loop, and so many ramps, each on a gateway that has just been started."""
    name, width = INPUTS[model]
    body = v2_body(np.random.default_rng(0).uniform(0, 16, (rows, width)).astype(np.float32), name)
    with sluice(EXAMPLES) as server:
        closed = drive(server, f"/v2/models/{model}/infer", body, CONNECTIONS, duration_s=4)
    ramps = []
    for number in range(rounds):
        with sluice(EXAMPLES) as server:
            ramps.append(_ramp(server, model, rows, closed.requests_per_s, step_s, number))
    return Taken(model, rows, closed, ramps)


def _ramp(server: Server, model: str, rows: int, reference_per_s: float, step_s: float, seed: int) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "report.json")
        command = [str(SLUICE), "load", f"http://127.0.0.1:{server.port}", "--model", model, "--rows", str(rows)]
        command += ["--pattern", "ramp", "--rate", f"{LOWEST * reference_per_s:.0f}"]
        command += ["--to-rate", f"{HIGHEST * reference_per_s:.0f}", "--steps", str(STEPS)]
        command += ["--duration", str(STEPS * step_s), "--objective-ms", str(OBJECTIVE_MS), "--seed", str(seed)]
        # 1 says that the first step did not hold, which is a finding.
        status = subprocess.run([*command, "--quiet", "--json", str(file)], stdout=subprocess.DEVNULL, check=False)
        if status.returncode not in (0, 1):
            raise RuntimeError(f"{command} ended with {status.returncode}")
        return msgspec.json.decode(file.read_bytes(), type=Report)


def row(taken: Taken) -> Sequence[str]:
    """Of the table: what the closed loop got, and what was taken within the objective."""
    capacity = taken.capacity_per_s
    each = sorted(ramp.capacity_per_s or 0.0 for ramp in taken.ramps)
    at = [step for step in taken.middle.steps if step.rate_per_s == taken.middle.capacity_per_s]
    p99 = f"{at[0].figures.ok.p99_ms:.1f}" if at and at[0].figures.ok else "-"
    trusted = sum(ramp.trusted for ramp in taken.ramps)
    return (
        *(taken.model, str(taken.rows), f"{taken.closed.requests_per_s:,.0f}", f"{taken.closed.p99_ms:.1f}"),
        *(f"{capacity:,.0f}", f"{each[0]:,.0f} to {each[-1]:,.0f}", f"{capacity * taken.rows:,.0f}", p99),
        *(f"{capacity / taken.closed.requests_per_s:.2f}", f"{trusted} of {len(taken.ramps)}"),
    )


COLUMNS = (
    *("model", "rows / request", "closed loop req/s", "closed loop p99 ms", "capacity req/s", "of the ramps"),
    *("rows/s", "p99 ms there", "capacity / closed loop", "trusted"),
)


def draw(all_taken: Sequence[Taken], file: Path) -> None:
    """The middle ramp of each: the part answered within the objective, and p99, by the rate."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "sluice", "svg.fonttype": "none"}):
        figure = Figure((10, 4), layout="constrained")
        good, late = figure.subplots(1, 2)
        for taken in all_taken:
            steps = taken.middle.steps
            rates = [step.rate_per_s * taken.rows for step in steps]
            label = f"{taken.model}, {taken.rows} row{'s' if taken.rows > 1 else ''} a request"
            good.plot(rates, [step.figures.good_share * 100 for step in steps], marker=".", label=label)
            late.plot(rates, [step.figures.ok.p99_ms if step.figures.ok else np.nan for step in steps], marker=".")
        late.axhline(OBJECTIVE_MS, color="grey", linestyle="--")
        late.set_yscale("log")
        late.set_ylabel("p99 from the intended time, ms")
        good.set_ylabel(f"answered within {OBJECTIVE_MS} ms, %")
        good.legend()
        for axes in (good, late):
            axes.set_xscale("log")
            axes.set_xlabel("offered, rows/s")
            axes.grid(visible=True, alpha=0.3)
        figure.savefig(file, metadata={"Date": None})


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Ramps of each; the median of their capacities counts.")
@click.option("--step-s", default=2.0, show_default=True, help="Length of one step.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="A drawing, such as capacity.svg.")
def main(rounds: int, step_s: float, plot: Path | None) -> None:
    """Find the load that one gateway takes, for each bundled model."""
    all_taken = []
    click.echo("| " + " | ".join(COLUMNS) + " |\n" + "| --- " * len(COLUMNS) + "|")
    for model in INPUTS:
        for rows in ROWS:
            all_taken.append(measured(model, rows, rounds, step_s))
            click.echo("| " + " | ".join(row(all_taken[-1])) + " |")
    if plot is not None:
        draw(all_taken, plot)


if __name__ == "__main__":
    main()
