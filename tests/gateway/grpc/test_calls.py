"""Calls as gRPC has them on the wire: how messages, metadata, statuses, deadlines and cancellations are carried."""

from __future__ import annotations

import gzip
import zlib

import pytest

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.frames import DATA, END_STREAM, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame
from sluice.gateway.grpc.limits import STREAM_WINDOW_BYTES, GrpcLimits
from tests.gateway.grpc.peers import MIB, Answer, is_served, message, peer, request, served


async def test_a_message_is_answered_with_one() -> None:
    async with served() as server, peer(server) as client:
        for stream in (1, 3, 5):
            client.call(stream, b"/t/Echo", b"%d" % stream)
            answer = await client.answer(stream)
            assert (answer.messages, answer.status, answer.reset) == ([b"%d" % stream], 0, None)
            assert answer.headers[b":status"] == b"200"
            assert answer.headers[b"content-type"] == b"application/grpc"


async def test_calls_are_answered_as_they_are_done() -> None:
    async with served() as server, peer(server) as client:
        client.call(1, b"/t/Forever")
        client.call(3, b"/t/Echo", b"first")
        assert (await client.answer(3)).messages == [b"first"]
        assert server.context.calls_in_flight == 1
        client.send(frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
        client.call(5, b"/t/Echo", b"second")
        assert (await client.answer(5)).messages == [b"second"]
        assert server.context.calls_in_flight == 0


async def test_a_message_may_come_in_any_pieces() -> None:
    body = bytes(range(256))
    async with served() as server, peer(server) as client:
        for stream, size in ((1, 1), (3, 3), (5, 4), (7, 5), (9, 6), (11, 1000)):
            framed = message(body)
            client.send(client.head(stream, request(b"/t/Echo")))
            pieces = [framed[at : at + size] for at in range(0, len(framed), size)]
            client.send(*[frame(DATA, 0, stream, piece) for piece in pieces], frame(DATA, END_STREAM, stream))
            assert (await client.answer(stream)).messages == [body]


async def test_a_stream_has_messages_of_any_size_in_any_frames() -> None:
    bodies = [b"", b"a", b"b" * 20_000, b"", b"c" * 100, b"d" * 5]
    data = b"".join(map(message, bodies))
    async with served() as server, peer(server) as client:
        for stream, size in ((1, 37), (3, 4096), (5, 16_384)):
            client.send(client.head(stream, request(b"/t/Each")))
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            client.send(*[frame(DATA, 0, stream, piece) for piece in pieces], frame(DATA, END_STREAM, stream))
            answer = await client.answer(stream)
            assert (answer.messages, answer.status) == (bodies, 0)


async def test_a_long_message_is_let_in_and_a_long_answer_out() -> None:
    """Both are longer than what may be sent unasked."""
    body = bytes(range(251)) * 20_000
    async with served() as server, peer(server) as client:
        client.send(frame(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big")))
        client.send(client.head(1, request(b"/t/Echo")))
        framed, sent, room, whole = message(body), 0, STREAM_WINDOW_BYTES, STREAM_WINDOW_BYTES
        while sent < len(framed):
            size = min(room, whole, 16_384, len(framed) - sent)
            if not size:
                call, connection = client.answers.setdefault(1, Answer()), client.answers.setdefault(0, Answer())
                before = call.granted_bytes, connection.granted_bytes
                assert await client.read_frame()
                room += call.granted_bytes - before[0]
                whole += connection.granted_bytes - before[1]
                continue
            client.send(frame(DATA, 0, 1, framed[sent : sent + size]))
            sent, room, whole = sent + size, room - size, whole - size
        client.send(frame(DATA, END_STREAM, 1))
        client.send(frame(WINDOW_UPDATE, 0, 1, (2**30).to_bytes(4, "big")))
        assert (await client.answer(1)).messages == [body]


async def test_an_answer_waits_for_the_window_and_goes_on() -> None:
    """`SETTINGS_INITIAL_WINDOW_SIZE` of 0, and then a few bytes at a time."""
    async with served() as server, peer(server, settings=b"\x00\x04" + bytes(4)) as client:
        client.call(1, b"/t/Echo", b"x" * 95)
        client.send(frame(PING, 0, 0, bytes(8)))
        while not client.pongs:
            assert await client.read_frame()
        assert server.held.now_bytes == 100
        for _ in range(10):
            client.send(frame(WINDOW_UPDATE, 0, 1, (10).to_bytes(4, "big")))
        assert (await client.answer(1)).messages == [b"x" * 95]


async def test_errors_are_told() -> None:
    async with served() as server, peer(server) as client:
        client.call(1, b"/t/Refused")
        answer = await client.answer(1)
        assert (answer.status, answer.headers[b"retry-after"]) == (Code.NOT_FOUND, b"1")
        assert answer.headers[b"grpc-message"] == b"nichts: 100 %25 gr%C3%B6%C3%9Fer%0A"
        client.call(3, b"/t/Nowhere")
        assert (await client.answer(3)).status == Code.UNIMPLEMENTED
        client.call(5, b"/t/Broken")
        answer = await client.answer(5)
        assert (answer.status, answer.headers[b"grpc-message"]) == (Code.INTERNAL, b"internal error")


async def test_metadata_reach_the_method_and_those_of_content_codings_do_not() -> None:
    async with served() as server, peer(server) as client:
        client.call(
            *(1, b"/t/Heard", b""),
            (b"accept-encoding", b"gzip"),
            (b"content-encoding", b"br"),
            (b"x-request-id", b"mine"),
            (b"grpc-trace-bin", b"!not base64!"),
            (b"x-odd", "größer".encode("latin-1")),
        )
        answer = await client.answer(1)
        assert answer.status == 0
        assert answer.messages == [b"x-request-id: mine\nx-odd: gr\xf6\xdfer"]


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
async def test_messages_may_be_compressed(encoding: bytes) -> None:
    pack = gzip.compress if encoding == b"gzip" else zlib.compress
    body = b"abc" * 50_000
    async with served(), served() as server, peer(server) as client:
        client.send(client.head(1, request(b"/t/Echo", (b"grpc-encoding", encoding))))
        client.send(frame(DATA, END_STREAM, 1, message(pack(body), 1)))
        answer = await client.answer(1)
        assert answer.headers[b"grpc-encoding"] == encoding
        (packed,) = answer.messages
        assert answer.data[0] == 1
        assert zlib.decompress(packed, 47) == body
        # Each message says for itself whether it is, and a short answer is not worth it.
        client.send(client.head(3, request(b"/t/Each", (b"grpc-encoding", encoding))))
        client.send(frame(DATA, END_STREAM, 3, message(pack(b"one"), 1) + message(b"two")))
        assert (await client.answer(3)).messages == [b"one", b"two"]


async def test_answers_may_be_compressed_behind_one_that_is_not() -> None:
    """How they are is said at the beginning of a call, before it is known whether one will be."""
    long = b"abc" * 50_000
    gzipped = (b"grpc-encoding", b"gzip")
    for first in (message(b"short"), message(gzip.compress(b"short"), 1)):
        async with served(), served() as server, peer(server) as client:
            client.send(frame(WINDOW_UPDATE, 0, 0, (2**20).to_bytes(4, "big")))
            client.send(client.head(1, request(b"/t/Each", gzipped)))
            client.send(frame(DATA, END_STREAM, 1, first + message(gzip.compress(long), 1)))
            answer = await client.answer(1)
            assert answer.headers[b"grpc-encoding"] == b"gzip"
            assert answer.messages[0] == b"short"
            assert gzip.decompress(answer.messages[1]) == long
            client.send(client.head(3, request(b"/t/Each")))
            client.send(frame(DATA, END_STREAM, 3, message(b"short")))
            assert b"grpc-encoding" not in (await client.answer(3)).headers


async def test_what_a_message_must_not_be_is_told() -> None:
    limits = GrpcLimits(wire=ConnectionLimits(), max_message_bytes=1000)
    bomb = gzip.compress(bytes(MIB))
    gzipped = (b"grpc-encoding", b"gzip")
    cases = [
        ((), message(b"x" * 1001), Code.RESOURCE_EXHAUSTED),
        ((), b"\x00\xff\xff\xff\xff", Code.RESOURCE_EXHAUSTED),
        ((gzipped,), message(gzip.compress(bytes(1001)), 1), Code.RESOURCE_EXHAUSTED),
        ((gzipped,), message(bomb[:1000], 1), Code.RESOURCE_EXHAUSTED),
        ((gzipped,), message(b"no gzip", 1), Code.INVALID_ARGUMENT),
        ((), message(gzip.compress(b"x"), 1), Code.INVALID_ARGUMENT),
        ((), message(b"x", 2), Code.INVALID_ARGUMENT),
        ((), message(b"x") + message(b"y"), Code.INVALID_ARGUMENT),
        ((), message(b"xyz")[:-1], Code.INVALID_ARGUMENT),
        ((), b"\x00", Code.INVALID_ARGUMENT),
        ((), b"", Code.INVALID_ARGUMENT),
        (((b"grpc-encoding", b"snappy"),), message(b"x"), Code.UNIMPLEMENTED),
        (((b"grpc-timeout", b"soon"),), message(b"x"), Code.INVALID_ARGUMENT),
    ]
    async with served(limits) as server, peer(server) as client:
        for number, (headers, data, code) in enumerate(cases):
            stream = 2 * number + 1
            client.send(client.head(stream, request(b"/t/Echo", *headers)), frame(DATA, END_STREAM, stream, data))
            answer = await client.answer(stream)
            assert answer.status == code, number
        assert await is_served(server)


async def test_who_speaks_no_grpc_is_told_in_http() -> None:
    async with served() as server, peer(server) as client:
        headers = [each for each in request(b"/t/Echo") if each[0] != b"content-type"]
        client.send(client.head(1, [*headers, (b"content-type", b"application/json")], flags=5))
        assert (await client.answer(1)).headers == {b":status": b"415"}
        client.send(client.head(3, [(b":method", b"GET"), *request(b"/t/Echo")[1:]], flags=5))
        assert (await client.answer(3)).headers[b":status"] == b"405"
    async with served() as server, peer(server, greets=False) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")


async def test_a_deadline_ends_a_stream() -> None:
    limits = GrpcLimits(wire=ConnectionLimits(), keepalive_timeout_s=0.1)
    async with served(limits) as server, peer(server) as client:
        client.send(client.head(1, request(b"/t/Never", (b"grpc-timeout", b"20m"))))
        assert (await client.answer(1)).status == Code.DEADLINE_EXCEEDED
        assert not server.context.calls_in_flight


async def test_an_answer_that_ends_early_tells_the_client_to_stop() -> None:
    async with served() as server, peer(server) as client:
        client.send(client.head(1, request(b"/t/Nowhere")))
        answer = await client.answer(1)
        assert answer.status == Code.UNIMPLEMENTED
        while answer.reset is None:
            assert await client.read_frame()
        assert answer.reset == 0
        client.send(frame(DATA, 0, 1, b"too late"), frame(SETTINGS))
        client.call(3, b"/t/Echo", b"on")
        assert (await client.answer(3)).messages == [b"on"]


async def test_the_end_is_told_before_it_comes() -> None:
    async with served() as server, peer(server) as client:
        client.call(1, b"/t/Echo", b"1")
        await client.answer(1)
        (connection,) = server.context.connections
        connection.leave()
        client.call(3, b"/t/Echo", b"on its way")
        assert (await client.answer(3)).messages == [b"on its way"]
        assert await client.hung_up() == (0, b"")
