"""Drawing a run: latency over time, latency by percentile, and a ramp's goodput. It needs matplotlib, an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sluice.inference.errors import StartError
from sluice.loadgen.figures import OK
from sluice.loadgen.ledger import EndedRequests, Flags
from sluice.loadgen.report import Report

# matplotlib is an extra, so it is imported where a drawing is asked for.
if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png", ".pdf")

_WIDTH_INCHES, _HEIGHT_INCHES = 6.0, 4.0
_NINES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
_MISSING = "--plot needs matplotlib, which is not installed: pip install 'sluice-gateway[plot]'"


def check_plot(file: Path) -> None:
    """Raises `StartError` where nothing can be drawn, so that nothing was measured in vain."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise StartError(_MISSING) from error
    if file.suffix.lower() not in FORMATS:
        raise StartError(f"--plot {file}: expected a file that ends in {', '.join(FORMATS)}")


def plot(report: Report, requests: EndedRequests, file: Path) -> None:
    """Draw the whole run, warm-up and all. Raises `StartError` for a file that cannot be written."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = 3 if report.steps else 2
    figure = Figure((_WIDTH_INCHES * panels, _HEIGHT_INCHES), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, panels, squeeze=False)[0]
    ok = (requests.outcome >= OK.start) & (requests.outcome < OK.stop)
    _over_time(axes[0], report, requests, ok)
    _by_percentile(axes[1], report, requests, ok)
    if report.steps:
        _by_rate(axes[2], report)
    figure.suptitle(report.called.url)
    try:
        with rc_context({"svg.hashsalt": "sluice"}):
            figure.savefig(file, dpi=150)
    except OSError as error:
        raise StartError(f"--plot {file}: cannot be written: {error.strerror or error}") from error


def _over_time(axes: Axes, report: Report, requests: EndedRequests, ok: Flags) -> None:
    latency_ms = requests.latency_s() * 1e3
    # A million dots are an image, even in a drawing.
    dots: dict[str, Any] = {"markersize": 2.0, "linestyle": "none", "rasterized": True}
    axes.plot(requests.intended_s[ok], latency_ms[ok], marker=".", label="2xx", **dots)
    if not ok.all():
        axes.plot(requests.intended_s[~ok], latency_ms[~ok], marker="x", color="tab:red", label="anything else", **dots)
    axes.axvspan(0, report.window.begin_s, color="grey", alpha=0.15, label="warm-up")
    for step in report.steps:
        axes.axvline(step.window.begin_s, color="grey", linewidth=0.5)
    axes.set_xlabel("intended time of the request, s")
    _latency_axis(axes, report)


def _by_percentile(axes: Axes, report: Report, requests: EndedRequests, ok: Flags) -> None:
    inside = (requests.intended_s >= report.window.begin_s) & (requests.intended_s < report.window.end_s)
    latency_ms = np.sort(requests.latency_s()[ok & inside] * 1e3)
    above = 1 - np.arange(len(latency_ms)) / max(1, len(latency_ms))
    axes.plot(1 / above, latency_ms, drawstyle="steps-post")
    axes.set_xscale("log")
    shown = [each for each in _NINES if 1 / (1 - each) <= max(10, len(latency_ms))]
    axes.set_xticks([1 / (1 - each) for each in shown], [f"{each * 100:.5g}" for each in shown])
    axes.minorticks_off()
    axes.set_xlabel("percentile of the answers with 2xx")
    _latency_axis(axes, report)


def _by_rate(axes: Axes, report: Report) -> None:
    offered = [step.figures.offered_per_s for step in report.steps]
    axes.plot(offered, offered, color="grey", linestyle=":", label="offered")
    axes.plot(offered, [step.figures.answered_per_s for step in report.steps], marker="o", label="answered")
    axes.plot(offered, [step.figures.goodput_per_s for step in report.steps], marker="o", label="goodput")
    if report.capacity_per_s is not None:
        axes.axvline(report.capacity_per_s, linestyle="--", color="tab:green", label="capacity")
    axes.set_xlabel("offered, requests/s")
    axes.set_ylabel("requests/s")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


def _latency_axis(axes: Axes, report: Report) -> None:
    axes.set_ylabel("latency from the intended time, ms")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    if report.load.objective_ms is not None:
        axes.axhline(report.load.objective_ms, linestyle="--", color="grey", label="objective")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
