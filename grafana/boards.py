"""The dashboards. `python -m grafana` writes them to `grafana/dashboards/`."""

from __future__ import annotations

from grafana.panels import LABELS, Dashboard, Panel, gauge, mean, quantile, rate

GOOD_HIGH = ((0, "red"), (0.99, "orange"), (0.999, "green"))
BUSY = ((0, "green"), (0.7, "orange"), (0.9, "red"))
OWED = 'outcome=~"success|late|refused|timeout|failed"'
UNANSWERED = 'outcome=~"refused|timeout|failed"'
ANSWERED, IN_TIME, LATE = 'outcome=~"success|late"', 'outcome="success"', 'outcome="late"'
BEYOND, ADDED = 'run="beyond"', 'kind="added"'
HERE = 'instance=~"$instance"'
DURATION = "sluice_request_duration_seconds"


def _ratio(over: str, under: str, window: str) -> str:
    requests = f"sluice_requests_total{{{LABELS}, "
    return f"sum(rate({requests}{over}}}[{window}])) / sum(rate({requests}{under}}}[{window}]))"


def _stat(title: str, text: str, unit: str, expression: str, steps: tuple[tuple[float, str], ...] = ()) -> Panel:
    return Panel(title, text, unit, [(expression, "")], "stat", steps, width=4, height=4)


def _heat(title: str, text: str, unit: str, metric: str, width: int = 12) -> Panel:
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

