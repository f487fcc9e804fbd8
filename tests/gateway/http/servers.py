"""Real servers on real sockets, and a client that says and hears exactly what it is told to."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import uvicorn
import uvloop

from sluice.gateway.http.asgi import App

PATIENCE_S = 60.0
"""How long a test waits for what must happen; it never waits for this to pass."""


class _ReadyServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class Served:
    """A uvicorn server with uvloop in a thread of its own, from `__enter__` to `__exit__`."""

    def __init__(self, app: App, **config: Any) -> None:
        options = {"lifespan": "off", "log_config": None, "access_log": False, "timeout_graceful_shutdown": 5}
        self.server = _ReadyServer(uvicorn.Config(app, port=0, **{**options, **config}))
        self._thread = threading.Thread(target=self._run, name="served")
        self._loop: asyncio.AbstractEventLoop | None = None

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
            runner.run(self._serve())

    async def _serve(self) -> None:
        await self.server.serve()
        # Where its patience was over, uvicorn leaves the rest to the end of the process.
        await asyncio.gather(*self.server.server_state.tasks, return_exceptions=True)
        while connections := self.server.server_state.connections:
            for connection in tuple(connections):
                connection.transport.close()
            await asyncio.sleep(0)

    def __enter__(self) -> Served:
        self._thread.start()
        assert self.server.ready.wait(PATIENCE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.join()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.server.servers[0].sockets[0].getsockname()
        return str(host), int(port)

    def stop(self) -> None:
        """Ask it to shut down, as SIGTERM does."""
        self.server.should_exit = True

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def ask(self, question: Callable[[], Any]) -> Any:
        """What `question()` returns in the server's own thread."""
        answered, answers = threading.Event(), []

        def answer() -> None:
            answers.append(question())
            answered.set()

        assert self._loop is not None
        self._loop.call_soon_threadsafe(answer)
        assert answered.wait(PATIENCE_S)
        return answers[0]

    def until(self, question: Callable[[], Any]) -> None:
        """Wait until `question()`, asked in the server's own thread, is true."""
        end_s = time.monotonic() + PATIENCE_S
        while not self.ask(question):
            assert time.monotonic() < end_s

    def until_connections(self, count: int) -> None:
        """Wait until that many connections, and no more, are open."""
        self.until(lambda: len(self.server.server_state.connections) == count)

    def connection_of(self, client: Client) -> Any:
        """The server's end of a client's connection, once it is there."""
        name = client.socket.getsockname()
        found: list[Any] = []

        def look() -> list[Any]:
            connections = self.server.server_state.connections
            found[:] = [c for c in connections if c.transport.get_extra_info("peername") == name]
            return found

        self.until(look)
        return found[0]


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(compare=False, default_factory=dict)
    head: str = field(compare=False, default="")


class Endpoint(Protocol):
    """What a conversation needs of a socket."""

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size_bytes: int, /) -> bytes: ...

    def settimeout(self, timeout_s: float, /) -> None: ...

    def close(self) -> None: ...


class Conversation:
    """A client's side of one connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._heard = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._endpoint.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._endpoint.sendall(piece)

    def send_what_is_taken(self, pieces: Iterable[bytes]) -> None:
        """Send on until the server no longer listens."""
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self._endpoint.sendall(piece)

    def answer(self, method: str = "GET") -> Answer:
        head = self._until(b"\r\n\r\n").decode("latin-1")
        line, *lines = head.split("\r\n")
        status = int(line.split(" ")[1])
        headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
        if status < 200 or status in (204, 304) or method == "HEAD":
            return Answer(status, b"", headers, head)
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, self._chunks(), headers, head)
        return Answer(status, self._exactly(int(headers["content-length"])), headers, head)

    def hears(self, patience_s: float) -> bool:
        """Whether the server says something, or closes, within this time."""
        self._endpoint.settimeout(patience_s)
        try:
            self._heard += self._endpoint.recv(65536)
        except TimeoutError:
            return False
        finally:
            self._endpoint.settimeout(PATIENCE_S)
        return True

    def read(self, size_bytes: int) -> int:
        """Read on by at most so many bytes, and throw nothing away; how many they were."""
        part = self._endpoint.recv(size_bytes)
        self._heard += part
        return len(part)

    def begun(self) -> None:
        """Wait for the head of an answer, and throw it away."""
        self._until(b"\r\n\r\n")

    def ended(self) -> bool:
        """Whether the server has closed the connection, and said nothing more before."""
        with suppress(ConnectionResetError):
            self._heard += self._endpoint.recv(65536)
        return not self._heard

    def ended_without_reset(self) -> bool:
        """Whether the server has said nothing more, and closed in an orderly way."""
        return not self._heard and not self._endpoint.recv(65536)

    def is_open(self) -> bool:
        """Whether a further request is answered."""
        try:
            self.send(b"GET /app/echo HTTP/1.1\r\nHost: probe\r\n\r\n")
            return self.answer().status == 200
        except (ConnectionError, EOFError):
            return False

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            self._until(b"\r\n")
        self._until(b"\r\n")
        return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._heard:
            self._hear()
        text, _, self._heard = self._heard.partition(mark)
        return text

    def _exactly(self, size: int) -> bytes:
        parts, have = [self._heard], len(self._heard)
        while have < size:
            part = self._endpoint.recv(1 << 20)
            if not part:
                raise EOFError(f"{have} of {size} bytes of a body")
            parts.append(part)
            have += len(part)
        heard = b"".join(parts)
        self._heard = heard[size:]
        return heard[:size]

    def _hear(self) -> None:
        heard = self._endpoint.recv(65536)
        if not heard:
            raise EOFError("the server has closed the connection")
        self._heard += heard


class Client(Conversation):
    """A connection to a server. Reads time out after `PATIENCE_S`, so that a test that would hang fails."""

    def __init__(
        self, address: tuple[str, int], context: ssl.SSLContext | None = None, receive_buffer_bytes: int | None = None
    ) -> None:
        raw = socket.socket()
        if receive_buffer_bytes is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        raw.settimeout(PATIENCE_S)
        raw.connect(address)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw, server_hostname="localhost") if context is not None else raw
        super().__init__(self.socket)

    def reset(self) -> None:
        """Close with a reset instead of an orderly end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()


def request(
    target: str, body: bytes = b"", *headers: str, method: str = "POST", version: str = "1.1", length: bool = True
) -> bytes:
    """A request as bytes, with a content-length unless `length` is false."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(target: str, *chunks: bytes, trailer: str = "") -> bytes:
    """A chunked request as bytes."""
    head = request(target, b"", "Transfer-Encoding: chunked", length=False)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + f"0\r\n{trailer}\r\n".encode()
