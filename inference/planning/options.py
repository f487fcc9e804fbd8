"""The options of the workers of a model version, and the terms of a plan that follow from them."""

from __future__ import annotations

import msgspec

from sluice.inference.config.model_config import ModelConfig
from sluice.inference.planning.machine import available_cores, available_memory_bytes
from sluice.inference.serving_plan import Batched, PlanTerms

UNLIMITED_BYTES = 1 << 62

MEMORY_PART = 2
"""The workers and arenas of one version are planned for half of the memory that is left."""


class WorkerOptions(msgspec.Struct, frozen=True):
    """How the workers of a model run. `None` stands for what is planned from measurements when it loads."""

    count: int | None = None
    """Worker processes."""

    device: str = "cpu"
    """`cpu`, or `cuda:N` for the GPU of that number."""

    intra_op_threads: int | None = None
    """Threads that compute one operator in a worker."""

    run_timeout_s: float = 20.0
    """A worker that runs one batch for longer is killed."""

    load_timeout_s: float = 300.0
    """A worker that takes longer to load, measure and warm up the model is killed; its start has then failed."""

    max_rows: int | None = None
    """Rows in a batch. Larger batches can run, too; if they do not fit the arena, in memory of their own."""

    objective_s: float | None = None
    """The promised latency. Batches are planned so that two of them, one after the other, take no longer."""

    max_answer_bytes: int = UNLIMITED_BYTES
    """The largest outputs for one request. Larger ones are not copied from the worker."""

    batched: Batched = None
    """What the operator configured about batching; `None` lets the worker find out."""


def worker_options(config: ModelConfig) -> WorkerOptions:
    """The options that a model's configuration asks for."""
    objective_ms = config.batching.latency_objective_ms
    return WorkerOptions(
        count=config.workers.count,
        device=config.workers.device,
        intra_op_threads=config.workers.intra_op_threads,
        run_timeout_s=config.workers.run_timeout_s,
        load_timeout_s=config.workers.load_timeout_s,
        max_rows=config.batching.max_rows,
        objective_s=None if objective_ms is None else objective_ms / 1000,
        batched=config.batching.batched,
    )


def plan_terms(options: WorkerOptions) -> PlanTerms:
    """The terms of a plan: the options, and the cores and the memory of this machine now."""
    memory_bytes = available_memory_bytes()
    return PlanTerms(
        cores=available_cores(),
        device=options.device,
        count=options.count,
        intra_op_threads=options.intra_op_threads,
        max_rows=options.max_rows,
        objective_s=options.objective_s,
        memory_bytes=None if memory_bytes is None else memory_bytes // MEMORY_PART,
    )
