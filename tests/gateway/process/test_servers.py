"""A port may be bound by two as long as nobody listens; the second one to listen is told."""

from __future__ import annotations

import socket

import pytest

from sluice.gateway.assembly import Gateway
from sluice.gateway.process.servers import http_server, management_door
from sluice.gateway.settings.load import Settings
from sluice.inference.errors import StartError


def bound(port: int = 0) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


async def test_http_says_that_its_port_is_taken_when_it_comes_to_listen() -> None:
    with bound() as listener:
        port = listener.getsockname()[1]
        server = http_server(Gateway(Settings(), []), on_started=lambda: None)
        with bound(port) as other:
            other.listen()
            with pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1:{port} for http"):
                await server.serve(sockets=[listener])


async def test_so_does_the_management_api() -> None:
    with bound() as listener:
        port = listener.getsockname()[1]
        door = management_door(Gateway(Settings(), []), listener)
        with bound(port) as other:
            other.listen()
            with pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1:{port} for management"):
                await door.__aenter__()
