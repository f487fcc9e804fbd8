"""What a connection holds beside its calls' input, and whether its client takes its answers fast enough."""

from __future__ import annotations

import math

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.grpc.http2 import Http2
from sluice.gateway.grpc.outgoing import Outgoing


class ConnectionBacklog:
    """Counts in `held` what no call counts: the rest of an unfinished frame, and what the network has not taken."""

    __slots__ = ("_counted_bytes", "_held", "_http2", "_outgoing", "_spare_bytes", "_spare_until_s", "_wire")

    def __init__(self, http2: Http2, outgoing: Outgoing, held: HeldBytes, wire: ConnectionLimits) -> None:
        self._http2 = http2
        self._outgoing = outgoing
        self._held = held
        self._wire = wire
        self._counted_bytes = 0
        self._spare_bytes, self._spare_until_s = 0, -math.inf

    @property
    def unsent_bytes(self) -> int:
        """How much of the answers is not sent yet."""
        return self._outgoing.waiting_bytes + self._http2.transport.get_write_buffer_size()

    def count(self) -> None:
        """Count what is held now."""
        held_bytes = self._http2.frames.unread_bytes + self._http2.transport.get_write_buffer_size()
        if held_bytes != self._counted_bytes:
            self._held.now_bytes += held_bytes - self._counted_bytes
            self._counted_bytes = held_bytes

    def drop(self) -> None:
        """Count nothing any more: the connection is gone."""
        self._held.now_bytes -= self._counted_bytes
        self._counted_bytes = 0

    def is_too_slow(self, now: float) -> bool:
        """Whether the client took less of its answers than `min_body_bytes_per_s`, over `crowded_grace_s`.

        To be asked again and again while too much is held: the first time begins the measurement.
        """
        wire, unsent_bytes = self._wire, self.unsent_bytes
        if not unsent_bytes or now > self._spare_until_s + wire.crowded_grace_s:
            self._spare_until_s = now + wire.crowded_grace_s
            self._spare_bytes = unsent_bytes - int(wire.min_body_bytes_per_s * wire.crowded_grace_s)
        elif now >= self._spare_until_s:
            self._spare_until_s = -math.inf
            return unsent_bytes > self._spare_bytes
        return False
