from __future__ import annotations

import signal

import uvicorn

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.doors.door_watch import DoorWatch
from sluice.gateway.process.http_server import DrainingServer
from sluice.gateway.serving.drain import Drain


async def no_app(*_: object) -> None:
    raise AssertionError("nobody calls it")


def draining_server(shutdown_delay_s: float) -> tuple[DrainingServer, Drain]:
    drain, budget = Drain(), ConnectionBudget(10)
    server = DrainingServer(
        uvicorn.Config(no_app),
        drain,
        budget,
        DoorWatch(budget, lambda door: None),
        shutdown_delay_s=shutdown_delay_s,
        handshake_timeout_s=1,
        on_started=lambda: None,
    )
    return server, drain


async def test_the_first_signal_begins_the_drain_and_the_second_one_ends_the_delay() -> None:
    server, drain = draining_server(shutdown_delay_s=1000)
    server.handle_exit(signal.SIGTERM)
    assert (drain.begun, server.should_exit) == (True, False)
    server.handle_exit(signal.SIGTERM)
    assert (server.should_exit, server.force_exit) == (True, False)


async def test_without_a_delay_the_first_signal_stops_the_server() -> None:
    server, drain = draining_server(shutdown_delay_s=0)
    server.handle_exit(signal.SIGINT)
    assert (drain.begun, server.should_exit, server.force_exit) == (True, True, False)


async def test_a_server_that_stops_is_hurried_by_sigint_alone() -> None:
    server, _ = draining_server(shutdown_delay_s=0)
    server.handle_exit(signal.SIGTERM)
    server.handle_exit(signal.SIGTERM)
    assert not server.force_exit
    server.handle_exit(signal.SIGINT)
    assert server.force_exit
