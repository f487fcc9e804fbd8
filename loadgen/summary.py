"""A run in words, while it lasts and when it is over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sluice.loadgen.figures import OK, Counts, Spread
from sluice.loadgen.generator import Progress
from sluice.loadgen.ledger import EndedRequests
from sluice.loadgen.order import LoadOrder, Pattern
from sluice.loadgen.report import Report

_INDENT = 14


def live(recent: EndedRequests, over_s: float) -> str:
    """What has ended in the last `over_s` seconds, in a line."""
    ok = (recent.outcome >= OK.start) & (recent.outcome < OK.stop)
    parts = [f"{int((recent.outcome > 0).sum()) / over_s:,.0f} answers/s"]
    if ok.any():
        p50_ms, p99_ms = np.percentile(recent.latency_s()[ok], [50, 99]) * 1e3
        parts.append(f"p50 {_ms(p50_ms)} p99 {_ms(p99_ms)} ms")
    if failed := len(recent) - int(ok.sum()):
        parts.append(f"{failed:,} not 2xx")
    return ", ".join(parts)


def progress_line(progress: Progress, load: LoadOrder, over_s: float) -> str:
    """How far a run has come, where no bar can be drawn."""
    rates = live(progress.recent, over_s)
    waiting = f", {progress.waiting:,} waiting for a connection" if progress.waiting else ""
    return f"{progress.elapsed_s:5.1f} of {load.length_s:g} s: {rates}, {progress.under_way:,} under way{waiting}"


def summary(report: Report) -> str:
    """The whole run, for people."""
    lines = [report.called.url, _headline(report), "", *_rates(report)]
    figures = report.figures
    lines.append(_line("outcomes", _outcomes(figures.counts)))
    lines += [_line("latency, ms", _spread(figures.ok))]
    if figures.refused is not None:
        lines.append(_line("refusals, ms", _spread(figures.refused)))
    lines.append(_line("generator", _generator(report)))
    if report.steps:
        lines += ["", *_steps(report)]
    return "\n".join([*lines, *_verdict(report)])


def _headline(report: Report) -> str:
    load = report.load
    rate = f"{load.rate_per_s:g} requests/s"
    if load.pattern is Pattern.RAMP:
        rate = f"{load.rate_per_s:g} to {load.to_rate_per_s:g} requests/s in {load.steps} steps"
    seconds = report.window.end_s - report.window.begin_s
    stopped = ", stopped early" if report.stopped else ""
    return (
        f"{load.pattern}, {rate}, {seconds:.4g} s after {load.warm_up_s:g} s of warm-up, "
        f"{load.connections} connections, seed {load.seed}{stopped}"
    )


def _rates(report: Report) -> Iterator[str]:
    figures, load = report.figures, report.load
    yield _line("offered", f"{figures.offered_per_s:,.1f}/s, {figures.counts.offered:,} requests")
    yield _line("answered", f"{figures.answered_per_s:,.1f}/s, with 2xx {figures.ok_per_s:,.1f}/s")
    if load.objective_ms is not None:
        share = f"{figures.good_share:.2%} of those offered"
        yield _line("goodput", f"{figures.goodput_per_s:,.1f}/s within {load.objective_ms:g} ms, {share}")


def _outcomes(counts: Counts) -> str:
    parts = [f"{status}: {number:,}" for status, number in counts.statuses.items()]
    named = {
        "connection lost": counts.lost,
        "no answer in time": counts.timed_out,
        "no connection in time": counts.unsent,
    }
    return ", ".join([*parts, *[f"{name}: {number:,}" for name, number in named.items() if number]]) or "none"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "none was answered with 2xx"
    figures = {
        "mean": spread.mean_ms,
        "p50": spread.p50_ms,
        "p90": spread.p90_ms,
        "p95": spread.p95_ms,
        "p99": spread.p99_ms,
        "p99.9": spread.p99_9_ms,
        "max": spread.max_ms,
    }
    return "  ".join([f"{name} {_ms(value)}" for name, value in figures.items()])


def _generator(report: Report) -> str:
    lag = report.figures.lag
    sent = (
        "nothing was sent at its time"
        if lag is None
        else f"sent {_ms(lag.p99_ms)} ms late (p99), {_ms(lag.max_ms)} at most"
    )
    waited = report.figures.counts.waited
    parts = [sent, f"busy {report.generator['busy']:.0%} of the time"]
    if waited:
        parts.append(f"{waited:,} waited for a connection")
    if reopened := report.generator["reopened"]:
        parts.append(f"{reopened:,.0f} connections opened again")
    return "; ".join(parts)


def _steps(report: Report) -> Iterator[str]:
    yield "     rate/s  offered/s  goodput/s   share  p50 ms  p99 ms  lag p99 ms   busy"
    for step in report.steps:
        each = step.figures
        p50, p99 = ("-", "-") if each.ok is None else (_ms(each.ok.p50_ms), _ms(each.ok.p99_ms))
        lag = "-" if each.lag is None else _ms(each.lag.p99_ms)
        yield (
            f"{step.rate_per_s:11,.1f} {each.offered_per_s:10,.1f} {each.goodput_per_s:10,.1f} {each.good_share:7.1%} "
            f"{p50:>7} {p99:>7} {lag:>11} {step.busy:6.0%}  {'held' if step.held else 'not held'}"
        )


def _verdict(report: Report) -> Sequence[str]:
    load, lines = report.load, [""]
    if load.pattern is Pattern.RAMP:
        promise = f"{load.min_goodput:.1%} within {load.objective_ms:g} ms"
        if report.capacity_per_s is None:
            lines.append(f"Capacity: below the first step; {promise} was not kept.")
        else:
            beyond = "" if not all(step.held for step in report.steps) else " or more: every step held"
            lines.append(f"Capacity: {report.capacity_per_s:,.1f} requests/s{beyond} ({promise}).")
    elif report.met is not None:
        kept = "kept" if report.met else "not kept"
        lines.append(
            f"Objective {kept}: {report.figures.good_share:.2%} within {load.objective_ms:g} ms, "
            f"and at least {load.min_goodput:.1%} were wanted."
        )
    lines += [f"NOT TO BE TRUSTED: {doubt}." for doubt in report.doubts]
    return lines if len(lines) > 1 else []


def _line(name: str, text: str) -> str:
    return f"{name:<{_INDENT}}{text}"


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
