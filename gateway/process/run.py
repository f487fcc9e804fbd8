"""The composition root: one `Gateway` from settings and a model repository, as an ASGI application and as a server."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import cached_property
from importlib import import_module
from importlib.metadata import version as distribution_version
from typing import Any

import uvicorn

from sluice.cache.cache import Cache, CacheOptions
from sluice.cache.remote.cluster_address import cluster_address
from sluice.cache.remote.redis_link import check_url
from sluice.cache.remote.tier import RedisOptions
from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import LaneLimits, connection_cap
from sluice.gateway.dialects.v2.extensions import rest_extensions
from sluice.gateway.doors.door_watch import DoorWatch, open_descriptors
from sluice.gateway.headers.request_ids import RequestIds
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.lane import make_lane
from sluice.gateway.pages.parts import PageParts
from sluice.gateway.prediction.data_plane import PredictionPlane
from sluice.gateway.prediction.observer import Observer
from sluice.gateway.process.http_server import DrainingServer, StopSignals
from sluice.gateway.protocols import DIALECTS
from sluice.gateway.reading.intake import BodyReading
from sluice.gateway.reading.pool import Readers, planned_readers
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.drain import Drain
from sluice.gateway.serving.readiness import Readiness
from sluice.gateway.serving.repository_control import RepositoryControl
from sluice.gateway.serving.served_version import ENGINE_VERSION
from sluice.gateway.settings.load import Settings
from sluice.gateway.settings.sections import CacheSettings, ServerSettings, TracingSettings
from sluice.gateway.telemetry.cache_metrics import CacheCollector
from sluice.gateway.telemetry.call_log import CallLog
from sluice.gateway.telemetry.connection_metrics import ConnectionCollector
from sluice.gateway.telemetry.log_metrics import LogCollector
from sluice.gateway.telemetry.logs import log, tell_of_redis
from sluice.gateway.telemetry.loop_lag import LoopLag
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.reader_metrics import ReadersCollector
from sluice.gateway.telemetry.tracing.tracer import Tracer
from sluice.inference.errors import StartError
from sluice.inference.repository.scan import BrokenModel, ModelVersion

VERSION = distribution_version("sluice-gateway")
RESERVED_DESCRIPTORS = 256
"""Open files that are not for connections: workers' sockets and memory, logs, Redis, and models that come later. Where
few are allowed, it is half of them, or what is open already and as much as replacing workers takes."""

REPLACING_DESCRIPTORS = 64
"""Open files beyond those of a gateway at rest, for workers that are replaced and for everything that is read."""


class Gateway:
    """Everything that one process needs to serve. An async context manager: entered, its models are warm.

    `app` is for any ASGI server; `server` is uvicorn with predictions taken straight from the protocol.
    """

    def __init__(self, settings: Settings, models: Sequence[ModelVersion], broken: Sequence[BrokenModel] = ()) -> None:
        self.settings = settings
        self.drain = Drain()
        names = {dialect.name for dialect in DIALECTS} | ({"grpc"} if settings.server.grpc_port else set())
        self.metrics = Metrics(VERSION, ENGINE_VERSION, sorted(names))
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
        self.page_parts = PageParts(
            catalogue=self.catalogue,
            readiness=self.readiness,
            control=self.control,
            cache=self.cache,
            metrics=self.metrics,
            tracing=settings.tracing,
            models_path=settings.models.path,
            version=VERSION,
            extensions=rest_extensions(repository=self.control.allowed),
        )
        self._request_ids = RequestIds()
        logs = settings.logs
        call_log = CallLog(logs.successes_per_s, logs.refusals_per_s, slow_s=logs.slow_ms / 1e3)
        observer = Observer(self.metrics.unknown_model, call_log, self._request_ids, self._tracer)
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

    @cached_property
    def app(self) -> AsgiLane:
        """The whole gateway as an ASGI application for any server; it enters and leaves in its lifespan."""
        # Importing FastAPI takes as long as a worker takes to load a small model; so `run` does both at the same time.
        from sluice.gateway.pages.asgi_app import asgi_app

        @asynccontextmanager
        async def lifespan(_: object) -> AsyncIterator[None]:
            async with self:
                yield

        server = self.settings.server
        return asgi_app(
            self.plane,
            self.page_parts,
            DIALECTS,
            lifespan=lifespan,
            held=self.held,
            request_ids=self._request_ids,
            root_path=server.root_path,
            max_body_bytes=server.max_body_bytes,
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

    def server(self, on_started: Callable[[], None]) -> DrainingServer:
        """A uvicorn server for this gateway, to be entered by then; `on_started` is called once it accepts connections.

        Raises `StartError` if the TLS files cannot be used.
        """
        server = self.settings.server
        config = uvicorn.Config(
            self.app,
            http=make_lane(
                self.plane,
                self.wire_limits(),
                draining=lambda: self.drain.begun,
                held=self.held,
                budget=self.budget,
            ),
            loop="uvloop",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=[("server", "sluice")],
            backlog=2048,
            timeout_keep_alive=server.keep_alive_timeout_s,  # type: ignore[arg-type]  # any number of seconds will do
            timeout_graceful_shutdown=server.shutdown_timeout_s,  # type: ignore[arg-type]
            **tls_options(server),
        )
        try:
            config.load()
        except OSError as error:
            files = [str(file) for file in (server.tls_cert, server.tls_key, server.tls_client_ca) if file is not None]
            raise StartError(f"the TLS files {', '.join(files)} cannot be used together: {error}") from error
        return DrainingServer(
            config,
            self.drain,
            self.budget,
            self.doors,
            shutdown_delay_s=server.shutdown_delay_s,
            handshake_timeout_s=server.read_timeout_s,
            on_started=on_started,
        )

    def wire_limits(self) -> LaneLimits:
        """What every connection of every door is held to."""
        server = self.settings.server
        return LaneLimits(
            max_header_bytes=server.max_header_bytes,
            max_buffered_bytes=server.max_buffered_bytes,
            max_connections=server.max_connections,
            request_read_timeout_s=server.read_timeout_s,
            write_timeout_s=server.write_timeout_s,
        )

    def bound_connections(self) -> None:
        """Let in as many connections as leave room for everything else, which is open by now."""
        wanted, limit = self.settings.server.max_connections, _descriptor_limit()
        reserved = max(open_descriptors() + REPLACING_DESCRIPTORS, min(RESERVED_DESCRIPTORS, limit // 2))
        self.budget.set_limit(connection_cap(wanted, limit, reserved))
        if self.budget.limit < wanted:
            log.warning("open files are limited, and so are connections", max_connections=self.budget.limit)


def tls_options(settings: ServerSettings) -> dict[str, Any]:
    """What uvicorn is told of TLS."""
    return {
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
        # Nobody is there to type a passphrase: with a wrong one, an encrypted key is an error and not a question.
        "ssl_keyfile_password": "none",
        "ssl_ca_certs": None if settings.tls_client_ca is None else str(settings.tls_client_ca),
        "ssl_cert_reqs": ssl.CERT_NONE if settings.tls_client_ca is None else ssl.CERT_REQUIRED,
    }


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
        from sluice.gateway.telemetry.tracing.otlp import OtlpExporter
    except ModuleNotFoundError as error:
        raise StartError(
            f"tracing.endpoint is set, but {error.name} is not installed; install the extra sluice-gateway[tracing]"
        ) from None
    exporter = OtlpExporter(
        settings.endpoint, settings.header_pairs, settings.timeout_s, settings.service_name, VERSION
    )
    return Tracer(exporter, settings.sample_ratio, settings.max_per_s, metrics.traced_calls())


def _descriptor_limit() -> int:
    """How many files the process may have open, once it has asked for as many as it may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def listen(host: str, port: int) -> socket.socket:
    """A bound TCP socket, so that a taken port is known before any model is loaded. Raises `OSError`."""
    family = socket.AF_INET6 if _is_ipv6(host) else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def grpc_listener(settings: ServerSettings) -> Iterator[socket.socket | None]:
    """The bound socket for gRPC, if there is to be one. Raises `StartError`."""
    if not settings.grpc_port:
        yield None
        return
    try:
        listener = listen(settings.host, settings.grpc_port)
    except OSError as error:
        raise StartError(
            f"cannot listen on {settings.host}:{settings.grpc_port} for gRPC: {error.strerror or error}; choose "
            "another port with --grpc-port (server.grpc_port), or 0 to turn gRPC off"
        ) from None
    with listener:
        yield listener


