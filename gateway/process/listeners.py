"""The ports that a gateway listens on: one TCP socket for each, bound before anything else is done."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sluice.gateway.settings.load import option
from sluice.gateway.settings.sections import ServerSettings
from sluice.inference.errors import StartError

PORT_FAULTS = (errno.EADDRINUSE, errno.EACCES)
"""Errors of `bind` that another port avoids; for all others it takes another host."""


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

        def bound(key: str, host_key: str, purpose: str, or_off: str = "") -> socket.socket:
            host, port = getattr(settings, host_key), getattr(settings, key)
            try:
                return stack.enter_context(_listener(host, port))
            except OSError as error:
                is_port = error.errno in PORT_FAULTS
                advice = f"port with {_named(key)}{or_off}" if is_port else f"host with {_named(host_key)}"
                reason = error.strerror or error
                raise StartError(
                    f"cannot listen on {host}:{port} for {purpose}: {reason}; choose another {advice}"
                ) from None

        http = bound("port", "host", "HTTP")
        grpc = management = None
        if settings.grpc_port:
            grpc = bound("grpc_port", "host", "gRPC", ", or 0 to turn gRPC off")
        if settings.management_port:
            management = bound("management_port", "management_host", "the management API", ", or 0 to turn it off")
        yield Listeners(http, grpc, management)


def _named(key: str) -> str:
    return f"{option(f'server.{key}')} (server.{key})"


def _listener(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if _is_ipv6(host) else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
