"""Draws the curves that `sluice profile` measured. Only this file imports matplotlib, which is an optional extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.gateway.commands.profile.measure import Profile, rate_heading, rows_per_s
from sluice.inference.errors import StartError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH_INCHES = 10.0
_HEIGHT_INCHES = 3.6
_MISSING = "--plot needs matplotlib, which is not installed: pip install 'sluice-gateway[plot]'"


def check_plot(file: Path) -> None:
    """Raises `StartError` if nothing can be drawn, before time is spent on measuring."""
    try:
        import matplotlib  # noqa: F401 - here and below: an optional extra, and slow to import
    except ImportError as error:
        raise StartError(_MISSING) from error
    if file.suffix.lower() != ".png":
        raise StartError(f"--plot {file}: expected a file that ends in .png")
    if not file.parent.is_dir():
        raise StartError(f"--plot {file}: there is no folder {file.parent}")


def plot(found: Sequence[Profile], file: Path) -> None:
    """Draws two plots for each model: run time, and rows per second, by rows in a batch.

    Raises `StartError` for a file that cannot be written, and for a model that could not be measured.
    """
    for each in found:
        if not each.plan.knots:
            raise StartError(curveless(each))
    from matplotlib.figure import Figure

    figure = Figure((_WIDTH_INCHES, _HEIGHT_INCHES * len(found)), layout="constrained")
    lines = figure.subplots(len(found), 2, squeeze=False)
    for each, (left, right) in zip(found, lines, strict=True):
        _draw(each, left, right)
    try:
        figure.savefig(file, format="png", dpi=150)
    except OSError as error:
        raise StartError(f"--plot {file}: cannot be written: {error.strerror or error}") from error


def curveless(found: Profile) -> str:
    """A message for a model that could not be measured, and so cannot be drawn."""
    return f"--plot: {found.source.name!r} could not be measured, so there is no curve to draw"


def _draw(found: Profile, left: Axes, right: Axes) -> None:
    plan = found.plan
    rows = [knot.rows for knot in plan.knots]
    rates = [rows_per_s(plan, knot.rows, knot.run_s) for knot in plan.knots]
    left.plot(rows, [knot.run_s * 1e3 for knot in plan.knots], marker="o")
    left.set_ylabel("run time, ms")
    right.plot(rows, rates, marker="o")
    right.set_ylabel(rate_heading(plan))
    for axes in (left, right):
        axes.set_title(f"{found.source.name}, version {found.source.version}")
        axes.set_xlabel("rows in a batch")
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.axvline(plan.max_rows, linestyle="--", color="grey", label=f"max_rows = {plan.max_rows}")
        axes.legend()
