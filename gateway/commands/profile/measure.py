"""Measures a model as serving it would, and shows the curve, the plan and its reasons."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import msgspec

from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import RepositoryError
from sluice.inference.findings import Evidence, Findings
from sluice.inference.padding.padding import Padding
from sluice.inference.planning.knots import BATCH_COST_S
from sluice.inference.planning.options import WorkerOptions, worker_options
from sluice.inference.planning.reasons import ways
from sluice.inference.repository.scan import ModelVersion, ScannedRepository
from sluice.inference.serving_plan import ServingPlan
from sluice.inference.transport.messages import Load
from sluice.inference.workers.pool import Workers
from sluice.inference.workers.process import WorkerLimits, WorkerProcess

MARK = "<- max_rows"


class Profile(msgspec.Struct, frozen=True):
    """What was measured and found out about one model version, and how it would be served."""

    source: ModelVersion
    objective_ms: float | None
    batched: bool
    plan: ServingPlan
    findings: Findings


async def profile(source: ModelVersion, config: ModelConfig) -> Profile:
    """Starts the workers of a version as serving it would, and ends them.

    Raises `ModelLoadError`. Raises `RepositoryError` for a `[padding]` that does not suit the model, before anything is
    measured.
    """
    options = worker_options(config)
    if config.padding.inputs or config.padding.outputs:
        await _check_padding(source, config, options)
    async with Workers(source.file, options, on_vacancy=_nothing, on_restart=_nothing, files=source.files) as workers:
        objective_ms = config.batching.latency_objective_ms
        return Profile(source, objective_ms, workers.signature.batched, workers.plan, workers.findings)


def picked(found: ScannedRepository, name: str | None) -> tuple[tuple[ModelVersion, ...], list[str]]:
    """The highest version of each model, or of the named one, and what is wrong with those that are broken.

    Raises `RepositoryError` if there is no such model.
    """
    highest = {version.name: version for version in sorted(found.versions, key=lambda each: each.version)}
    broken = [each.reason for each in found.broken if name in (None, each.name)]
    if name is None:
        return tuple([highest[each] for each in sorted(highest)]), broken
    if name in highest:
        return (highest[name],), broken
    if broken:
        raise RepositoryError("\n".join(broken))
    raise RepositoryError(f"there is no model {name!r}; there are {', '.join(sorted(highest))}")


def under(config: ModelConfig, objective_ms: float | None) -> ModelConfig:
    """The configuration with this objective, if one is given. Raises `RepositoryError` unless it is above 0."""
    if objective_ms is None:
        return config
    if not 0 < objective_ms < math.inf:
        raise RepositoryError(f"--objective-ms {objective_ms:g}: expected a number above 0")
    batching = config.batching.model_copy(update={"latency_objective_ms": objective_ms})
    return config.model_copy(update={"batching": batching})


def without_plan(config: ModelConfig) -> ModelConfig:
    """The configuration without the values that a plan decides."""
    batching = config.batching.model_copy(update={"max_rows": None})
    workers = config.workers.model_copy(update={"count": None, "intra_op_threads": None})
    return config.model_copy(update={"batching": batching, "workers": workers})


def as_table(found: Profile) -> str:
    """The curve, with a line for each measured size, and the plan with its reasons."""
    plan = found.plan
    said = [f"{found.source.name}, version {found.source.version}", ""]
    if plan.knots:
        said += [*_table(plan), ""]
    rows = "batches of up to " + _counted(plan.max_rows, "row")
    said += [f"plan: {ways(plan.workers, plan.intra_op_threads)}, {rows}", *[f"  - {each}" for each in plan.reasons]]
    return "\n".join([*said, *_of_rows(found)])


def as_json_text(found: Sequence[Profile]) -> str:
    """A list with one object for each model. Times are in seconds."""
    return json.dumps([_plain(each) for each in found], indent=2, ensure_ascii=False)


def rows_per_s(plan: ServingPlan, rows: int, run_s: float) -> float:
    """The throughput of all workers in batches of so many rows, if they do not slow each other down."""
    return plan.workers * rows / (run_s + BATCH_COST_S)


def rate_heading(plan: ServingPlan) -> str:
    """The heading for `rows_per_s`."""
    return f"rows/s, {_counted(plan.workers, 'worker')} x {_counted(plan.intra_op_threads, 'thread')}"


async def _check_padding(source: ModelVersion, config: ModelConfig, options: WorkerOptions) -> None:
    """Checks `[padding]` against the model's signature, for which the model is loaded once without measuring it."""
    batching = config.batching
    nothing_to_measure = ServingPlan(1, options.intra_op_threads or 1, 1, (), ())
    apart = () if source.files is None else source.files.apart
    sample = None if source.tried_with is None else str(source.tried_with.path)
    order = Load(str(source.file), options.device, nothing_to_measure, options.batched, apart, sample)
    limits = WorkerLimits(options.run_timeout_s, options.load_timeout_s)
    worker = await WorkerProcess.start(order, limits, _nothing)
    signature = worker.loaded.signature
    await worker.close()
    try:
        Padding(signature, config.padding, max_rows=batching.max_queue_rows, max_bytes=batching.max_queue_bytes)
    except RepositoryError as error:
        raise RepositoryError(f"the model.toml of {source.name!r}: {error}") from error


def _of_rows(found: Profile) -> list[str]:
    """Whether rows share batches, on which evidence, and what is missing, if anything."""
    findings = found.findings
    evidence = "" if findings.evidence is Evidence.NONE else f" ({findings.evidence})"
    said = [f"rows: {'batched' if found.batched else 'served alone'}{evidence}: {findings.because}"]
    if findings.missing is not None:
        said += [f"  - missing: {findings.missing}", "  - to have it batched, give one of these:"]
        said += [f"    - {way}" for way in findings.ways]
    for fault in (findings.alarm, findings.erratic_because, *findings.notes):
        if fault is not None:
            said.append(f"  - {fault}")
    return said


def _table(plan: ServingPlan) -> list[str]:
    lines = [("rows", "run ms", "µs/row", rate_heading(plan), "")]
    for knot in plan.knots:
        mark = MARK if knot.rows == plan.max_rows else ""
        rate = rows_per_s(plan, knot.rows, knot.run_s)
        run_ms, row_us = knot.run_s * 1e3, knot.run_s / knot.rows * 1e6
        lines.append((f"{knot.rows}", f"{run_ms:.3f}", f"{row_us:.2f}", f"{rate:,.0f}", mark))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return [
        "  ".join([*[f"{cell:>{width}}" for cell, width in zip(line[:4], widths, strict=True)], line[4]]).rstrip()
        for line in lines
    ]


def _plain(found: Profile) -> dict[str, object]:
    plan = found.plan
    return {
        "model": found.source.name,
        "version": found.source.version,
        "batched": found.batched,
        "rows": {
            "evidence": found.findings.evidence,
            "because": found.findings.because,
            "missing": found.findings.missing,
            "ways": list(found.findings.ways),
            "erratic_because": found.findings.erratic_because,
            "alarm": found.findings.alarm,
            "notes": list(found.findings.notes),
        },
        "latency_objective_ms": found.objective_ms,
        "workers": plan.workers,
        "intra_op_threads": plan.intra_op_threads,
        "max_rows": plan.max_rows,
        "knots": [
            {"rows": knot.rows, "run_s": knot.run_s, "rows_per_s": rows_per_s(plan, knot.rows, knot.run_s)}
            for knot in plan.knots
        ],
        "reasons": list(plan.reasons),
    }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _nothing() -> None:
    """Does nothing: here no batches wait for workers."""
