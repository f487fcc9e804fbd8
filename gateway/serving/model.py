"""What is served, as the rest of the gateway sees it.

The catalogue, the data plane, the pages and the gRPC methods know a `ServedModel` and the frozen values that it gives.
`ServedVersion`, a version from the repository with workers of its own, is the first kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from sluice.gateway.dialects.base import Callee
from sluice.gateway.serving.cache_plan import CachePlan
from sluice.gateway.serving.gate import Gate
from sluice.gateway.serving.parts_stage import Stage
from sluice.gateway.serving.repeated_calls import Repeats
from sluice.gateway.telemetry.model_metrics import ModelMetrics
from sluice.gateway.telemetry.statistics import ModelStatistics
from sluice.inference.backends.base import Engine
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.findings import Findings
from sluice.inference.serving_plan import ServingPlan
from sluice.inference.types import Knot, Signature


class ModelHealth(msgspec.Struct, frozen=True):
    """The state of a served model at one moment.

    `worker_pids` are the living worker processes. `queue_rows` wait for a batch. `unbatched_because` says in plain
    words why requests do not share batches; it is `None` where `batched` is true.
    """

    worker_pids: tuple[int, ...]
    queue_rows: int
    batched: bool
    unbatched_because: str | None

    @property
    def workers_alive(self) -> int:
        """The number of living worker processes."""
        return len(self.worker_pids)


class ModelDescription(msgspec.Struct, frozen=True):
    """What is in force for a served model at one moment, and on which grounds.

    `signature.batched` says whether requests share batches now. In `config`, values that were planned or found out
    stand where none was set. `curves` has the predicted 95th percentile of the run time by rows, for each kind of
    batch that was seen. `findings` and `notes` are from the time when the model was loaded.
    """

    name: str
    version: int
    engine: Engine
    digest: str
    signature: Signature
    unbatched_because: str | None
    config: ModelConfig
    plan: ServingPlan
    curves: Mapping[str, Sequence[Knot]]
    cache_plan: CachePlan
    findings: Findings
    notes: tuple[str, ...]
    image_layouts: Mapping[str, str]
    """The layout of each input that is a picture, such as `NCHW`, by the input's name."""


class ServedModel(Protocol):
    """One version of a model that answers calls.

    The data plane reads the properties at every call, so an implementation has them as plain attributes.
    """

    @property
    def name(self) -> str:
        """The name of the model."""
        ...

    @property
    def version(self) -> int:
        """The number of the version."""
        ...

    @property
    def engine(self) -> Engine:
        """The engine that runs it."""
        ...

    @property
    def signature(self) -> Signature:
        """The model's inputs and outputs."""
        ...

    @property
    def sample(self) -> Path | None:
        """A file with a valid request, where the repository has one."""
        ...

    @property
    def callee(self) -> Callee:
        """What codecs need to know of the model."""
        ...

    @property
    def walk(self) -> Stage:
        """Answers a request. Raises a `SluiceError`."""
        ...

    @property
    def gate(self) -> Gate | None:
        """Where calls wait until they can be answered in time; `None` where no latency is promised."""
        ...

    @property
    def repeats(self) -> Repeats:
        """Recent calls that the cache answered."""
        ...

    @property
    def objective_s(self) -> float | None:
        """The latency that is promised; `None` if none is."""
        ...

    @property
    def metrics(self) -> ModelMetrics:
        """Where its calls are counted."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it can answer now."""
        ...

    def is_stranded(self, now_s: float) -> bool:
        """Whether it has been unable to answer, and to recover, for longer than it may, on the monotonic clock."""
        ...

    def record_sample(self) -> Path:
        """Have the next valid request written to a file, whose path is returned.

        Raises `InvalidRequest` where there is a sample already.
        """
        ...

    def health(self) -> ModelHealth:
        """Its state at this moment."""
        ...

    def description(self) -> ModelDescription:
        """What is in force for it at this moment."""
        ...

    def statistics(self) -> ModelStatistics:
        """What its calls came to since the gateway was started."""
        ...
