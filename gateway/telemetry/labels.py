"""The values that labels of the metrics may have: fixed, so that their number is."""

from __future__ import annotations

from enum import StrEnum


class CallOutcome(StrEnum):
    """How a prediction call ended."""

    SUCCESS = "success"
    LATE = "late"
    """It was answered, but after its deadline."""
    INVALID = "invalid"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """A part of the walk of one prediction call."""

    DECODE = "decode"
    CACHE = "cache"
    """Digests, lookups and storing, and waiting for another call that computes the same rows."""
    QUEUE = "queue"
    """From admission to the batch's dispatch."""
    TRANSPORT = "transport"
    """From the batch's dispatch to the answer, less the engine's run: stacking, the way to the worker and back."""
    COMPUTE = "compute"
    ENCODE = "encode"


class RefusalReason(StrEnum):
    """Why there was no time or no room for a prediction call."""

    QUEUE_FULL = "queue_full"
    OVERLOADED = "overloaded"
    """It would not have been answered by its deadline, because of what was there before it."""
    DEADLINE = "deadline"
    """The time that it had was over, or too short for this model at any time."""
    NOT_READY = "not_ready"
    CROWDED = "crowded"
    """The bodies of all requests together were over their limit."""


class RunTime(StrEnum):
    """How long a batch ran, beside the 95th percentile that was predicted for it."""

    WITHIN = "within"
    BEYOND = "beyond"


class Element(StrEnum):
    """Where an element of a padded input came from."""

    OWN = "own"
    ADDED = "added"


class AuditOutcome(StrEnum):
    """What the audit of one row found."""

    ALIKE = "alike"
    """The row got the same answer alone as in its batch."""
    NOISE = "noise"
    """It got another answer, because of rounding or because the model does not repeat its own answers."""
    SUSPECT = "suspect"
    """It got another answer, and its neighbours are not the reason: its place or the batch's size may be."""
    MIXED = "mixed"
    """Rows of a batch change the answers to each other."""
    UNFINISHED = "unfinished"
    """The model refused, or its worker died."""


class ReaderEnd(StrEnum):
    """Why a reader is gone."""

    DIED = "died"
    MEMORY = "memory"
    TIME = "time"
    STALLED = "stalled"
    DEADLINE = "deadline"
    GREW = "grew"
    IDLE = "idle"
    CLOSED = "closed"
