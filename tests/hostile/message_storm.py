"""Spoiled messages over a real channel of gRPC: the transport is as it should be, what it carries is not."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from random import Random

import grpc

from tests import hostile_bodies
from tests.hostile.mutations import SCALARS, WORDS, spoiled
from tests.hostile.protobuf import fields, floats, infer, number, packed, raw, tensor, text, varint
from tests.hostile.requests import messages
from tests.hostile.tally import Tally

CALLS = 24
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
MOST_S = 30.0
METADATA: Sequence[tuple[str, str | bytes]] = (
    ("accept-encoding", "gzip"), ("content-encoding", "gzip"), ("content-encoding", "br"),
    ("cache-control", "no-store"), ("traceparent", "x"),
    ("x-request-timeout-ms", "abc"), ("x-request-timeout-ms", "1"), ("x-request-id", "y" * 300),
    ("triton_grpc_error", "true"),
    ("inference-header-content-length", "3"), ("content-type", "text/csv"), ("accept", "text/csv"),
    ("x-bin", b"\xff\x00"),
)  # fmt: skip
MODELS = (
    b"linear",
    b"tiny",
    b"alone",
    b"strings",
    b"wide",
    b"echo",
    b"twofold",
    b"pictures",
    b"texts",
    b"padded",
    b"nobody",
    b"",
    b"\xd5",
)
DATATYPES = (b"FP32", b"INT64", b"BYTES", b"BOOL", b"FP16", b"UINT8", b"", b"fp32", b"\xff")
SIZES = (0, 1, 2, 4, -1, 2**31, 2**62, 2**63, 2**64 - 1)


async def storm(port: int, inputs: int, seed: int) -> Tally:
    """Make so many calls. One that does not end, or ends as none should, is a fault."""
    tally = Tally("messages")
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel, asyncio.TaskGroup() as group:
        for caller in range(CALLS):
            group.create_task(_caller(channel, Random(f"{seed} messages {caller}"), inputs, tally))
    return tally


async def _caller(channel: grpc.aio.Channel, chance: Random, inputs: int, tally: Tally) -> None:
    known = messages()
    lost = 0
    while tally.total < inputs and lost < 50:
        method, kind, content = _made(chance, known)
        tally.sent(kind)
        metadata = tuple(chance.sample(METADATA, chance.choice((1, 2)))) if chance.random() < 0.2 else ()
        compression = grpc.Compression.Gzip if chance.random() < 0.15 else None
        started_s = time.perf_counter()
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        try:
            async with asyncio.timeout(MOST_S):
                await call(content, metadata=metadata, compression=compression)
            status = "OK"
        except TimeoutError:
            tally.fault("the call did not end", content)
            continue
        except grpc.aio.AioRpcError as error:
            status = error.code().name
            lost = lost + 1 if "failed to connect" in (error.details() or "") else 0
            if tally.answered(status, time.perf_counter() - started_s):
                tally.fault(f"{status} by {method.rpartition('/')[2]}: {(error.details() or '')[:100]}", content)
            continue
        tally.answered(status, time.perf_counter() - started_s)
    if lost:
        tally.fault("the door is closed")


def _made(chance: Random, known: Sequence[tuple[str, bytes]]) -> tuple[str, str, bytes]:
    method, content = chance.choice(known)
    turn = chance.random()
    if turn < 0.3:
        return method, "bytes", spoiled(chance, content)
    if turn < 0.55:
        return method, "structure", _rearranged(chance, content)
    if turn < 0.7:
        return MODEL_INFER, "odd", hostile_bodies.case_of(chance.getrandbits(32), 0, ("grpc",)).body
    name, build = chance.choice(_BUILT)
    return MODEL_INFER, name, build(chance)


def _rearranged(chance: Random, content: bytes) -> bytes:
    """The same fields, some twice, some missing, in another order, with other numbers, or of another wire type."""
    found = list(fields(content))
    if not found:
        return number(chance.randrange(1, 20), chance.choice(SIZES))
    for _ in range(chance.choice((1, 2))):
        at = chance.randrange(len(found))
        turn = chance.randrange(6)
        if turn == 0 and len(found) > 1:
            del found[at]
        elif turn == 1:
            found.append(found[at])
        elif turn == 2:
            chance.shuffle(found)
        elif turn == 3:
            found[at] = (chance.randrange(1, 20), found[at][1])
        elif turn == 4:
            found[at] = (found[at][0], chance.choice(SIZES))
        elif isinstance(inner := found[at][1], bytes):
            try:
                found[at] = (found[at][0], _rearranged(chance, inner))
            except (IndexError, KeyError, ValueError):
                found[at] = (found[at][0], spoiled(chance, inner))
    return b"".join([number(place, value) if isinstance(value, int) else text(place, value) for place, value in found])


def _contents(chance: Random) -> bytes:
    """Tensors whose contents are not as many, or not of the kind, that shape and datatype say."""
    given = b"".join(
        chance.choice(
            (
                lambda: packed(1, [1, 0, 2]),
                lambda: packed(2, [-1, 2**31, 5]),
                lambda: packed(3, [2**63, -1]),
                lambda: packed(4, [2**33]),
                lambda: packed(5, [2**64 - 1]),
                lambda: text(6, floats([1, 2, 3])),
                lambda: text(6, b"\0\0\0"),
                lambda: text(7, struct.pack("<2d", 1e308, -0.0)),
                lambda: text(8, b"\xff") * chance.choice((1, 3, 50)),
                lambda: varint(6 << 3 | 5) + floats([3]),
            )
        )()
        for _ in range(chance.choice((1, 1, 2)))
    )
    shape = [chance.choice(SIZES) for _ in range(chance.choice((0, 1, 2, 2, 2, 3, 40)))]
    parts = [tensor(chance.choice((b"x", b"a", b"ids", b"")), chance.choice(DATATYPES), shape, given)]
    if chance.random() < 0.3:
        parts.append(raw(chance.randbytes(chance.choice((0, 3, 4, 16)))))
    return infer(chance.choice(MODELS), *parts * chance.choice((1, 1, 2)))


def _raw(chance: Random) -> bytes:
    """Raw contents of other sizes, counts and lengths."""
    shape = [chance.choice((0, 1, 1, 2, 4, 2**62)) for _ in range(chance.choice((1, 2, 2)))]
    content = chance.choice(
        (
            b"",
            floats([1]),
            floats([1] * 4),
            bytes(3),
            struct.pack("<I", 2**31),
            struct.pack("<I", 1) + b"a",
            chance.randbytes(40),
        )
    )
    kind = chance.choice(DATATYPES)
    return infer(chance.choice(MODELS), tensor(b"x", kind, shape), *[raw(content)] * chance.choice((0, 1, 1, 1, 2, 30)))


def _parameters(chance: Random) -> bytes:
    def one() -> bytes:
        value = chance.choice(SCALARS)
        key = chance.choice(WORDS).encode()
        if isinstance(value, bool):
            return text(4, text(1, key) + text(2, number(1, value)))
        if isinstance(value, int):
            return text(4, text(1, key) + text(2, number(chance.choice((2, 5)), value)))
        if isinstance(value, float):
            return text(4, text(1, key) + text(2, varint(4 << 3 | 1) + struct.pack("<d", value)))
        return text(4, text(1, key) + text(2, text(3, str(value).encode("utf-8", "surrogatepass"))))

    return infer(
        b"linear", tensor(b"x", b"FP32", [1, 1]), raw(floats([3])), *[one() for _ in range(chance.choice((1, 3, 60)))]
    )


def _many(chance: Random) -> bytes:
    """A great number of some part."""
    part = chance.choice(
        (
            tensor(b"x", b"FP32", [1, 1], text(6, floats([3]))),
            raw(b""),
            text(6, text(1, b"y")),
            text(4, text(1, b"k") + text(2, number(2, 1))),
            text(3, b"id"),
            number(99, 1),
        )
    )
    return infer(
        b"linear", tensor(b"x", b"FP32", [1, 1]), raw(floats([3])), part * chance.choice((10, 1000, 1000, 10_000))
    )


def _deep(chance: Random) -> bytes:
    inner = b""
    for _ in range(chance.choice((50, 150, 2000))):
        inner = text(chance.choice((5, 4, 2, 15)), inner)
    return infer(b"linear", inner)


_BUILT: Sequence[tuple[str, Callable[[Random], bytes]]] = (
    ("contents", _contents),
    ("contents", _contents),
    ("contents", _contents),
    ("raw", _raw),
    ("raw", _raw),
    ("parameters", _parameters),
    ("deep", _deep),
) * 3 + (("many", _many),)
