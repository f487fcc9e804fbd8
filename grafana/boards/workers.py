"""Which versions are served, by what, at what cost."""

from __future__ import annotations

from grafana.boards.shared import BUSY_PANEL, HERE
from grafana.panels import LABELS, Dashboard, Panel, gauge, rate

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
                Panel(
                    "Deaths",
                    "Worker processes that were lost, by what they died of, in ten minutes.",
                    "none",
                    [
                        (
                            f"sum by (cause) (increase(sluice_worker_deaths_total{{{LABELS}}}[10m]))",
                            "{{cause}}",
                        )
                    ],
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
                    "Broken models",
                    "Models of the repository, and versions of them, that cannot be served.",
                    "none",
                    [(f"sum by (instance) (sluice_models_broken{{{HERE}}})", "{{instance}}")],
                    steps=((0, "green"), (1, "red")),
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
