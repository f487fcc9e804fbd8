"""One version of a model in service, with worker processes of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from sluice.batching.batcher import Batcher
from sluice.gateway.dialects.base import Callee
from sluice.gateway.serving.gate import Gate
from sluice.gateway.serving.model import ModelDescription, ModelHealth
from sluice.gateway.serving.repeated_calls import Repeats
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.gateway.serving.stages import Stage
from sluice.gateway.telemetry.model_metrics import ModelMetrics
from sluice.gateway.telemetry.statistics import ModelStatistics
from sluice.inference.backends.base import Engine
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.serving_plan import ServingPlan
from sluice.inference.types import Signature
from sluice.inference.workers.pool import Workers


class ServedVersion(msgspec.Struct, frozen=True):
    """One version of one model, warm and able to answer. Implements `ServedModel`.

    `workers`, `batcher` and `sharing` are for this package alone: everybody else asks for `health`, `description` or
    `statistics`.
    """

    callee: Callee
    engine: Engine
    digest: str
    sample: Path | None
    walk: Stage
    record_sample: Callable[[], Path]
    metrics: ModelMetrics
    repeats: Repeats
    gate: Gate | None
    objective_s: float | None
    workers: Workers
    batcher: Batcher
    sharing: RowSharing

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.callee.name

    @property
    def version(self) -> int:
        """The number of the version."""
        return self.callee.version

    @property
    def signature(self) -> Signature:
        """The model's inputs and outputs."""
        return self.callee.signature

    @property
    def ready(self) -> bool:
        """Whether at least one worker process lives."""
        return self.workers.statistics().alive > 0

    def is_stranded(self, now_s: float) -> bool:
        """Whether no worker has lived and none could be started for `workers.replace_timeout_s`."""
        since_s = self.workers.statistics().failing_since_s
        return since_s is not None and now_s - since_s >= self.callee.config.workers.replace_timeout_s

    def health(self) -> ModelHealth:
        """Its state at this moment."""
        return ModelHealth(
            worker_pids=self.workers.statistics().pids,
            queue_rows=self.batcher.statistics().queue.rows,
            batched=self.sharing.batched,
            unbatched_because=self.sharing.unbatched_because,
        )

    def description(self) -> ModelDescription:
        """What is in force for it at this moment."""
        signature, plan = replace(self.signature, batched=self.sharing.batched), self.workers.plan
        return ModelDescription(
            name=self.name,
            version=self.version,
            engine=self.engine,
            digest=self.digest,
            signature=signature,
            unbatched_because=self.sharing.unbatched_because,
            config=in_force(self.callee.config, plan, signature),
            plan=plan,
            curves=self.batcher.curves(),
            cache_plan=self.sharing.cache_plan,
            findings=self.workers.findings,
            notes=tuple(self.workers.notes),
            image_layouts={name: image.layout for name, image in self.callee.images.items()},
        )

    def statistics(self) -> ModelStatistics:
        """What its calls came to since the gateway was started."""
        return self.metrics.statistics()


def in_force(config: ModelConfig, plan: ServingPlan, signature: Signature) -> ModelConfig:
    """A version's configuration, with what was planned or found out in place of what was not set."""
    batching = config.batching.model_copy(
        update={
            "max_rows": plan.max_rows if signature.batched else 1,
            "batched": signature.batched if config.batching.batched is None else config.batching.batched,
            "audit_share": config.batching.audited_share if signature.batched else 0.0,
        }
    )
    workers = config.workers.model_copy(update={"count": plan.workers, "intra_op_threads": plan.intra_op_threads})
    return config.model_copy(update={"batching": batching, "workers": workers})
