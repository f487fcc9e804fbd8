"""One model version in service: what it owns, and in which order that comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version as distribution_version
from pathlib import Path

import msgspec
from msgspec.structs import replace

from sluice.batching.batcher import Batcher, BatchLimits
from sluice.batching.report import BatchReport
from sluice.cache.cache import Cache
from sluice.cache.report import Owner
from sluice.cache.tiers import CachedModel
from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.request_bounds import request_bounds
from sluice.gateway.inputs.images.reader import ImageReader, image_readers
from sluice.gateway.inputs.text.embedder import Embedder, embedder_of
from sluice.gateway.inputs.text.tokenizer import load_tokenizer
from sluice.gateway.serving.audit.auditor import Auditor
from sluice.gateway.serving.cache_plan import CachePlan, cache_plan
from sluice.gateway.serving.footing import Footing
from sluice.gateway.serving.forgetting import Forgetting
from sluice.gateway.serving.gate import Gate
from sluice.gateway.serving.model import ModelDescription, ModelHealth
from sluice.gateway.serving.padding_stage import Padder
from sluice.gateway.serving.repeated_calls import Repeats
from sluice.gateway.serving.sample_recorder import Recorder
from sluice.gateway.serving.stages import Stage, StageContext, corridor
from sluice.gateway.serving.unbatching import Unbatching
from sluice.gateway.settings.load import Settings
from sluice.gateway.telemetry.logs import log
from sluice.gateway.telemetry.memory import resident_bytes
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.model_metrics import ModelGauges, ModelMetrics
from sluice.gateway.telemetry.statistics import ModelStatistics
from sluice.gateway.telemetry.tracing.tracer import Tracer
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import RepositoryError, StartError
from sluice.inference.findings import ways_text
from sluice.inference.padding.padding import Padding
from sluice.inference.planning.knots import BATCH_COST_S
from sluice.inference.planning.options import worker_options
from sluice.inference.planning.plan import ServingPlan
from sluice.inference.repository.scan import ModelVersion
from sluice.inference.repository.snapshot import changed_file
from sluice.inference.types import Knot, Signature
from sluice.inference.workers.pool import Workers

ENGINE_VERSION = distribution_version("onnxruntime")

DELIVERY_S = 0.002
"""What an answer takes from its batch to its caller: others of the batch are encoded and written before it."""


class ServedVersion(msgspec.Struct, frozen=True):
    """One version of one model, warm and able to answer."""

    name: str
    version: int
    digest: str
    sample: Path | None
    config: ModelConfig
    footing: Footing
    signature: Signature
    callee: Callee
    walk: Stage
    record_sample: Callable[[], Path]
    metrics: ModelMetrics
    repeats: Repeats
    gate: Gate | None
    workers: Workers
    batcher: Batcher
    objective_s: float | None

    @property
    def ready(self) -> bool:
        """Whether at least one worker process lives."""
        return self.workers.statistics().alive > 0

    def is_stranded(self, now_s: float) -> bool:
        """Whether no worker lives and none could be started for as long as that may be, on the monotonic clock."""
        since_s = self.workers.statistics().failing_since_s
        return since_s is not None and now_s - since_s >= self.config.workers.replace_timeout_s

    def health(self) -> ModelHealth:
        """Its state at this moment."""
        return ModelHealth(
            worker_pids=self.workers.statistics().pids,
            queue_rows=self.batcher.statistics().queue.rows,
            batched=self.footing.batched,
            unbatched_because=self.footing.unbatched_because,
        )

    def description(self) -> ModelDescription:
        """What is in force for it at this moment."""
        signature, plan = replace(self.signature, batched=self.footing.batched), self.workers.plan
        return ModelDescription(
            name=self.name,
            version=self.version,
            digest=self.digest,
            signature=signature,
            unbatched_because=self.footing.unbatched_because,
            config=in_force(self.config, plan, signature),
            plan=plan,
            curves=self.batcher.curves(),
            cache_plan=self.footing.caching,
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


@asynccontextmanager
async def serve_version(
    source: ModelVersion, settings: Settings, metrics: Metrics, cache: Cache, tracer: Tracer | None
) -> AsyncIterator[ServedVersion]:
    """Bring one version into service, and on leaving answer what it had accepted, then end its workers.

    Raises `ModelLoadError` if its workers cannot load it, and `RepositoryError` if its padding, its cache or its
    tokenizer does not suit it.
    """
    began_s = time.monotonic()
    repeats = Repeats()
    meters = metrics.of_model(source.name, source.version)
    config = source.config
    options = replace(worker_options(config), max_answer_bytes=settings.server.max_answer_bytes)

    def on_batch(report: BatchReport) -> None:
        meters.batch_ended(report)
        if auditor is not None:
            auditor.ran(report.compute_s)
        if tracer is not None:
            tracer.batch_ended(report)

    async with AsyncExitStack() as stack:
        workers = await stack.enter_async_context(
            Workers(
                source.file, options, on_vacancy=lambda: None, on_restart=meters.worker_restarted, files=source.files
            )
        )
        workers.on_death = meters.worker_died
        _check_labels(source, workers.signature)
        config = _with_class_names(config, workers)
        embedder = await asyncio.to_thread(_embedder, source, workers.signature)
        images = await asyncio.to_thread(_images, source, workers.signature)
        padder = _padder(source, workers.signature, meters)
        alone_because = None if workers.signature.batched else workers.findings.because
        footing = Footing(batched=workers.signature.batched, unbatched_because=alone_because)
        unbatching = Unbatching(footing, cache, source.name, source.version)
        auditor: Auditor | None = None
        gate: Gate | None = None
        share = config.batching.audited_share
        if footing.batched and share:
            outputs = workers.signature.outputs
            auditor = await stack.enter_async_context(
                Auditor(
                    workers,
                    outputs,
                    share,
                    on_look=lambda look: meters.looked_again(look.finding.outcome, look.compute_s),
                    on_mixed=unbatching.found,
                )
            )
        batcher = unbatching.batcher = await stack.enter_async_context(
            Batcher(
                auditor or workers,
                _limits(config, workers),
                on_batch=on_batch,
                objective_s=options.objective_s,
                knots=[Knot(knot.rows, knot.run_s + BATCH_COST_S) for knot in workers.plan.knots],
                delivery_s=DELIVERY_S,
                drain_timeout_s=settings.server.shutdown_timeout_s,
            )
        )
        if options.objective_s is not None:
            gate = Gate(batcher, footing, options.objective_s)
        workers.on_vacancy = batcher.wake
        if auditor is not None:
            auditor.on_vacancy, workers.on_vacancy = batcher.wake, auditor.room
        footing.caching = caching = cache_plan(config.cache, workers, source.random_operators)
        _tell(source, workers, caching, options.objective_s)
        if caching.enabled and cache.there:
            kept = _cached_model(source, workers.signature, caching, options.objective_s, meters)
            kept = replace(kept, max_answer_bytes=settings.server.max_answer_bytes, on_forget=repeats.forget)
            unbatching.kept, footing.cache = kept, cache.of_model(kept)
            stack.callback(unbatching.retire)
        forgetting = await stack.enter_async_context(Forgetting(cache, source.name, source.version))
        workers.on_overwritten = forgetting.begin
        load_s = time.monotonic() - began_s
        meters.watch(_gauges(workers, batcher, footing, options.objective_s, load_s))
        stack.callback(meters.forget)
        bounds = request_bounds(
            workers.signature,
            max_rows=settings.server.max_rows,
            max_queue_rows=config.batching.max_queue_rows,
            max_answer_bytes=settings.server.max_answer_bytes,
        )
        course = StageContext(
            source.name,
            source.version,
            workers.signature,
            batcher,
            settings.server.request_timeout_s,
            bounds,
            cache.turns,
            footing,
            padder,
        )
        recorder = Recorder(corridor(course), source.name, source.file)
        yield ServedVersion(
            name=source.name,
            version=source.version,
            digest=source.digest,
            sample=source.sample,
            config=config,
            footing=footing,
            signature=workers.signature,
            callee=Callee(
                source.name,
                source.version,
                workers.signature,
                config,
                embedder,
                max_rows=bounds.max_rows,
                images=images,
                tokenizer=source.tokenizer,
            ),
            walk=recorder.walk,
            record_sample=recorder.record_next,
            metrics=meters,
            repeats=repeats,
            gate=gate,
            workers=workers,
            batcher=batcher,
            objective_s=options.objective_s,
        )


def _limits(config: ModelConfig, workers: Workers) -> BatchLimits:
    return BatchLimits(
        max_rows=workers.plan.max_rows if workers.signature.batched else 1,
        max_queue_rows=config.batching.max_queue_rows,
        max_queue_bytes=config.batching.max_queue_bytes,
    )


def _gauges(
    workers: Workers, batcher: Batcher, footing: Footing, objective_s: float | None, load_s: float
) -> ModelGauges:
    return ModelGauges(
        queue_rows=lambda: batcher.statistics().queue.rows,
        queue_bytes=lambda: batcher.statistics().queue.size_bytes,
        batches_in_flight=lambda: batcher.statistics().running_batches,
        workers_alive=lambda: workers.statistics().alive,
        workers_bytes=lambda: resident_bytes(workers.statistics().pids),
        objective_s=objective_s,
        load_s=load_s,
        rows_mixed=lambda: float(footing.mixed),
    )


def _cached_model(
    source: ModelVersion, signature: Signature, caching: CachePlan, objective_s: float | None, meters: ModelMetrics
) -> CachedModel:
    config = source.config
    # Padding changes what the model is given, another engine rounds in another way, and rows that nobody compares may
    # have been answered beside others that changed them.
    engine = f"{config.workers.device} onnxruntime {ENGINE_VERSION} padding {config.padding.model_dump_json()}"
    if config.batching.batched == "unchecked":
        engine += " rows unchecked"
    return CachedModel(
        owner=Owner(source.name, source.version),
        digest=source.digest,
        engine=engine,
        signature=signature,
        scope=caching.scope,
        ttl_s=config.cache.ttl_s,
        adaptive=config.cache.adaptive,
        batch_s=BATCH_COST_S,
        objective_s=objective_s,
        observe=meters.cache_lookups,
    )


def _padder(source: ModelVersion, signature: Signature, meters: ModelMetrics) -> Padder | None:
    config = source.config
    if not config.padding.inputs and not config.padding.outputs:
        return None
    max_rows, max_bytes = config.batching.max_queue_rows, config.batching.max_queue_bytes
    try:
        padding = Padding(signature, config.padding, max_rows=max_rows, max_bytes=max_bytes)
    except RepositoryError as error:
        raise RepositoryError(f"the model.toml of {source.name!r}: {error}") from error
    if padding.uncut:
        log.warning(
            "outputs with an axis of any size are not cut back; where one follows a padded input, it comes out padded",
            outputs=", ".join(padding.uncut),
            model=source.name,
            version=source.version,
        )
    return Padder(padding, meters.padded)


def _embedder(source: ModelVersion, signature: Signature) -> Embedder | None:
    """How texts become the version's inputs, where its model.toml has `[text]`. Raises `StartError`."""
    if (config := source.config.text) is None:
        return None
    folder = source.file.parent
    if (tokenizer := source.tokenizer) is None:
        raise RepositoryError(
            f"the model.toml of {source.name!r}: text.tokenizer: there is no {config.tokenizer!r} in {folder} "
            f"or in {folder.parent}"
        )
    file, max_tokens = tokenizer.file, config.max_tokens if config.truncate else None
    try:
        embedder = embedder_of(config, signature, load_tokenizer(file, max_tokens))
    except RepositoryError as error:
        raise RepositoryError(f"the model.toml of {source.name!r}: {error}") from error
    if changed_file([tokenizer]) is not None:
        raise RepositoryError(f"{file}: has changed while the version was loaded; load the model anew")
    return embedder


