"""Whether it is healthy, and what is left of the budget."""

from __future__ import annotations

from grafana.boards.shared import (
    ANSWERED,
    BUSY_PANEL,
    DURATION,
    GOOD_HIGH,
    HERE,
    IN_TIME,
    LATE,
    OWED,
    RATE_BY_OUTCOME,
    REFUSALS,
    UNANSWERED,
    heat,
    ratio,
    stat,
)
from grafana.panels import LABELS, Dashboard, Panel, mean, quantile, rate

OVERVIEW = Dashboard(
    "sluice-overview",
    "Sluice / Overview",
    "Is it healthy, against the objective, and what is left of the budget?",
    [
        (
            "Now",
            [
                stat(
                    "Calls", "Prediction calls per second.", "reqps", f"sum({rate('sluice_requests_total', 'model')})"
                ),
                stat(
                    "Answered",
                    "Share of the calls that were owed an answer and got one: not refused, timed out or failed.",
                    "percentunit",
                    f"1 - {ratio(UNANSWERED, OWED, '$__rate_interval')}",
                    GOOD_HIGH,
                ),
                stat(
                    "In time",
                    "Share of the answers that came within the objective of their model, or their caller's deadline.",
                    "percentunit",
                    ratio(IN_TIME, ANSWERED, "$__rate_interval"),
                    ((0, "red"), (0.95, "orange"), (0.99, "green")),
                ),
                stat(
                    "Availability budget left",
                    "What is left of the 0.1 % of calls that may go unanswered, over the last 30 days.",
                    "percentunit",
                    f"1 - {ratio(UNANSWERED, OWED, '30d')} / 0.001",
                    ((0, "red"), (0.1, "orange"), (0.5, "green")),
                ),
                stat(
                    "Latency budget left",
                    "What is left of the 1 % of answers that may be late, over the last 30 days.",
                    "percentunit",
                    f"1 - {ratio(LATE, ANSWERED, '30d')} / 0.01",
                    ((0, "red"), (0.1, "orange"), (0.5, "green")),
                ),
                stat(
                    "Workers",
                    "Worker processes that can take a batch.",
                    "none",
                    f"sum(sluice_workers{{{LABELS}}})",
                    ((0, "red"), (1, "green")),
                ),
            ],
        ),
        (
            "Calls",
            [
                RATE_BY_OUTCOME,
                REFUSALS,
                Panel(
                    "Latency and objective",
                    "From the complete request to the encoded answer; of answered calls. The objective is what the model promises.",
                    "s",
                    [
                        (quantile(0.5, DURATION, where=ANSWERED), "p50 {{model}}"),
                        (quantile(0.99, DURATION, where=ANSWERED), "p99 {{model}}"),
                        (
                            f"max by (model) (sluice_latency_objective_seconds{{{LABELS}}})",
                            "objective {{model}}",
                        ),
                    ],
                ),
                heat("Latency heat map", "How many calls took how long.", "s", DURATION),
                Panel(
                    "Where the time goes",
                    "Mean time of each phase of an answered call.",
                    "s",
                    [(mean("sluice_phase_seconds", "phase"), "{{phase}}")],
                    stacked=True,
                    width=12,
                ),
            ],
        ),
        (
            "Why it may be slow",
            [
                BUSY_PANEL,
                Panel(
                    "Event-loop lag",
                    "How much later than asked for the gateway comes to things: every call waits that long in addition.",
                    "s",
                    [
                        (
                            f"histogram_quantile(0.99, sum by (le, instance) (rate(sluice_event_loop_lag_seconds_bucket{{{HERE}}}[$__rate_interval])))",
                            "p99 {{instance}}",
                        )
                    ],
                    steps=((0, "green"), (0.1, "red")),
                ),
                Panel(
                    "Deadline slack",
                    "What was left of the promised time: the slowest 1 % and the median.",
                    "s",
                    [
                        (quantile(0.01, "sluice_deadline_slack_seconds"), "p1 {{model}}"),
                        (quantile(0.5, "sluice_deadline_slack_seconds"), "p50 {{model}}"),
                    ],
                ),
            ],
        ),
    ],
)
