"""Puts the parts of one model version together, in the order in which they come, and ends them in reverse."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec.structs import replace

from sluice.batching.batcher import Batcher, BatchLimits
from sluice.batching.report import BatchReport
from sluice.cache.cache import Cache
from sluice.cache.report import Owner
from sluice.cache.tiers import CachedModel
from sluice.gateway.dialects.request_bounds import RequestBounds, request_bounds
from sluice.gateway.serving.audit.auditor import Auditor
from sluice.gateway.serving.batching_stop import BatchingStop
from sluice.gateway.serving.cache_invalidation import CacheInvalidation
from sluice.gateway.serving.cache_plan import CachePlan, cache_plan
from sluice.gateway.serving.gate import Gate
from sluice.gateway.serving.model_toml import build_callee, build_padder
from sluice.gateway.serving.repeated_calls import Repeats
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.gateway.serving.sample_recorder import SampleRecorder
from sluice.gateway.serving.served_version import ServedVersion
from sluice.gateway.serving.stages import StageContext, corridor
from sluice.gateway.settings.load import Settings
from sluice.gateway.telemetry.logs import log
from sluice.gateway.telemetry.memory import resident_bytes
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.model_metrics import ModelGauges, ModelMetrics
from sluice.gateway.telemetry.tracing.tracer import Tracer
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.findings import ways_text
from sluice.inference.planning.knots import BATCH_COST_S
from sluice.inference.planning.options import worker_options
from sluice.inference.repository.scan import ModelVersion
from sluice.inference.types import Knot, Signature
from sluice.inference.workers.pool import Workers

DELIVERY_S = 0.002
"""What an answer takes from its batch to its caller: others of the batch are encoded and written before it."""


@asynccontextmanager
async def serve_version(
    source: ModelVersion, settings: Settings, metrics: Metrics, cache: Cache, tracer: Tracer | None
) -> AsyncIterator[ServedVersion]:
    """One version in service. On leaving, it answers what it had accepted, and then ends its workers.

    Raises `ModelLoadError` if its workers cannot load it, and `RepositoryError` if something in its `model.toml` does
    not suit the model.
    """
    began_s = time.monotonic()
    meters = metrics.of_model(source.name, source.version)
    options = replace(worker_options(source.config), max_answer_bytes=settings.server.max_answer_bytes)
    objective_s = options.objective_s
    async with AsyncExitStack() as stack:
        workers = await stack.enter_async_context(
            Workers(
                source.file, options, on_vacancy=lambda: None, on_restart=meters.worker_restarted, files=source.files
            )
        )
        workers.on_death = meters.worker_died
        bounds = _bounds(source.config, workers.signature, settings)
        callee = await build_callee(source, workers.signature, workers.class_names, bounds.max_rows)
        padder = build_padder(source, workers.signature, meters.padded)
        sharing = _sharing(source, workers)
        stop = BatchingStop(sharing, cache, source.name, source.version)
        auditor = await _auditor(stack, callee.config, workers, sharing, meters, stop)
        batcher = stop.batcher = await stack.enter_async_context(
            _batcher(callee.config, settings, workers, auditor, _on_batch(meters, auditor, tracer), objective_s)
        )
        workers.on_vacancy = batcher.wake
        if auditor is not None:
            auditor.on_vacancy, workers.on_vacancy = batcher.wake, auditor.room
        _log_how_it_is_served(source, workers, sharing.cache_plan, objective_s)
        repeats = Repeats()
        if sharing.cache_plan.enabled and cache.there:
            stop.cached_model = _cached_model(
                source, workers.signature, sharing, settings, meters, repeats, objective_s
            )
            sharing.cache = cache.of_model(stop.cached_model)
            stack.callback(stop.retire)
        invalidation = await stack.enter_async_context(CacheInvalidation(cache, source.name, source.version))
        workers.on_overwritten = invalidation.begin
        meters.watch(_gauges(workers, batcher, sharing, objective_s, time.monotonic() - began_s))
        stack.callback(meters.forget)
        context = StageContext(
            source.name,
            source.version,
            workers.signature,
            batcher,
            settings.server.request_timeout_s,
            bounds,
            cache.turns,
            sharing,
            padder,
        )
        recorder = SampleRecorder(corridor(context), source.name, source.file)
        yield ServedVersion(
            callee=callee,
            engine=source.engine,
            digest=source.digest,
            sample=source.sample,
            walk=recorder.walk,
            record_sample=recorder.record_next,
            metrics=meters,
            repeats=repeats,
            gate=None if objective_s is None else Gate(batcher, sharing, objective_s),
            objective_s=objective_s,
            workers=workers,
            batcher=batcher,
            sharing=sharing,
        )


def _bounds(config: ModelConfig, signature: Signature, settings: Settings) -> RequestBounds:
    return request_bounds(
        signature,
        max_rows=settings.server.max_rows,
        max_queue_rows=config.batching.max_queue_rows,
        max_answer_bytes=settings.server.max_answer_bytes,
    )


def _sharing(source: ModelVersion, workers: Workers) -> RowSharing:
    """How requests share rows at first. Raises `RepositoryError` if the cache's settings do not suit the model."""
    batched = workers.signature.batched
    return RowSharing(
        batched=batched,
        unbatched_because=None if batched else workers.findings.because,
        cache_plan=cache_plan(source.config.cache, workers, source.random_operators),
    )


