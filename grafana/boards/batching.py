"""Why batches leave when they do."""

from __future__ import annotations

from grafana.boards.shared import ADDED, BEYOND, BUSY_PANEL, heat
from grafana.panels import Dashboard, Panel, gauge, mean, quantile, rate

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
                Panel(
                    "Rows run again alone",
                    "How often a row of a batch was run once more, by what came of it. Mixed: it is no longer batched.",
                    "ops",
                    [(rate("sluice_row_audits_total", "model, outcome"), "{{model}} {{outcome}}")],
                ),
                heat("Rows heat map", "How many batches had how many rows.", "none", "sluice_batch_rows"),
                heat("Run-time heat map", "How many batches ran how long.", "s", "sluice_batch_run_seconds"),
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
