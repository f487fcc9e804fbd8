"""What a load test does to it."""

from __future__ import annotations

from grafana.boards.shared import ANSWERED, BUSY_PANEL, DURATION, HERE, IN_TIME, RATE_BY_OUTCOME, REFUSALS, heat
from grafana.panels import Dashboard, Panel, quantile, rate

LOAD_TEST = Dashboard(
    "sluice-load-test",
    "Sluice / Load test",
    "What was offered, what was answered, and what came in time.",
    [
        (
            "Throughput",
            [
                Panel(
                    "Offered, answered, in time",
                    "Calls per second that came, that were answered, and that were answered in time (goodput).",
                    "reqps",
                    [
                        (rate("sluice_requests_total", "model"), "offered {{model}}"),
                        (rate("sluice_requests_total", "model", ANSWERED), "answered {{model}}"),
                        (rate("sluice_requests_total", "model", IN_TIME), "in time {{model}}"),
                    ],
                    width=12,
                ),
                RATE_BY_OUTCOME,
                REFUSALS,
                Panel(
                    "Processor per 1,000 calls",
                    "Seconds of the gateway process for a thousand calls.",
                    "s",
                    [
                        (
                            f'1000 * sum(rate(process_cpu_seconds_total{{job="sluice", {HERE}}}[$__rate_interval])) / sum({rate("sluice_requests_total", "model")})',
                            "gateway",
                        )
                    ],
                ),
                BUSY_PANEL,
            ],
        ),
        (
            "Latency",
            [
                Panel(
                    "Percentiles",
                    "Of answered calls, measured in the gateway: what waits in sockets before it shows in the generator alone.",
                    "s",
                    [
                        (quantile(share, DURATION, where=ANSWERED), f"p{name} {{{{model}}}}")
                        for share, name in ((0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"))
                    ],
                    width=12,
                ),
                heat("Latency heat map", "How many calls took how long.", "s", DURATION),
            ],
        ),
    ],
)
