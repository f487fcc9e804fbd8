"""`python -m benchmarks.simulation`: every policy on the same arrivals, and which bounds were missed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import msgspec

from benchmarks.simulation.checks import checks
from benchmarks.simulation.overloads import NAME as OVERLOADS
from benchmarks.simulation.overloads import overloads
from benchmarks.simulation.run import POLICIES, run
from benchmarks.simulation.scenarios import SCENARIOS
from benchmarks.simulation.score import Score, mean
from benchmarks.simulation.tables import details, overview, verdicts


@click.command()
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--policies", default="", help="Policies, separated by commas; all by default.")
@click.option("--seed", default=1, show_default=True, help="Of the arrivals and of the noise.")
@click.option("--seeds", default=1, show_default=True, help="So many seeds, from --seed on; means are shown.")
@click.option("--processes", default=1, show_default=True, help="Runs at a time.")
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Write plots to this folder.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the scores to this file.")
@click.option("--markdown", is_flag=True, help="Print a table for each scenario, not only the overview.")
def main(
    names: Sequence[str],
    policies: str,
    seed: int,
    seeds: int,
    processes: int,
    plots: Path | None,
    file: Path | None,
    markdown: bool,
) -> None:
    """Simulate the scenarios whose names begin with SCENARIO, all by default. Exits with 1 if a bound was missed."""
    scenarios = [name for name in SCENARIOS if not names or any([name.startswith(start) for start in names])]
    chosen = [each.strip() for each in policies.split(",")] if policies else list(POLICIES)
    with_overloads = not policies and (not names or any([OVERLOADS.startswith(start) for start in names]))
    if not (scenarios or with_overloads):
        raise click.BadParameter(
            f"no scenario begins so; there are {', '.join([*SCENARIOS, OVERLOADS])}", param_hint="SCENARIO"
        )
    if unknown := set(chosen) - set(POLICIES):
        raise click.BadParameter(f"{unknown.pop()!r} is none of {', '.join(POLICIES)}", param_hint="--policies")
    scores = mean(_scores(scenarios, chosen, range(seed, seed + seeds), processes))
    made = checks(scores)
    if markdown:
        click.echo(details(scores))
    if scores:
        click.echo(f"Goodput as a share of the ideal\n\n{overview(scores)}\n")
    if with_overloads:
        table, more = overloads()
        made += more
        click.echo(f"Goodput of an overloaded gateway, as a share of what it takes\n\n{table}\n")
    click.echo(verdicts(made))
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(scores)))
    if plots is not None:
        from benchmarks.simulation.plots import draw

        for plot in draw(scores, seed, plots):
            click.echo(f"wrote {plot}", err=True)
    sys.exit(0 if all([check.holds for check in made]) else 1)


def _scores(scenarios: Sequence[str], policies: Sequence[str], seeds: Iterable[int], processes: int) -> list[Score]:
    work = [(policy, scenario, seed) for scenario in scenarios for policy in policies for seed in seeds]
    if processes == 1:
        return [_one(each) for each in work]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(_one, work, chunksize=1))


def _one(work: tuple[str, str, int]) -> Score:
    policy, scenario, seed = work
    return run(policy, SCENARIOS[scenario], seed)


if __name__ == "__main__":
    main()
