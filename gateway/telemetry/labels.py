"""The values of labels: fixed, so that the number of series is bounded."""

from __future__ import annotations

from enum import StrEnum


class CallOutcome(StrEnum):
    """How a prediction call ended."""

    SUCCESS = "success"
    LATE = "late"
    """The call was answered, but after its deadline."""
    INVALID = "invalid"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """A phase of one prediction call."""

    DECODE = "decode"
    CACHE = "cache"
    """Digesting, looking up and storing rows, and waiting for another call that computes the same rows."""
    QUEUE = "queue"
    """From admission to the dispatch of the batch."""
    TRANSPORT = "transport"
    """From the dispatch of the batch to its answer, without the engine's run: stacking, to the worker and back."""
    COMPUTE = "compute"
    ENCODE = "encode"


class RefusalReason(StrEnum):
    """Why a prediction call was refused: there was no time or no room for it."""

    QUEUE_FULL = "queue_full"
    OVERLOADED = "overloaded"
    """The calls before it would have kept it waiting beyond its deadline."""
    DEADLINE = "deadline"
    """Its deadline had passed, or was too short for this model even without other calls."""
    NOT_READY = "not_ready"
    CROWDED = "crowded"
    """The bodies of all requests together exceeded their limit."""


class RunTime(StrEnum):
    """Whether a batch ran longer than the 95th percentile that was predicted for it."""

    WITHIN = "within"
    BEYOND = "beyond"


class Element(StrEnum):
    """Whether an element of a padded input was the caller's own or was added."""

    OWN = "own"
    ADDED = "added"


class AuditOutcome(StrEnum):
    """The outcome of one audit: a row of a batch is run again, alone, and the answers are compared."""

    ALIKE = "alike"
    """The answers are the same."""
    NOISE = "noise"
    """The answers differ, and the model's rounding or randomness explains that."""
    SUSPECT = "suspect"
    """The answers differ, and other rows are not the cause. The row's place or the size of the batch may be."""
    MIXED = "mixed"
    """The answers differ because rows of a batch change each other's answers."""
    UNFINISHED = "unfinished"
    """The model refused the row, or its worker died."""


class ReaderEnd(StrEnum):
    """Why a reader process ended."""

    DIED = "died"
    MEMORY = "memory"
    TIME = "time"
    STALLED = "stalled"
    DEADLINE = "deadline"
    GREW = "grew"
    IDLE = "idle"
    CLOSED = "closed"
