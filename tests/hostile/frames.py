"""HTTP/2 by hand, from RFC 9113 and RFC 7541: frames as they should be, and as nobody should send them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

from tests.hostile.mutations import NOTABLE, spoiled
from tests.hostile.protobuf import floats, infer, raw, tensor

MAGIC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, PRIORITISED, ACK = 1, 4, 8, 32, 1
MOST = (1 << 31) - 1

Field = tuple[bytes, bytes]
PATHS = (
    b"/inference.GRPCInferenceService/ModelInfer",
    b"/inference.GRPCInferenceService/ModelStreamInfer",
    b"/inference.GRPCInferenceService/ServerLive",
    b"/grpc.health.v1.Health/Check",
    b"/grpc.health.v1.Health/Watch",
    b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    b"/v2/models/linear/infer",
)
ODD_PATHS = (
    b"/x\xd5", b"", b"/", b"x", b"*", b"//", b"/\0", b"/\xff\xfe", b"/a/b/c", b"/" + b"a" * 9000,
    b"/inference.GRPCInferenceService/",
    b"/inference.GRPCInferenceService/\xed\xa0\x80", b"http://a/b", b"/a b", b"/a\r\nb: c", b"/../..",
)  # fmt: skip
ODD_FIELDS: Sequence[Field] = (
    (b"te", b"trailers"), (b"te", b"gzip"), (b"connection", b"close"), (b"Upper", b"x"), (b"", b"x"),
    (b":unknown", b"x"), (b"a b", b"c"),
    (b"x\xd5", b"y"), (b"x", b"\xd5\xff"), (b"x", b"\r\nforged: 1"), (b"x-bin", b"!!!"), (b"x-bin", b"AAAA"),
    (b"x", b"\0"),
    (b"grpc-timeout", b"1n"), (b"grpc-timeout", b"-1S"), (b"grpc-timeout", b"99999999999H"), (b"grpc-timeout", b""),
    (b"grpc-timeout", b"5S"),
    (b"grpc-encoding", b"gzip"), (b"grpc-encoding", b"\xff"), (b"grpc-encoding", b"snappy"),
    (b"grpc-accept-encoding", b"gzip,,br"),
    (b"content-length", b"5"), (b"content-length", b"-1"), (b"content-length", b"99999999999999999999"),
    (b"host", b"a"), (b"host", b"\xd5"),
    (b"accept-encoding", b"gzip"), (b"content-encoding", b"br"), (b"content-encoding", b"gzip"),
    (b"transfer-encoding", b"chunked"),
    (b"cache-control", b"no-store"), (b"traceparent", b"00-x"), (b"x-request-timeout-ms", b"abc"),
    (b"user-agent", b"\xd5" * 40),
    (b"grpc-tags-bin", b"\xff"), (b"grpc-trace-bin", b"AAA"), (b"lb-token", b"x"), (b"x", b"v" * 9000),
    (b"cookie", b"a=b"),
)  # fmt: skip


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A frame; `length` says another length than the payload has."""
    size = len(payload) if length is None else length
    return (
        struct.pack(">I", size & 0xFFFFFF)[1:]
        + struct.pack(">BBI", kind & 255, flags & 255, stream & 0xFFFFFFFF)
        + payload
    )


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(
        SETTINGS, 0, 0, b"".join([struct.pack(">HI", key & 0xFFFF, value & 0xFFFFFFFF) for key, value in pairs])
    )


def block(fields: Sequence[Field]) -> bytes:
    """A header block of literals, never indexed and without Huffman codes."""
    return b"".join([b"\x10" + _string(name) + _string(value) for name, value in fields])


def request_fields(path: bytes, authority: bytes = b"x") -> list[Field]:
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", authority),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]


def headers(fields: Sequence[Field], stream: int, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, block(fields))


