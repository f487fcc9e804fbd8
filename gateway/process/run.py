"""The life of the process: load the models, serve until a signal comes, and leave in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib import import_module

from sluice.gateway.assembly import Gateway
from sluice.gateway.process.http_server import DrainingServer
from sluice.gateway.process.listeners import Listeners
from sluice.gateway.process.open_files import bound_connections
from sluice.gateway.process.signals import StopSignals
from sluice.gateway.telemetry.logs import log


async def run(gateway: Gateway, listeners: Listeners, on_started: Callable[[], None]) -> None:
    """Load the models, serve on bound sockets until SIGTERM or SIGINT, and leave in order.

    `on_started` is called once HTTP connections are accepted. The management API answers until the last call has ended.
    A signal while the models load ends the loading. Raises `StartError` before anything is served.
    """
    signals = StopSignals()
    with signals.caught():
        async with AsyncExitStack() as stack:
            server = await _load(gateway, listeners, on_started, stack, signals)
            if server is None:
                log.info("stopped while the models were loading")
                return
            # What was made so far lives as long as the process: the garbage collector need not look at it again.
            gc.collect()
            gc.freeze()
            with signals.handled_by(server.handle_exit):
                await server.serve(sockets=[listeners.http])


async def _load(
    gateway: Gateway,
    listeners: Listeners,
    on_started: Callable[[], None],
    stack: AsyncExitStack,
    signals: StopSignals,
) -> DrainingServer | None:
    """Make everything ready to serve, and enter it on the `stack`. `None` if a signal came first."""
    loading = asyncio.ensure_future(_ready_server(gateway, listeners, on_started, stack))
    stopped = False

    def stop(_: int) -> None:
        nonlocal stopped
        stopped = True
        loading.cancel()

    with signals.handled_by(stop):
        try:
            server = await loading
            return None if stopped else server
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        except asyncio.CancelledError:
            if not stopped:
                raise
            return None


async def _ready_server(
    gateway: Gateway, listeners: Listeners, on_started: Callable[[], None], stack: AsyncExitStack
) -> DrainingServer:
    async with asyncio.TaskGroup() as group:
        group.create_task(stack.enter_async_context(gateway))
        # FastAPI takes as long to import as a worker takes to load a small model: so both happen at the same time.
        await asyncio.to_thread(import_module, "sluice.gateway.process.servers")
        if listeners.grpc is not None:
            await asyncio.to_thread(import_module, "sluice.gateway.grpc.server")
        from sluice.gateway.process import servers

        server = servers.http_server(gateway, on_started)
    bound_connections(gateway.budget, gateway.settings.server.max_connections)
    if listeners.grpc is not None:
        door = await stack.enter_async_context(servers.grpc_door(gateway, listeners.grpc))
        server.beside = door.stop
    if listeners.management is not None:
        await stack.enter_async_context(servers.management_door(gateway, listeners.management))
    return server
