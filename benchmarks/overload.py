"""What becomes of a promise when the *gateway* has too much to do: a model that costs nothing, and many callers.

    python -m benchmarks overload
    python -m benchmarks.overload ../before/.venv/bin/sluice    # beside another checkout, in turns

*Capacity* is the goodput of a closed loop of `CALLERS` connections, and is measured anew before each run, as the speed
of a shared machine drifts. Generator, gateway and worker share the machine: what the generator takes, the gateway does
not have. So goodput is shown for each second of the gateway's processor time as well, as a share of the same figure of
the closed loop.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import click
import msgspec
import numpy as np

from benchmarks.flood import HOST, Phase, Plan, Seen, flood
from benchmarks.processes import SLUICE, Server, sluice
from benchmarks.scenarios import Check, Report, at_least, v2_body
from tests import models as built
from tests.models import place

OBJECTIVE_MS = 50.0
CALLERS = 64
TIMES = (2.0, 5.0, 20.0)
CONNECTIONS = (256, 512, 1000)

CLOSED_PER_S = 1e6
"""So many are due that every connection always has the next request ready."""

HISTORIES: Mapping[str, float] = {"idle": 0.0, "spike": 20.0}
"""What the same connections sent for a second before, as a multiple of the capacity."""

RECOVERY_S = 1.0
BODIES = 512
LEAST_SHARE = 0.9


class Setting(msgspec.Struct, frozen=True):
    """What is compared."""

    server: str
    connections: int
    times: float
    history: str


class Run(msgspec.Struct, frozen=True):
    """One run beside the capacity before it. Shares are of that: of goodput, and of goodput per second of processor."""

    seen: Seen
    share: float
    share_of_cpu: float


def overload(models: Path, rounds: int, duration_s: int, before: Path | None = None) -> Report:
    """Open loops beyond what the gateway takes, with an objective; beside another program where there is one."""
    folder = models / "overload"
    place(built.tiny(), folder / "tiny" / "1")
    (folder / "tiny" / "model.toml").write_text(f"[batching]\nlatency_objective_ms = {OBJECTIVE_MS:g}\n")
    programs = {"now": SLUICE} if before is None else {"before": before, "now": SLUICE}
    runs: dict[Setting, list[Run]] = {}
    capacities_per_s: list[float] = []
    with ExitStack() as stack:
        servers = {name: stack.enter_context(sluice(folder, program=program)) for name, program in programs.items()}
        for _ in range(rounds):
            for connections, times, history in product(CONNECTIONS, TIMES, HISTORIES):
                for name, server in servers.items():
                    capacity_per_s, per_cpu_s = _closed_loop(servers["now"])
                    capacities_per_s.append(capacity_per_s)
                    run = _open_loop(server, connections, times, history, duration_s, capacity_per_s, per_cpu_s)
                    runs.setdefault(Setting(name, connections, times, history), []).append(run)
    return Report(
        f"overload: one row of a model that costs nothing, objective {OBJECTIVE_MS:g} ms, open loop; capacity "
        f"{statistics.median(capacities_per_s):,.0f}/s (closed loop, {CALLERS} connections)",
        HEADINGS,
        [_row(setting, own) for setting, own in runs.items()],
        list(_checks(runs)),
    )


HEADINGS = (
    "connections",
    "times capacity",
    "before it",
    "server",
    "sent/s",
    "goodput/s",
    "goodput / capacity",
    "per CPU second",
    "refused/s",
    "accepted p99 ms",
    "refused p99 ms",
)


def _row(setting: Setting, runs: Sequence[Run]) -> list[str | float]:
    def median(*values: float | None) -> float | str:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else ""

    return [
        str(setting.connections),
        f"{setting.times:g}",
        setting.history,
        setting.server,
        median(*[run.seen.sent_per_s for run in runs]),
        median(*[run.seen.good_per_s for run in runs]),
        median(*[run.share for run in runs]),
        median(*[run.share_of_cpu for run in runs]),
        median(*[run.seen.refused_per_s for run in runs]),
        median(*[run.seen.ok_p99_ms for run in runs]),
        median(*[run.seen.refused_p99_ms for run in runs]),
    ]


def _checks(runs: Mapping[Setting, Sequence[Run]]) -> Iterator[Check]:
    for setting, own in runs.items():
        if setting.server == "now":
            what = f"{setting.connections} connections, {setting.times:g} times, {setting.history}: goodput / capacity"
            yield at_least(what, statistics.median([run.share for run in own]), LEAST_SHARE)


def _closed_loop(server: Server) -> tuple[float, float]:
    """Goodput, per second and per second of the gateway's processor time."""
    cpu_s = server.gateway_cpu_s()
    (seen,) = flood(_plan(server, CALLERS, [Phase(CLOSED_PER_S, 1.0, 0.2)]))
    return seen.good_per_s, seen.good_per_s / (server.gateway_cpu_s() - cpu_s)


def _open_loop(
    server: Server,
    connections: int,
    times: float,
    history: str,
    duration_s: float,
    capacity_per_s: float,
    capacity_per_cpu_s: float,
) -> Run:
    before = Phase(HISTORIES[history] * capacity_per_s, 1.0)
    measured = Phase(times * capacity_per_s, RECOVERY_S + duration_s, RECOVERY_S)
    cpu_s = server.gateway_cpu_s()
    *_, seen = flood(_plan(server, connections, [before, measured]))
    busy_s = measured.duration_s + (before.duration_s if before.per_s else 0.0)
    per_cpu_s = seen.good_per_s * busy_s / (server.gateway_cpu_s() - cpu_s)
    return Run(seen, seen.good_per_s / capacity_per_s, per_cpu_s / capacity_per_cpu_s)


def _plan(server: Server, connections: int, phases: Sequence[Phase]) -> Plan:
    rng = np.random.default_rng(0)
    bodies = [v2_body(rng.standard_normal((1, 4)).astype(np.float32)) for _ in range(BODIES)]
    head = f"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    return Plan(server.port, requests, connections, phases, OBJECTIVE_MS / 1e3)


@click.command()
@click.argument("before", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=2, show_default=True)
def main(before: Path, rounds: int, seconds: int) -> None:
    """Print the table with the `sluice` of another checkout beside this one's."""
    from benchmarks.__main__ import markdown

    with tempfile.TemporaryDirectory() as folder:
        click.echo(markdown(overload(Path(folder), rounds, seconds, before)))


if __name__ == "__main__":
    main()
