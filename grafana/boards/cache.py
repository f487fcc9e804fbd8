"""What the cache saves."""

from __future__ import annotations

from grafana.boards.shared import HERE
from grafana.panels import LABELS, Dashboard, Panel, gauge, quantile, rate

CACHE = Dashboard(
    "sluice-cache",
    "Sluice / Cache",
    "What the cache answers, what it saves, and how Redis is.",
    [
        (
            "Answers",
            [
                Panel(
                    "Hit ratio",
                    "Share of the rows that were looked up in a tier and found.",
                    "percentunit",
                    [
                        (
                            f"{rate('sluice_cache_hits_total', 'tier')} / {rate('sluice_cache_lookups_total', 'tier')}",
                            "{{tier}}",
                        )
                    ],
                ),
                Panel(
                    "Rows looked up",
                    "Rows per second, by tier.",
                    "rowsps",
                    [(rate("sluice_cache_lookups_total", "tier"), "{{tier}}")],
                ),
                Panel(
                    "Compute saved",
                    "Seconds of the model's run that hits save each second.",
                    "s",
                    [
                        (
                            f"sum by (model) (sluice_cache_row_saving_seconds{{{LABELS}}} * rate(sluice_cache_lookups_total{{{LABELS}}}[$__rate_interval]))",
                            "{{model}}",
                        )
                    ],
                ),
                Panel(
                    "Waited for others",
                    "Rows per second that another request computed already (single flight).",
                    "rowsps",
                    [(rate("sluice_cache_single_flight_followers_total", "model"), "{{model}}")],
                ),
                Panel(
                    "Lookup time",
                    "99th percentile of a request's lookup, by tier.",
                    "s",
                    [(quantile(0.99, "sluice_cache_lookup_seconds", "tier"), "{{tier}}")],
                ),
                Panel(
                    "Bypassed",
                    "Rows per second that were not looked up, since the tier did not pay.",
                    "rowsps",
                    [(rate("sluice_cache_bypasses_total", "tier"), "{{tier}}")],
                ),
            ],
        ),
        (
            "Memory",
            [
                Panel(
                    "Size",
                    "Memory that entries take, and may take.",
                    "bytes",
                    [
                        (f'sum(sluice_cache_bytes{{{LABELS}, tier="memory"}})', "entries"),
                        (f"sum(sluice_cache_max_bytes{{{HERE}}})", "limit"),
                    ],
                ),
                Panel("Entries", "Entries held.", "none", [(gauge("sluice_cache_entries", "model"), "{{model}}")]),
                Panel(
                    "Stored and evicted",
                    "Rows per second.",
                    "rowsps",
                    [
                        (rate("sluice_cache_stores_total", "tier"), "stored {{tier}}"),
                        (rate("sluice_cache_evictions_total", "tier"), "evicted {{tier}}"),
                        (rate("sluice_cache_drops_total", "tier"), "not stored {{tier}}"),
                    ],
                ),
            ],
        ),
        (
            "Redis",
            [
                Panel(
                    "Breaker",
                    "1 while Redis is left alone, 0.5 while it is tried.",
                    "none",
                    [
                        (
                            f'max by (side) (sluice_redis_state{{{HERE}, state="open"}} + ignoring(state) '
                            f'0.5 * sluice_redis_state{{{HERE}, state="half_open"}})',
                            "{{side}}",
                        )
                    ],
                    steps=((0, "green"), (0.5, "orange"), (1, "red")),
                ),
                Panel(
                    "Failures",
                    "Commands per second that Redis did not answer in time or refused. Nothing to see is good.",
                    "ops",
                    [(f"sum by (kind) (rate(sluice_redis_failures_total{{{HERE}}}[$__rate_interval]))", "{{kind}}")],
                ),
                Panel(
                    "Queued writes",
                    "Answers that wait to be sent to Redis.",
                    "none",
                    [(f"sum by (instance) (sluice_redis_queued_writes{{{HERE}}})", "{{instance}}")],
                ),
            ],
        ),
    ],
)
