"""The composition root: the parts of one gateway, made from its settings and its models, and put together.

There are no servers here, and nothing of FastAPI or uvicorn: those are made in `process/` from the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version as distribution_version

from sluice.cache.cache import Cache, CacheOptions
from sluice.cache.remote.cluster_address import cluster_address
from sluice.cache.remote.redis_link import check_url
from sluice.cache.remote.tier import RedisOptions
from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.doors.door_watch import DoorWatch
from sluice.gateway.headers.request_ids import RequestIds
from sluice.gateway.prediction.data_plane import PredictionPlane
from sluice.gateway.prediction.observer import Observer
from sluice.gateway.protocols import DIALECTS
from sluice.gateway.reading.body_reading import BodyReading
from sluice.gateway.reading.pool import Readers, planned_readers
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.drain import Drain
from sluice.gateway.serving.readiness import Readiness
from sluice.gateway.serving.repository_control import RepositoryControl
from sluice.gateway.settings.load import Settings
from sluice.gateway.settings.sections import CacheSettings, TracingSettings
from sluice.gateway.telemetry.cache_metrics import CacheCollector
from sluice.gateway.telemetry.call_log import CallLog
from sluice.gateway.telemetry.connection_metrics import ConnectionCollector
from sluice.gateway.telemetry.log_metrics import LogCollector
from sluice.gateway.telemetry.logs import tell_of_redis
from sluice.gateway.telemetry.loop_lag import LoopLag
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.reader_metrics import ReadersCollector
from sluice.gateway.telemetry.tracing.tracer import Tracer
from sluice.inference.backends.registry import engine_versions
from sluice.inference.errors import StartError
from sluice.inference.repository.scan import BrokenModel, ModelVersion

VERSION = distribution_version("sluice-gateway")


class Gateway:
    """The parts of one gateway. An async context manager: entered, its models are warm; leaving begins the drain.

    `plane` answers predictions. `catalogue` has the models, and `control` loads and unloads them. `readiness` says
    whether new calls can be sent here, and `drain` that the gateway shuts down. `held`, `budget` and `doors` bound what
    is held for callers, bound the connections, and watch the ports. `readers` are processes that decode large bodies.

    Servers, pages and gRPC take the parts that they use. Raises `StartError` where settings cannot be carried out.
    """

    def __init__(self, settings: Settings, models: Sequence[ModelVersion], broken: Sequence[BrokenModel] = ()) -> None:
        self.settings = settings
        self.drain = Drain()
        names = {dialect.name for dialect in DIALECTS} | ({"grpc"} if settings.server.grpc_port else set())
        self.metrics = Metrics(VERSION, engine_versions(), sorted(names))
        self.cache = Cache(_cache_options(settings.cache), on_change=tell_of_redis)
        CacheCollector(self.cache, self.metrics.registry)
        LogCollector(self.metrics.registry)
        self._tracer = _tracer(settings.tracing, self.metrics)
        self.catalogue = Catalogue(models, settings, self.metrics, self.cache, self._tracer, broken)
        self.control = RepositoryControl(self.catalogue, allowed=settings.server.model_control)
        self.held = HeldBytes(settings.server.max_buffered_bytes)
        self.readers = Readers(planned_readers(settings.server.readers))
        ReadersCollector(self.readers, self.held, self.metrics.registry)
        self.budget = ConnectionBudget(settings.server.max_connections)
        self.doors = DoorWatch(self.budget, self.metrics.door_reopened)
        ConnectionCollector(self.budget, self.metrics.registry)
        self.readiness = Readiness(self.catalogue, self.drain, self.doors)
        self.request_ids = RequestIds()
        logs = settings.logs
        call_log = CallLog(logs.successes_per_s, logs.refusals_per_s, slow_s=logs.slow_ms / 1e3)
        observer = Observer(self.metrics.unknown_model, call_log, self.request_ids, self._tracer)
        self.plane = PredictionPlane(
            self.catalogue,
            DIALECTS,
            observer,
            max_body_bytes=settings.server.max_body_bytes,
            compress_from_bytes=settings.server.compress_from_bytes,
            request_timeout_s=settings.server.request_timeout_s,
            intake=BodyReading(self.held, settings.server.max_body_bytes, self.readers),
            turns_of_steps=self.cache.turns,
        )

    async def __aenter__(self) -> Gateway:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(LoopLag(self.metrics.tick))
            await stack.enter_async_context(self.doors)
            if self._tracer is not None:
                await stack.enter_async_context(self._tracer)
            await stack.enter_async_context(self.cache)
            await stack.enter_async_context(self.readers)
            await stack.enter_async_context(self.catalogue)
            self._entered = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drain.begin()
        await self._entered.aclose()

    def wire_limits(self) -> ConnectionLimits:
        """The bounds of every connection, whichever port it came to."""
        server = self.settings.server
        return ConnectionLimits(
            max_header_bytes=server.max_header_bytes,
            max_buffered_bytes=server.max_buffered_bytes,
            max_connections=server.max_connections,
            request_read_timeout_s=server.read_timeout_s,
            write_timeout_s=server.write_timeout_s,
        )


def _cache_options(settings: CacheSettings) -> CacheOptions:
    if settings.redis_url is None:
        return CacheOptions(settings.memory_bytes)
    redis = RedisOptions(
        url=settings.redis_url.get_secret_value(),
        prefix=settings.redis_prefix,
        connect_timeout_s=settings.redis_connect_timeout_ms / 1e3,
        timeout_s=settings.redis_timeout_ms / 1e3,
        max_value_bytes=settings.redis_max_value_bytes,
        max_queue_bytes=settings.redis_queue_bytes,
        lease_s=settings.redis_lease_ms / 1e3,
    )
    try:
        check_url(redis.url)
    except ValueError as error:
        raise StartError(f"cache.redis_url: {error}") from None
    if cluster_address(redis.url) is not None and set("{}") & set(redis.prefix):
        raise StartError(
            f"cache.redis_prefix: no {{ or }} with a Redis Cluster, which reads them, not {redis.prefix!r}"
        )
    return CacheOptions(settings.memory_bytes, redis)


def _tracer(settings: TracingSettings, metrics: Metrics) -> Tracer | None:
    if settings.endpoint is None:
        return None
    try:
        # It needs OpenTelemetry, which is an extra.
        from sluice.gateway.telemetry.tracing.otlp import OtlpExporter
    except ModuleNotFoundError as error:
        raise StartError(
            f"tracing.endpoint is set, but {error.name} is not installed; install the extra sluice-gateway[tracing]"
        ) from None
    exporter = OtlpExporter(
        settings.endpoint, settings.header_pairs, settings.timeout_s, settings.service_name, VERSION
    )
    return Tracer(exporter, settings.sample_ratio, settings.max_per_s, metrics.traced_calls())
