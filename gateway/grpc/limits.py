"""What one client may ask of the gRPC server, beyond the limits that hold for every server."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice.gateway.connections.limits import ConnectionLimits

MAX_STREAMS = 1024
"""Calls on one connection at a time, at most. A client holds further ones back until there is room."""

LEAST_STREAMS = 100
"""The least that may be allowed, as RFC 9113, section 6.5.2, recommends."""

PING_STRIKES = 10
"""How many pings may come too early before the connection is closed. The network may delay pings of a patient client so
that they come together. Whatever we send to the client resets the count."""

HEAD_SLACK_BYTES = 4 * 1024
"""Headers of a call up to this length are not counted as held, as in HTTP."""

STREAM_WINDOW_BYTES = 65_535
"""What a call may send before it hears from us: HTTP/2's default, which clients use until they have our settings."""

CONNECTION_WINDOW_BYTES = 1024 * 1024
"""What all calls of a connection may send before they hear from us. What comes is read at once and counted in `held`:
this only bounds how far a client runs ahead."""

STEP_BYTES = 1024 * 1024
"""How much of a long message is let in at a time."""

MAX_FRAME_BYTES = 16_384
"""HTTP/2's default. It bounds what is held of an incomplete frame."""


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """The limits of every gRPC connection. Those of `wire` mean what they mean in HTTP."""

    wire: ConnectionLimits = field(default_factory=ConnectionLimits)

    max_message_bytes: int = 64 * 1024 * 1024
    """A longer message ends its call with `RESOURCE_EXHAUSTED`, as soon as its length is known."""

    max_calls: int = 10_000
    """Calls of all connections at a time, at most. One connection may have as many calls as there are places left: half
    of them if it is alone. So there are places for the next connection, however many others take all they may."""

    min_ping_interval_s: float = 0.1
    """A ping that comes sooner after the last one is a strike; 0: none is."""

    keepalive_time_s: float = 300.0
    """A connection is pinged when its client has sent nothing for so long."""

    keepalive_timeout_s: float = 20.0
    """How long a ping may be unanswered before the connection is cut."""

    compress_from_bytes: int = 64 * 1024
    """Answers from this length on are compressed, if the caller's own message was; 0: none are."""

    @property
    def max_streams(self) -> int:
        """How many calls at a time a client is told that its connection may have.

        Not below `LEAST_STREAMS`: clients begin so many before they have our settings, and h2 ends connections that
        have more than they may.
        """
        return min(MAX_STREAMS, max(LEAST_STREAMS, self.max_calls // 2))

    @property
    def max_block_bytes(self) -> int:
        """The longest list of headers that is decoded.

        A list over `max_header_bytes` ends its call. A list over this limit ends the connection: later lists cannot be
        decoded without it.
        """
        return 2 * self.wire.max_header_bytes
