"""How much, and for how long, one client may ask of gRPC's door, beyond what holds for every door."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice.gateway.connections.limits import LaneLimits

MAX_STREAMS = 1024
"""Calls on one connection at a time; a client keeps further ones to itself until there is room."""

LEAST_STREAMS = 100
"""As RFC 9113, section 6.5.2, recommends."""

PING_STRIKES = 10
"""Pings that come too early before the connection is closed. Those of a patient client may be held up and come
together; what we send it clears the count."""

HEAD_SLACK_BYTES = 4 * 1024
"""Of the headers of a call nothing is counted below this, as at HTTP's door."""

STREAM_WINDOW_BYTES = 65_535
"""What a call may send unasked. HTTP/2's own figure: a client sends so much before it has heard of another one."""

CONNECTION_WINDOW_BYTES = 1024 * 1024
"""What all calls of a connection may send before they hear from us. What comes is taken up at once and counted, so it
bounds nothing but how far a client runs ahead."""

STEP_BYTES = 1024 * 1024
"""How far a long message is let come in at a time."""

MAX_FRAME_BYTES = 16_384
"""HTTP/2's own figure. What is held of an unfinished frame has this bound."""


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """The bounds that gRPC's door holds every connection to. Those of `wire` mean what they mean to HTTP's."""

    wire: LaneLimits = field(default_factory=LaneLimits)

    max_message_bytes: int = 64 * 1024 * 1024
    """A longer message ends its call with `RESOURCE_EXHAUSTED`, as soon as its length is known."""

    max_calls: int = 10_000
    """Calls of all connections at a time. One connection has as many as there are places left at most: half of them if
    it is alone, and however many connections take what they get, there are places for the calls of the next one."""

    min_ping_interval_s: float = 0.1
    """A ping that comes sooner is a strike; 0: none is."""

    keepalive_time_s: float = 300.0
    """A connection that has been quiet for so long is pinged."""

    keepalive_timeout_s: float = 20.0
    """How long a ping may be unanswered. Beyond it the connection is cut."""

    compress_from_bytes: int = 64 * 1024
    """Answers from this length on are compressed for callers whose own message was; 0: none are."""

    @property
    def max_streams(self) -> int:
        """Calls of one connection at a time that its client is told of.

        Clients send up to a hundred before they have heard of it, and h2 cuts off those who send more than they may.
        """
        return min(MAX_STREAMS, max(LEAST_STREAMS, self.max_calls // 2))

    @property
    def max_block_bytes(self) -> int:
        """The longest list of headers that is decoded.

        One over `max_header_bytes` is refused with its call; one over this, with its connection, for without having
        decoded it one would misread all later ones.
        """
        return 2 * self.wire.max_header_bytes
