"""How the workers of a model version are run."""

from __future__ import annotations

import msgspec

from sluice.inference.config.model_config import ModelConfig
from sluice.inference.planning.machine import available_cores, available_memory_bytes
from sluice.inference.serving_plan import Batched, PlanTerms

UNLIMITED_BYTES = 1 << 62

MEMORY_PART = 2
"""The workers and arenas of one version are planned for one in so many parts of the memory that is left."""


class WorkerOptions(msgspec.Struct, frozen=True):
    """How a model is run. What is `None` is planned from measurements when it loads."""

    count: int | None = None
    """Worker processes."""

    device: str = "cpu"
    """`cpu`, or `cuda:N` for the GPU of that number."""

    intra_op_threads: int | None = None
    """Threads with which a worker computes one operator."""

    run_timeout_s: float = 20.0
    """A worker that runs one batch for longer is killed."""

    load_timeout_s: float = 300.0
    """A worker that takes longer to load the model, measure it and warm it up is killed, and its start has failed."""

    max_rows: int | None = None
    """Rows in a batch. Larger ones run too, in memory of their own where they do not fit the arena."""

    objective_s: float | None = None
    """The latency that is promised. Batches are planned so that two of them, one after the other, keep it."""

    max_answer_bytes: int = UNLIMITED_BYTES
    """The outputs for one request, at most. Larger ones are not taken from the worker."""

    batched: Batched = None
    """The operator's word on the batch axis; `None` lets the worker find out."""


def worker_options(config: ModelConfig) -> WorkerOptions:
    """What a `model.toml` and the settings say of a model's workers."""
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
    """What a plan has to keep to: the options, and what this machine has to give now."""
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
