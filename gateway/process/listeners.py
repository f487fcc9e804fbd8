"""The ports that a gateway listens on: one TCP socket for each, bound before anything else is done."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sluice.gateway.settings.sections import ServerSettings
from sluice.inference.errors import StartError


@dataclass(frozen=True, slots=True)
class Listeners:
    """The bound sockets of one gateway. `None` where the settings turn a port off."""

    http: socket.socket
    grpc: socket.socket | None
    management: socket.socket | None


@contextmanager
def open_listeners(settings: ServerSettings) -> Iterator[Listeners]:
    """Bind every port that the settings name, and close the sockets at the end of the block.

    Raises `StartError` where a port cannot be bound; it says which setting chooses another one.
    """
    with ExitStack() as stack:

        def bound(host: str, port: int, purpose: str, advice: str) -> socket.socket:
            return stack.enter_context(_listener(host, port, purpose, f"choose another port with {advice}"))

        http = bound(settings.host, settings.port, "HTTP", "--port (server.port)")
        grpc = management = None
        if settings.grpc_port:
            advice = "--grpc-port (server.grpc_port), or 0 to turn gRPC off"
            grpc = bound(settings.host, settings.grpc_port, "gRPC", advice)
        if settings.management_port:
            advice = "--management-port (server.management_port), or 0 to turn it off"
            management = bound(settings.management_host, settings.management_port, "the management API", advice)
        yield Listeners(http, grpc, management)


def _listener(host: str, port: int, purpose: str, advice: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if _is_ipv6(host) else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise StartError(f"cannot listen on {host}:{port} for {purpose}: {reason}; {advice}") from None
    except BaseException:
        listener.close()
        raise
    return listener


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