def message(content: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """A message of gRPC, in its envelope."""
    return struct.pack(">BI", compressed & 255, (len(content) if length is None else length) & 0xFFFFFFFF) + content


def call(stream: int, content: bytes, path: bytes = PATHS[0]) -> bytes:
    """A whole unary call."""
    return headers(request_fields(path), stream) + frame(DATA, END_STREAM, stream, message(content))


OPENING = MAGIC + settings()
KNOWN = infer(b"linear", tensor(b"x", b"FP32", [1, 1]), raw(floats([3])))


def _string(value: bytes) -> bytes:
    return _integer(len(value), 7) + value


def _integer(value: int, bits: int, first: int = 0) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out = bytearray([first | most])
    value -= most
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class Frames:
    """Makes connections of frames by chance, each with a few that are wrong."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def connection(self) -> tuple[list[str], bytes]:
        """What one client sends, and the kinds of what is wrong with it."""
        chance = self._chance
        turn = chance.random()
        if turn < 0.02:
            return ["noise"], chance.randbytes(chance.choice((1, 9, 24, 200)))
        if turn < 0.05:
            return ["opening"], spoiled(chance, OPENING + call(1, KNOWN))
        kinds, parts, stream = [], [MAGIC + self._settings()], 1
        for _ in range(chance.choice((1, 2, 4, 8))):
            kind, part = self._fault(stream)
            kinds.append(kind)
            parts.append(part)
            if chance.random() < 0.4:
                parts.append(call(stream + 2, KNOWN))
            stream += 4
        return kinds, b"".join(parts)

    def _settings(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.8:
            return settings()
        values = (0, 1, 2, 100, 16_384, 65_535, MOST, 1 << 31, (1 << 32) - 1)
        return settings(
            *[
                (chance.choice((1, 2, 3, 4, 5, 6, 8, 99, 0)), chance.choice(values))
                for _ in range(chance.randrange(1, 6))
            ]
        )

    def _fault(self, stream: int) -> tuple[str, bytes]:
        chance = self._chance
        kind = chance.choice(
            (
                "path",
                "path",
                "fields",
                "fields",
                "block",
                "data",
                "control",
                "continuation",
                "frame",
                "bytes",
                "streams",
            )
        )
        made: bytes = getattr(self, f"_{kind}")(stream)
        return kind, made

    def _path(self, stream: int) -> bytes:
        chance = self._chance
        path = chance.choice(ODD_PATHS) if chance.random() < 0.7 else spoiled(chance, chance.choice(PATHS))
        authority = chance.choice((b"x", b"", b"\xd5", b"a b", b"[::1", b"x" * 3000))
        return headers(request_fields(path, authority), stream) + frame(DATA, END_STREAM, stream, message(KNOWN))

    def _fields(self, stream: int) -> bytes:
        chance = self._chance
        fields = request_fields(chance.choice(PATHS))
        for _ in range(chance.choice((1, 1, 2, 5))):
            turn = chance.randrange(5)
            at = chance.randrange(len(fields))
            if turn == 0:
                del fields[at]
            elif turn == 1:
                fields.append(fields[at])
            elif turn == 2:
                name, value = fields[at]
                fields[at] = (name, spoiled(chance, value))
            else:
                fields.insert(chance.choice((0, len(fields))), chance.choice(ODD_FIELDS))
            if not fields:
                break
        if chance.random() < 0.05:
            fields += [(b"x-%d" % place, b"v") for place in range(chance.choice((100, 3000)))]
        return headers(fields, stream) + frame(DATA, END_STREAM, stream, message(KNOWN))

    def _block(self, stream: int) -> bytes:
        """Compression of headers with faults: indices that there are not, codes cut short, tables of any size."""
        chance = self._chance
        good = block(request_fields(PATHS[0]))
        odd = chance.choice(
            (
                b"\x80",
                _integer(chance.choice((62, 200, 1 << 20, 1 << 40)), 7, 0x80),
                _integer(chance.choice((0, 4096, 1 << 20, 1 << 33)), 5, 0x20),
                b"\x40\x83\xff\xff\xff\x01x",
                b"\x10\x7f\xff\xff\xff\xff\xff\x0f",
                b"\x00\x01",
                chance.randbytes(20),
                b"\x82" * chance.choice((1, 5000)),
            )
        )
        payload = chance.choice((odd, odd + good, good + odd, spoiled(chance, good)))
        return frame(HEADERS, END_HEADERS | chance.choice((0, END_STREAM)), stream, payload)

    def _data(self, stream: int) -> bytes:
        """Messages that are not whole, too long, coded otherwise, or where none belongs."""
        chance = self._chance
        content = spoiled(chance, KNOWN) if chance.random() < 0.5 else KNOWN
        sent = message(
            content,
            compressed=chance.choice((0, 0, 1, 2, 255)),
            length=chance.choice((None, None, 0, 1, 10_000, 1 << 31, (1 << 32) - 1)),
        )
        if chance.random() < 0.3:
            sent = sent[: chance.randrange(len(sent) + 1)]
        pieces = [sent] if chance.random() < 0.6 else [sent[:3], b"", sent[3:], *[b""] * chance.choice((0, 50))]
        last = chance.choice((0, END_STREAM, END_STREAM, PADDED | END_STREAM))
        frames = [
            frame(DATA, last if place == len(pieces) - 1 else 0, stream, piece) for place, piece in enumerate(pieces)
        ]
        opened = headers(request_fields(chance.choice(PATHS)), stream) if chance.random() < 0.9 else b""
        return opened + b"".join(frames)

    def _control(self, stream: int) -> bytes:
        chance = self._chance
        number = struct.pack(">I", chance.choice((0, 1, 5, 65_535, MOST, (1 << 32) - 1)))
        made = (
            frame(RST_STREAM, 0, chance.choice((0, stream, stream + 100)), number),
            frame(WINDOW_UPDATE, 0, chance.choice((0, stream)), number) * chance.choice((1, 20)),
            frame(PING, chance.choice((0, ACK)), chance.choice((0, stream)), bytes(chance.choice((0, 7, 8, 8, 8, 9))))
            * chance.choice((1, 30)),
            frame(
                GOAWAY, 0, 0, number + number + b'{"event": "forged", "level": "error"}\n' * chance.choice((0, 1, 50))
            ),
            frame(PRIORITY, 0, stream, chance.choice((number + b"\0", number))),
            frame(PUSH_PROMISE, END_HEADERS, stream, number + block(request_fields(PATHS[0]))),
            frame(SETTINGS, ACK, 0, chance.choice((b"", b"x"))),
            settings((chance.choice((1, 3, 4, 5)), chance.choice((0, MOST, 1 << 31)))) * chance.choice((1, 50)),
        )
        return chance.choice(made)

    def _continuation(self, stream: int) -> bytes:
        chance = self._chance
        good = block(request_fields(chance.choice(PATHS)))
        pieces = chance.choice((1, 3, 100))
        flags = chance.choice((0, END_HEADERS))
        rest = b"".join([frame(CONTINUATION, 0, stream, b"") for _ in range(pieces)]) + frame(
            CONTINUATION, END_HEADERS, stream, good[9:]
        )
        between = chance.choice((b"", b"", frame(PING, 0, 0, bytes(8)), frame(DATA, 0, stream, b"x")))
        return frame(HEADERS, flags, stream, good[:9]) + between + rest

    def _frame(self, stream: int) -> bytes:
        chance = self._chance
        payload = chance.randbytes(chance.choice((0, 1, 4, 8, 60)))
        length = chance.choice((None, None, 0, len(payload) + 1, 1 << 14, (1 << 24) - 1))
        return frame(
            chance.randrange(16), chance.randrange(256), chance.choice((0, stream, 1 << 31, MOST)), payload, length
        )

    def _bytes(self, stream: int) -> bytes:
        return spoiled(self._chance, call(stream, KNOWN) + self._control(stream))

    def _streams(self, stream: int) -> bytes:
        """Many streams at once: opened and reset, opened and left, or in the wrong order."""
        chance = self._chance
        opened = headers(request_fields(chance.choice(PATHS)), stream)
        turn = chance.randrange(4)
        if turn == 0:
            return b"".join(
                [
                    headers(request_fields(PATHS[0]), at) + frame(RST_STREAM, 0, at, bytes(4))
                    for at in range(stream, stream + 200, 2)
                ]
            )
        if turn == 1:
            return b"".join([headers(request_fields(PATHS[1]), at) for at in range(stream, stream + 60, 2)])
        if turn == 2:
            return opened + opened
        return headers(request_fields(PATHS[0]), chance.choice((0, 2, stream - 2, MOST))) + chance.choice(NOTABLE)
