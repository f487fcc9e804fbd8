"""How `costs` calls: one request, or a crowd of them that together hold what none holds alone."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import grpc
import msgspec
from PIL import Image

from benchmarks.cost_rows import V2, compressed, filled, plain, v2
from tests.integration.server import SluiceProcess

CROWD_S = 90.0
"""Calls of a crowd wait for each other, so that each may take so long."""


class Answer(msgspec.Struct, frozen=True):
    """What came back. `seconds` where it is not simply how long the call took."""

    status: str
    given_up: bool = False
    seconds: float | None = None


Call = Callable[[SluiceProcess], Answer]


class Crowd(msgspec.Struct, frozen=True):
    """A row of many requests: the models that it needs, and what calls, with the bytes sent and the bytes inflated."""

    what: str
    models: Sequence[str]
    prepare: Callable[[], tuple[Call, int, int]]


def over_http(server: SluiceProcess, target: str, body: bytes, headers: Mapping[str, str], patience_s: float) -> Answer:
    """One POST on a connection of its own."""
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=patience_s) as connection:
            connection.sendall(head(target, len(body), headers))
            with suppress(ConnectionError):  # refused by its length: the answer is there already
                connection.sendall(body)
            return Answer(read_status(connection))
    except TimeoutError:
        return Answer("", given_up=True)
    except OSError:
        return Answer("closed")


def over_grpc(server: SluiceProcess, message: bytes, patience_s: float, *, zipped: bool) -> Answer:
    """One `ModelInfer` on a channel of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer"
        )
        try:
            call(message, timeout=patience_s, compression=grpc.Compression.Gzip if zipped else None)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return Answer(code.name, given_up=code is grpc.StatusCode.DEADLINE_EXCEEDED)
    return Answer("OK")


def head(target: str, length: int, headers: Mapping[str, str]) -> bytes:
    more = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"POST {target} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()


def read_status(connection: socket.socket) -> str:
    """The status of an answer that is read to its end, a piece at a time."""
    first = b""
    while piece := connection.recv(1 << 20):
        first = first or piece
    words = first.split(b" ", 2)
    return words[1].decode("ascii", "replace") if len(words) > 2 else "closed"


def crowds() -> Iterator[Crowd]:
    yield Crowd("60 calls of 64 MB of blanks in gzip, for a slow model", ("slow",), _sixty)
    yield Crowd("60 calls of 8 MB of digits in gzip, for a slow model", ("slow",), _sixty_of_digits)
    yield Crowd("150 answers of 4 MB that nobody reads", ("echo",), _unread)
    yield Crowd(
        "20 pictures, and one call of 2 MB in gzip for another model: its seconds", ("pictures", "sums"), _pictures
    )


COUNTED = (
    '{"name":"x","shape":[1,1],"datatype":"FP32","data":[0]},'
    '{"name":"steps","shape":[1,1],"datatype":"INT64","data":[100000]}'
)


def _sixty() -> tuple[Call, int, int]:
    return _together(plain('{"inputs":[', " ", f"{COUNTED}]}}"))


def _sixty_of_digits() -> tuple[Call, int, int]:
    return _together(filled('{"parameters":{"a":[', "0.1234567", f']}},"inputs":[{COUNTED}]}}', 8 << 20))


def _together(build: Callable[[], bytes]) -> tuple[Call, int, int]:
    body = build()
    sent = compressed(body)

    def call(server: SluiceProcess) -> Answer:
        with ThreadPoolExecutor(60) as pool:
            calls = [
                pool.submit(over_http, server, V2.format("slow"), sent, {"Content-Encoding": "gzip"}, CROWD_S)
                for _ in range(60)
            ]
            return _counted([each.result() for each in calls])

    return call, 60 * len(sent), 60 * len(body)


def _unread() -> tuple[Call, int, int]:
    size = 1 << 22
    one = f'{{"name":"x","shape":[1,{size // 4}],"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}'
    text = f'{{"inputs":[{one}],"parameters":{{"binary_data_output":true}}}}'.encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    request = head(V2.format("echo"), len(text) + size, headers) + text + bytes(size)

    def call(server: SluiceProcess) -> Answer:
        with ExitStack() as stack:
            for _ in range(150):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(10.0)
                client.connect(("127.0.0.1", server.port))
                try:
                    client.sendall(request)
                except OSError:
                    continue  # refused: there is no room for more
            time.sleep(3)
        return Answer("unread")

    return call, 150 * len(request), 150 * len(request)


def _pictures() -> tuple[Call, int, int]:
    file = io.BytesIO()
    Image.effect_noise((5000, 5000), 90).convert("RGB").save(file, "JPEG", quality=60)
    picture = file.getvalue()
    elements = (1 << 21) // len("0.5,")
    body = f"{v2(f'[1,{elements}]')}[{','.join(['0.5'] * elements)}]}}]}}".encode()
    sent = compressed(body)

    def call(server: SluiceProcess) -> Answer:
        with ThreadPoolExecutor(20) as pool:
            calls = [pool.submit(over_http, server, "/predictions/pictures", picture, {}, CROWD_S) for _ in range(20)]
            time.sleep(0.2)
            started_s = time.perf_counter()
            other = over_http(server, V2.format("sums"), sent, {"Content-Encoding": "gzip"}, CROWD_S)
            seconds = time.perf_counter() - started_s
            pictures = _counted([each.result() for each in calls])
        return Answer(f"{other.status}; pictures {pictures.status}", other.given_up, seconds)

    return call, 20 * len(picture) + len(sent), 20 * 5000 * 5000 * 3 + len(body)


def _counted(answers: Sequence[Answer]) -> Answer:
    statuses = [each.status or "no end" for each in answers]
    told = [f"{statuses.count(each)} x {each}" for each in dict.fromkeys(statuses)]
    return Answer(", ".join(told), any(each.given_up for each in answers))
