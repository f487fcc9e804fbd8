"""A connection without sockets: bytes go in, bytes come out, and the clock is the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, TrailersReceived

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.grpc.connection import GrpcConnection
from sluice.gateway.grpc.frames import ACK, PING, ErrorCode, frame, goaway
from sluice.gateway.grpc.http2 import LAST_STREAM, PING_DATA
from sluice.gateway.grpc.limits import GrpcLimits
from sluice.gateway.grpc.server_context import ServerContext
from tests.gateway.grpc.peers import METHODS


class Network(asyncio.Transport):
    """Takes what is written to it; `unsent_bytes` is what it says that it could not send yet."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent_bytes = 0
        self.aborted = self.ended = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True


class Session:
    """A connection of the server, and a client of it in the same process."""

    def __init__(self, server: ServerContext) -> None:
        self.network = Network()
        self.connection = GrpcConnection(server)
        self.connection.connection_made(self.network)
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.client.initiate_connection()
        self.events: list[Event] = []

    def call(self, stream_id: int, path: bytes, body: bytes) -> None:
        headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"test")]
        self.client.send_headers(stream_id, [*headers, (b"content-type", b"application/grpc"), (b"te", b"trailers")])
        framed = b"\0" + len(body).to_bytes(4, "big") + body
        for start in range(0, len(framed), 16_384):
            self.client.send_data(stream_id, framed[start : start + 16_384])
        self.client.end_stream(stream_id)

    async def exchange(self) -> None:
        """Carry bytes to and fro until there are none."""
        while True:
            self.connection.data_received(self.client.data_to_send())
            for _ in range(10):
                await asyncio.sleep(0)
            written, self.network.written = self.network.written, b""
            if not written:
                return
            self.events += self.client.receive_data(written)

    def messages(self, stream_id: int) -> bytes:
        return b"".join(
            event.data or b""
            for event in self.events
            if isinstance(event, DataReceived) and event.stream_id == stream_id
        )

    def ends(self) -> list[int | None]:
        """The streams that have ended, in order."""
        return [event.stream_id for event in self.events if isinstance(event, TrailersReceived)]


@contextmanager
def session(*, max_held_bytes: int = 1 << 26, **wire: float) -> Iterator[tuple[Session, ServerContext]]:
    budget = ConnectionBudget(10)
    budget.enter()
    with ThreadPoolExecutor(1) as coders:
        limits = GrpcLimits(wire=ConnectionLimits(**wire))  # type: ignore[arg-type]
        server = ServerContext(METHODS, limits, HeldBytes(max_held_bytes), budget, coders)
        made = Session(server)
        try:
            yield made, server
        finally:
            made.connection.connection_lost(None)
        assert (server.held.now_bytes, server.calls_in_flight, budget.open) == (0, 0, 0)


async def test_a_call_is_answered() -> None:
    with session() as (made, _):
        made.call(1, b"/t/Echo", b"hello")
        await made.exchange()
        assert made.messages(1) == b"\0\0\0\0\5hello"
        assert made.ends() == [1]


async def test_what_the_windows_have_no_room_for_waits_and_is_counted() -> None:
    with session() as (made, server):
        made.client.update_settings({4: 1000})  # the window of each call
        for stream in (1, 3):
            made.call(stream, b"/t/Echo", b"x" * 5000)
            await made.exchange()
        assert [len(made.messages(stream)) for stream in (1, 3)] == [1000, 1000]
        assert made.connection.unsent_bytes == server.held.now_bytes == 2 * 4005
        made.client.increment_flow_control_window(4005, 3)
        await made.exchange()
        assert made.ends() == [3]
        assert made.connection.unsent_bytes == 4005


async def test_calls_that_wait_take_turns() -> None:
    with session() as (made, _):
        made.client.update_settings({4: 0})
        for stream in (1, 3):
            made.call(stream, b"/t/Echo", b"x" * 40_000)
            await made.exchange()
        for stream in (1, 3):
            made.client.increment_flow_control_window(50_000, stream)
        await made.exchange()
        # The connection's window has room for less than both: each has got two frames of 16 KiB of it.
        assert [len(made.messages(stream)) for stream in (1, 3)] == [32_768, 32_767]


async def test_an_answer_that_nobody_takes_ends_its_call_alone() -> None:
    with session(write_timeout_s=10) as (made, server):
        made.client.update_settings({4: 1000})
        made.call(1, b"/t/Echo", b"x" * 5000)
        await made.exchange()
        made.connection.overdue(asyncio.get_running_loop().time() + 11)
        await made.exchange()
        assert (made.connection.unsent_bytes, server.calls_in_flight) == (0, 0)
        made.call(3, b"/t/Echo", b"hello")
        await made.exchange()
        assert made.ends() == [3]


async def test_a_client_is_told_to_leave_and_its_last_call_is_named_once_it_knows() -> None:
    with session() as (made, _):
        made.call(1, b"/t/Echo", b"hello")
        await made.exchange()
        made.connection.leave()
        assert made.network.written.startswith(goaway(LAST_STREAM, ErrorCode.NO_ERROR) + frame(PING, 0, 0, PING_DATA))
        assert not made.network.ended
        made.connection.data_received(frame(PING, ACK, 0, PING_DATA))
        assert made.network.written.endswith(goaway(1, ErrorCode.NO_ERROR))
        assert made.network.ended


async def test_a_client_that_does_not_answer_pings_is_cut_off() -> None:
    with session() as (made, _):
        made.call(1, b"/t/Echo", b"hello")
        await made.exchange()
        now_s = asyncio.get_running_loop().time()
        made.connection.overdue(now_s + 301)
        assert not made.network.aborted
        made.connection.overdue(now_s + 301 + 21)
        assert made.network.aborted


async def test_a_slow_client_makes_room_once_it_had_its_time() -> None:
    with session(crowded_grace_s=2.0, min_body_bytes_per_s=1000) as (made, _):
        made.call(1, b"/t/Echo", b"hello")
        await made.exchange()
        made.network.unsent_bytes = 10_000
        made.connection.make_room(100.0)
        made.connection.make_room(101.9)
        assert not made.network.aborted
        made.network.unsent_bytes = 7_999  # it took 2,001 bytes in 2 s
        made.connection.make_room(102.0)
        assert not made.network.aborted
        made.connection.make_room(103.0)
        made.connection.make_room(105.0)
        assert made.network.aborted
        made.network.unsent_bytes = 0
