"""The way out of a connection: which answer is due, and how it gets onto the wire."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from sluice.gateway.connections.long_body import LARGE_BYTES
from sluice.gateway.http import wire
from sluice.gateway.http.connection import BARE_500, BODY, NOTHING, Connection
from sluice.gateway.http.prediction import Prediction
from sluice.gateway.http.unsent import beneath
from sluice.gateway.messages import HttpResponse

_logger = logging.getLogger("sluice.http")

_STOPPING = wire.plain(503, "The server is stopping.")


class Answers(Connection):
    """Answers go out in the order in which their requests came.

    `_current` is the request whose answer is the next on the wire, and `pipeline` (uvicorn's own) has those behind it.
    Nothing is begun while a part of the last answer waits here, since the client takes no more of it for now. Once an
    answer is written, nothing of its request is kept.
    """

    __slots__ = ("_answer_plane", "_task")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._answer_plane = self.door.plane.answer
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Have it told of every answer that the kernel does not take whole, however short it is."""
        self._beneath = beneath(transport)
        if self._beneath is transport:
            transport.set_write_buffer_limits(high=1, low=0)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is being worked out for a client that has gone, and forget what waits behind it."""
        self.deadline = math.inf
        self._end()
        self.pipeline.clear()
        if isinstance(self._current, Prediction):
            if self._task is not None:
                # A task that is cancelled before its first step never runs, and cannot leave the set by itself.
                self._task.add_done_callback(self.tasks.discard)
                self._task.cancel()
        elif self._current is not None:
            _disconnect(self._current)
        self._current = self._filling = None
        if isinstance(self.cycle, Prediction):
            self.cycle = cast(RequestResponseCycle, None)
        self._set_counted(0)
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """The client has read on: begin what was held back."""
        super().resume_writing()
        self._spare_until = math.inf
        self._count()
        if self._current is None and not self._lingering and not self.transport.is_closing():
            self._advance()
        else:
            self._settle()

    # Whose turn it is.

    def _take_place(self, prediction: Prediction) -> None:
        self.cycle = cast(RequestResponseCycle, prediction)
        if self._current is None:
            self._current = prediction
        else:
            self.pipeline.appendleft((self.cycle, self.app))
            self._hold()

    def _begin(self, prediction: Prediction) -> None:
        self._task = task = self.loop.create_task(self._answer(prediction))
        self.tasks.add(task)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on after an answer of FastAPI's.

        uvicorn's own method would read on while requests are still queued, and set a timer per request.
        """
        self.server_state.total_requests += 1
        if isinstance(self._current, RequestResponseCycle):
            self._current.body = bytearray()
        self._current = None
        if self._counted_bytes:
            self._head_bytes = 0
            self._count()
        if self._lingering or self.transport.is_closing():
            self._settle()
        else:
            self._advance()

    def _advance(self) -> None:
        """An answer has been written: go on to the next request."""
        if self.flow.write_paused:
            self._hold()
        else:
            if self.pipeline:
                self._start_next()
                self._count()
            if not self.pipeline:
                self._release()
        self._settle()

    def _start_next(self) -> None:
        cycle, app = self.pipeline.pop()
        if not isinstance(cycle, Prediction):
            self._waiting_pages -= 1
            self._start_asgi_task(cycle, app)
            return
        self._current = cycle
        if cycle.refusal is not None:
            self._write_last(cycle, cycle.refusal)
        elif cycle.received:
            self._begin(cycle)
        elif cycle.expects_continue:
            self.transport.write(wire.CONTINUE)

    def _hold(self) -> None:
        self._held = True
        self.flow.pause_reading()
        self._count()

    def _release(self) -> None:
        if not self._ended:
            self._held = False
            self._parse_unread()
        if self._ended or not self._held:
            self.flow.resume_reading()

    def _parse_unread(self) -> None:
        raise NotImplementedError

    # What goes on the wire.

    async def _answer(self, prediction: Prediction) -> None:
        task = self._task
        try:
            if self.door.held.over:
                response = self._crowded(prediction)
            else:
                body = prediction.body
                if len(body) >= LARGE_BYTES:
                    # It is the plane's alone from here on: it counts it, and lets it go.
                    prediction.body = b""
                    if self._counted_bytes:
                        self._count()
                answering = self._answer_plane(
                    prediction.route, prediction.method, prediction.headers, body, prediction.came_s
                )
                del body
                response = await answering
        except asyncio.CancelledError:
            if task is not None and task.cancelling():
                self._give_up(prediction)
                raise
            _logger.exception("a prediction was given up from within")
            response = BARE_500
        except Exception:
            _logger.exception("a prediction raised an unexpected error")
            response = BARE_500
        finally:
            self.tasks.discard(cast(Any, task))
        self._deliver(prediction, response)

    def _deliver(self, prediction: Prediction, response: HttpResponse) -> None:
        if self.transport.is_closing():
            return
        prediction.response_complete = True
        # The connection remembers it until the next request comes; nothing of it is wanted any more.
        prediction.body, prediction.headers = b"", ()
        self.server_state.total_requests += 1
        self._current = None
        if self._counted_bytes:
            self._head_bytes = 0
            self._count()
        if not prediction.keep_alive or ((self._leaving or self.door.draining()) and not self.pipeline):
            self._write(prediction.method, response, wire.CLOSE)
            self._finish()
            return
        self._write(prediction.method, response, b"")
        if self._held or self._stage or self.flow.write_paused:
            self._advance()
        elif self._waits_beneath():
            self._settle()
        else:
            self.deadline = self.loop.time() + self._keep_alive_s

    def _write_last(self, prediction: Prediction, response: HttpResponse) -> None:
        """The last answer of a connection on which more may be coming in."""
        if self.transport.is_closing():
            return
        prediction.response_complete = True
        self._write(prediction.method, response, wire.CLOSE)
        self._current = None
        self._linger()

    # How it ends.

    def _give_up(self, prediction: Prediction) -> None:
        """The answer was cancelled: the client has gone, or the server has lost patience with it."""
        if not self.transport.is_closing():
            self._write(prediction.method, _STOPPING, wire.CLOSE)
            self._end()
            self.transport.close()

    def _refuse(self, response: HttpResponse) -> None:
        """End the connection with this answer, when its turn has come."""
        broken = self.cycle if self._stage == BODY else None
        self._end()
        self._stage = NOTHING
        self._filling = None
        if isinstance(broken, Prediction):
            broken.refusal = response
            broken.body = b""
            if broken is self._current:
                self._write_last(broken, response)
            return
        if broken is not None and broken is not self._current:
            if broken.response_complete:
                self._linger()
                return
            self.pipeline.popleft()
            self._waiting_pages -= 1
        elif broken is not None:
            _disconnect(broken)
            if broken.response_started:
                self.transport.close()
                return
            self._current = None
        prediction = Prediction(None, "", (), False, response)
        self._take_place(prediction)
        if prediction is self._current:
            self._write_last(prediction, response)


def _disconnect(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()
