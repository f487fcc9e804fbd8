"""What a connection does to the world around it: the interfaces that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import httptools
import msgspec

from sluice.gateway.http.prediction import Prediction
from sluice.gateway.messages import Header


class ClientStream(Protocol):
    """The bytes to the client. An `asyncio.Transport` is one."""

    def write(self, data: bytes, /) -> None:
        """Send these bytes behind those written before. Never waits."""

    def can_write_eof(self) -> bool:
        """Whether `write_eof` can be called: not over TLS."""

    def write_eof(self) -> None:
        """Tell the client that nothing more is written, and go on reading."""

    def is_closing(self) -> bool:
        """Whether the connection has ended or is about to: nothing more can be written."""

    def close(self) -> None:
        """End the connection once everything written has been sent."""

    def abort(self) -> None:
        """End the connection at once."""


class Flow(Protocol):
    """Whether bytes are read from the client, and whether it takes those written. uvicorn's `FlowControl` is one.

    Pages share it: they pause reading while they have enough of a body.
    """

    read_paused: bool
    write_paused: bool

    def pause_reading(self) -> None:
        """Read nothing more from the client for now."""

    def resume_reading(self) -> None:
        """Read on."""


class Backlog(Protocol):
    """How much of what was written the client has not taken."""

    hidden: bool
    """Whether bytes may wait in a place that `Flow.write_paused` does not cover: below TLS."""

    def waiting_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""

    def waits_beneath(self) -> bool:
        """Whether any of them wait below TLS."""

    def unsent_bytes(self) -> int:
        """Bytes that the client's side has not acknowledged, the kernel's included."""


class ServerHeaders(Protocol):
    """Has the headers that the server adds to every answer. uvicorn's `ServerState` is one."""

    default_headers: list[Header]
    """A new list whenever one of them changes."""


class PageHead(msgspec.Struct, frozen=True):
    """The head of a request that is no prediction.

    `target` is in origin form. `parser` knows the method, the version and whether the connection stays open, until it
    is fed again.
    """

    target: bytes
    headers: Sequence[Header]
    expects_continue: bool
    parser: httptools.HttpRequestParser


class Page(Protocol):
    """A request that is no prediction. Its answer is made and written elsewhere.

    `HttpConnection` hears of the answer by `page_writes`, `page_closes` and `page_answered`.
    """

    keep_alive: bool
    """Whether the connection stays open after the answer."""

    @property
    def answer_begun(self) -> bool:
        """Whether a part of the answer is written."""

    @property
    def answered(self) -> bool:
        """Whether the answer is written to its end."""

    @property
    def body_bytes(self) -> int:
        """How much of the body has come in and is not read yet."""

    def start(self) -> None:
        """Begin to answer: it is this request's turn. The body may still be coming in."""

    def receive(self, body: bytes) -> None:
        """Take a piece of the body."""

    def body_complete(self) -> None:
        """No more of the body follows."""

    def forget_body(self) -> None:
        """Drop what is left of the body once the request is answered."""

    def disconnect(self) -> None:
        """Tell the page that its client will hear nothing more from it."""


class ConnectionHost(Protocol):
    """What runs a connection's requests. `LaneProtocol` is one, for uvicorn."""

    def begin(self, prediction: Prediction) -> None:
        """Have the prediction answered, and call `HttpConnection.answered`, after this call has returned."""

    def open_page(self, head: PageHead) -> Page:
        """Take a request that is no prediction. Its answer begins with `Page.start`."""

    def speaks(self, headers: Sequence[Header]) -> bool:
        """Whether the protocol that these headers ask to upgrade to is spoken here."""

    def upgrade(self, head: PageHead) -> None:
        """Hand the client over to that protocol. The connection is not called again."""
