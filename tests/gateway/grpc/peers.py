"""gRPC's server with methods of a test's own, and a client that sends exactly the frames that it is told to."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hpack import Decoder, Encoder

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.doors.acceptor import Acceptor
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.connection import GrpcConnection
from sluice.gateway.grpc.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from sluice.gateway.grpc.limits import GrpcLimits
from sluice.gateway.grpc.methods import CallEnded, Context, MessageBody, Method, ServerStream, Stream, Unary
from sluice.gateway.grpc.server_context import ServerContext

PATIENCE_S = 20.0
MIB = 1024 * 1024


async def echo(body: MessageBody, context: Context) -> bytes:
    return bytes(body)


async def heard(body: MessageBody, context: Context) -> bytes:
    """The metadata, as text."""
    return b"\n".join(name + b": " + value for name, value in context.headers)


async def broken(body: MessageBody, context: Context) -> bytes:
    raise RuntimeError("a fault with a secret in it")


async def refused(body: MessageBody, context: Context) -> bytes:
    raise CallEnded(Code.NOT_FOUND, "nichts: 100 % größer\n".encode(), ((b"retry-after", b"1"),))


async def forever(body: MessageBody, context: Context) -> bytes:
    await asyncio.get_running_loop().create_future()
    return b""


async def each(bodies: AsyncIterator[MessageBody], context: Context) -> None:
    async for body in bodies:
        await context.write(body)


async def never(bodies: AsyncIterator[MessageBody], context: Context) -> None:
    """Takes nothing."""
    await asyncio.get_running_loop().create_future()


async def twice(body: MessageBody, context: Context) -> None:
    await context.write(body)
    await context.write(body)


METHODS: Mapping[bytes, Method] = {
    b"/t/Echo": Unary(echo),
    b"/t/Heard": Unary(heard),
    b"/t/Broken": Unary(broken),
    b"/t/Refused": Unary(refused),
    b"/t/Forever": Unary(forever),
    b"/t/Each": Stream(each),
    b"/t/Never": Stream(never),
    b"/t/Twice": ServerStream(twice),
}


@dataclass
class Served:
    """A server in the test's own loop."""

    context: ServerContext
    budget: ConnectionBudget
    held: HeldBytes
    port: int
    acceptor: Acceptor


@asynccontextmanager
async def served(
    limits: GrpcLimits | None = None, *, max_held_bytes: int = 64 * MIB, max_connections: int = 100, **wire: Any
) -> AsyncIterator[Served]:
    limits = limits or GrpcLimits(wire=ConnectionLimits(**wire))
    held, budget = HeldBytes(max_held_bytes), ConnectionBudget(max_connections)
    coders = ThreadPoolExecutor(1)
    context = ServerContext(METHODS, limits, held, budget, coders)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    acceptor = Acceptor("grpc", listener, budget, lambda: GrpcConnection(context), None, 5)
    acceptor.start()
    try:
        yield Served(context, budget, held, listener.getsockname()[1], acceptor)
    finally:
        acceptor.close()
        for connection in tuple(context.connections):
            connection.abort()
        await asyncio.wait_for(context.emptied(), PATIENCE_S)
        coders.shutdown()
    assert (held.now_bytes, budget.open, context.calls_in_flight) == (0, 0, 0)


@dataclass
class Answer:
    """What has come on one stream."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False
    reset: int | None = None
    granted_bytes: int = 0

    @property
    def status(self) -> int:
        return int(self.headers[b"grpc-status"])

    @property
    def messages(self) -> list[bytes]:
        found, data = [], self.data
        while data:
            size = int.from_bytes(data[1:5], "big")
            found.append(data[5 : 5 + size])
            data = data[5 + size :]
        return found


def message(body: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(body)) + body


def request(path: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"here"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    ]


class Peer:
    """One connection. Reads only what it is asked to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self._decoder = Encoder(), Decoder()
        self.answers: dict[int, Answer] = {}
        self.gone: tuple[int, bytes] | None = None
        self.pongs = 0

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def greet(self, settings: bytes = b"") -> None:
        self.send(PREFACE, frame(SETTINGS, 0, 0, settings))

    def head(self, stream: int, headers: Sequence[tuple[bytes, bytes]], flags: int = END_HEADERS) -> bytes:
        return frame(HEADERS, flags, stream, self.encoder.encode(headers))

    def call(self, stream: int, path: bytes, body: bytes = b"", *more: tuple[bytes, bytes]) -> None:
        self.send(self.head(stream, request(path, *more)), frame(DATA, END_STREAM, stream, message(body)))

    async def read_frame(self) -> bool:
        """Take the next frame in; whether there was one."""
        try:
            head = await asyncio.wait_for(self.reader.readexactly(9), PATIENCE_S)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
        answer = self.answers.setdefault(stream, Answer())
        if kind == HEADERS:
            answer.headers |= dict(self._decoder.decode(payload, raw=True))
            answer.ended |= bool(flags & END_STREAM)
        elif kind == DATA:
            answer.data += payload
            answer.ended |= bool(flags & END_STREAM)
        elif kind == RST_STREAM:
            answer.reset = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.gone = int.from_bytes(payload[4:8], "big"), payload[8:]
        elif kind == 6 and flags:
            self.pongs += 1
        elif kind == WINDOW_UPDATE:
            answer.granted_bytes += int.from_bytes(payload, "big")
        else:
            assert kind in (SETTINGS, CONTINUATION, 6), kind
        return True

    async def answer(self, stream: int) -> Answer:
        """What comes on a stream, until it has ended or was reset."""
        while True:
            answer = self.answers.setdefault(stream, Answer())
            if answer.ended or answer.reset is not None:
                return answer
            assert await self.read_frame(), (stream, self.gone)

    async def hung_up(self) -> tuple[int, bytes] | None:
        """What it is told at the end. Waits until the server has closed the connection."""
        while await self.read_frame():
            pass
        return self.gone


@asynccontextmanager
async def peer(server: Served, *, greets: bool = True, settings: bytes = b"") -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    client = Peer(reader, writer)
    if greets:
        client.greet(settings)
    try:
        yield client
    finally:
        writer.transport.abort()


async def is_served(server: Served) -> bool:
    """Whether another client is answered."""
    async with peer(server) as other:
        other.call(1, b"/t/Echo", b"still here")
        return (await other.answer(1)).messages == [b"still here"]