@contextmanager
def management_listener(settings: ServerSettings) -> Iterator[socket.socket | None]:
    """The bound socket of the management API, if there is to be one. Raises `StartError`."""
    if not settings.management_port:
        yield None
        return
    host, port = settings.management_host, settings.management_port
    try:
        listener = listen(host, port)
    except OSError as error:
        raise StartError(
            f"cannot listen on {host}:{port} for the management API: {error.strerror or error}; choose another port "
            "with --management-port (server.management_port), or 0 to turn it off"
        ) from None
    with listener:
        yield listener


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


async def run(
    gateway: Gateway,
    listener: socket.socket,
    on_started: Callable[[], None],
    management: socket.socket | None = None,
    grpc: socket.socket | None = None,
) -> None:
    """Load the models, serve on a bound socket until SIGTERM or SIGINT, and leave in order.

    gRPC is served if there is a socket for it. So is the management API, which answers as long as the gateway is there.
    A signal while the models load ends the loading. Raises `StartError` before anything is served.
    """
    signals = StopSignals()
    with signals.caught():
        async with AsyncExitStack() as stack:
            server = await _loaded(gateway, stack, signals, on_started, grpc)
            if server is None:
                return
            if management is not None:
                await _enter_management(gateway, stack, management)
            # What was made so far lives as long as the process: no collection need look at it again.
            gc.collect()
            gc.freeze()
            with signals.handled_by(server.handle_exit):
                await server.serve(sockets=[listener])


