"""A port may be bound by two as long as nobody listens; the second one to listen learns of it."""

from __future__ import annotations

import socket

import pytest

from sluice.gateway.assembly import Gateway
from sluice.gateway.grpc.server import GrpcDoor
from sluice.gateway.settings.load import Settings
from sluice.inference.errors import StartError


def bound(port: int = 0) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def door(gateway: Gateway, listener: socket.socket) -> GrpcDoor:
    return GrpcDoor(
        listener,
        settings=gateway.settings.server,
        wire=gateway.wire_limits(),
        version="0",
        plane=gateway.plane,
        catalogue=gateway.catalogue,
        readiness=gateway.readiness,
        control=gateway.control,
        held=gateway.held,
        budget=gateway.budget,
        doors=gateway.doors,
    )


async def test_a_port_that_is_taken_while_models_load_is_a_clear_error() -> None:
    with bound() as listener:
        port = listener.getsockname()[1]
        gateway = Gateway(Settings(server={"grpc_port": port}), [])
        with bound(port) as other:
            other.listen()
            with pytest.raises(
                StartError, match=rf"cannot listen on 127\.0\.0\.1:{port} for gRPC \(server.grpc_port\)"
            ):
                await door(gateway, listener).__aenter__()
