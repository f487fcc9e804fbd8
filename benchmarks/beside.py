"""This checkout beside another one, such as the commit before a change.

    git worktree add ../before COMMIT && make -C ../before setup
    python -m benchmarks.beside ../before/.venv/bin/sluice

Both serve the same model at the same time, and take turns in being driven. *hit* is *tiny* with its one row in the
cache; *start-up* is the time until a gateway with *tiny* listens, each alone.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import click
import numpy as np

from benchmarks.embeddings import CONFIG
from benchmarks.processes import NO_CACHE, SLUICE, sluice
from benchmarks.scenarios import IMAGE_SHAPE, v2_body
from benchmarks.wrk import Load, drive
from tests import models as built
from tests.texts import WORDS, write_tokenizer

CONNECTIONS = {"tiny": 64, "hit": 64, "mlp": 64, "image": 16, "texts": 64}


@click.command()
@click.argument("other", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rounds", default=9, show_default=True)
@click.option("--seconds", default=3, show_default=True)
def main(other: Path, rounds: int, seconds: int) -> None:
    """Print, for each model, medians of requests/s and of processor time, and of their ratios round by round."""
    with tempfile.TemporaryDirectory() as folder:
        for name, connections in CONNECTIONS.items():
            models, path, body = _placed(Path(folder, name), name)
            settings = {} if name == "hit" else NO_CACHE
            with (
                sluice(models, program=other, settings=settings) as before,
                sluice(models, program=SLUICE, settings=settings) as now,
            ):
                for server in (before, now):
                    drive(server, path, body, connections, 1)
                seen: list[tuple[Load, Load]] = []
                for place in range(rounds):
                    order = (before, now) if place % 2 else (now, before)
                    loads = {server: drive(server, path, body, connections, seconds) for server in order}
                    seen.append((loads[before], loads[now]))
            click.echo(_line(name, seen))
        click.echo(_start_up(other, _placed(Path(folder, "start-up"), "tiny")[0], rounds))


def _line(name: str, seen: list[tuple[Load, Load]]) -> str:
    ratios = [now.requests_per_s / before.requests_per_s for before, now in seen]
    cpu = [now.cpu_s_per_1000 / before.cpu_s_per_1000 for before, now in seen]
    each = [statistics.median([pair[side].requests_per_s for pair in seen]) for side in range(2)]
    return (
        f"| {name} | {each[0]:,.0f} | {each[1]:,.0f} | {statistics.median(ratios):.3f} "
        f"| {min(ratios):.2f} to {max(ratios):.2f} | {statistics.median(cpu):.3f} |"
    )


def _start_up(other: Path, models: Path, rounds: int) -> str:
    ready_s: dict[Path, list[float]] = {other: [], SLUICE: []}
    for place in range(rounds):
        for program in (other, SLUICE) if place % 2 else (SLUICE, other):
            with sluice(models, program=program) as server:
                ready_s[program].append(server.ready_after_s)
    before, now = (statistics.median(ready_s[program]) for program in (other, SLUICE))
    return f"start-up: {before:.2f} s before, {now:.2f} s now, ratio {now / before:.3f}"


def _placed(folder: Path, name: str) -> tuple[Path, str, bytes]:
    """The model on disk, where to send calls, and one."""
    rng = np.random.default_rng(0)
    if name == "texts":
        built.place(built.token_vectors(), folder / name / "1")
        write_tokenizer(folder / name)
        (folder / name / "model.toml").write_text(CONFIG)
        return folder, "/v1/embeddings", json.dumps({"model": name, "input": [WORDS]}).encode()
    name = "tiny" if name == "hit" else name
    file = built.place(getattr(built, name)(), folder, f"{name}.onnx")
    shape = {"tiny": (1, 4), "mlp": (1, 64), "image": IMAGE_SHAPE}[name]
    array = rng.random(shape, np.float32)
    return file, f"/v2/models/{name}/infer", v2_body(array, "image" if name == "image" else "x")


if __name__ == "__main__":
    main()
