"""What the calls of a connection send, put into frames as the client's windows and the network have room for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.grpc import heads
from sluice.gateway.grpc.call import ServerCall
from sluice.gateway.grpc.frames import ErrorCode
from sluice.gateway.grpc.http2 import Http2
from sluice.gateway.grpc.limits import MAX_FRAME_BYTES
from sluice.gateway.grpc.methods import CallEnded
from sluice.gateway.grpc.next_deadline import NextDeadline

FRAMES_AT_ONCE = 4
"""Frames of long answers that are put together before they are written."""


class Outgoing:
    """Sends the messages and the ends of calls, and tells `on_ended` of each call that is over.

    What there is no room for waits, and counts in `held` until it is sent. Calls that wait take turns, frame by frame.
    A call whose client takes nothing of it for `write_timeout_s` is reset.
    """

    def __init__(
        self,
        http2: Http2,
        held: HeldBytes,
        deadline: NextDeadline,
        write_timeout_s: float,
        on_ended: Callable[[ServerCall], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._http2 = http2
        self._held = held
        self._deadline = deadline
        self._write_timeout_s = write_timeout_s
        self._on_ended = on_ended
        self._waiting: dict[int, ServerCall] = {}
        self._pumping = False

    @property
    def waiting_bytes(self) -> int:
        """How much waits to be sent."""
        return sum([len(view) for call in self._waiting.values() for view in call.unsent])

    def post(self, call: ServerCall, body: bytes, *, packed: bool) -> None:
        """Send a message, or let it wait for its turn."""
        machine, stream_id = self._http2.machine, call.stream_id
        if not self._http2.is_open(stream_id):
            return
        if not call.head_sent:
            call.head_sent = True
            if call.encoding == b"identity":
                machine.send_headers(stream_id, heads.ANSWER)
            else:
                # Even where the first message is too short to be compressed: a later one may not be.
                machine.send_headers(stream_id, [*heads.ANSWER, (b"grpc-encoding", call.encoding), heads.ENCODINGS])
        framed = (b"\x01" if packed else b"\x00") + len(body).to_bytes(4, "big") + body
        size = len(framed)
        if (
            not call.unsent
            and size <= MAX_FRAME_BYTES
            and not self._http2.paused
            and size <= machine.local_flow_control_window(stream_id)
        ):
            machine.send_data(stream_id, framed)
            self._http2.frames.sent(2)
            self._http2.flush_soon()
            return
        self._held.now_bytes += size
        call.unsent.append(memoryview(framed))
        if stream_id not in self._waiting:
            self._waiting[stream_id] = call
            call.write_deadline_s = self._loop.time() + self._write_timeout_s
            self._deadline.due(call.write_deadline_s)
        self.pump()

    def finish(self, call: ServerCall, end: CallEnded) -> None:
        """End a call once all of its messages are sent."""
        if call.closed or call.trailers is not None:
            return
        if not self._http2.is_open(call.stream_id):
            self._on_ended(call)
            return
        call.trailers = heads.status_headers(end.code, end.told, end.trailing)
        if not call.unsent:
            self._end(call)

    def drop(self, call: ServerCall) -> None:
        """Send nothing of what waits in a call."""
        self._waiting.pop(call.stream_id, None)
        self._held.now_bytes -= sum(map(len, call.unsent))
        call.unsent.clear()

    def pump_soon(self) -> None:
        """The client has room for more: send it after this turn of the loop, once for all that the client says in it.

        There may be a thousand calls to look through, and as many windows that open by a byte.
        """
        if self._waiting and not self._pumping:
            self._pumping = True
            self._loop.call_soon(self.pump)

    def pump(self) -> None:
        """Send what waits, as far as there is room: of each call a frame in turn."""
        self._pumping = False
        http2 = self._http2
        if http2.ended:
            return
        waiting = deque(self._waiting.values())
        frames = 0
        while waiting and not http2.paused and http2.machine.outbound_flow_control_window > 0:
            call = waiting.popleft()
            if self._send_frame(call):
                waiting.append(call)
            frames += 1
            if frames % FRAMES_AT_ONCE == 0:
                http2.flush()
        http2.flush_soon()

    def look_at_clock(self, now: float) -> None:
        """Reset the calls of which nothing was taken in time."""
        for call in list(self._waiting.values()):
            if call.write_deadline_s <= now and not self._http2.paused:
                self._http2.reset(call.stream_id, ErrorCode.CANCEL)
                self._on_ended(call)
            else:
                self._deadline.due(max(call.write_deadline_s, now + 0.001))

    def _send_frame(self, call: ServerCall) -> bool:
        """Send one frame of what waits in a call; whether one was sent and there is more."""
        if not call.unsent or not self._http2.is_open(call.stream_id):
            return False
        machine, stream_id, view = self._http2.machine, call.stream_id, call.unsent[0]
        size = min(machine.local_flow_control_window(stream_id), MAX_FRAME_BYTES, len(view))
        if size <= 0 and len(view):
            return False
        machine.send_data(stream_id, view[:size])
        self._http2.frames.sent(1)
        self._held.now_bytes -= size
        call.write_deadline_s = self._loop.time() + self._write_timeout_s
        if size < len(view):
            call.unsent[0] = view[size:]
            return True
        call.unsent.popleft()
        call.progressed()
        if call.unsent:
            return True
        del self._waiting[stream_id]
        if call.trailers is not None:
            self._end(call)
        return False

    def _end(self, call: ServerCall) -> None:
        assert call.trailers is not None
        headers = call.trailers if call.head_sent else [*heads.ANSWER, *call.trailers]
        self._http2.end_stream(call.stream_id, headers, client_ended=call.input_ended)
        self._on_ended(call)
