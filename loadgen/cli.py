"""The command line of `sluice load`: its options, the progress bar, and the exit status."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

# All of Sluice is imported when the command runs: with numpy it takes more than a quarter of a second, which
# `sluice --help` need not take.
if TYPE_CHECKING:
    from sluice.loadgen.command import Prepared
    from sluice.loadgen.generator import Progress
    from sluice.loadgen.ledger import EndedRequests
    from sluice.loadgen.order import Asked, LoadOrder
    from sluice.loadgen.report import Report

CANNOT_RUN = 2
NOT_MET = 1

_FILE = click.Path(path_type=Path, dir_okay=False)
_READABLE = click.Path(path_type=Path, dir_okay=False, exists=True)
_RATE = click.FloatRange(0.001, 100_000)
_SECONDS = click.FloatRange(0.001, 86_400)


class CannotRun(click.ClickException):
    """The run could not be carried out as it was asked for."""

    exit_code = CANNOT_RUN


@click.command("load")
@click.argument("url")
@click.option("--model", help="Call this model of the server at URL, with random input of its shape.")
@click.option("--body", "body_files", type=_READABLE, multiple=True, help="Send this file; several are sent in turn.")
@click.option("--rows", type=click.IntRange(1, 65_536), default=1, show_default=True, help="Rows of random input.")
@click.option(
    "--length",
    type=click.IntRange(1, 65_536),
    default=16,
    show_default=True,
    help="Of the axes of random input that may have any length, but for the rows.",
)
@click.option(
    "--distinct", type=click.IntRange(1, 10_000), default=16, show_default=True, help="Bodies of random input."
)
@click.option("--rate", "rate_per_s", type=_RATE, required=True, help="Requests per second, on the average.")
@click.option(
    "--pattern",
    type=click.Choice(["poisson", "constant", "bursts", "ramp"]),
    default="poisson",
    show_default=True,
    help="How arrivals are spread.",
)
@click.option("--to-rate", "to_rate_per_s", type=_RATE, help="Of a ramp's last step; --rate is that of its first.")
@click.option("--steps", type=click.IntRange(2, 1000), default=10, show_default=True, help="Of a ramp.")
@click.option("--burst-s", type=_SECONDS, default=0.5, show_default=True, help="How long a burst lasts.")
@click.option("--gap-s", type=_SECONDS, default=0.5, show_default=True, help="The silence between two bursts.")
@click.option("--duration", "duration_s", type=_SECONDS, default=10.0, show_default=True, help="Seconds that count.")
@click.option(
    "--warm-up",
    "warm_up_s",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    help="Seconds before them, at the same load.",
)
@click.option("--objective-ms", type=click.FloatRange(0.001), help="Answers later than this are no good.")
@click.option(
    "--min-goodput",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="Part of the requests that must be answered within the objective.",
)
@click.option("--connections", type=click.IntRange(1, 10_000), default=256, show_default=True, help="Open at once.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.01, 3600),
    default=10.0,
    show_default=True,
    help="Seconds after which a request is given up.",
)
@click.option("--header", "headers", multiple=True, help="'Name: value', with every request.")
@click.option("--cache/--no-cache", default=False, show_default=True, help="Without, Cache-Control: no-store is sent.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of arrivals and random input.")
@click.option("--ca-file", type=_READABLE, help="Trust the certificates that this CA (PEM) has signed.")
@click.option("--insecure", is_flag=True, help="Trust any certificate.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, allow_dash=True), help="The report; - is stdout.")
@click.option("--plot", "plot_file", type=_FILE, help="A drawing: .svg, .png or .pdf.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def load(context: click.Context, /, json_file: Path | None, plot_file: Path | None, quiet: bool, **given: Any) -> None:
    """Send requests to URL when they are due, and not when the server has time: open-loop load.

    Latencies count from the moment at which a request was to be sent. The exit status is 1 if there is an objective
    and it was not kept, or no answer was good, and 2 if the run could not be carried out.
    """
    if sys.platform != "linux":
        raise CannotRun(f"sluice load needs Linux (timerfd); this is {sys.platform}")
    from sluice.inference.errors import StartError
    from sluice.loadgen.command import check_folder, prepare
    from sluice.loadgen.plot import check_plot

    asked = _asked(given)
    try:
        for option, file in (("--json", json_file), ("--plot", plot_file)):
            check_folder(option, file)
        if plot_file is not None:
            check_plot(plot_file)
        report, requests = _carried_out(asked, prepare(asked), quiet)
        _written(report, requests, json_file, plot_file)
    except StartError as error:
        raise CannotRun(str(error)) from None
    context.exit(0 if _good(report) else NOT_MET)


def _asked(given: dict[str, Any]) -> Asked:
    from sluice.loadgen.order import Asked, LoadOrder, Pattern

    of_load = {name: given.pop(name) for name in LoadOrder.__struct_fields__ if name in given}
    return Asked(load=LoadOrder(**of_load | {"pattern": Pattern(of_load["pattern"])}), **given)


def _carried_out(asked: Asked, prepared: Prepared, quiet: bool) -> tuple[Report, EndedRequests]:
    import uvloop

    from sluice.loadgen.command import carry_out

    with _shown(asked.load, quiet) as watch, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(carry_out(asked, prepared, watch))


def _written(report: Report, requests: EndedRequests, json_file: Path | None, plot_file: Path | None) -> None:
    from sluice.inference.errors import StartError
    from sluice.loadgen.plot import plot
    from sluice.loadgen.report import as_json
    from sluice.loadgen.summary import summary

    to_stdout = json_file == Path("-")
    click.echo(summary(report), err=to_stdout)
    if to_stdout:
        click.echo(as_json(report))
    elif json_file is not None:
        try:
            json_file.write_text(as_json(report) + "\n")
        except OSError as error:
            raise StartError(f"--json {json_file}: cannot be written: {error.strerror or error}") from error
    if plot_file is not None:
        plot(report, requests, plot_file)


def _good(report: Report) -> bool:
    return report.figures.ok is not None if report.met is None else report.met


@contextmanager
def _shown(load: LoadOrder, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A function to call with the progress of a run: a bar on a terminal, lines elsewhere."""
    from sluice.loadgen.generator import WATCH_S
    from sluice.loadgen.summary import live, progress_line

    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield lambda progress: click.echo(progress_line(progress, load, WATCH_S), err=True)
        return
    with click.progressbar(
        length=1000, file=sys.stderr, item_show_func=lambda text: text or "", show_eta=False, width=24
    ) as bar:

        def draw(progress: Progress) -> None:
            place = min(1000, int(1000 * progress.elapsed_s / load.length_s))
            bar.update(place - bar.pos, live(progress.recent, WATCH_S))

        yield draw
