"""What a client can do to gRPC's door: whatever it is, it ends the client's own connection at most."""

from __future__ import annotations

import asyncio
import logging
import random
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.connection import GrpcConnection
from sluice.gateway.grpc.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    Frames,
    frame,
)
from sluice.gateway.grpc.limits import GrpcLimits
from sluice.gateway.grpc.outgoing import Outgoing
from tests.gateway.grpc.peers import MIB, PATIENCE_S, Peer, is_served, message, peer, request, served


def literal(name: bytes, value: bytes) -> bytes:
    """A header as HPACK may have it, whatever stands in it."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def block(path: bytes, *more: bytes) -> bytes:
    pseudo = literal(b":method", b"POST") + literal(b":scheme", b"http") + literal(b":path", path)
    return pseudo + literal(b"content-type", b"application/grpc") + b"".join(more)


HEADS = [
    block(b"/x\xd5"),  # what ended the door that was here before
    block(b"/t/Echo\xff\xfe"),
    block(b""),
    block(b"*"),
    block(b"/" + b"\x00" * 9),
    block(b"/t/Echo", literal(b"grpc-timeout", b"\xd5")),
    block(b"/t/Echo", literal(b"grpc-message", b"%zz%")),
    block(b"/t/Echo", literal(b"x-bin", b"\xff\x00")),
    block(b"/t/Echo", literal(b"Upper", b"x")),
    block(b"/t/Echo", literal(b"", b"x")),
    block(b"/t/Echo", literal(b"a b", b"x")),
    block(b"/t/Echo", literal(b"connection", b"close")),
    block(b"/t/Echo", literal(b"x", b"a\r\nb")),
    block(b"/t/Echo", literal(b":path", b"/again")),
    block(b"/t/Echo", literal(b":unknown", b"x")),
    block(b"/t/Echo", literal(b"content-length", b"many")),
    literal(b":authority", b"\xd5\xff@:::") + block(b"/t/Echo"),
    literal(b":method", b"POST") + literal(b":scheme", b"http"),
    literal(b":path", b"/t/Echo"),
    literal(b":status", b"200"),
    literal(b":method", b"\xd5") + literal(b":path", b"/"),
    b"",
    b"\xff\xff\xff\xff\xff\xff\xff",
    b"\x80",
    b"\xbf",
    b"\x3f\xe1\xff\xff\xff\x0f",
    b"\x00\x85\xff\xff\xff\xff\xff\x00",
]


@pytest.mark.parametrize("flags", [END_HEADERS, END_HEADERS | END_STREAM])
async def test_no_head_ends_the_door(flags: int, caplog: pytest.LogCaptureFixture) -> None:
    async with served() as server:
        for head in HEADS:
            async with peer(server) as client:
                client.send(frame(HEADERS, flags, 1, head), frame(DATA, END_STREAM, 1, message(b"x")))
                client.send(frame(PING, 0, 0, bytes(8)))
                while not client.pongs and client.gone is None and await client.read_frame():
                    pass
        assert await is_served(server)
        assert not server.acceptor.fault
    assert not [line for line in caplog.records if line.levelno >= logging.ERROR]


async def test_what_is_wrong_with_a_head_ends_its_call_and_not_its_neighbours() -> None:
    async with served() as server, peer(server) as client:
        client.call(1, b"/t/Forever")
        for stream, head in ((3, HEADS[0]), (5, HEADS[8]), (7, HEADS[12]), (9, HEADS[17])):
            client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, head))
            answer = await client.answer(stream)
            assert answer.reset == ErrorCode.PROTOCOL_ERROR or answer.status == Code.UNIMPLEMENTED
        client.call(11, b"/t/Echo", b"on")
        assert (await client.answer(11)).messages == [b"on"]
        assert server.context.calls_in_flight == 1


def stream_of(kind: int, payload: bytes = b"", stream: int = 0, flags: int = 0) -> Callable[[Peer], bytes]:
    return lambda _: frame(kind, flags, stream, payload) * 20_000


def resets(client: Peer) -> bytes:
    head = client.encoder.encode(request(b"/t/Forever"))
    cancel = (8).to_bytes(4, "big")
    return b"".join(
        frame(HEADERS, END_HEADERS, stream, head) + frame(RST_STREAM, 0, stream, cancel)
        for stream in range(1, 20_001, 2)
    )


def continuations(_: Peer) -> bytes:
    return frame(HEADERS, 0, 1, block(b"/t/Echo")) + frame(CONTINUATION, 0, 1, b"") * 20_000


def long_continuations(_: Peer) -> bytes:
    more = literal(b"x", b"y" * 120) * 100
    return frame(HEADERS, 0, 1, block(b"/t/Echo")) + frame(CONTINUATION, 0, 1, more) * 60


def bomb(_: Peer) -> bytes:
    """One long header in the table, and then by its number, again and again."""
    kept = b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000
    return frame(HEADERS, END_HEADERS, 1, block(b"/t/Echo", kept + b"\xbe" * 12_000))


FLOODS: dict[str, Callable[[Peer], bytes]] = {
    "settings": stream_of(SETTINGS),
    "pings": stream_of(PING, bytes(8)),
    "priorities": stream_of(PRIORITY, bytes(5), 1),
    "unknown": stream_of(0xFA, b"x", 1),
    "goaway": stream_of(GOAWAY, bytes(8)),
    "windows": stream_of(WINDOW_UPDATE, (1).to_bytes(4, "big")),
    "resets": resets,
    "continuations": continuations,
    "long continuations": long_continuations,
    "hpack": bomb,
    "empty data": lambda client: client.head(1, request(b"/t/Never")) + frame(DATA, 0, 1) * 20_000,
    "padding": lambda client: client.head(1, request(b"/t/Never")) + frame(DATA, 8, 1, b"\x00") * 20_000,
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_its_connection_and_no_other(name: str) -> None:
    async with served() as server, peer(server) as other, peer(server) as client:
        client.send(FLOODS[name](client))
        gone = await client.hung_up()
        assert gone is None or gone[0] in (ErrorCode.ENHANCE_YOUR_CALM, ErrorCode.PROTOCOL_ERROR), gone
        other.call(1, b"/t/Echo", b"x")
        assert (await other.answer(1)).messages == [b"x"]


BREACHES: dict[str, Callable[[Peer], bytes]] = {
    "window of the connection overflows": lambda _: frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "window update of nothing": lambda _: frame(WINDOW_UPDATE, 0, 0, bytes(4)),
    "data beyond the window": lambda client: (
        client.head(1, request(b"/t/Never")) + frame(DATA, 0, 1, b"\x00\x00\xff\xff\xff" + bytes(16_000)) * 6
    ),
    "a frame too long": lambda _: frame(DATA, 0, 1, bytes(16_385)),
    "a frame that says it is": lambda _: b"\xff\xff\xff\x00\x00" + bytes(4),
    "data before a head": lambda _: frame(DATA, 0, 1, b"x"),
    "data on stream 0": lambda _: frame(DATA, 0, 0, b"x"),
    "a head on stream 0": lambda client: frame(HEADERS, 5, 0, client.encoder.encode(request(b"/t/Echo"))),
    "a head on an even stream": lambda client: frame(HEADERS, 5, 2, client.encoder.encode(request(b"/t/Echo"))),
    "a naked continuation": lambda _: frame(CONTINUATION, END_HEADERS, 1, b""),
    "a head within a head": lambda client: (
        frame(HEADERS, 0, 1, b"") + frame(HEADERS, 5, 3, client.encoder.encode(request(b"/t/Echo")))
    ),
    "a goaway within a head": lambda _: frame(HEADERS, 0, 1, b"") + frame(GOAWAY, 0, 0, bytes(8)),
    "padding longer than its frame": lambda client: client.head(1, request(b"/t/Never")) + frame(DATA, 8, 1, b"\xffx"),
    "a push": lambda _: frame(5, END_HEADERS, 1, bytes(8)),
    "settings of no size": lambda _: frame(SETTINGS, 0, 0, b"x"),
    "settings of no sense": lambda _: frame(SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff"),
    "a ping of no size": lambda _: frame(PING, 0, 0, b"x"),
    "a reset of nothing": lambda _: frame(RST_STREAM, 0, 99, bytes(4)) + frame(RST_STREAM, 0, 0, bytes(4)),
    "more streams than may be": lambda client: b"".join(
        client.head(stream, request(b"/t/Never")) for stream in range(1, 2052, 2)
    ),
    "no preface": lambda _: b"",
    "a depends on itself": lambda _: frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 0)),
}


@pytest.mark.parametrize("name", BREACHES)
async def test_a_breach_of_http_2_ends_its_connection_and_no_other(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async with served() as server, peer(server) as other, peer(server, greets=name != "no preface") as client:
        client.send(BREACHES[name](client) or b"\x16\x03\x01" + bytes(100))
        await client.hung_up()
        other.call(1, b"/t/Echo", b"x")
        assert (await other.answer(1)).messages == [b"x"]
    assert not [line for line in caplog.records if line.levelno >= logging.ERROR]


async def test_the_window_of_a_call_may_overflow_alone() -> None:
    async with served() as server, peer(server) as client:
        client.call(1, b"/t/Forever")
        client.send(frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff") * 2)
        assert (await client.answer(1)).reset == 3  # FLOW_CONTROL_ERROR
        client.call(3, b"/t/Echo", b"on")
        assert (await client.answer(3)).messages == [b"on"]


async def test_what_a_client_says_when_it_goes_is_not_repeated(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """And what is underway is still answered."""
    async with served() as server, peer(server) as client:
        client.send(client.head(1, request(b"/t/Echo")))
        client.send(frame(GOAWAY, 0, 0, bytes(8) + b'\n{"event": "forged"}\n'))
        client.send(frame(DATA, END_STREAM, 1, message(b"last")))
        assert (await client.answer(1)).messages == [b"last"]
        await client.hung_up()
    assert "forged" not in caplog.text + "".join(capfd.readouterr())


async def test_a_fault_of_ours_ends_one_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as server, peer(server) as client:
        client.call(1, b"/t/Echo", b"x")
        await client.answer(1)
        (connection,) = server.context.connections
        assert isinstance(connection, GrpcConnection)

        def fail(data: bytes) -> None:
            raise RuntimeError("something nobody thought of")

        monkeypatch.setattr(connection._http2.machine, "receive_data", fail)
        client.call(3, b"/t/Echo", b"secret of a client")
        await client.hung_up()
        assert await is_served(server)
    (line,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert line.getMessage() == "a gRPC connection failed"


@pytest.mark.parametrize("seed", range(4))
async def test_no_frames_end_the_door(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Good conversations with some of their bytes changed, left out and put in, and nonsense with good frame heads."""
    dice = random.Random(seed)
    async with served() as server:
        for _ in range(60):
            async with peer(server, greets=False) as client:
                talk = bytearray(PREFACE + frame(SETTINGS))
                for stream in (1, 3, 5):
                    path = dice.choice([b"/t/Echo", b"/t/Each", b"/t/Refused", b"/t/Never", b"/t/\xd5"])
                    talk += client.head(stream, request(path)) + frame(DATA, END_STREAM, stream, message(b"x" * 40))
                for _ in range(dice.randint(1, 5)):
                    if dice.random() < 0.5:
                        at = dice.randrange(24, len(talk))
                        talk[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
                    else:
                        talk += frame(dice.randrange(12), dice.randrange(256), dice.randrange(6), dice.randbytes(9))
                client.send(bytes(talk))
                client.writer.write_eof()
                await asyncio.wait_for(client.reader.read(), PATIENCE_S)
        assert await is_served(server)
    assert not [line for line in caplog.records if line.levelno >= logging.ERROR]


async def test_unfinished_messages_are_counted_and_bounded() -> None:
    """40 callers with an unfinished message each: what is held stays within the bound, and the rest is told."""
    window = b"\x00\x04" + (2**31 - 1).to_bytes(4, "big")
    most = 0
    async with served(GrpcLimits(wire=ConnectionLimits()), max_held_bytes=2 * MIB) as server:
        refused = 0

        async def one() -> None:
            nonlocal refused, most
            async with peer(server, settings=window) as client:
                client.send(
                    client.head(1, request(b"/t/Echo")), frame(DATA, 0, 1, b"\x00" + (60 * 10**6).to_bytes(4, "big"))
                )
                answer = await client.answer(1)
                refused += answer.status == Code.UNAVAILABLE

        await asyncio.gather(*[one() for _ in range(40)])
        assert refused == 40
        assert await is_served(server)
    async with served(GrpcLimits(wire=ConnectionLimits()), max_held_bytes=2 * MIB) as server:
        # Each would fit alone; together they do not.
        clients = []
        framed = frame(DATA, 0, 1, b"\x00" + (10**6).to_bytes(4, "big")) + frame(DATA, 0, 1, bytes(16_000)) * 4
        for _ in range(40):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            client = Peer(reader, writer)
            client.greet()
            client.send(client.head(1, request(b"/t/Echo")), framed)
            clients.append(client)
        while len(server.context.connections) < 40 or server.context.calls_in_flight > 33:
            most = max(most, server.held.now_bytes)
            await asyncio.sleep(0)
        assert most <= 2 * MIB + 40 * 16_384
        for client in clients:
            client.writer.transport.abort()


async def test_a_window_opens_only_for_what_is_taken() -> None:
    """A stream whose method takes nothing is not let send more than it may unasked."""
    async with served() as server, peer(server) as client:
        client.send(client.head(1, request(b"/t/Never")))
        client.send(*[frame(DATA, 0, 1, message(b"x" * 995)) for _ in range(65)])
        client.send(frame(PING, 0, 0, bytes(8)))
        while not client.pongs:
            assert await client.read_frame()
        assert 1 not in client.answers or client.answers[1].granted_bytes == 0
        assert 65_000 <= server.held.now_bytes <= 65 * 1000 + 65 * 200


async def test_answers_that_nobody_takes_are_counted_and_end(caplog: pytest.LogCaptureFixture) -> None:
    limits = GrpcLimits(wire=ConnectionLimits(write_timeout_s=0.05), keepalive_timeout_s=0.1)
    async with served(limits) as server, peer(server, settings=b"\x00\x04" + bytes(4)) as client:
        client.call(1, b"/t/Echo", b"x" * 10_000)
        assert (await client.answer(1)).reset == ErrorCode.CANCEL
        assert server.held.now_bytes == 0
        client.call(3, b"/t/Echo", b"")
        client.send(frame(WINDOW_UPDATE, 0, 3, (100).to_bytes(4, "big")))
        assert (await client.answer(3)).messages == [b""]


async def test_those_who_take_nothing_make_room_for_others(caplog: pytest.LogCaptureFixture) -> None:
    limits = GrpcLimits(
        wire=ConnectionLimits(write_timeout_s=1000, crowded_grace_s=0.02),
        keepalive_time_s=1000,
        keepalive_timeout_s=0.1,
    )
    async with served(limits, max_held_bytes=15_000) as server, peer(server, settings=b"\x00\x04" + bytes(4)) as idle:
        idle.call(1, b"/t/Echo", b"x" * 10_000)
        async with peer(server) as reader:
            reader.call(1, b"/t/Echo", b"")
            assert (await reader.answer(1)).messages == [b""]
            server.held.now_bytes += 10_000  # what others hold
            assert await idle.hung_up() is None
            assert server.held.now_bytes == 10_000
            server.held.now_bytes -= 10_000
            reader.call(3, b"/t/Echo", b"y")
            assert (await reader.answer(3)).messages == [b"y"]
    assert "takes its answers too slowly" in caplog.text


async def test_silence_has_an_end() -> None:
    """Before the preface, before the first call, within a frame, within a list of headers, and within a message."""
    limits = GrpcLimits(wire=ConnectionLimits(request_read_timeout_s=0.1, linger_s=0.2))
    async with served(limits) as server:
        async with peer(server, greets=False) as client:
            await client.hung_up()
        async with peer(server) as client:
            assert await client.hung_up() == (0, b"no call came in time")
        for unfinished in (
            frame(PING, 0, 0, bytes(8))[:-1],
            frame(HEADERS, 0, 3, b""),
        ):
            async with peer(server) as client:
                client.call(1, b"/t/Echo", b"")
                client.send(unfinished)
                gone = await client.hung_up()
                assert gone == (ErrorCode.ENHANCE_YOUR_CALM, b"a frame was not complete in time")
        async with peer(server) as client:
            client.send(client.head(1, request(b"/t/Echo")), frame(DATA, 0, 1, message(b"xyz")[:-1]))
            client.send(client.head(3, request(b"/t/Each")), frame(DATA, 0, 3, message(b"xyz")[:-1]))
            client.send(client.head(5, request(b"/t/Each")), frame(DATA, 0, 5, message(b"xyz")))
            assert (await client.answer(1)).status == Code.DEADLINE_EXCEEDED
            assert (await client.answer(3)).status == Code.DEADLINE_EXCEEDED
            # A stream between two messages is not late.
            assert client.answers[5].messages == [b"xyz"]
            assert not client.answers[5].ended


@pytest.mark.parametrize("update", [b"\x20", b"\x3f\xe1\x1f"])
async def test_the_table_of_headers_may_change_its_size_twice_before_a_list(update: bytes) -> None:
    """A frame has room for sixteen thousand such changes."""
    async with served() as server:
        async with peer(server) as client:
            client.send(frame(HEADERS, END_HEADERS, 1, update * 2 + block(b"/t/Echo")))
            client.send(frame(DATA, END_STREAM, 1, message(b"on")))
            assert (await client.answer(1)).messages == [b"on"]
        async with peer(server) as client:
            client.send(frame(HEADERS, END_HEADERS, 1, update * 3 + block(b"/t/Echo")))
            assert await client.hung_up() is not None
        assert await is_served(server)


def test_long_lists_of_headers_are_decoded_one_in_each_turn() -> None:
    """One of 16 KB may take 10 ms; the connection asks whether its turn is over after each run."""
    frames = Frames(1 << 20, 0, 0)
    long = frame(HEADERS, END_HEADERS, 1, bytes(16_000))
    frames.take(PREFACE + long * 3 + frame(DATA, 0, 1, bytes(100)) * 20)
    runs = []
    while run := frames.run(0):
        runs.append(run)
    assert runs == [PREFACE + long, long, long, frame(DATA, 0, 1, bytes(100)) * 20]


async def test_metadata_have_a_bound_on_their_number_and_count() -> None:
    limits = GrpcLimits(wire=ConnectionLimits(max_headers=50))
    async with served(limits, max_held_bytes=20_000) as server, peer(server) as client:
        client.call(1, b"/t/Echo", b"", *[(b"a", b"")] * 51)
        assert (await client.answer(1)).status == Code.RESOURCE_EXHAUSTED
        client.call(3, b"/t/Echo", b"", *[(b"a", b"")] * 50)
        assert (await client.answer(3)).status == Code.OK
        # Calls that go on keep theirs for as long as they do.
        client.send(client.head(5, request(b"/t/Never", (b"x", b"y" * 12_000))))
        client.send(frame(PING, 0, 0, bytes(8)))
        while not client.pongs:
            assert await client.read_frame()
        assert 8_000 < server.held.now_bytes < 9_000
        client.send(client.head(7, request(b"/t/Never", (b"x", b"z" * 15_000), (b"y", b"z" * 1000))))
        assert (await client.answer(7)).status == Code.UNAVAILABLE
        client.send(frame(RST_STREAM, 0, 5, (8).to_bytes(4, "big")))
        client.call(9, b"/t/Echo", b"on", (b"x", b"z" * 15_000))
        assert (await client.answer(9)).messages == [b"on"]


async def test_a_few_connections_do_not_take_the_places_of_all_calls() -> None:
    """Each gets as many as it leaves to others, so that there is one for whoever comes next."""
    limits = GrpcLimits(max_calls=100)
    async with served(limits) as server, AsyncExitStack() as stack:
        for _ in range(5):
            client = await stack.enter_async_context(peer(server))
            for stream in range(1, 201, 2):
                client.send(client.head(stream, request(b"/t/Never")))
            client.send(frame(PING, 0, 0, bytes(8)))
            while not client.pongs:
                assert await client.read_frame()
            refused = [answer for answer in client.answers.values() if b"grpc-status" in answer.headers]
            assert {answer.status for answer in refused} == {Code.RESOURCE_EXHAUSTED}
        assert server.context.calls_in_flight == 50 + 25 + 12 + 6 + 4
        assert await is_served(server)


async def test_windows_that_open_by_a_byte_are_looked_at_once_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may have a thousand answers to look through."""
    looks, reads = 0, 0
    pump, read = Outgoing.pump, GrpcConnection._read

    def pumped(outgoing: Outgoing) -> None:
        nonlocal looks
        looks += 1
        pump(outgoing)

    def counted(connection: GrpcConnection) -> None:
        nonlocal reads
        reads += 1
        read(connection)

    async with served() as server, peer(server, settings=b"\x00\x04" + bytes(4)) as client:
        for stream in range(1, 101, 2):
            client.call(stream, b"/t/Echo", b"x" * 1000)
        while server.held.now_bytes < 50 * 1000:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0)
        monkeypatch.setattr(Outgoing, "pump", pumped)
        monkeypatch.setattr(GrpcConnection, "_read", counted)
        client.send(frame(WINDOW_UPDATE, 0, 1, (1).to_bytes(4, "big")) * 1000, frame(PING, 0, 0, bytes(8)))
        while not client.pongs:
            assert await client.read_frame()
        assert looks <= reads + 1
        client.send(frame(WINDOW_UPDATE, 0, 1, (1000).to_bytes(4, "big")))
        assert (await client.answer(1)).messages == [b"x" * 1000]
