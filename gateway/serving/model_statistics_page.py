"""The page of what each version's calls came to: `GET /v2/models[/{model}[/versions/{version}]]/stats`.

It is the page of Triton Inference Server's statistics extension (`extension_statistics.md` of its protocol), with the
same names. `compute_input` is a batch's way to the engine and back together, since the two are not measured apart, and
`compute_output` is the encoding of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, Field

from sluice.gateway.serving.model import ServedModel
from sluice.gateway.telemetry.statistics import BatchSize, Total


class DurationStatistics(BaseModel):
    """How often something happened, and how long it took in all, in nanoseconds."""

    count: int
    ns: int


class InferenceStatistics(BaseModel):
    """How calls ended, and where the time of the successful ones went."""

    success: DurationStatistics
    fail: DurationStatistics
    queue: DurationStatistics
    compute_input: DurationStatistics
    compute_infer: DurationStatistics
    compute_output: DurationStatistics
    cache_hit: DurationStatistics = Field(description="Calls of which every row was known.")
    cache_miss: DurationStatistics = Field(description="The other calls for which the cache was asked.")


class BatchStatistics(BaseModel):
    """Of the batches of one size."""

    batch_size: int
    compute_input: DurationStatistics
    compute_infer: DurationStatistics
    compute_output: DurationStatistics = Field(description="0: encoding is each call's own.")


class SluiceStatistics(BaseModel):
    """What only Sluice has."""

    batched: bool = Field(description="Whether requests travel together.")
    unbatched_because: str | None = Field(description="Why not, if they do not.")
    row_audits: dict[str, int] = Field(
        description="Rows that were answered in a batch and run once more, alone, by what came of it."
    )


class VersionStatistics(BaseModel):
    """One version, since the gateway was started."""

    name: str
    version: str
    last_inference: int = Field(description="When a call was last answered, in milliseconds since 1970; 0 if never.")
    inference_count: int = Field(description="Rows that the engine computed.")
    execution_count: int = Field(description="Batches in which it did.")
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]
    sluice: SluiceStatistics


class StatisticsPage(BaseModel):
    """All versions that were asked for."""

    model_stats: list[VersionStatistics]


def statistics_page(versions: Iterable[ServedModel]) -> StatisticsPage:
    """The page of these versions, as it is at this moment."""
    return StatisticsPage(model_stats=[_version(served) for served in versions])


async def statistics_json(versions: Sequence[ServedModel]) -> bytes:
    """The same page as JSON. It is made version by version, so that the event loop can do other work in between."""
    pages: list[bytes] = []
    for served in versions:
        pages.append(_version(served).model_dump_json().encode())
        await asyncio.sleep(0)
    return b'{"model_stats":[' + b",".join(pages) + b"]}"


def _version(served: ServedModel) -> VersionStatistics:
    seen, health = served.statistics(), served.health()
    return VersionStatistics(
        name=served.name,
        version=str(served.version),
        last_inference=seen.last_inference_ms,
        inference_count=seen.inference_count,
        execution_count=seen.execution_count,
        inference_stats=InferenceStatistics(
            success=_duration(seen.success),
            fail=_duration(seen.fail),
            queue=_duration(seen.queue),
            compute_input=_duration(seen.transport),
            compute_infer=_duration(seen.compute),
            compute_output=_duration(seen.encode),
            cache_hit=_duration(seen.cache_hit),
            cache_miss=_duration(seen.cache_miss),
        ),
        batch_stats=[_batches(size) for size in seen.batches],
        sluice=SluiceStatistics(
            batched=health.batched,
            unbatched_because=health.unbatched_because,
            row_audits=dict(seen.row_audits),
        ),
    )


def _batches(size: BatchSize) -> BatchStatistics:
    return BatchStatistics(
        batch_size=size.rows,
        compute_input=_duration(size.transport),
        compute_infer=_duration(size.compute),
        compute_output=DurationStatistics(count=size.compute.count, ns=0),
    )


def _duration(total: Total) -> DurationStatistics:
    return DurationStatistics(count=total.count, ns=total.ns)