async def _auditor(
    stack: AsyncExitStack,
    config: ModelConfig,
    workers: Workers,
    sharing: RowSharing,
    meters: ModelMetrics,
    stop: BatchingStop,
) -> Auditor | None:
    """The auditor of batched rows, entered; `None` where requests share no batches, or no rows are to be audited."""
    share = config.batching.audited_share
    if not sharing.batched or not share:
        return None
    outputs = workers.signature.outputs
    auditor = Auditor(
        workers,
        outputs,
        share,
        on_audit=lambda audit: meters.row_audited(audit.finding.outcome, audit.compute_s),
        on_mixed=stop.rows_mixed,
    )
    return await stack.enter_async_context(auditor)


def _batcher(
    config: ModelConfig,
    settings: Settings,
    workers: Workers,
    auditor: Auditor | None,
    on_batch: Callable[[BatchReport], None],
    objective_s: float | None,
) -> Batcher:
    return Batcher(
        auditor or workers,
        BatchLimits(
            max_rows=workers.plan.max_rows if workers.signature.batched else 1,
            max_queue_rows=config.batching.max_queue_rows,
            max_queue_bytes=config.batching.max_queue_bytes,
        ),
        on_batch=on_batch,
        objective_s=objective_s,
        knots=[Knot(knot.rows, knot.run_s + BATCH_COST_S) for knot in workers.plan.knots],
        delivery_s=DELIVERY_S,
        drain_timeout_s=settings.server.shutdown_timeout_s,
    )


def _on_batch(meters: ModelMetrics, auditor: Auditor | None, tracer: Tracer | None) -> Callable[[BatchReport], None]:
    def on_batch(report: BatchReport) -> None:
        meters.batch_ended(report)
        if auditor is not None:
            auditor.ran(report.compute_s)
        if tracer is not None:
            tracer.batch_ended(report)

    return on_batch


def _gauges(
    workers: Workers, batcher: Batcher, sharing: RowSharing, objective_s: float | None, load_s: float
) -> ModelGauges:
    return ModelGauges(
        queue_rows=lambda: batcher.statistics().queue.rows,
        queue_bytes=lambda: batcher.statistics().queue.size_bytes,
        batches_in_flight=lambda: batcher.statistics().running_batches,
        workers_alive=lambda: workers.statistics().alive,
        workers_bytes=lambda: resident_bytes(workers.statistics().pids),
        objective_s=objective_s,
        load_s=load_s,
        rows_mixed=lambda: float(sharing.mixed),
    )


def _cached_model(
    source: ModelVersion,
    signature: Signature,
    sharing: RowSharing,
    settings: Settings,
    meters: ModelMetrics,
    repeats: Repeats,
    objective_s: float | None,
) -> CachedModel:
    config = source.config
    # Padding changes what the model is given, another engine rounds in another way, and rows that nobody compares may
    # have been answered beside others that changed them.
    runs_on = f"{config.workers.device} {source.engine.name} {source.engine.version()}"
    engine = f"{runs_on} padding {config.padding.model_dump_json()}"
    if config.batching.batched == "unchecked":
        engine += " rows unchecked"
    return CachedModel(
        owner=Owner(source.name, source.version),
        digest=source.digest,
        engine=engine,
        signature=signature,
        scope=sharing.cache_plan.scope,
        ttl_s=config.cache.ttl_s,
        adaptive=config.cache.adaptive,
        batch_s=BATCH_COST_S,
        objective_s=objective_s,
        observe=meters.cache_lookups,
        max_answer_bytes=settings.server.max_answer_bytes,
        on_forget=repeats.forget,
    )


def _log_how_it_is_served(source: ModelVersion, workers: Workers, kept: CachePlan, objective_s: float | None) -> None:
    """Log how the version is served, and what its operator should know."""
    plan, findings = workers.plan, workers.findings
    told = log.bind(model=source.name, version=source.version)
    if workers.notes:
        told.info("outputs are served as plain tensors", because="; ".join(workers.notes))
    if findings.alarm is not None:
        told.error("the trial at load contradicts the graph; served without batching", alarm=findings.alarm)
    if findings.missing is not None:
        told.warning(
            "served without batching, since it is not known whether rows influence each other",
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
        cache=f"by {kept.scope}" if kept.enabled else "off",
        cache_because=kept.because,
        device=source.config.workers.device,
        workers=plan.workers,
        threads=plan.intra_op_threads,
        max_rows=plan.max_rows,
        rows=findings.because,
        because="; ".join(plan.reasons),
    )
