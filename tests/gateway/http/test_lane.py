"""The adapter alone, with a transport that only remembers."""

from __future__ import annotations

import asyncio

import uvicorn
from uvicorn.server import ServerState

from sluice.gateway.http.lane import make_lane
from tests.gateway.http.planes import PuppetApp, PuppetPlane
from tests.gateway.http.servers import request


class StillTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


async def test_an_answer_is_counted_and_its_task_forgotten() -> None:
    plane, state, transport = PuppetPlane(), ServerState(), StillTransport()
    config = uvicorn.Config(PuppetApp(plane), log_config=None)
    lane = make_lane(plane)(config, state, {})
    lane.connection_made(transport)
    lane.data_received(request("/v2/echo", b"hello"))
    (task,) = state.tasks
    await task
    assert transport.written.endswith(b"hello")
    assert (state.total_requests, state.tasks) == (1, set())
    transport.closing = True
    lane.connection_lost(None)
    assert not state.connections


async def test_a_task_that_never_ran_is_forgotten_with_its_client() -> None:
    plane, state, transport = PuppetPlane(), ServerState(), StillTransport()
    lane = make_lane(plane)(uvicorn.Config(PuppetApp(plane), log_config=None), state, {})
    lane.connection_made(transport)
    lane.data_received(request("/v2/echo"))
    (task,) = state.tasks
    task.cancel()
    await asyncio.wait({task})
    assert state.tasks == {task}
    transport.closing = True
    lane.connection_lost(None)
    await asyncio.sleep(0)
    assert not state.tasks
    assert plane.calls == 0
