"""The servers of one gateway, each made from the parts that it uses.

To import this takes as long as a worker takes to load a small model, since FastAPI and uvicorn come with it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from sluice.gateway.assembly import VERSION, Gateway
from sluice.gateway.http.lane import make_lane
from sluice.gateway.process.application import application, page_parts
from sluice.gateway.process.http_server import DrainingServer
from sluice.gateway.process.management_server import ManagementDoor
from sluice.gateway.process.uvicorn_config import uvicorn_config

if TYPE_CHECKING:
    # Imported only where gRPC is served: h2 and protobuf take long to import.
    from sluice.gateway.grpc.server import GrpcDoor


def http_server(gateway: Gateway, on_started: Callable[[], None]) -> DrainingServer:
    """The server of predictions and pages. Enter the gateway before it serves; `on_started`: connections are accepted.

    Raises `StartError` if the TLS files cannot be used.
    """
    settings = gateway.settings.server
    protocol = make_lane(
        gateway.plane,
        gateway.wire_limits(),
        draining=lambda: gateway.drain.begun,
        held=gateway.held,
        budget=gateway.budget,
    )
    return DrainingServer(
        uvicorn_config(application(gateway), protocol, settings),
        gateway.drain,
        gateway.budget,
        gateway.doors,
        shutdown_delay_s=settings.shutdown_delay_s,
        handshake_timeout_s=settings.read_timeout_s,
        on_started=on_started,
    )


def grpc_door(gateway: Gateway, listener: socket.socket) -> GrpcDoor:
    """The server of gRPC on a bound socket, to be entered."""
    from sluice.gateway.grpc.server import GrpcDoor

    return GrpcDoor(
        listener,
        settings=gateway.settings.server,
        wire=gateway.wire_limits(),
        version=VERSION,
        plane=gateway.plane,
        catalogue=gateway.catalogue,
        readiness=gateway.readiness,
        control=gateway.control,
        held=gateway.held,
        budget=gateway.budget,
        doors=gateway.doors,
    )


def management_door(gateway: Gateway, listener: socket.socket) -> ManagementDoor:
    """The server of TorchServe's management API on a bound socket, to be entered."""
    return ManagementDoor(
        listener,
        settings=gateway.settings.server,
        wire=gateway.wire_limits(),
        pages=page_parts(gateway),
        drain=gateway.drain,
        held=gateway.held,
        budget=gateway.budget,
        doors=gateway.doors,
    )
