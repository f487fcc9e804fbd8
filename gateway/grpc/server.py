"""The gRPC server: its port, its limits, and what answers each method."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.dialects.v2_grpc import inference_pb2
from sluice.gateway.doors.acceptor import Acceptor
from sluice.gateway.doors.door_watch import DoorWatch
from sluice.gateway.grpc import health_pb2
from sluice.gateway.grpc.calls import Calls
from sluice.gateway.grpc.connection import GrpcConnection
from sluice.gateway.grpc.health import INFERENCE, SERVICE, HealthService
from sluice.gateway.grpc.limits import GrpcLimits
from sluice.gateway.grpc.methods import Method, ServerStream, Stream, Unary
from sluice.gateway.grpc.pages import Pages
from sluice.gateway.grpc.reflection import INFO, VERSIONS, Reflection
from sluice.gateway.grpc.server_context import ServerContext
from sluice.gateway.prediction.data_plane import PredictionPlane
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.readiness import Readiness
from sluice.gateway.serving.repository_control import RepositoryControl
from sluice.gateway.settings.sections import ServerSettings
from sluice.inference.errors import StartError


class GrpcDoor:
    """Serves `inference.GRPCInferenceService`, `grpc.health.v1.Health` and reflection on a port of their own.

    An async context manager: entered, it answers. Entering raises `StartError` if it cannot listen. `stop` ends streams
    and lets calls in flight end within `shutdown_timeout_s`; leaving ends what is left at once.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        settings: ServerSettings,
        wire: ConnectionLimits,
        version: str,
        plane: PredictionPlane,
        catalogue: Catalogue,
        readiness: Readiness,
        control: RepositoryControl,
        held: HeldBytes,
        budget: ConnectionBudget,
        doors: DoorWatch,
    ) -> None:
        self._settings = settings
        self._calls = Calls(plane, held)
        self._health = HealthService(catalogue, readiness)
        self._pages = Pages(catalogue, readiness, version, control)
        files = (inference_pb2, health_pb2)
        self._reflection = Reflection(
            [module.DESCRIPTOR.serialized_pb for module in files], [INFERENCE, SERVICE, *VERSIONS]
        )
        self._server = ServerContext(self._methods(), _limits(settings, wire), held, budget, plane.coders)
        self._acceptor = Acceptor(
            "grpc", listener, budget, lambda: GrpcConnection(self._server), _tls(settings), settings.read_timeout_s
        )
        self._doors = doors

    async def __aenter__(self) -> GrpcDoor:
        try:
            self._acceptor.start()
        except OSError as error:
            where = f"{self._settings.host}:{self._settings.grpc_port}"
            raise StartError(
                f"cannot listen on {where} for gRPC (server.grpc_port): {error.strerror or error}"
            ) from None
        self._doors.add(self._acceptor)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._acceptor.close()
        for connection in tuple(self._server.connections):
            connection.abort()
        await self._server.emptied()

    async def stop(self) -> None:
        """Accept no more connections, and finish the calls in flight. Takes up to `shutdown_timeout_s`."""
        await self._acceptor.leave()
        self._server.leaving = True
        self._health.stop()
        self._calls.stop()
        for connection in tuple(self._server.connections):
            connection.leave()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._server.emptied(), self._settings.shutdown_timeout_s)

    def _methods(self) -> Mapping[bytes, Method]:
        inference: dict[str, Method] = {method: Unary(page) for method, page in self._pages.by_method().items()}
        inference["ModelInfer"] = Unary(self._calls.infer, self._calls.refuse)
        inference["ModelStreamInfer"] = Stream(self._calls.stream, self._calls.refuse)
        health: dict[str, Method] = {"Check": Unary(self._health.check), "Watch": ServerStream(self._health.watch)}
        services: dict[str, Mapping[str, Method]] = {INFERENCE: inference, SERVICE: health}
        services |= {version: {INFO: Stream(self._reflection.info)} for version in VERSIONS}
        return {
            f"/{service}/{method}".encode(): answer
            for service, methods in services.items()
            for method, answer in methods.items()
        }


def _limits(settings: ServerSettings, wire: ConnectionLimits) -> GrpcLimits:
    return GrpcLimits(
        wire=wire,
        max_message_bytes=settings.max_body_bytes,
        max_calls=settings.max_connections,
        min_ping_interval_s=settings.grpc_min_ping_interval_s,
        keepalive_time_s=settings.grpc_keepalive_time_s,
        keepalive_timeout_s=settings.grpc_keepalive_timeout_s,
        compress_from_bytes=settings.compress_from_bytes,
    )


def _tls(settings: ServerSettings) -> ssl.SSLContext | None:
    """The TLS of HTTP's port, for HTTP/2. Raises `StartError`."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    try:
        # A passphrase that is given, be it wrong, keeps OpenSSL from asking for one.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, "none")
        if settings.tls_client_ca is not None:
            context.load_verify_locations(settings.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise StartError(f"the TLS files cannot be used together: {error}") from error
    return context