OVERVIEW = Dashboard(
    "sluice-overview",
    "Sluice / Overview",
    "Is it healthy, against the objective, and what is left of the budget?",
    [
        (
            "Now",
            [
                _stat(
                    "Calls", "Prediction calls per second.", "reqps", f"sum({rate('sluice_requests_total', 'model')})"
                ),
                _stat(
                    "Answered",
                    "Share of the calls that were owed an answer and got one: not refused, timed out or failed.",
                    "percentunit",
                    f"1 - {_ratio(UNANSWERED, OWED, '$__rate_interval')}",
                    GOOD_HIGH,
                ),
                _stat(
                    "In time",
                    "Share of the answers that came within the objective of their model, or their caller's deadline.",
                    "percentunit",
                    _ratio(IN_TIME, ANSWERED, "$__rate_interval"),
                    ((0, "red"), (0.95, "orange"), (0.99, "green")),
                ),
                _stat(
                    "Availability budget left",
                    "What is left of the 0.1 % of calls that may go unanswered, over the last 30 days.",
                    "percentunit",
                    f"1 - {_ratio(UNANSWERED, OWED, '30d')} / 0.001",
                    ((0, "red"), (0.1, "orange"), (0.5, "green")),
                ),
                _stat(
                    "Latency budget left",
                    "What is left of the 1 % of answers that may be late, over the last 30 days.",
                    "percentunit",
                    f"1 - {_ratio(LATE, ANSWERED, '30d')} / 0.01",
                    ((0, "red"), (0.1, "orange"), (0.5, "green")),
                ),
                _stat(
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
                _heat("Latency heat map", "How many calls took how long.", "s", DURATION),
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

BATCHING = Dashboard(
    "sluice-batching",
    "Sluice / Batching",
    "Why batches leave, how large they are, and whether they run as long as predicted.",
    [
        (
            "Batches",
            [
                Panel(
                    "Batches by reason",
                    "Why each batch was dispatched: a full one, an idle worker, nothing to gain by waiting, a deadline.",
                    "ops",
                    [(rate("sluice_batches_total", "reason"), "{{reason}}")],
                    stacked=True,
                ),
                Panel(
                    "Rows per batch",
                    "The mean. One row per batch under load means that nothing travels together.",
                    "none",
                    [(mean("sluice_batch_rows", "model, version"), "{{model}} {{version}}")],
                ),
                Panel(
                    "Rows",
                    "Rows that ran, per second.",
                    "rowsps",
                    [(rate("sluice_batch_rows_sum", "model, version"), "{{model}} {{version}}")],
                ),
                _heat("Rows heat map", "How many batches had how many rows.", "none", "sluice_batch_rows"),
                _heat("Run-time heat map", "How many batches ran how long.", "s", "sluice_batch_run_seconds"),
            ],
        ),
        (
            "Predictions",
            [
                Panel(
                    "Predicted and actual",
                    "95th percentile of the run time, beside the median of its predictions.",
                    "s",
                    [
                        (quantile(0.95, "sluice_batch_run_seconds"), "actual p95 {{model}}"),
                        (quantile(0.5, "sluice_batch_predicted_seconds"), "predicted {{model}}"),
                    ],
                ),
                Panel(
                    "Beyond the prediction",
                    "Share of the batches that ran longer than their predicted 95th percentile: one in 20 is to.",
                    "percentunit",
                    [
                        (
                            f"({rate('sluice_batch_predictions_total', 'model', BEYOND)} or 0 * "
                            f"{rate('sluice_batch_predictions_total', 'model')}) / {rate('sluice_batch_predictions_total', 'model')}",
                            "{{model}}",
                        )
                    ],
                    steps=((0, "green"), (0.1, "orange"), (0.3, "red")),
                ),
                Panel(
                    "Engine and way",
                    "Mean run of a batch, and the engine's share of it; the rest is the way to the worker and back.",
                    "s",
                    [
                        (mean("sluice_batch_run_seconds", "model"), "run {{model}}"),
                        (mean("sluice_batch_compute_seconds", "model"), "engine {{model}}"),
                    ],
                ),
            ],
        ),
        (
            "Queue",
            [
                Panel(
                    "Rows waiting", "Rows that wait for a batch.", "none", [(gauge("sluice_queue_rows"), "{{model}}")]
                ),
                Panel(
                    "Bytes waiting", "Input tensors that wait.", "bytes", [(gauge("sluice_queue_bytes"), "{{model}}")]
                ),
                Panel(
                    "Wait",
                    "Between admission and answer, less the engine's run.",
                    "s",
                    [
                        (quantile(0.5, "sluice_phase_seconds", where='phase="queue"'), "p50 {{model}}"),
                        (quantile(0.99, "sluice_phase_seconds", where='phase="queue"'), "p99 {{model}}"),
                    ],
                ),
                Panel(
                    "Batches in flight",
                    "Batches that workers have and have not answered.",
                    "none",
                    [(gauge("sluice_batches_in_flight"), "{{model}} {{version}}")],
                ),
                BUSY_PANEL,
                Panel(
                    "Padding waste",
                    "Share of the elements of padded inputs that were added to them. Only for models with padding.",
                    "percentunit",
                    [
                        (
                            f"{rate('sluice_padding_elements_total', 'model', ADDED)} / "
                            f"{rate('sluice_padding_elements_total', 'model')}",
                            "{{model}}",
                        )
                    ],
                    steps=((0, "green"), (0.3, "orange"), (0.6, "red")),
                ),
            ],
        ),
    ],
)

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

WORKERS = Dashboard(
    "sluice-workers",
    "Sluice / Workers and models",
    "Which versions are in service, and how their processes are.",
    [
        (
            "Workers",
            [
                Panel(
                    "Workers",
                    "Processes that can take a batch.",
                    "none",
                    [(gauge("sluice_workers"), "{{model}} {{version}}")],
                ),
                Panel(
                    "Restarts",
                    "Worker processes that died and were replaced, in ten minutes.",
                    "none",
                    [
                        (
                            f"sum by (model, version) (increase(sluice_worker_restarts_total{{{LABELS}}}[10m]))",
                            "{{model}} {{version}}",
                        )
                    ],
                    steps=((0, "green"), (1, "orange"), (3, "red")),
                ),
                BUSY_PANEL,
                Panel(
                    "Memory of workers",
                    "Resident, shared pages counted for each process.",
                    "bytes",
                    [(gauge("sluice_workers_resident_bytes"), "{{model}} {{version}}")],
                ),
                Panel(
                    "Load time",
                    "From the start of a version to its last warm worker.",
                    "s",
                    [(gauge("sluice_model_load_seconds", "instance, model, version"), "{{model}} {{version}}")],
                ),
                Panel(
                    "Failed batches",
                    "Batches per second whose model failed, or whose worker died; and those that were answered.",
                    "ops",
                    [(rate("sluice_batches_total", "outcome"), "{{outcome}}")],
                ),
            ],
        ),
        (
            "Gateway",
            [
                Panel(
                    "Processor",
                    "Cores that the gateway process uses; its event loop has one.",
                    "none",
                    [(f'rate(process_cpu_seconds_total{{job="sluice", {HERE}}}[$__rate_interval])', "{{instance}}")],
                    steps=((0, "green"), (0.8, "orange"), (0.95, "red")),
                ),
                Panel(
                    "Memory of the gateway",
                    "Resident memory of the gateway process.",
                    "bytes",
                    [(f'process_resident_memory_bytes{{job="sluice", {HERE}}}', "{{instance}}")],
                ),
                Panel(
                    "Open files",
                    "Connections, workers and files, and how many there may be.",
                    "none",
                    [
                        (f'process_open_fds{{job="sluice", {HERE}}}', "{{instance}}"),
                        (f'process_max_fds{{job="sluice", {HERE}}}', "limit {{instance}}"),
                    ],
                ),
                Panel(
                    "Builds",
                    "What runs where.",
                    "none",
                    [
                        (
                            f"sum by (instance, version, onnxruntime, python) (sluice_build_info{{{HERE}}})",
                            "{{instance}} {{version}}, onnxruntime {{onnxruntime}}, python {{python}}",
                        )
                    ],
                ),
            ],
        ),
    ],
)

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
                _heat("Latency heat map", "How many calls took how long.", "s", DURATION),
            ],
        ),
    ],
)

BOARDS = {
    "overview": OVERVIEW,
    "batching": BATCHING,
    "cache": CACHE,
    "workers-and-models": WORKERS,
    "load-test": LOAD_TEST,
}