def _images(source: ModelVersion, signature: Signature) -> Mapping[str, ImageReader]:
    """How pictures become the version's inputs, where its model.toml has `[input.NAME.image]`. Raises `StartError`."""
    try:
        return image_readers(source.config, signature)
    except StartError as error:
        raise RepositoryError(f"the model.toml of {source.name!r}: {error}") from error


def _check_labels(source: ModelVersion, signature: Signature) -> None:
    """Raises `RepositoryError` if labels are for an output that is not there, or are not as many as its last axis."""
    outputs = {spec.name: spec for spec in signature.outputs}
    for output, labels in source.config.labels.items():
        fault = f"the model.toml of {source.name!r}: labels.{output}"
        if output not in outputs:
            raise RepositoryError(f"{fault}: the model has no such output; it has {', '.join(map(repr, outputs))}")
        shape = outputs[output].shape
        if shape and shape[-1] is not None and shape[-1] != len(labels):
            raise RepositoryError(f"{fault}: {len(labels)} names for {shape[-1]} classes; name each of them")


def _with_class_names(config: ModelConfig, workers: Workers) -> ModelConfig:
    """The configuration with labels from the file for outputs that have none in `model.toml`."""
    widths = {spec.name: spec.shape[-1] for spec in workers.signature.outputs if spec.shape}
    found = {
        name: tuple(names) for name, names in workers.class_names.items() if widths.get(name) in (None, len(names))
    }
    return config.model_copy(update={"labels": {**found, **config.labels}}) if found else config