async def _enter_grpc(gateway: Gateway, stack: AsyncExitStack, server: DrainingServer, listener: socket.socket) -> None:
    """Open the door for gRPC beside a server's, and let both close together."""
    # Imported only where it is served: it takes a while.
    from sluice.gateway.grpc.server import GrpcDoor

    door = await stack.enter_async_context(GrpcDoor(gateway, listener, gateway.wire_limits(), VERSION))
    server.beside = door.stop


async def _enter_management(gateway: Gateway, stack: AsyncExitStack, listener: socket.socket) -> None:
    # Imported only where it is served.
    from sluice.gateway.process.management_server import ManagementDoor

    await stack.enter_async_context(ManagementDoor(gateway, listener, tls_options(gateway.settings.server)))


async def _loaded(
    gateway: Gateway,
    stack: AsyncExitStack,
    signals: StopSignals,
    on_started: Callable[[], None],
    grpc: socket.socket | None,
) -> DrainingServer | None:
    """Enter the gateway and make its server; `None` if a signal came first."""
    stopped = False

    async def load() -> DrainingServer:
        async with asyncio.TaskGroup() as group:
            group.create_task(stack.enter_async_context(gateway))
            await asyncio.to_thread(import_module, "sluice.gateway.pages.asgi_app")
            if grpc is not None:
                await asyncio.to_thread(import_module, "sluice.gateway.grpc.server")
            server = gateway.server(on_started)
        gateway.bound_connections()
        if grpc is not None:
            await _enter_grpc(gateway, stack, server, grpc)
        return server

    loading = asyncio.ensure_future(load())

    def stop(_: int) -> None:
        nonlocal stopped
        stopped = True
        loading.cancel()

    with signals.handled_by(stop):
        try:
            server = await loading
            if not stopped:
                return server
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        except asyncio.CancelledError:
            if not stopped:
                raise
    log.info("stopped while the models were loading")
    return None
