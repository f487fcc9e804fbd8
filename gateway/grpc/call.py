"""One call: what has come of it, what waits to be sent, and the task that answers it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from sluice.gateway.grpc.heads import CallHead
from sluice.gateway.grpc.inbox import Inbox
from sluice.gateway.grpc.limits import HEAD_SLACK_BYTES, STREAM_WINDOW_BYTES
from sluice.gateway.grpc.methods import MessageBody, Method
from sluice.gateway.messages import Header

MAX_UNSENT = 4
"""Messages of a call that wait to be sent before its method has to wait, too."""


class CallOwner(Protocol):
    """What a call asks of the connection that it belongs to."""

    @property
    def crowded(self) -> bool:
        """Whether more is held for callers than may be."""
        ...

    async def send(self, call: ServerCall, body: MessageBody) -> None:
        """Send one of several messages of a call."""
        ...

    async def next_message(self, call: ServerCall) -> MessageBody:
        """Take the next message out of a call's inbox, which has one. Raises `SluiceError`, `CallEnded`."""
        ...


class ServerCall:
    """The state of one call, which its owner changes. A `Context` for its method.

    `head_bytes` is how much of its headers is counted as held. `window_bytes` is how much the client may send before it
    is allowed more. `unsent` is what the client's window or the network had no room for.
    """

    __slots__ = (
        "_arrived",
        "_drained",
        "_owner",
        "closed",
        "deadline_s",
        "encoding",
        "head_bytes",
        "head_sent",
        "headers",
        "inbox",
        "input_ended",
        "method",
        "packed",
        "read_deadline_s",
        "stream_id",
        "task",
        "timed_bytes",
        "total_bytes",
        "trailers",
        "trailing",
        "unsent",
        "window_bytes",
        "write_deadline_s",
    )

    def __init__(
        self,
        owner: CallOwner,
        stream_id: int,
        method: Method,
        head: CallHead,
        timeout_s: float | None,
        inbox: Inbox,
    ) -> None:
        self._owner = owner
        self.stream_id = stream_id
        self.method = method
        self.headers = head.metadata
        self.encoding = head.encoding
        self.head_bytes = max(0, head.size_bytes - HEAD_SLACK_BYTES)
        self.deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self.inbox = inbox
        self.trailing: tuple[Header, ...] = ()
        self.packed = False
        """Whether the caller compresses its messages."""
        self.input_ended = False
        self.closed = False
        self.head_sent = False
        self.task: asyncio.Task[None] | None = None
        self.window_bytes = STREAM_WINDOW_BYTES
        self.total_bytes = self.timed_bytes = 0
        self.read_deadline_s = self.write_deadline_s = math.inf
        self.unsent: deque[memoryview] = deque()
        self.trailers: list[Header] | None = None
        """What ends the call once `unsent` is sent."""
        self._arrived: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    # For its method.

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; `None` without one."""
        return None if self.deadline_s == math.inf else self.deadline_s - time.monotonic()

    async def write(self, body: MessageBody) -> None:
        """Send one of several messages. Waits while `MAX_UNSENT` wait to be sent, or any if too much is held."""
        await self._owner.send(self, body)
        while not self.closed and len(self.unsent) >= (1 if self._owner.crowded else MAX_UNSENT):
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    async def messages(self) -> AsyncIterator[MessageBody]:
        """The caller's messages, until it has no more."""
        while True:
            while not self.inbox:
                if self.input_ended:
                    return
                self._arrived = asyncio.get_running_loop().create_future()
                await self._arrived
            yield await self._owner.next_message(self)

    # For its owner.

    def arrived(self) -> None:
        """A message has come, or the input has ended: let the method go on."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def progressed(self) -> None:
        """A message that waited was sent: let the method go on."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
