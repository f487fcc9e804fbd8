"""What several dashboards show, and how."""

from __future__ import annotations

from grafana.panels import LABELS, Panel, gauge, rate

GOOD_HIGH = ((0, "red"), (0.99, "orange"), (0.999, "green"))
BUSY = ((0, "green"), (0.7, "orange"), (0.9, "red"))
OWED = 'outcome=~"success|late|refused|timeout|failed"'
UNANSWERED = 'outcome=~"refused|timeout|failed"'
ANSWERED, IN_TIME, LATE = 'outcome=~"success|late"', 'outcome="success"', 'outcome="late"'
BEYOND, ADDED = 'run="beyond"', 'kind="added"'
HERE = 'instance=~"$instance"'
DURATION = "sluice_request_duration_seconds"


def ratio(over: str, under: str, window: str) -> str:
    """The share of calls `over` in calls `under`, selectors of outcomes, in a window."""
    requests = f"sluice_requests_total{{{LABELS}, "
    return f"sum(rate({requests}{over}}}[{window}])) / sum(rate({requests}{under}}}[{window}]))"


def stat(title: str, text: str, unit: str, expression: str, steps: tuple[tuple[float, str], ...] = ()) -> Panel:
    """One number, large."""
    return Panel(title, text, unit, [(expression, "")], "stat", steps, width=4, height=4)


def heat(title: str, text: str, unit: str, metric: str, width: int = 12) -> Panel:
    """How many values of a histogram fell into which bucket, over time."""
    expression = f"sum by (le) (increase({metric}_bucket{{{LABELS}}}[$__rate_interval]))"
    return Panel(title, text, unit, [(expression, "{{le}}")], "heatmap", width=width)


BUSY_PANEL = Panel(
    "Workers busy",
    "Share of the time in which workers ran batches. Near 1, more load only makes the queue longer.",
    "percentunit",
    [
        (
            f"{rate('sluice_batch_run_seconds_sum', 'model, version')} / {gauge('sluice_workers')}",
            "{{model}} {{version}}",
        )
    ],
    steps=BUSY,
)
RATE_BY_OUTCOME = Panel(
    "Calls by outcome",
    "Prediction calls per second, by how they ended.",
    "reqps",
    [(rate("sluice_requests_total", "outcome"), "{{outcome}}")],
    stacked=True,
)
REFUSALS = Panel(
    "Refusals by reason",
    "Calls per second for which there was no time or no room.",
    "reqps",
    [(rate("sluice_refusals_total", "reason"), "{{reason}}")],
    stacked=True,
)