def _tell(source: ModelVersion, workers: Workers, caching: CachePlan, objective_s: float | None) -> None:
    """Log how the version is served, and what its operator had better know."""
    plan = workers.plan
    told = log.bind(model=source.name, version=source.version)
    if workers.notes:
        told.info("outputs are served as plain tensors", because="; ".join(workers.notes))
    findings = workers.findings
    if findings.alarm is not None:
        told.error("the trial at load contradicts the graph; served without batching", alarm=findings.alarm)
    if findings.missing is not None:
        told.warning(
            "served without batching, for nobody knows whether rows influence each other",
            missing=findings.missing,
            ways=ways_text(findings.ways),
        )
    elif not workers.signature.batched:
        told.warning("served without batching", because=findings.because)
    for note in findings.notes:
        told.warning(note)
    if objective_s is not None and plan.knots and plan.knots[0].run_s > objective_s:
        told.warning(
            "the latency objective cannot be kept: one row alone takes longer; every answer will count as late",
            latency_objective_ms=1e3 * objective_s,
            one_row_ms=round(1e3 * plan.knots[0].run_s, 3),
        )
    told.info(
        "model ready",
        cache=f"by {caching.scope}" if caching.enabled else "off",
        cache_because=caching.because,
        device=source.config.workers.device,
        workers=plan.workers,
        threads=plan.intra_op_threads,
        max_rows=plan.max_rows,
        rows=findings.because,
        because="; ".join(plan.reasons),
    )
