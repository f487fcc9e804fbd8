"""gRPC's server: its port, its limits, and which method is answered where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gateway.grpc import inference_pb2
from gateway.grpc.calls import Calls
from gateway.grpc.health import INFERENCE, SERVICE, Health
from gateway.grpc.pages import Pages
from gateway.sections import ServerSettings
from inference.errors import StartError

if TYPE_CHECKING:
    from gateway.app import Gateway

MAX_STREAMS = 1024
"""Calls on one connection at a time; a client keeps further ones to itself until there is room."""

PING_STRIKES = 10
"""Pings that come too early before the connection is closed. Those of a patient client may be held up and come
together; what we send it clears the count."""


class GrpcDoor:
    """`inference.GRPCInferenceService`, `grpc.health.v1.Health` and reflection, on a port of their own.

    An async context manager: entered, it answers. Raises `StartError` if it cannot listen. `stop` ends streams and
    lets calls in flight end within `shutdown_timeout_s`; leaving ends what is left at once.
    """

    def __init__(self, gateway: Gateway, version: str) -> None:
        self._settings = gateway.settings.server
        self._calls = Calls(gateway.plane, gateway.held)
        self._health = Health(gateway.catalogue, gateway.drain)
        self._pages = Pages(gateway.catalogue, gateway.drain, version, gateway.control)

    async def __aenter__(self) -> GrpcDoor:
        settings = self._settings
        self._server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=settings.max_connections)
        self._server.add_generic_rpc_handlers((self._inference(), self._health_handler()))
        reflection.enable_server_reflection(
            (INFERENCE, SERVICE, reflection.SERVICE_NAME), self._server, pool=_described()
        )
        self._listen()
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def stop(self) -> None:
        """Accept nothing more, and finish what is in flight."""
        self._health.stop()
        self._calls.stop()
        await self._server.stop(self._settings.shutdown_timeout_s)

    def _listen(self) -> None:
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port}"
        try:
            if settings.tls_cert is None or settings.tls_key is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(
                    address, _credentials(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
                )
        except RuntimeError as error:
            raise StartError(f"cannot listen on {address} for gRPC (server.grpc_port): {error}") from None

    def _inference(self) -> grpc.GenericRpcHandler:
        handlers = {method: _unary(page) for method, page in self._pages.by_method().items()}
        handlers["ModelInfer"] = _unary(self._calls.infer)
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._calls.stream)
        return grpc.method_handlers_generic_handler(INFERENCE, handlers)

    def _health_handler(self) -> grpc.GenericRpcHandler:
        handlers = {
            "Check": _unary(self._health.check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._health.watch),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _unary(method: Any) -> Any:
    """A method that takes and gives messages as they are on the wire: without a serializer, they are left alone."""
    return grpc.unary_unary_rpc_method_handler(method)


def _options(settings: ServerSettings) -> Sequence[tuple[str, int]]:
    return (
        # Another process that listens there is to be noticed, not shared with.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        # Clients ping to keep a connection alive, or to learn that it is not: also while they call nothing.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", round(settings.grpc_min_ping_interval_s * 1000)),
        ("grpc.http2.max_ping_strikes", PING_STRIKES if settings.grpc_min_ping_interval_s else 0),
        ("grpc.keepalive_time_ms", round(settings.grpc_keepalive_time_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(settings.grpc_keepalive_timeout_s * 1000)),
        # Of a client that acknowledges nothing at all, gRPC waits for the ping's own time, a minute.
        ("grpc.http2.ping_timeout_ms", round(settings.grpc_keepalive_timeout_s * 1000)),
    )


def _credentials(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    trusted = None if client_ca is None else client_ca.read_bytes()
    pair = (key.read_bytes(), certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], trusted, require_client_auth=trusted is not None)


def _described() -> DescriptorPool:
    """A pool with all that reflection tells of. Our messages are in one of their own, all others in the default one."""
    pool = DescriptorPool()
    for module in (inference_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
