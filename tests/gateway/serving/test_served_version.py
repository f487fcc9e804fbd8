"""A served version shows frozen values of what it is, and nothing of how it is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sluice.gateway.dialects.base import Callee
from sluice.gateway.serving.cache_plan import CachePlan
from sluice.gateway.serving.model import ModelHealth, ServedModel
from sluice.gateway.serving.repeated_calls import Repeats
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.gateway.serving.served_version import ServedVersion, in_force
from sluice.gateway.telemetry.metrics import Metrics
from sluice.inference.backends.registry import ENGINES
from sluice.inference.config.model_config import ModelConfig, WorkersConfig
from sluice.inference.findings import Evidence, Findings
from sluice.inference.serving_plan import ServingPlan
from sluice.inference.types import Datatype, Knot, Signature, TensorSpec

PLAN = ServingPlan(2, 3, 32, (Knot(1, 0.001),), ("32 rows: more no longer pay",))
SPEC = TensorSpec("x", Datatype.FP32, (None, 4))
BATCHED = Signature((SPEC,), (TensorSpec("y", Datatype.FP32, (None, 1)),), batched=True)
CURVES = {"x[4]": (Knot(1, 0.002),)}


class PuppetWorkers:
    """Workers of which a test says how many live."""

    plan = PLAN
    findings = Findings(Evidence.PROVEN, "every operator keeps rows apart")
    notes = ("a map is served as a tensor",)

    def __init__(self) -> None:
        self.pids: tuple[int, ...] = (11, 12)
        self.failing_since_s: float | None = None

    def statistics(self) -> Any:
        return SimpleNamespace(alive=len(self.pids), pids=self.pids, failing_since_s=self.failing_since_s)


class Version:
    """A version with puppet workers."""

    def __init__(self) -> None:
        self.workers = PuppetWorkers()
        self.sharing = RowSharing(batched=True, cache_plan=CachePlan(True, "row", "the model keeps rows apart"))
        queue = SimpleNamespace(rows=7)
        batcher = SimpleNamespace(statistics=lambda: SimpleNamespace(queue=queue), curves=lambda: CURVES)
        config = ModelConfig(workers=WorkersConfig(replace_timeout_s=60))
        images = cast(Any, {"x": SimpleNamespace(layout="NCHW")})
        self.served: ServedModel = ServedVersion(
            callee=Callee("m", 3, BATCHED, config, images=images),
            engine=ENGINES[0],
            digest="d" * 64,
            sample=None,
            walk=cast(Any, None),
            record_sample=cast(Any, None),
            metrics=Metrics("0").of_model("m", 3),
            repeats=Repeats(),
            gate=None,
            objective_s=None,
            workers=cast(Any, self.workers),
            batcher=cast(Any, batcher),
            sharing=self.sharing,
        )


@pytest.fixture
def version() -> Version:
    return Version()


def test_health_is_that_of_the_moment(version: Version) -> None:
    assert version.served.ready
    assert version.served.health() == ModelHealth((11, 12), 7, batched=True, unbatched_because=None)
    version.workers.pids = ()
    version.sharing.unbatch("rows influence each other", None)
    health = version.served.health()
    assert not version.served.ready
    assert (health.workers_alive, health.batched, health.unbatched_because) == (0, False, "rows influence each other")


def test_a_version_is_stranded_once_no_worker_could_be_started_for_too_long(version: Version) -> None:
    assert not version.served.is_stranded(1000.0)
    version.workers.failing_since_s = 100.0
    assert not version.served.is_stranded(159.9)
    assert version.served.is_stranded(160.0)


def test_the_description_has_what_is_in_force(version: Version) -> None:
    described = version.served.description()
    assert (described.name, described.version, described.engine.name) == ("m", 3, "onnxruntime")
    assert (described.config.batching.max_rows, described.config.workers.count) == (32, 2)
    assert (described.curves, described.notes) == (CURVES, ("a map is served as a tensor",))
    assert (described.cache_plan.scope, described.image_layouts) == ("row", {"x": "NCHW"})


def test_the_description_follows_when_rows_are_found_to_influence_each_other(version: Version) -> None:
    version.sharing.unbatch("rows influence each other", None)
    described = version.served.description()
    assert (described.signature.batched, described.unbatched_because) == (False, "rows influence each other")
    assert (described.config.batching.max_rows, described.config.batching.audit_share) == (1, 0.0)
    assert described.cache_plan == CachePlan(True, "request", "by whole requests: rows influence each other")


def test_statistics_are_those_of_its_metrics(version: Version) -> None:
    assert version.served.statistics() == version.served.metrics.statistics()


def test_what_is_in_force_is_a_configuration_that_would_be_taken() -> None:
    effective = in_force(ModelConfig(), PLAN, BATCHED)
    assert ModelConfig.model_validate(effective.model_dump()) == effective
