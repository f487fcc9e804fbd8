"""The page of what is in force for a model version: `GET /v2/models/{model}[/versions/{version}]/config`.

It is the page of the Open Inference Protocol's model configuration extension, as Triton Inference Server has it. The
names at its top level are those of the message `ModelConfig` in `model_config.proto`, with the same meaning, so that
tools find `max_batch_size` or `dims` there. What only Sluice has is under `sluice`. HTTP and gRPC both show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field

from sluice.gateway.serving.model import ServedModel
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.findings import Findings
from sluice.inference.serving_plan import ServingPlan
from sluice.inference.types import DEFAULT_PRIORITY, LOWEST_PRIORITY, Datatype, Knot, Signature, TensorSpec


class TensorConfig(BaseModel):
    """One input or output. `dims` has no batch axis where `max_batch_size` is above 0; -1 stands for any size."""

    name: str
    data_type: str
    dims: list[int]


class InputPage(TensorConfig):
    """One input. `format` is the layout of a picture, if model.toml says that the input is one."""

    format: str = Field("FORMAT_NONE", description="FORMAT_NCHW or FORMAT_NHWC, or FORMAT_NONE.")


class InstanceGroup(BaseModel):
    """The workers. `gpus` are the numbers of their GPUs; empty on a CPU."""

    name: str
    kind: str
    count: int
    gpus: list[int]


class DynamicBatching(BaseModel):
    """The priorities that a request may have; 1 is the highest."""

    priority_levels: int
    default_priority_level: int


class MeasuredKnot(BaseModel):
    """How long a batch of so many rows typically ran when the version was loaded."""

    rows: int
    run_ms: float


class PredictedKnot(BaseModel):
    """The 95th percentile of the run time of a batch of so many rows, as it is predicted now."""

    rows: int
    p95_ms: float


class PlanPage(BaseModel):
    """What was planned when the version was loaded, from which measurements, and why."""

    workers: int
    intra_op_threads: int
    max_rows: int
    knots: list[MeasuredKnot]
    reasons: list[str]


class LatencyCurvePage(BaseModel):
    """The live prediction for one kind of batch, linear between its knots."""

    key: str = Field(description="What rows of one batch have in common: their shapes, and the wanted outputs.")
    knots: list[PredictedKnot]


class CachePlanPage(BaseModel):
    """Whether answers are cached, and by what: each "row", or the whole "request"."""

    enabled: bool
    scope: str
    because: str


class RowsPage(BaseModel):
    """Whether rows of different requests may share a batch: the evidence, and what is missing."""

    evidence: str = Field(
        description='"proven" from the graph, "tried" at load, "told" by the operator, "declared" by the shapes, or '
        '"none": nothing is known, and the model is served alone.'
    )
    because: str = Field(description="Why they do, or do not.")
    missing: str | None = Field(description="What would have to be known to batch the model; null if nothing.")
    ways: list[str] = Field(description="The ways to give what is missing; empty if nothing is.")
    erratic_because: str | None = Field(description="There if the model answered the same row differently.")
    alarm: str | None = Field(description="There if the trial at load contradicts the graph.")
    notes: list[str] = Field(description="What else was found at load, such as a sample that could not be used.")


class SluiceConfig(BaseModel):
    """What only Sluice has. In `config`, values that were planned stand where none was set."""

    digest: str = Field(description="sha256 of the version's files.")
    batched: bool = Field(description="Whether requests travel together.")
    unbatched_because: str | None = Field(description="Why not, if they do not.")
    notes: list[str] = Field(description="What is served otherwise than the file has it, such as maps as a tensor.")
    rows: RowsPage = Field(description="What was found out about its rows when it was loaded.")
    latency_objective_ms: float | None = Field(description="The latency that is promised; null if none is.")
    cache: CachePlanPage
    config: ModelConfig
    plan: PlanPage
    curves: list[LatencyCurvePage] = Field(description="One for each kind of batch that was seen.")


class ModelConfigPage(BaseModel):
    """What is in force for one model version."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = Field(description="Rows in one batch, at most; 0 if requests do not travel together.")
    input: list[InputPage]
    output: list[TensorConfig]
    instance_group: list[InstanceGroup]
    dynamic_batching: DynamicBatching | None = Field(exclude_if=lambda batching: batching is None)
    sluice: SluiceConfig


def model_config_page(served: ServedModel) -> ModelConfigPage:
    """The page of a model in service, as it is at this moment."""
    model = served.description()
    signature, config, cache = model.signature, model.config, model.cache_plan
    return ModelConfigPage(
        name=model.name,
        platform=model.engine.platform,
        backend=model.engine.name,
        max_batch_size=model.plan.max_rows if signature.batched else 0,
        input=[
            InputPage(**dict(tensor), format=_format(model.image_layouts.get(tensor.name, "")))
            for tensor in _tensors(signature.inputs, signature)
        ],
        output=_tensors(signature.outputs, signature),
        instance_group=[_instances(model.name, config)],
        dynamic_batching=_priorities() if signature.batched else None,
        sluice=SluiceConfig(
            digest=model.digest,
            batched=signature.batched,
            unbatched_because=model.unbatched_because,
            notes=list(model.notes),
            rows=_rows(model.findings),
            latency_objective_ms=config.batching.latency_objective_ms,
            cache=CachePlanPage(enabled=cache.enabled, scope=cache.scope, because=cache.because),
            config=config,
            plan=_plan(model.plan),
            curves=_curves(model.curves),
        ),
    )


def _rows(findings: Findings) -> RowsPage:
    return RowsPage(
        evidence=findings.evidence,
        because=findings.because,
        missing=findings.missing,
        ways=list(findings.ways),
        erratic_because=findings.erratic_because,
        alarm=findings.alarm,
        notes=list(findings.notes),
    )


def _tensors(specs: Sequence[TensorSpec], signature: Signature) -> list[TensorConfig]:
    skipped = 1 if signature.batched else 0
    return [
        TensorConfig(
            name=spec.name,
            data_type="TYPE_STRING" if spec.datatype is Datatype.BYTES else f"TYPE_{spec.datatype}",
            dims=[-1 if size is None else size for size in spec.shape[skipped:]],
        )
        for spec in specs
    ]


def _format(layout: str) -> str:
    """The name in `ModelInput.Format` of a picture's layout; there is none for a picture without channels."""
    return f"FORMAT_N{layout.removeprefix('N')}" if "C" in layout else "FORMAT_NONE"


def _instances(model: str, config: ModelConfig) -> InstanceGroup:
    device, _, number = config.workers.device.partition(":")
    return InstanceGroup(
        name=f"{model}_0",
        kind="KIND_CPU" if device == "cpu" else "KIND_GPU",
        count=config.workers.count or 1,
        gpus=[int(number)] if number else [],
    )


def _priorities() -> DynamicBatching:
    return DynamicBatching(priority_levels=LOWEST_PRIORITY, default_priority_level=DEFAULT_PRIORITY)


def _plan(plan: ServingPlan) -> PlanPage:
    return PlanPage(
        workers=plan.workers,
        intra_op_threads=plan.intra_op_threads,
        max_rows=plan.max_rows,
        knots=[MeasuredKnot(rows=knot.rows, run_ms=_milliseconds(knot.run_s)) for knot in plan.knots],
        reasons=list(plan.reasons),
    )


def _curves(curves: Mapping[str, Sequence[Knot]]) -> list[LatencyCurvePage]:
    return [
        LatencyCurvePage(
            key=key, knots=[PredictedKnot(rows=knot.rows, p95_ms=_milliseconds(knot.run_s)) for knot in knots]
        )
        for key, knots in curves.items()
    ]


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 4)
